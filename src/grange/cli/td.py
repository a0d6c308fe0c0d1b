"""`grange td`: training datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from grange.cli.output import ProgressReport, Table, cell, count, details_parts, moment, plural, rows_parts, size
from grange.cli.session import Session, YesOption, command
from grange.cli.verbs import EndOption, EngineOption, StartOption
from grange.errors import UsageError

if TYPE_CHECKING:
    from grange.definitions.splits import Split
    from grange.ports.datasets import DatasetMeta

app = typer.Typer(
    help="Training datasets: immutable results of feature views.", no_args_is_help=True, rich_markup_mode=None
)

ViewArgument = Annotated[str, typer.Argument(metavar="VIEW", help="The feature view; VIEW#N names one dataset of it.")]
NumberArgument = Annotated[int | None, typer.Argument(metavar="[N]", help="Its number; the newest when left out.")]
NumberOption = Annotated[
    int | None, typer.Option("--td-version", "--version", metavar="N", help="Its number; the newest when left out.")
]
_SPLITS: Final = "random, grouped, stratified, time"


@command(app, "list")
def list_datasets(
    session: Session, view: Annotated[str | None, typer.Argument(metavar="[VIEW]", help="Only this view's.")] = None
) -> None:
    """The kept training datasets."""
    with session.store() as store:
        found = store.training_datasets(view)
    rows = [
        (
            meta.view,
            str(meta.version),
            moment(meta.created_at)[:19],
            ", ".join(f"{part.name} {count(part.rows)}" for part in meta.parts),
            ", ".join(f"{pin.group}@{pin.version}" for pin in meta.pins),
            meta.status,
            meta.description.split("\n")[0],
        )
        for meta in found
    ]
    headers = ("view", "n", "created (UTC)", "rows", "made of", "status", "description")
    table = Table(headers, rows, empty="no training datasets yet: grange td compute VIEW", spare=("description",))
    session.out.show([meta.to_dict() for meta in found], table)


@command(app, "info")
def info(session: Session, view: ViewArgument, number: NumberArgument = None) -> None:
    """Everything that is known of a training dataset."""
    name, version = _named(view, number)
    with session.store() as store:
        meta = store.training_dataset_info(name, version)
    session.out.show(meta.to_dict(), *details_parts(_summary(meta)))


def _summary(meta: DatasetMeta) -> dict[str, Any]:
    return {
        "name": f"{meta.view}#{meta.version}",
        "status": meta.status,
        "created": moment(meta.created_at),
        "labels known at": moment(meta.as_of),
        "description": meta.description,
        "split": " ".join(f"{key} {value}" for key, value in (meta.split or {}).items() if value not in (None, [])),
        "filter": meta.filter,
        "rows left out": meta.left_out or None,
        "spine": " ".join(str(value) for value in meta.spine.values() if value),
        "spine hash": meta.spine_hash[:16],
        "parts": [
            {"part": part.name, "rows": part.rows, "size": size(part.size_bytes), "content": part.content_hash[:16]}
            for part in meta.parts
        ],
        "made of": [
            {"group": pin.group, "version": pin.version, "pushed rows below": pin.pushed_until or ""}
            for pin in meta.pins
        ],
        "columns": [
            {"column": column.name, "type": str(column.dtype), "role": meta.roles.get(column.name, "")}
            for column in meta.schema
        ],
        "libraries": [{"library": name, "version": version} for name, version in meta.libraries.items()],
    }


@command(app, "compute")
def compute(
    session: Session,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The feature view.")],
    spine: Annotated[
        str | None,
        typer.Option(
            "--spine", metavar="FILE|QUERY", help="Rows asked for: a file, or a SELECT. Without: the group's own."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="PART:SHARE,...", help="train:0.7,validation:0.15,test:0.15")
    ] = None,
    split_by: Annotated[
        str, typer.Option("--split-by", metavar="KIND[:COL,...]", help=f"{_SPLITS}; grouped:user_id")
    ] = "random",
    gap: Annotated[
        str | None, typer.Option("--gap", metavar="LENGTH", help="Left out between parts in time: 7d")
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", metavar="K", help="Cross-validation instead of parts.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another division.")] = 0,
    event_time: Annotated[
        str | None, typer.Option("--event-time", metavar="COL", help="The spine's time column.")
    ] = None,
    start: StartOption = None,
    end: EndOption = None,
    condition: Annotated[
        str, typer.Option("--filter", metavar="SQL", help="Only rows for which this is true, besides the view's own.")
    ] = "",
    as_known: Annotated[
        bool, typer.Option("--as-known", help="Hide rows that became known only after the spine's time (PIT-5).")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="Labels that were known then; now when left out.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="parquet|csv|arrow", help="Of its files.")
    ] = "parquet",
    no_write: Annotated[bool, typer.Option("--no-write", help="Record it and check it, and write no files.")] = False,
    no_statistics: Annotated[bool, typer.Option("--no-statistics", help="Keep no statistics of it.")] = False,
    description: Annotated[str, typer.Option("--description")] = "",
    engine: EngineOption = None,
) -> None:
    """Compute a training dataset and keep it.

    Point-in-time correct, split, and prepared by what the view's transformations learn from the training part alone.
    Every version that it is made of is pinned.
    """
    division = _split(split, split_by, gap=gap, folds=folds, seed=seed)
    with session.store() as store, ProgressReport() as progress:
        dataset = store.create_training_dataset(
            view,
            _spine(spine),
            split=division,
            event_time=event_time,
            start=start,
            end=end,
            filter=condition,
            as_known=as_known,
            as_of=as_of,
            format=file_format,
            write=not no_write,
            statistics=not no_statistics,
            description=description,
            engine=engine,
            progress=progress,
        )
    meta = dataset.meta
    rows = [(part.name, count(part.rows), size(part.size_bytes) if part.size_bytes else "-") for part in meta.parts]
    left = [f"{plural(meta.left_out, 'row')} left out"] if meta.left_out else []
    table = Table(("part", "rows", "size"), rows, right=frozenset({"rows", "size"}))
    session.out.show(meta.to_dict(), f"training dataset {dataset.name}", table, *left)


command(app, "create", help="The same as compute.")(compute)


def _split(text: str | None, by: str, *, gap: str | None, folds: int | None, seed: int) -> Split | None:
    """The split that the options say.

    Raises:
        UsageError: options that contradict each other.
    """
    from grange.cli.session import from_command_line
    from grange.definitions.splits import GroupedSplit, KFold, RandomSplit, StratifiedSplit, TimeSplit, parse_parts

    kind, _, named = by.partition(":")
    columns = [item.strip() for item in named.split(",") if item.strip()]
    if text is None and folds is None:
        if by != "random" or gap is not None or seed:
            raise UsageError(
                "--split-by, --gap and --seed divide parts, and there are none", try_="--split train:0.8,test:0.2"
            )
        return None
    if text is not None and folds is not None:
        raise UsageError("--split makes parts and --folds makes folds: one of the two")
    if gap is not None and kind != "time":
        raise UsageError("--gap is of splits in time", try_="--split-by time --gap 7d")
    if columns and kind not in ("grouped", "stratified"):
        raise UsageError(f"a split by {kind} takes no columns", found=by, try_="--split-by grouped:user_id")
    if not columns and kind in ("grouped", "stratified"):
        raise UsageError(f"a split by {kind} needs its columns", try_=f"--split-by {kind}:user_id")
    if seed and kind == "time":
        raise UsageError("a split in time draws nothing, so --seed has no effect")
    with from_command_line():
        if folds is not None:
            if kind not in ("random", "grouped", "time"):
                raise UsageError(f"folds by {kind!r}", try_="--split-by grouped:user_id, --split-by time")
            return KFold(folds, by=columns or None, seed=seed, time=kind == "time", gap=gap)
        parts = parse_parts(text or "")
        match kind:
            case "random":
                return RandomSplit(parts, seed=seed)
            case "grouped":
                return GroupedSplit(parts, by=columns, seed=seed)
            case "stratified":
                return StratifiedSplit(parts, by=columns, seed=seed)
            case "time":
                return TimeSplit(parts, gap=gap)
    raise UsageError(f"there is no split by {kind!r}", found=_SPLITS, try_="--split-by grouped:user_id")


def _spine(text: str | None) -> str | None:
    """A spine file, relative to where the command runs; a query as it is."""
    if text is None or (text.split()[:1] and text.split()[0].lower() in ("select", "with", "from")):
        return text
    return str(Path(text).absolute())


@command(app, "read")
def read(
    session: Session,
    view: ViewArgument,
    number: NumberArgument = None,
    td_version: NumberOption = None,
    split: Annotated[str | None, typer.Option("--split", "--part", metavar="PART", help="Only this part.")] = None,
    n: Annotated[int, typer.Option("--n", min=0, help="How many rows to show; --output writes all.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to .parquet, .csv or .jsonl instead.")
    ] = None,
) -> None:
    """The rows of a training dataset, as they were computed."""
    from grange.cli.files import file_format, write_rows
    from grange.frames import Rows

    if output is not None:
        file_format(output)  # a wrong ending is said before the work
    name, version = _named(view, number if td_version is None else td_version)
    with session.store() as store:
        dataset = store.training_dataset(name, version)
        rows = dataset.read(split)
    data: dict[str, Any] = {"training_dataset": dataset.name, "part": split, "rows": len(rows)}
    data["columns"] = rows.column_names
    if output is not None:
        write_rows(output, rows)
        data["output"] = str(output)
        session.out.show(data, f"{plural(len(rows), 'row')} of {dataset.name} in {output}")
        return
    shown = Rows(arrow=rows.arrow.slice(0, n))
    data["data"] = shown.arrow.to_pylist()
    more = [f"{len(shown):,} of {plural(len(rows), 'row')} (--n shows more, --output writes all)"]
    session.out.show(data, *rows_parts(shown), *(more if n < len(rows) else []))


@command(app, "stats")
def stats(
    session: Session,
    view: ViewArgument,
    number: NumberArgument = None,
    part: Annotated[str | None, typer.Option("--split", "--part", metavar="PART", help="Only this part.")] = None,
    features: Annotated[str | None, typer.Option("--features", metavar="A,B", help="Only these columns.")] = None,
) -> None:
    """Statistics of features and labels, as they were before transformations."""
    name, version = _named(view, number)
    with session.store() as store:
        found = store.training_dataset_statistics(name, version, part=part, columns=_names(features))
    rows = [
        (each, column, *(cell(values.get(key)) for key in ("count", "nulls", "distinct", "mean", "std", "min", "max")))
        for each, columns in found.items()
        for column, values in columns.items()
    ]
    headers = ("part", "column", "rows", "nulls", "distinct", "mean", "std", "min", "max")
    session.out.show(found, Table(headers, rows, right=frozenset(headers[2:]), empty="no statistics were kept"))


@command(app, "diff")
def diff(
    session: Session,
    view: ViewArgument,
    before: Annotated[int, typer.Argument(metavar="A", help="One number.")],
    after: Annotated[int, typer.Argument(metavar="B", help="The other.")],
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 when they differ.")] = False,
) -> None:
    """What differs between two training datasets: versions, spine, split, rows, code, what was learned."""
    with session.store() as store:
        found = store.diff_training_datasets(view, before, after)
    session.out.show(found.to_dict(), str(found))
    if exit_code and not found.identical:
        raise typer.Exit(1)


@command(app, "reproduce")
def reproduce(
    session: Session,
    view: ViewArgument,
    number: NumberArgument = None,
    spine: Annotated[
        str | None, typer.Option("--spine", metavar="FILE|QUERY", help="Where the spine was a frame that is not kept.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write one that has no files, or damaged ones.")] = False,
) -> None:
    """Compute a training dataset again from what it pins, and compare. Ends with 1 when it differs."""
    name, version = _named(view, number)
    with session.store() as store:
        found = store.reproduce_training_dataset(name, version, spine=_spine(spine), write=write)
    session.out.show(found.to_dict(), str(found))
    if not found.identical:
        raise typer.Exit(1)


@command(app, "delete")
def delete(
    session: Session,
    view: ViewArgument,
    number: Annotated[int | None, typer.Argument(metavar="N", help="Its number.")] = None,
    yes: YesOption = False,
) -> None:
    """Remove a training dataset with its files. Versions that it pinned may be removed afterwards."""
    name, version = _named(view, number)
    if version is None:
        raise UsageError("which training dataset?", try_=f"grange td delete {name} 1; grange td list {name}")
    with session.store() as store:
        store.training_dataset_info(name, version)
        session.confirm(f"delete training dataset {name}#{version}", yes=yes)
        removed = store.delete_training_dataset(name, version)
    session.out.show({"removed": list(removed)}, *(f"removed {item}" for item in removed))


def _named(view: str, number: int | None) -> tuple[str, int | None]:
    """View and number, of `VIEW` and a number or of `VIEW#N`.

    Raises:
        UsageError: two numbers that differ, or one that is none.
    """
    name, mark, text = view.partition("#")
    if not mark:
        return name, number
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"{view!r} names no training dataset", try_="churn#3")
    if number is not None and number != int(text):
        raise UsageError(f"{view!r} and {number} are two training datasets")
    return name, int(text)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]
