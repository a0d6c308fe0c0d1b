"""Will a flight from New York arrive more than 30 minutes late? The features to tell, an hour before it leaves.

`grange plan` shows what applying this file would change, `grange apply` does it.
"""

import polars as pl

import grange as gr

# Whom features describe. A flight number is a composite key: UA 15 and AA 15 are two.
carrier = gr.Entity("carrier", join_keys={"carrier": "string"}, description="An airline.")
airport = gr.Entity("airport", join_keys={"faa": "string"}, description="An airport, by its FAA code.")
plane = gr.Entity("plane", join_keys={"tailnum": "string"}, description="An aircraft, by its tail number.")
flight_number = gr.Entity(
    "flight_number",
    join_keys={"carrier": "string", "flight": "int32"},
    description="A service that is flown again and again, such as UA 15.",
)

# Tables without a time: what they say is taken as always true.
carriers = gr.FeatureGroup(
    "carriers",
    entities=carrier,
    source=gr.FileSource("data/carriers.parquet"),
    description="What an airline is called.",
)
airports = gr.FeatureGroup(
    "airports",
    entities=airport,
    source=gr.FileSource("data/airports.parquet"),
    transform="SELECT faa, lat, lon, alt FROM source",
    description="Where an airport is.",
)
planes = gr.FeatureGroup(
    "planes",
    entities=plane,
    source=gr.FileSource("data/planes.parquet"),
    transform="SELECT tailnum, year, engines, seats, engine FROM source",
    description="What kind of aircraft it is.",
)


# A reading is of some moment within its hour, and rain is the hour's sum: an hour is known when it is over.
# Readings older than two hours are no weather any more. One says 1,048 miles per hour; it goes to quarantine.
@gr.feature_group(
    entities=airport,
    source=gr.FileSource("data/weather.parquet", event_time="known_at"),
    ttl="2h",
    expectations={
        "temp": gr.between(-60, 140),
        "wind_speed": gr.between(0, 250, policy="drop"),
        "precip": gr.greater_than_or_equal(0),
    },
)
def weather(df: pl.LazyFrame) -> pl.LazyFrame:
    """The last full hour's weather at an airport."""
    return df.select(pl.col("origin").alias("faa"), "known_at", "temp", "wind_speed", "precip", "pressure", "visib")


# What a flight tells about the next one, dated by when it became known: departures when the plane left, arrivals
# when it landed. Dated by the schedule they would be a leak: a flight's delay is unknown when it should have left.
departures = gr.FileSource("data/flights.parquet", event_time="departed_at", name="departures")
arrivals = gr.FileSource("data/flights.parquet", event_time="arrived_at", name="arrivals")


@gr.feature_group(entities=airport, source=departures, ttl="6h")
def airport_departures(df: pl.LazyFrame) -> pl.LazyFrame:
    """How late the last flight left that departed from an airport."""
    left = df.filter(pl.col("departed_at").is_not_null())
    return left.select(pl.col("origin").alias("faa"), "departed_at", "dep_delay")


@gr.feature_group(entities=carrier, source=arrivals, ttl="1d")
def carrier_arrivals(df: pl.LazyFrame) -> pl.LazyFrame:
    """How late an airline's last flight arrived."""
    landed = df.filter(pl.col("arrived_at").is_not_null())
    return landed.select("carrier", "arrived_at", "arr_delay")


@gr.feature_group(entities=plane, source=arrivals, ttl="3d")
def plane_arrivals(df: pl.LazyFrame) -> pl.LazyFrame:
    """How late an aircraft's last flight left and arrived, and how long it flew."""
    landed = df.filter(pl.col("arrived_at").is_not_null(), pl.col("tailnum").is_not_null())
    return landed.select("tailnum", "arrived_at", "dep_delay", "arr_delay", "air_time")


@gr.feature_group(entities=flight_number, source=arrivals, ttl="2w")
def flight_arrivals(df: pl.LazyFrame) -> pl.LazyFrame:
    """How late a flight number arrived the last time."""
    landed = df.filter(pl.col("arrived_at").is_not_null())
    return landed.select("carrier", "flight", "arrived_at", "arr_delay")


# What a request brings itself: it is in the timetable.
timetable = gr.RequestSource("timetable", schema={"distance": "int32", "hour": "int32"})

late_arrivals = gr.FeatureView(
    "late_arrivals",
    features=[
        carriers.select("name", rename={"name": "carrier_name"}),
        planes,
        airports.select(on={"faa": "origin"}, prefix="origin_"),
        airports.select(on={"faa": "dest"}, prefix="dest_"),
        weather.select(on={"faa": "origin"}),
        airport_departures.select(on={"faa": "origin"}, rename={"dep_delay": "airport_dep_delay"}),
        carrier_arrivals.select(rename={"arr_delay": "carrier_arr_delay"}),
        plane_arrivals.select(prefix="plane_"),
        flight_arrivals.select(rename={"arr_delay": "flight_arr_delay"}),
    ],
    labels=["late"],
    requests=timetable,
    description="Will a flight arrive more than 30 minutes late?",
)
