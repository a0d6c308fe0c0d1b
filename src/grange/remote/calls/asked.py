"""What callers hand in, as it is sent: features by name, spines and rows as rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.config import SETTINGS
from grange.definitions.catalog import Catalog
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection, as_selection
from grange.definitions.serialize import fingerprint, to_data
from grange.errors import ColumnTypeError, RequestError, UnsupportedError
from grange.frames import Rows
from grange.plan.bind import is_pinned
from grange.remote.messages import Call
from grange.types import DataType

if TYPE_CHECKING:
    from grange.remote.calls.session import Session
    from grange.verbs.spine import Spine

ROW = "__row"
"""The column that numbers the rows of a spine that is sent, so that those that come back are found among them."""


def features_as_sent(session: Session, features: Any) -> Call[str | list[Any]]:
    """What was asked for, as it is sent: a view's name, or a list of references and of selections.

    Raises:
        RequestError: something that names no features.
        UnsupportedError: a view that is not applied on the server, or is another one there.
    """
    if isinstance(features, FeatureView):
        yield from _check_applied(session, features)
        return features.name
    if isinstance(features, str):
        return features
    items = list(features) if isinstance(features, list | tuple) and not is_pinned(features) else [features]
    for item in items:
        if isinstance(item, FeatureView):
            yield from _check_applied(session, item)
    return [_reference(as_selection(item)) for item in items]


def _reference(selection: FeatureSelection) -> Any:
    """Text where text says it all, else as a view's definition has it."""
    plain = FeatureSelection(source=selection.source, features=selection.features, version=selection.version)
    if selection == plain and len(selection.features) <= 1:
        version = f"@{selection.version}" if selection.version else ""
        feature = f":{selection.features[0]}" if selection.features else ""
        return f"{selection.source}{version}{feature}"
    return to_data(FeatureView("request", features=[selection]))["features"][0]


def _check_applied(session: Session, view: FeatureView) -> Call[None]:
    from grange.remote.calls.definitions import catalog

    known = (yield from catalog(session)).views.get(view.name)
    if known is None or fingerprint(to_data(known)) != fingerprint(to_data(view)):
        raise UnsupportedError(
            f"feature view {view.name!r} is not applied on the server as it is here",
            found="another definition of this name" if known is not None else "no view of this name",
            try_="store.apply([view]) first, or name the features in a list",
        )


# spines


def given_spine(session: Session, spine: Any, features: str | list[Any]) -> Call[Spine]:
    """The rows asked for, as the caller holds them: a query or a file is read here, where the caller is.

    Raises:
        RequestError: rows that are none; a query that fails.
        SourceError: the file cannot be read.
    """
    from grange.verbs.spine import Spine

    if not isinstance(spine, str | os.PathLike):
        return Spine(spine)
    from grange.remote.calls.definitions import catalog

    types = _key_types((yield from catalog(session)), features)
    return Spine(_read_here(spine, types))


def _read_here(spine: str | os.PathLike[str], types: Mapping[str, DataType]) -> Rows:
    """The rows of a SQL query or a file; file names are relative to the working directory."""
    from grange.definitions.sources import FileSource
    from grange.transforming import query_sql
    from grange.verbs.spine import is_query

    if is_query(spine):
        return query_sql(str(spine), project=Path.cwd())
    path = Path(spine).absolute()
    rows = _rows_of(FileSource(path))
    # 007 of a string key stays 007: what a file without types has for a key is read in the key's type
    typed = {name: types[name] for name in rows.column_names if name in types}
    return _rows_of(FileSource(path, schema=typed)) if typed and path.suffix != ".parquet" else rows


def _rows_of(source: Any) -> Rows:
    from grange.ports.plugins import backends, create

    engine_name = next(setting.default for setting in SETTINGS if setting.key == "engine")
    reader = next(name for name, item in backends("connectors").items() if "FileSource" in item.schemes)
    node = create("connectors", reader, {}).resolve(source, project=Path.cwd(), what=f"spine {source.path!r}")
    rows: Rows = create("engines", engine_name, {}).run(node, {})
    return rows


def _key_types(catalog: Catalog, features: str | list[Any]) -> dict[str, DataType]:
    """By the spine's key column, the type of the groups that are joined on it."""
    if isinstance(features, str) and features in catalog.views:
        selections = [taken.selection for taken in catalog.taken_by(catalog.views[features])]
    else:
        named = [features] if isinstance(features, str) else features
        selections = [selection_from(item) for item in named]
    types: dict[str, DataType] = {}
    for selection in selections:
        group = catalog.groups.get(selection.source)
        columns = dict(selection.on)
        if group is not None:
            for key in group.join_keys:
                types.setdefault(columns.get(key, key), group.schema[key])
    return types


def selection_from(item: Any) -> FeatureSelection:
    """What a reference that is sent takes, where from, and what it is joined on."""
    if isinstance(item, str):
        return as_selection(item)
    on = tuple(sorted(item["on"].items()))
    return FeatureSelection(item["source"], tuple(item["features"]), item["version"], on)


def requested_rows(rows: Any) -> list[Mapping[str, Any]]:
    """The rows of an online request: a list of mappings, an iterator of them, or any frame.

    Raises:
        RequestError: none of these.
    """
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes | bytearray):
        return list(rows)
    if isinstance(rows, Iterator) and not hasattr(rows, "__arrow_c_stream__"):
        return list(rows)
    if rows is None or isinstance(rows, Mapping | str | bytes | bytearray):
        raise RequestError(
            "the requested rows are a list with one dict per row",
            found="one mapping" if isinstance(rows, Mapping) else f"{rows!r} ({type(rows).__name__})",
            try_='get_online_features(features, [{"user_id": 1}])',
        )
    listed: list[Mapping[str, Any]] = Rows.of(rows, what="the requested rows").arrow.to_pylist()
    return listed


def spine_rows(spine: Spine) -> Rows:
    """What of a spine is sent: numbered rows, without columns of pandas that hold anything and everything, which no
    feature could look at.

    Raises:
        RequestError: it has a column of the reserved name.
    """
    import pyarrow as pa

    names = spine.column_names
    if ROW in names:
        raise RequestError(f"a spine cannot have a column {ROW!r}: that is what its rows are numbered by")
    table = _travelling(spine, names)
    return Rows(arrow=table.append_column(ROW, pa.array(range(len(spine)), pa.int64())))


def _travelling(spine: Spine, names: list[str]) -> Any:
    import pyarrow as pa

    try:
        return spine.take(names).arrow
    except ColumnTypeError:
        columns = {}
        for name in names:
            try:
                columns[name] = spine.take([name]).arrow.column(0)
            except ColumnTypeError:
                continue  # stays here, and is laid beside what comes back
        return pa.table(columns)


__all__ = ["ROW", "features_as_sent", "given_spine", "requested_rows", "selection_from", "spine_rows"]
