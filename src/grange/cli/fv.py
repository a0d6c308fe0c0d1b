"""`grange fv`: feature views."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from grange.cli.output import Table, cell, details_parts, moment, plural, rows_parts
from grange.cli.session import Session, YesOption, command, from_command_line
from grange.cli.verbs import EndOption, EngineOption, StartOption, tell_leaks
from grange.errors import LeakWarning, RefusedError, UsageError

if TYPE_CHECKING:
    from grange.definitions import Catalog, FeatureSelection, FeatureView
    from grange.definitions.transformations import Step
    from grange.frames import Rows
    from grange.types import DataType

app = typer.Typer(help="Feature views: what one model consumes.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The feature view.")]
TrainingDatasetOption = Annotated[
    int | None,
    typer.Option("--training-dataset", metavar="N", help="Prepare features by what this training dataset learned."),
]
RawOption = Annotated[bool, typer.Option("--raw", help="Features as they are, before the view's transformations.")]


@command(app, "list")
def list_views(session: Session) -> None:
    """The applied feature views."""
    with session.store() as store:
        views = list(store.catalog.views.values())
    data = [
        {
            "name": view.name,
            "features": [str(selection) for selection in view.features],
            "labels": list(view.labels),
            "description": view.description,
            "owner": view.owner,
            "tags": dict(view.tags),
        }
        for view in views
    ]
    rows = [
        (view.name, "; ".join(map(str, view.features)), ", ".join(view.labels), view.description.split("\n")[0])
        for view in views
    ]
    headers = ("name", "features", "labels", "description")
    session.out.show(data, Table(headers, rows, empty="no feature views yet: grange apply"))


@command(app, "info")
def info(session: Session, name: NameArgument) -> None:
    """What a feature view takes, and from where."""
    with session.store() as store:
        view = store.catalog.view(name)
        data = store.inspect(name)
        columns = _request_columns(store.catalog, view)
        data["request"] = [{"column": column, "dtype": str(dtype)} for column, dtype in columns.items()]
    steps = {"on demand": view.on_demand, "transformations": view.transformations}
    shown = {
        "name": name,
        "description": data.get("description"),
        "labels": [str(label) for label in view.label_rules],
        **({"filter": view.filter} if view.filter else {}),
        **({"training helpers": view.training_helpers} if view.training_helpers else {}),
        **({"inference helpers": view.inference_helpers} if view.inference_helpers else {}),
        "on error": data.get("on_error"),
        "owner": data.get("owner"),
        "tags": data.get("tags"),
        **({"uses": data["uses"]} if data["uses"] else {}),
        "features": [_selection(selection) for selection in view.features],
        **{what: [_step(step) for step in chosen] for what, chosen in steps.items() if chosen},
        **({"derived": [{"name": item, "is": text.text} for item, text in view.derived]} if view.derived else {}),
        "a request brings": data["request"],
    }
    session.out.show(data, *details_parts(shown))


def _step(step: Step) -> dict[str, str]:
    """One transformation as a row: its function, of what, giving what."""
    given = ", ".join(f"{name}={value!r}" for name, value in step.parameters)
    return {
        "function": f"{step.function}({given})" if given else step.function,
        "of": ", ".join(step.inputs),
        "gives": ", ".join(step.output_names) or "columns that it names itself",
    }


def _selection(selection: FeatureSelection) -> dict[str, str]:
    """One selection as a row: what, by which columns, under which names."""
    on = ", ".join(column if key == column else f"{column} = {key}" for key, column in selection.on)
    rename = ", ".join(f"{feature} as {column}" for feature, column in selection.rename)
    return {
        "from": selection.source + (f"@{selection.version}" if selection.version else ""),
        "features": ", ".join(selection.features) or "all",
        "on": on or "its own keys",
        "names": ", ".join(filter(None, [rename, f"prefix {selection.prefix}" if selection.prefix else ""])),
        "join": selection.join,
    }


def _request_columns(catalog: Catalog, view: FeatureView) -> dict[str, DataType]:
    """What every row of a request brings, in the view's own column names: entity keys, then request columns."""
    columns: dict[str, DataType] = {}
    for selection in catalog.expand(view.features, asked_by=f"feature view {view.name!r}"):
        group, on = catalog.group(selection.source), dict(selection.on)
        for key in group.join_keys:
            columns.setdefault(on.get(key, key), group.schema[key])
    for column in catalog.requests(view):
        columns.setdefault(column.name, column.dtype)
    return columns


