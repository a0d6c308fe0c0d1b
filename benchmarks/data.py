"""Make the benchmarks' data: deterministic, made once per size, kept below benchmarks/data.

python benchmarks/data.py point-in-time --rows 1000000 --keys integer --spine 100000 1000000
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent / "data"
Keys = Literal["integer", "string"]
DAY = 86_400_000_000
START = 1_735_689_600_000_000
"""2025-01-01 UTC in microseconds; all events lie in the 90 days from there."""
DAYS = 90
GROUPS = 5
FEATURES = 10
ENTITY_SHARE = (0.01, 0.02, 0.05, 0.10, 0.10)
"""Entities of each group as a share of its rows: from 100 down to 10 rows an entity."""


def point_in_time(rows: int, spines: list[int], keys: Keys) -> Path:
    """Five groups of `rows` events in time order, as a log arrives, and a spine per size asked for.

    Half of the spine's keys lie among those that every group has, half among those of the largest groups; its
    times lie in the last 80 days. No two events of an entity share a time, so that there is one right answer.

    Returns:
        A folder with `group0.parquet` to `group4.parquet` and `spine-<rows>.parquet`.
    """
    folder = ROOT / f"point-in-time-{keys}-{rows}"
    entities = [max(1, int(rows * share)) for share in ENTITY_SHARE]

    def groups(target: Path) -> None:
        for index, count in enumerate(entities):
            random = np.random.default_rng(index)
            user, time = _unique(random.integers(0, count, rows), START + random.integers(0, DAYS * DAY, rows))
            order = np.argsort(time, kind="stable")
            columns = {f"g{index}_f{j}": random.standard_normal(len(user)) for j in range(FEATURES)}
            _write(_table(user[order], time[order], keys) | columns, target / f"group{index}.parquet")

    _once(folder, groups)
    for size in spines:
        path = folder / f"spine-{size}.parquet"
        if not path.exists():
            random = np.random.default_rng(1_000_003 + size)
            user = random.integers(0, entities[-1], size)
            user = np.where(random.random(size) < 0.5, user % entities[0], user)
            time = START + random.integers(10 * DAY, DAYS * DAY, size)
            rest = {"row": np.arange(size), "label": random.integers(0, 2, size)}
            _write(_table(user, time, keys) | rest, path)
    return folder


def online(entities: int) -> Path:
    """Five groups with one row for each of the same entities.

    Returns:
        A folder with `group0.parquet` to `group4.parquet`.
    """
    folder = ROOT / f"online-{entities}"

    def groups(target: Path) -> None:
        for index in range(GROUPS):
            random = np.random.default_rng(100 + index)
            columns = {f"g{index}_f{j}": random.standard_normal(entities) for j in range(FEATURES)}
            time = START + random.integers(0, DAY, entities)
            _write(_table(np.arange(entities), time, "integer") | columns, target / f"group{index}.parquet")

    _once(folder, groups)
    return folder


def materialize(entities: int) -> Path:
    """One group with one row for each entity, in time order and therefore not in the order of the keys.

    Returns:
        A folder with `group0.parquet`.
    """
    folder = ROOT / f"materialize-{entities}"

    def group(target: Path) -> None:
        random = np.random.default_rng(200)
        columns = {f"g0_f{j}": random.standard_normal(entities) for j in range(FEATURES)}
        time = START + np.sort(random.integers(0, DAYS * DAY, entities))
        _write(_table(random.permutation(entities), time, "integer") | columns, target / "group0.parquet")

    _once(folder, group)
    return folder


def windows(events: int, users: int, days: int, spines: list[int]) -> Path:
    """Events in time order with an amount; every twentieth is of user 0, the others spread evenly.

    No two events of a user share a time, so that as of every event is one row an event for everyone. Times are whole
    milliseconds over `days` days. A spine's times lie in the last two thirds of them.

    Returns:
        A folder with `events.parquet` and `spine-<rows>.parquet`.
    """
    folder = ROOT / f"windows-{events}-{users}-{days}"

    def make(target: Path) -> None:
        random = np.random.default_rng(300)
        user = np.where(random.random(events) < 0.05, 0, random.integers(0, users, events))
        time = START + random.integers(0, days * DAY // 1000, events) * 1000
        user, time = _unique(user, time)
        order = np.argsort(time, kind="stable")
        columns = {"amount": np.round(random.lognormal(3, 1, len(user)), 2)}
        _write(_table(user[order], time[order], "integer") | columns, target / "events.parquet")

    _once(folder, make)
    for size in spines:
        path = folder / f"spine-{size}.parquet"
        if not path.exists():
            random = np.random.default_rng(301 + size)
            time = START + random.integers(days * DAY // 3000, days * DAY // 1000, size) * 1000
            _write(_table(random.integers(0, users, size), time, "integer") | {"row": np.arange(size)}, path)
    return folder


def split(rows: int, keys: Keys) -> Path:
    """Training rows in time order: key, time, twenty features, a label.

    Returns:
        A folder with `rows.parquet`.
    """
    folder = ROOT / f"split-{keys}-{rows}"

    def make(target: Path) -> None:
        random = np.random.default_rng(400)
        user = random.integers(0, max(1, rows // 20), rows)
        time = START + np.sort(random.integers(0, DAYS * DAY, rows))
        columns = {f"f{j}": random.standard_normal(rows) for j in range(20)} | {"label": random.integers(0, 2, rows)}
        _write(_table(user, time, keys) | columns, target / "rows.parquet")

    _once(folder, make)
    return folder


def statistics(rows: int) -> Path:
    """Columns as feature groups have them: 40 floats, 5 integers, 3 texts, a time, a truth; some with nulls.

    Returns:
        A folder with `rows.parquet`.
    """
    folder = ROOT / f"statistics-{rows}"

    def make(target: Path) -> None:
        random = np.random.default_rng(500)
        columns: dict[str, object] = {}
        for number in range(40):
            missing = random.random(rows) < 0.02 * (number % 2)
            columns[f"float{number}"] = pa.array(random.standard_normal(rows), mask=missing)
        for number in range(5):
            columns[f"integer{number}"] = pa.array(random.integers(0, 10 ** (number + 1), rows))
        for number, count in enumerate((10, 1_000, 100_000)):
            codes = random.integers(0, count, rows)
            columns[f"text{number}"] = pa.array([f"value-{code}" for code in codes], mask=random.random(rows) < 0.01)
        columns["time"] = pa.array(START + random.integers(0, DAYS * DAY, rows), pa.timestamp("us", tz="UTC"))
        columns["truth"] = pa.array(random.random(rows) < 0.3)
        _write(columns, target / "rows.parquet")

    _once(folder, make)
    return folder


def _once(folder: Path, make: Callable[[Path], None]) -> None:
    """Make the folder beside its place and rename it there, so that half a folder is never taken for a whole."""
    if folder.exists():
        return
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    make(unfinished)
    unfinished.rename(folder)


def _unique(
    user: npt.NDArray[np.int64], time: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows less those whose key and time another row has already."""
    order = np.lexsort((time, user))
    same = (np.diff(user[order]) == 0) & (np.diff(time[order]) == 0)
    keep = np.sort(np.delete(order, np.flatnonzero(same) + 1))
    return user[keep], time[keep]


def _table(user: npt.NDArray[np.int64], time: npt.NDArray[np.int64], keys: Keys) -> dict[str, object]:
    id_: object = user
    if keys == "string":
        id_ = pa.array(np.char.add("user-", np.char.zfill(user.astype("U8"), 8)))
    return {"user_id": id_, "event_time": pa.array(time, pa.timestamp("us", tz="UTC"))}


def _write(columns: dict[str, object], path: Path) -> None:
    pq.write_table(pa.table(columns), path, compression="snappy", row_group_size=131_072)


def main() -> None:
    """Make the data that was asked for and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["point-in-time", "online", "materialize", "windows"])
    parser.add_argument("--rows", type=int, required=True, help="rows of a group; entities for the other two")
    parser.add_argument("--keys", choices=["integer", "string"], default="integer")
    parser.add_argument("--spine", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    match arguments.what:
        case "point-in-time":
            print(point_in_time(arguments.rows, arguments.spine, arguments.keys))
        case "windows":
            print(windows(arguments.rows, max(1, arguments.rows // 100), DAYS, arguments.spine))
        case "online":
            print(online(arguments.rows))
        case _:
            print(materialize(arguments.rows))


if __name__ == "__main__":
    main()
