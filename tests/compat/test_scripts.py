"""Scripts as users of mlforge have them, with the import changed: nothing is said twice, nothing is closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import polars as pl
from grange.compat.mlforge import Definitions, feature, get_training_data
from grange.compat.mlforge.metrics import Rolling
from grange.compat.mlforge.online import LocalOnlineStore
from grange.compat.mlforge.store import LocalStore
import grange.compat.mlforge.validators as v

offline_store = LocalStore(path="./feature_store")
online_store = LocalOnlineStore("./online_store")
defs = Definitions(store=offline_store, online_store=online_store)

@feature(
    keys=["user_id"],
    source="transactions.parquet",
    timestamp="event_time",
    metrics=[Rolling(windows=["7d", "30d"], aggregations={"amount": ["sum", "mean"]})],
    validators={"user_id": [v.not_null()], "amount": [v.greater_than(0)]},
)
def user_spend(df: pl.DataFrame) -> pl.DataFrame:
    return df.select(pl.col("user_id"), pl.col("event_time"), pl.col("amount"))

defs.build(features=["user_spend"])
defs.build(features=["user_spend"], engine="duckdb")
defs.build(features=["user_spend"], version="2.0.0")
defs.build(features=["user_spend"], online=True)
print(offline_store.list_versions("user_spend"))
print(offline_store.read("user_spend", version="1.0.0").height, offline_store.read("user_spend").height)
print(online_store.read(feature_name="user_spend", entity_keys={"user_id": "user_123"}))
print(online_store.read_batch(feature_name="user_spend", entity_keys=[{"user_id": "user_456"}, {"user_id": "no"}]))
spine = pl.read_parquet("transactions.parquet").select("user_id", "event_time")
print(get_training_data(spine, features=["user_spend"], store=offline_store).columns)
"""
PRINTED = """\
['1.0.0', '2.0.0']
4 4
{'amount__sum__7d': 5.0, 'amount__sum__30d': 15.0, 'amount__mean__7d': 5.0, 'amount__mean__30d': 7.5}
[{'amount__sum__7d': 7.0, 'amount__sum__30d': 7.0, 'amount__mean__7d': 7.0, 'amount__mean__30d': 7.0}, None]
['user_id', 'event_time', 'amount__sum__7d', 'amount__sum__30d', 'amount__mean__7d', 'amount__mean__30d']
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    Path("script.py").write_text(script)
    return subprocess.run([sys.executable, "-W", "error", "script.py"], capture_output=True, text=True, check=False)


def test_a_script_runs_with_the_import_changed() -> None:
    done = run(SCRIPT)
    assert (done.stderr, done.stdout) == ("", PRINTED)


def test_two_modules_with_a_feature_of_one_name_are_told() -> None:
    Path("other.py").write_text(SCRIPT.split("defs.build")[0])
    done = run(SCRIPT.replace("defs.build", "import other\ndefs.build", 1))
    assert "two features are called 'user_spend'" in done.stderr
    assert "in __main__ and in other" in done.stderr


def test_importing_it_loads_no_driver() -> None:
    done = run("import sys, grange.compat.mlforge\nprint({'polars', 'pyarrow', 'duckdb', 'lmdb'} & set(sys.modules))")
    assert done.stdout == "set()\n"