@command(app, "create")
def create(
    session: Session,
    name: NameArgument,
    feature_group: Annotated[
        str | None,
        typer.Option("--feature-group", metavar="FG[@X.Y.Z]", help="All its features, or those of --features."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option("--features", metavar="FG:FEATURE,...", help="What to take; bare names are --feature-group's."),
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option(
            "--join",
            metavar='"FG[@X.Y.Z] INNER|LEFT|RIGHT|FULL|ASOF ON[=KEY],... [PREFIX]"',
            help="All features of another group, found point-in-time by these columns.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "--labels",
            metavar='"COL [after 30d],..."',
            help="What the model predicts: spine column or FG:FEATURE, and how long after its row it is known.",
        ),
    ] = None,
    derived: Annotated[
        list[str] | None,
        typer.Option("--derived", metavar="NAME=SQL", help="A SQL expression over features and request columns."),
    ] = None,
    on_demand: Annotated[
        list[str] | None,
        typer.Option(
            "--on-demand",
            metavar="FN:COL,...[->OUT,...]",
            help="Features that an applied transformation makes of others when they are asked for. Repeatable.",
        ),
    ] = None,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            "--transform",
            metavar="FN[(SETTING=VALUE,...)]:COL,...[->OUT,...]",
            help="What prepares features for the model, in order: standard_scaler:amount,age. See transformation list.",
        ),
    ] = None,
    where: Annotated[
        str,
        typer.Option("--filter", metavar="SQL", help="A condition on the rows of history; others are left out."),
    ] = "",
    training_helper: Annotated[
        list[str] | None,
        typer.Option(
            "--training-helper", metavar="COL,...", help="In training data, and no input of the model: FG:FEATURE, ..."
        ),
    ] = None,
    inference_helper: Annotated[
        list[str] | None,
        typer.Option(
            "--inference-helper", metavar="COL,...", help="In vectors and training data, and no input of the model."
        ),
    ] = None,
    on_error: Annotated[
        str, typer.Option("--on-error", metavar="raise|default", help="In an outage of the online store.")
    ] = "raise",
    description: Annotated[str, typer.Option("--description")] = "",
    owner: Annotated[str, typer.Option("--owner")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE")] = None,
) -> None:
    """Apply a feature view.

    No definition module is needed. A join finds, for each row, what was true at its time: LEFT and ASOF keep every
    row, INNER those for which the group has something to show. Without a spine, RIGHT asks at that group's keys and
    times, FULL at both. The view lives in the registry alone, so `grange apply --prune` would delete it.
    """
    from grange.cli.grammars import parse_derived, parse_labels, parse_tags
    from grange.definitions import FeatureView
    from grange.definitions.feature_view import OnError
    from grange.definitions.preparing import parse_step

    selections = _selections(feature_group, features or [], join or [])
    labels = [item for text in label or () for item in parse_labels(text)]
    with session.store() as store:
        if name in store.catalog.views:
            raise RefusedError(
                f"feature view {name!r} exists already",
                try_=f"grange fv delete {name}, or change it in a definition module",
            )
        check_joins(store.catalog, join or [])
        with from_command_line():
            view = FeatureView(
                name,
                features=selections,
                labels=labels,
                derived=parse_derived(derived or ()),
                on_demand=[parse_step(text, store.catalog.transformations) for text in on_demand or ()],
                transformations=[parse_step(text, store.catalog.transformations) for text in transform or ()],
                filter=where,
                training_helpers=_listed(training_helper),
                inference_helpers=_listed(inference_helper),
                on_error=cast(OnError, on_error),  # the constructor checks it
                description=description,
                owner=owner,
                tags=parse_tags(tag or ()),
            )
        done = store.apply([view])
    leaks = tell_leaks(session, done.leaks)
    session.out.show(done.to_dict(), str(done), f"applied as revision {done.revision}", *leaks)


