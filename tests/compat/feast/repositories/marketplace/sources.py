from pathlib import Path

from feast import FileSource

DATA = Path(__file__).parent / "data"
TIME = "at"


def unused_helper(name):
    return FileSource(name=name, path=f"{name}.parquet", timestamp_field=TIME)


buyers = FileSource(
    name="buyers",
    path=str(DATA / "buyers.parquet"),
    timestamp_field=TIME,
    created_timestamp_column="loaded",
    field_mapping={"total_spent": "spent", "n": "orders"},
)
places = FileSource(name="places", path=f"{DATA}/places.parquet", timestamp_field=TIME)
