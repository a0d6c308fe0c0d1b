"""In Feast's environment: the historical features of a repository, as JSON.

historical.py <repository> <entity rows and features as JSON>
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from feast import FeatureStore


def main(repository: str, question: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("feast")), "apply"], cwd=repository, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    os.chdir(repository)
    asked = json.loads(question)
    entities = pd.DataFrame(asked["rows"])
    entities["event_timestamp"] = pd.to_datetime(entities["event_timestamp"], utc=True)
    store = FeatureStore(repository)
    keys = list(entities.columns)
    answers = {}
    for service in asked["services"]:
        found = store.get_historical_features(entity_df=entities, features=store.get_feature_service(service)).to_df()
        merged = entities.merge(found, on=keys, how="left", validate="one_to_one")
        columns = [name for name in merged.columns if name not in keys]
        answers[service] = json.loads(merged[columns].to_json(orient="columns"))
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