def _listed(texts: list[str] | None) -> list[str]:
    """The items of an option that is given several times, or once with commas."""
    return [item.strip() for text in texts or () for item in text.split(",") if item.strip()]


def _selections(base: str | None, features: list[str], joins: list[str]) -> list[Any]:
    """The view's selections, in the order of the command line: the base group, other features, joins."""
    from grange.cli.grammars import parse_join, parse_references

    references = [item for text in features for item in parse_references(text, base=base)]
    own = [item for item in references if base is not None and item.startswith(f"{base}:")]
    chosen: list[Any] = list(references)
    if base is not None and not own:
        chosen = [*parse_references(base), *references]
    chosen += [parse_join(text) for text in joins]
    if not chosen:
        raise UsageError("a feature view needs features", try_="--feature-group FG, or --features fg:feature,...")
    return chosen


def check_joins(catalog: Catalog, joins: Sequence[str], *, option: str = "--join") -> None:
    """Each join names the whole key of its group.

    Raises:
        UnknownFeatureGroupError: no such group.
        UsageError: a join key is left out, or is none.
    """
    from grange.cli.grammars import join_columns, parse_join

    for text in joins:
        group = catalog.group(parse_join(text).source, asked_by=f"{option} {text!r}")
        given = join_columns(text)
        if set(given) != set(group.join_keys):
            raise UsageError(
                f"join {text!r} joins on {', '.join(given)}",
                found=f"feature group {group.name!r} is keyed by {', '.join(group.join_keys)}",
                try_=f'"{group.name} LEFT {",".join(f"<column>={key}" for key in group.join_keys)}"',
            )


@command(app, "get")
def get(
    session: Session,
    name: NameArgument,
    entry: Annotated[
        list[str],
        typer.Option("--entry", metavar="KEY=VALUE,...", help="One row: entity key and request columns. Repeatable."),
    ],
    now: Annotated[
        str | None, typer.Option("--now", metavar="TIME", help="Read as of this time, instead of the clock's.")
    ] = None,
    training_dataset: TrainingDatasetOption = None,
    raw: RawOption = False,
) -> None:
    """Latest values from the online store.

    One vector per --entry, each value with its status.
    """
    from grange.cli.grammars import parse_entry

    with session.store() as store:
        view = store.catalog.view(name)
        columns = _request_columns(store.catalog, view)
        rows = [parse_entry(text, columns, asked_by=f"feature view {name!r}") for text in entry]
        found = store.get_online_features(name, rows, now=now, training_dataset=training_dataset, transform=not raw)
        values, statuses, times = found.to_dicts(), found.statuses, found.event_times
        shown = [column for column, role in found.roles.items() if role in ("feature", "inference_helper")]
    if found.degraded:
        session.out.warn("the online store could not be reached; these are defaults (ONL-6)")
    vectors = [
        {
            "entry": row,
            "values": {feature: value[feature] for feature in shown},
            "statuses": {feature: each.name for feature, each in status.items()},
            "event_times": time,
        }
        for row, value, status, time in zip(rows, values, statuses, times, strict=True)
    ]
    parts: list[Any] = []
    for text, vector in zip(entry, vectors, strict=True):
        parts += ["", text] if parts else [text]
        parts.append(_vector_table(vector))
    session.out.show({"degraded": found.degraded, "rows": vectors}, *parts)


