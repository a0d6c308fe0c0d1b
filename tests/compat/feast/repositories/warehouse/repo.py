import os
from datetime import timedelta

from feast import BigQuerySource, Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource, PushSource
from feast.data_format import AvroFormat
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.permissions.permission import Permission
from feast.stream_feature_view import stream_feature_view
from feast.types import Decimal, Float64, Int64

customer = Entity(name="customer", join_keys=["customer_id"])
bigquery = BigQuerySource(name="orders_bq", table="acme.orders", timestamp_field="at")
orders = FeatureView(name="orders", entities=[customer], schema=[Field(name="n", dtype=Int64)], source=bigquery)
spark = FeatureView(
    name="visits",
    entities=[customer],
    schema=[Field(name="n", dtype=Int64)],
    source=SparkSource(name="visits", table="visits", timestamp_field="at"),
)
guessed = FeatureView(
    name="guessed", entities=[customer], schema=[Field(name="x", dtype=Int64)], source=FileSource(path="g.parquet")
)
from_environment = FileSource(name="env", path=os.environ.get("DATA", "x"), timestamp_field="at")
of_environment = FeatureView(name="of_environment", entities=[customer], source=from_environment)
nobody = FeatureView(
    name="nobody",
    entities=[],
    schema=[Field(name="x", dtype=Int64)],
    source=FileSource(path="n.parquet", timestamp_field="at"),
)
files = FileSource(name="prices-file", path="data/prices.parquet", timestamp_field="at")
prices = FeatureView(
    name="daily-prices",
    entities=[customer],
    ttl=timedelta(days=1),
    schema=[Field(name="price", dtype=Float64), Field(name="exact", dtype=Decimal)],
    source=files,
)
stream = KafkaSource(
    name="clicks",
    kafka_bootstrap_servers="broker:9092",
    topic="clicks",
    timestamp_field="at",
    message_format=AvroFormat(""),
    batch_source=files,
)


@stream_feature_view(entities=[customer], mode="spark", schema=[Field(name="n", dtype=Int64)], source=stream)
def clicks(df):
    return df


@on_demand_feature_view(sources=[orders], schema=[Field(name="twice", dtype=Int64)])
def twice(inputs):
    return inputs


for number in range(3):
    globals()[f"view_{number}"] = FeatureView(name=f"view_{number}", entities=[customer], source=files)

pushed = PushSource(name="pushed", batch_source=bigquery)
unused = FileSource(name="unused", path="unused.parquet", timestamp_field="at")
everything = FeatureService(name="daily-prices", features=[prices])
broken = FeatureService(name="broken", features=[orders])
readers = Permission(name="readers", types=[FeatureView])
