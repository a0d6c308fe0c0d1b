"""What the example serves: rows are pushed, and read a moment later."""

import grange as gr

rider = gr.Entity("rider", join_keys=["rider_id"])

rides = gr.PushSource("rides", schema={"rider_id": "string", "at": "datetime", "fare": "float64"}, event_time="at")

rider_fares = gr.FeatureGroup(
    "rider_fares",
    entities=rider,
    source=rides,
    aggregations=[gr.Rolling({"fare": ["sum", "count", "max"]}, windows=["1h", "7d"])],
    description="What a rider paid lately.",
    tags={"tier": "gold"},
)

surge = gr.FeatureView("surge", features=["rider_fares"], description="For the surge model.")