def _vector_table(vector: dict[str, Any]) -> Table:
    """One vector for people: a line per feature, with the status and time of what was read; what was made of it has
    none."""
    rows = [
        (feature, cell(value), vector["statuses"].get(feature, ""), moment(vector["event_times"].get(feature)))
        for feature, value in vector["values"].items()
    ]
    return Table(("feature", "value", "status", "event time"), rows)


@command(app, "read")
def read(
    session: Session,
    name: NameArgument,
    spine: Annotated[
        str | None,
        typer.Option(
            "--spine", metavar="FILE|QUERY", help="Rows asked for: a file, or a SELECT. Without: the group's own."
        ),
    ] = None,
    event_time: Annotated[
        str | None, typer.Option("--event-time", metavar="COL", help="The spine's time column.")
    ] = None,
    start: StartOption = None,
    end: EndOption = None,
    n: Annotated[int, typer.Option("--n", min=0, help="How many rows to show; --output writes all.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to .parquet, .csv or .jsonl instead.")
    ] = None,
    as_known: Annotated[
        bool, typer.Option("--as-known", help="Hide rows that became known only after the spine's time (PIT-5).")
    ] = False,
    training_dataset: TrainingDatasetOption = None,
    raw: RawOption = False,
    engine: EngineOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also show the plan that was run.")] = False,
) -> None:
    """Training data, point-in-time correct.

    The values that the view's features had at the times of the spine. Without --spine, at the times of the first
    group's own rows (--start and --end bound them), or of those that joins say.
    """
    from grange.cli.files import file_format, write_rows
    from grange.frames import Rows

    if output is not None:
        file_format(output)  # a wrong ending is said before the work
    with session.store() as store:
        view = store.catalog.view(name)
        asked = None if spine is None else _spine(spine, _request_columns(store.catalog, view))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeakWarning)  # they are told below, as this command line tells things
            found = store.get_historical_features(
                name,
                asked,
                event_time=event_time,
                start=start,
                end=end,
                as_known=as_known,
                engine=engine,
                training_dataset=training_dataset,
                transform=not raw,
            )
        rows = Rows(polars=found.to_polars())
        plan = found.explain() if explain else None
    data: dict[str, Any] = {"rows": len(rows), "columns": rows.column_names, "versions": dict(found.versions)}
    data["roles"] = dict(found.roles)
    data["rows_left_out"] = found.rows_left_out
    data["leaks"] = [leak.to_dict() for leak in found.leaks]
    left_out = [f"{plural(found.rows_left_out, 'row')} left out by joins or the filter"] if found.rows_left_out else []
    extra = [*left_out, *tell_leaks(session, found.leaks), *(["", plan] if plan else [])]
    if plan:
        data["plan"] = plan
    if output is not None:
        write_rows(output, rows)
        data["output"] = str(output)
        session.out.show(
            data, f"{plural(len(rows), 'row')}, {plural(len(rows.column_names), 'column')} in {output}", *extra
        )
        return
    shown = Rows(polars=rows.polars.head(n))
    data["data"] = shown.arrow.to_pylist()
    more = (
        [f"{len(shown):,} of {plural(len(rows), 'row')} (--n shows more, --output writes all)"] if n < len(rows) else []
    )
    session.out.show(data, *rows_parts(shown), *more, *extra)


def _spine(text: str, dtypes: dict[str, DataType]) -> str | Rows:
    """A spine from a file, keys in their types; a query goes to the store as it is."""
    from grange.cli.files import read_rows

    if text.split()[:1] and text.split()[0].lower() in ("select", "with", "from"):
        return text
    return read_rows(Path(text), dtypes)


@command(app, "delete")
def delete(
    session: Session,
    name: NameArgument,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also delete the feature views that use it.")] = False,
    yes: YesOption = False,
) -> None:
    """Delete a feature view.

    Its feature groups stay. Asks first.
    """
    with session.store() as store:
        store.catalog.view(name)
        session.confirm(f"delete feature view {name}", yes=yes)
        removed = store.delete(name, cascade=cascade)
    session.out.show({"removed": list(removed)}, *[f"deleted {item}" for item in removed])
