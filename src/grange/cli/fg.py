"""`grange fg`: feature groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.creating import VALUE, CreateCommand
from grange.cli.describing import Columns, column_table, group_summary
from grange.cli.keys import entities_of, refuse_existing
from grange.cli.output import Table, cell, count, details_parts, plural, rows_parts
from grange.cli.session import Session, VersionOption, YesOption, command, from_command_line
from grange.cli.verbs import EndOption, StartOption, tell_leaks
from grange.errors import CorruptStoreError, UnknownVersionError, UsageError
from grange.verbs.names import pinned

if TYPE_CHECKING:
    from grange.definitions import FeatureGroup, FeatureView
    from grange.store import FeatureStore
    from grange.types import DataType

app = typer.Typer(help="Feature groups: tables of features.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The feature group.")]


@command(app, "list")
def list_groups(session: Session) -> None:
    """The applied feature groups."""
    with session.store() as store:
        groups = [_summary(store, group) for group in store.catalog.groups.values()]
    rows = [
        (
            item["name"],
            ", ".join(item["join_keys"]),
            str(len(item["features"])),
            item["version"] or "-",
            count(item["rows"]),
            "yes" if item["online"] else "no",
            item["description"].split("\n")[0],
        )
        for item in groups
    ]
    headers = ("name", "keys", "features", "version", "rows", "online", "description")
    numbers = frozenset({"features", "rows"})
    session.out.show(
        groups,
        Table(headers, rows, right=numbers, empty="no feature groups yet: grange apply", spare=("description",)),
    )


def _summary(store: FeatureStore, group: FeatureGroup) -> dict[str, Any]:
    from grange.definitions.on_demand import offered

    try:
        latest = store.version(group.name)
    except (UnknownVersionError, CorruptStoreError):  # `versions` and `verify` say what is wrong with it
        latest = None
    return {
        "name": group.name,
        "entities": [entity.name for entity in group.entities],
        "join_keys": list(group.join_keys),
        "features": list(offered(group).names),
        "version": latest and latest.version,
        "rows": latest and latest.row_count,
        "feature_rows": latest.feature_rows if latest and latest.aggregates else None,
        "online": group.online,
        "description": group.description,
        "owner": group.owner,
        "tags": dict(group.tags),
    }


@command(app, "info")
def info(session: Session, name: NameArgument, version: VersionOption = None) -> None:
    """What a feature group is."""
    name, version = pinned(name, version)
    with session.store() as store:
        store.catalog.group(name)
        data = store.inspect(name, version=version)
    session.out.show(data, *details_parts(group_summary(data)))


@command(app, "preview")
def preview(
    session: Session,
    name: NameArgument,
    n: Annotated[int, typer.Option("--n", min=0, help="How many rows.")] = 10,
    version: VersionOption = None,
    columns: Annotated[str | None, typer.Option("--columns", metavar="A,B", help="Only these columns.")] = None,
    start: StartOption = None,
    end: EndOption = None,
    events: Annotated[
        bool, typer.Option("--events", help="The events of a group with aggregations, instead of its feature rows.")
    ] = False,
) -> None:
    """The first stored rows, by event time."""
    name, version = pinned(name, version)
    with session.store() as store:
        if events and not store.catalog.group(name).aggregations:
            raise UsageError(
                f"feature group {name!r} has no aggregations: its rows are its features", try_="leave --events out"
            )
        rows = store.read(name, version=version, columns=_names(columns), start=start, end=end, limit=n, events=events)
    session.out.show(rows.arrow.to_pylist(), *rows_parts(rows))


@command(app, "quarantine")
def quarantine(
    session: Session,
    name: NameArgument,
    n: Annotated[int, typer.Option("--n", min=0, help="How many rows, the newest.")] = 10,
) -> None:
    """Rows that expectations kept out, and pushed events that were none, with their reasons."""
    from grange.frames import Rows

    with session.store() as store:
        kept = Rows(polars=store.quarantined(name).polars.tail(n))
    if not kept.column_names:
        session.out.show([], f"nothing of {name} is in quarantine")
        return
    session.out.show(kept.arrow.to_pylist(), *rows_parts(kept))


@command(app, "features")
def features(session: Session, name: NameArgument, version: VersionOption = None) -> None:
    """The features and other columns, with their types.

    Of a group with aggregations what each feature is, then the columns of its events.
    """
    name, version = pinned(name, version)
    with session.store() as store:
        group = store.catalog.group(name)
        columns = Columns.of_group(group) if version is None else Columns.of_version(store.version(name, version))
    defaults = dict(group.defaults)
    data = columns.records(defaults)
    if not columns.aggregates:
        rows = [_column_row(item, defaults) for item in data]
        session.out.show(data, Table(("name", "type", "role", "default", "description"), rows))
        return
    count_of_features = len(columns.aggregates) + len(columns.on_demand)
    made, stored = data[:count_of_features], data[count_of_features:]
    features = column_table([item | {"role": None} for item in made], defaults)
    session.out.show(data, "features:", features, "", "columns of its events:", column_table(stored))


def _column_row(item: dict[str, Any], defaults: dict[str, Any]) -> tuple[str, ...]:
    default = cell(item["default"]) if item["name"] in defaults else ""
    return str(item["name"]), str(item["dtype"]), str(item["role"]), default, str(item["description"])


@command(app, "create", cls=CreateCommand)
def create(
    session: Session,
    name: NameArgument,
    source: Annotated[
        str, typer.Option("--source", metavar="PATH", help="A file, glob or folder, relative to the project.")
    ],
    keys: Annotated[
        str | None,
        typer.Option("--keys", "--primary-key", metavar="KEY[:TYPE],...", help="The join keys, in order."),
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="NAME", help="Whom it describes: an applied entity, or a new one of --keys."),
    ] = None,
    event_time: Annotated[str | None, typer.Option("--event-time", metavar="COL", help="When a row was true.")] = None,
    created_time: Annotated[
        str | None, typer.Option("--created-time", metavar="COL", help="When a row became known.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--event-id", metavar="COL", help="Identifies an event: its last row counts (WIN-6).")
    ] = None,
    retracted: Annotated[
        str | None, typer.Option("--retracted", metavar="COL", help="True in a row that takes its event back.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option("--sql", metavar="QUERY", help="SELECT ... FROM source: what makes the features.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option("--features", metavar="NAME:TYPE[:DESC],...", help="Declared columns; others are inferred."),
    ] = None,
    aggregate: Annotated[
        list[str] | None,
        typer.Option(
            "--aggregate",
            metavar="COL:FUNCTION,...:WINDOW,...[:OPTION=...]",
            help='Windowed features: "amount:sum,quantile(0.95):7d,30d:closed=left". Options: closed, every, offset, '
            "filter, name.",
        ),
    ] = None,
    lag: Annotated[
        list[str] | None,
        typer.Option(
            "--lag",
            metavar="COL:LENGTH,...[:OPTION=...]",
            help='Values of some time ago: "load:1h,24h". Options: tolerance, filter, name.',
        ),
    ] = None,
    rollup: Annotated[
        list[str] | None,
        typer.Option(
            "--rollup",
            metavar="COL:FUNCTION,...:LENGTH,...[:OPTION=...]",
            help='Of whole intervals: "load:mean,max:1h". Options: offset, filter, name.',
        ),
    ] = None,
    sessions: Annotated[
        list[str] | None,
        typer.Option(
            "--session",
            metavar="COL:FUNCTION,...:GAP[:OPTION=...]",
            help='Of the session that is going on: "amount:sum,count:30m". Options: closed, filter, name.',
        ),
    ] = None,
    calendar: Annotated[
        list[str] | None,
        typer.Option(
            "--calendar",
            metavar="FIELD,...[:OPTION=...]",
            help='Of the moment itself: "hour,weekday:timezone=Europe/Berlin". Options: timezone, country, prefix.',
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option("--interval", metavar="1d", help="The grid of feature rows; as of every event without."),
    ] = None,
    fill_gaps: Annotated[
        bool, typer.Option("--fill-gaps", help="A feature row at every boundary of the grid, events or not.")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="RECIPE", help="A ready set of features, named after NAME; see below."),
    ] = None,
    value: Annotated[
        str | None, typer.Option("--value", metavar="COL", help="Recipe: the column of the series; load without.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", metavar="ZONE", help="Recipe: of the calendar; UTC without.")
    ] = None,
    country: Annotated[
        str | None, typer.Option("--country", metavar="DE|US-CA", help="Recipe: whose holidays; none without.")
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            "--tolerance", metavar="59m|none", help="Recipe: how much older than asked a lag may be; 59m without."
        ),
    ] = None,
    weather: Annotated[
        str | None,
        typer.Option(
            "--weather",
            metavar="FG|JOIN",
            help="Recipe: an applied group, measured before the moment; or a join of one, as of --join in fv create, "
            "known at the moment.",
        ),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="1h,1d", help="Recipe: the intervals of rollups; 1h,1d without.")
    ] = None,
    offset: Annotated[
        str | None, typer.Option("--offset", metavar="6h", help="Recipe: moves the boundaries of rollups.")
    ] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", metavar="90d", help="How long a value stays valid.")] = None,
    default: Annotated[
        list[str] | None, typer.Option("--default", metavar="NAME=VALUE", help="What stands in for no value.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", metavar="COL:CHECK(ARGS)[:POLICY]", help='For example "amount:greater_than(0):drop".'),
    ] = None,
    online: Annotated[bool, typer.Option("--online/--no-online", help="Serve it online.")] = True,
    description: Annotated[str, typer.Option("--description")] = "",
    owner: Annotated[str, typer.Option("--owner")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE")] = None,
) -> None:
    """Apply a feature group over files.

    With --aggregate, --lag, --rollup, --session or --calendar its rows are events, and its features those of windows
    that end at the moment asked for. With --recipe, all that the recipe makes: groups, and perhaps a feature view. No
    definition module is needed. It lives in the registry alone, so `grange apply --prune` would delete it.
    """
    from grange.cli.creating import of_recipe
    from grange.cli.grammars import parse_default, parse_expectation, parse_features, parse_tags
    from grange.cli.windows import parse_aggregations
    from grange.definitions import FeatureGroup, FileSource
    from grange.types import Schema

    with from_command_line():
        declared = Schema(tuple(column for text in features or () for column in parse_features(text)))
    dtypes = {column.name: column.dtype for column in declared}
    checks: dict[str, list[Any]] = {}
    for text in expect or ():
        check = parse_expectation(text, dtypes)
        checks.setdefault(check.column, []).append(check.expectation)
    options: dict[str, Any] = {
        "transform": sql,
        "schema": declared or None,
        "ttl": ttl,
        "defaults": dict(parse_default(text, dtypes) for text in default or ()),
        "expectations": checks,
        "aggregations": parse_aggregations(
            aggregates=aggregate or (),
            lags=lag or (),
            rollups=rollup or (),
            sessions=sessions or (),
            calendars=calendar or (),
        ),
        "interval": interval,
        "fill_gaps": fill_gaps,
        "description": description,
        "owner": owner,
        "tags": parse_tags(tag or ()),
    }
    said = {option: each for option, each in options.items() if each} | {"online": online}
    given = {"value": value, "timezone": timezone, "country": country, "tolerance": tolerance, "weather": weather,
             "every": every, "offset": offset}  # fmt: skip
    arguments = {argument: each for argument, each in given.items() if each is not None}
    _check_options(recipe, arguments, said, event_time)
    with session.store() as store:
        refuse_existing(store.catalog, group=name if recipe is None else None)
        entities = entities_of(store.catalog, keys, entity or [])
        definitions: Sequence[FeatureGroup | FeatureView]
        with from_command_line():
            rows = FileSource(
                source, event_time=event_time, created_time=created_time, event_id=event_id, retracted=retracted
            )
            if recipe is None:
                definitions = [FeatureGroup(name, entities=entities, source=rows, **said)]
            else:
                definitions = of_recipe(recipe, name, rows, entities, arguments, said, store.catalog)
        for definition in definitions:
            kind = "group" if isinstance(definition, FeatureGroup) else "view"
            refuse_existing(store.catalog, **{kind: definition.name})
        done = store.apply(definitions)
    made = " ".join(definition.name for definition in definitions if isinstance(definition, FeatureGroup))
    told = f"applied as revision {done.revision}; next: grange materialize {made}"
    session.out.show(done.to_dict(), str(done), told, *tell_leaks(session, done.leaks))


def _check_options(
    recipe: str | None, arguments: Mapping[str, str], options: Mapping[str, Any], event_time: str | None
) -> None:
    """Check what can be known of options that belong together without looking at anything.

    Raises:
        UsageError: a recipe's option without a recipe; windows without event time; gaps of no grid.
    """
    from grange.recipes import RECIPES

    if recipe is None and arguments:
        first = next(iter(arguments))
        raise UsageError(
            f"--{first} is an option of recipes, and there is none",
            found=f"recipes: {', '.join(RECIPES)}",
            try_=f"--recipe {next(name for name, entry in RECIPES.items() if first in (VALUE, *entry.takes))}",
        )
    if event_time is None and (recipe is not None or options.get("aggregations")):
        raise UsageError("windows need to know when each event was", try_="--event-time and the column that says it")
    if options.get("fill_gaps") and not options.get("interval"):
        raise UsageError("--fill-gaps fills a grid, and there is none", try_="--interval 1h")


@command(app, "insert")
def insert(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The feature group, or a push source.")],
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", help="Rows as the source has them: Parquet, CSV or JSON Lines.")
    ],
) -> None:
    """Store rows at once.

    In history and in the online store, after the group's transform and expectations.
    """
    from grange.cli.files import read_rows

    with session.store() as store:
        group = store.catalog.groups.get(name)
        readers = [group] if group is not None else store.catalog.readers(name)
        rows = read_rows(file, {key: dtype for reader in readers for key, dtype in _raw_types(reader).items()})
        pushed = store.push(name, rows)
    for warning in pushed.warnings:
        session.out.warn(warning)
    table = Table(
        ("group", "rows stored", "taken online"),
        [(name, count(stored), count(taken)) for name, stored, taken in pushed.groups],
        right=frozenset({"rows stored", "taken online"}),
    )
    dropped = [f"{plural(pushed.quarantined, 'row')} went to quarantine"] if pushed.quarantined else []
    session.out.show(pushed.to_dict(), table, *dropped)


def _raw_types(group: FeatureGroup) -> dict[str, DataType]:
    """Types of the raw columns, as far as they are known: the source's, and the group's where nothing transforms."""
    from grange.definitions.sources import raw_schema

    known = raw_schema(group.source)
    if group.transform is None:
        known = {column.name: column.dtype for column in group.schema} | known
    return {key: group.schema[key] for key in group.join_keys if key in group.schema} | known


@command(app, "stats")
def stats(
    session: Session,
    name: NameArgument,
    version: VersionOption = None,
    features: Annotated[
        str | None, typer.Option("--features", metavar="A,B", help="Only these columns; all without.")
    ] = None,
    compute: Annotated[bool, typer.Option("--compute", help="Compute them anew, whatever is kept.")] = False,
    percentiles: Annotated[bool, typer.Option("--percentiles", help="Also percentiles.")] = False,
    histogram: Annotated[bool, typer.Option("--histogram", help="Also how the values of each column spread.")] = False,
    correlations: Annotated[
        bool, typer.Option("--correlations", help="Also which columns of numbers go together.")
    ] = False,
) -> None:
    """Statistics of the stored columns.

    Of a version they are computed once and kept. Of a group with aggregations they are those of its feature rows. A
    table leaves out std, p50 and distinct where names are too long for them; --json has everything.
    """
    from grange.cli.statistics import statistics_data, statistics_parts

    with session.store() as store:
        found = store.statistics(
            name, version=version, columns=_names(features), compute=compute, correlations=correlations
        )
    parts = statistics_parts(found, percentiles=percentiles, histogram=histogram, correlations=correlations)
    session.out.show(statistics_data(found, correlations=correlations), *parts)


@command(app, "delete")
def delete(
    session: Session,
    name: NameArgument,
    version: Annotated[
        str | None, typer.Option("--version", metavar="X.Y.Z", help="Only this version; everything of it without.")
    ] = None,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also delete the feature views that use it.")] = False,
    yes: YesOption = False,
) -> None:
    """Delete a feature group, or a version.

    With its history and its online values. Asks first.
    """
    name, version = pinned(name, version)
    with session.store() as store:
        store.catalog.group(name)
        if version is not None:
            with suppress(CorruptStoreError):  # one that cannot be read can be deleted
                store.version(name, version)  # not found comes before the question
        what = f"feature group {name}" if version is None else f"version {version} of feature group {name}"
        session.confirm(f"delete {what}{' and the views that use it' if cascade else ''}", yes=yes)
        removed = store.delete(name, version=version, cascade=cascade)
    session.out.show({"removed": list(removed)}, *[f"deleted {item}" for item in removed])


def _names(text: str | None) -> list[str] | None:
    """`a,b` as a list; None stays None."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"{text!r} has an empty name")
    return names
