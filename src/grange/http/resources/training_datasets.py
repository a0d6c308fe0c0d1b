"""Training datasets: immutable, numbered results of feature views."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from grange.errors import DefinitionError, GrangeError
from grange.http.answers import reply, table_reply, wants_arrow
from grange.http.bodies import NAME, Body, Column, Line, Name, Tags, Text
from grange.http.dependencies import Asking, Jobs, project_store
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.resources.working import RESPONSES, Wait, started
from grange.http.routing import needs, resources
from grange.http.rows import Upload, rows_body, take_options, upload
from grange.jobs import JobHandle, JobOutcome
from grange.security.principals import Permission

router = resources("/training-datasets", tag="training datasets")

ViewName = Annotated[str, Path(pattern=NAME, max_length=128, description="The feature view.")]
Number = Annotated[str, Path(pattern=r"^(latest|[1-9][0-9]{0,8})$", description="Its number, or `latest`.")]
Part = Annotated[str | None, Query(max_length=128, description="Only this part, such as `train`.")]
ONE = {"x-examples": {"view": "shopping", "number": "latest"}}
USUAL_ROWS = 100
MOST_JSON_ROWS = 10_000


class TrainingDatasetBody(Body):
    """What to compute. With rows it is of these (the spine), else of those of the view's first group."""

    view: Name
    split: Line | Annotated[dict[str, Any], Field(max_length=100)] | None = Field(
        default=None,
        description='Shares by part, their text (`"train:0.8,test:0.2"`), or a split as definitions have it.',
    )
    event_time: Column | None = None
    start: Line | None = None
    end: Line | None = None
    filter: Text = ""
    as_known: bool = False
    as_of: Line | None = None
    format: Literal["parquet", "csv", "arrow"] = "parquet"
    statistics: bool = True
    engine: Name | None = None
    description: Text = ""
    tags: Tags = Field(default_factory=dict)


class ReproduceBody(Body):
    """How to compute it again."""

    write: bool = Field(default=False, description="Write one that has no files, or damaged ones.")


@router.get("", summary="List training datasets", operation_id="list_training_datasets",
            dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def list_datasets(
    asking: Asking,
    view: Annotated[str | None, Query(max_length=128, description="Only this view's.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The kept training datasets, by view and number; without what holds values: statistics, and what was learned."""
    may = asking.access.may
    every = project_store(asking).training_datasets(view)
    found = [meta for meta in every if may(Permission.READ_DEFINITIONS, meta.view)]
    return reply(
        paged(found, Page(limit, cursor), key=lambda meta: (meta.view, meta.version), of=f"datasets {view}",
              show=lambda meta: _summary(meta.to_dict()))
    )  # fmt: skip


def _summary(data: dict[str, Any]) -> dict[str, Any]:
    """What is known of one, without values of its rows."""
    return {name: value for name, value in data.items() if name not in ("statistics", "transformations")}


@router.post("", status_code=202, summary="Create a training dataset", operation_id="create_training_dataset",
             dependencies=needs(Permission.WRITE_DATASETS), responses=RESPONSES,
             openapi_extra=rows_body([{"user_id": "u1", "shop_id": 1, "event_time": "2026-03-11T00:00:00Z"}],
                                     view="shopping", description="For churn."))  # fmt: skip
async def create(asking: Asking, jobs: Jobs, body: Annotated[Upload, Depends(upload)], wait: Wait = 0) -> Response:
    """Compute a training dataset and keep it: as a job. The spine's rows are in the body, as JSON, MessagePack, Arrow
    or Parquet; never a query or a path.

    Refused where a policy denies or masks anything of the view: files are nobody's to mask.
    """
    access = asking.access

    def read() -> tuple[Any, TrainingDatasetBody]:
        rows, options = body.given(asking)
        given: TrainingDatasetBody = take_options(options, TrainingDatasetBody)
        project_store(asking).catalog.view(given.view)
        access.check_change(Permission.WRITE_DATASETS, given.view, action="create training dataset")
        access.check_view(given.view)
        return rows, given

    rows, given = await run_in_threadpool(read)
    options = given.model_dump(exclude={"view", "split"}) | {"split": _split(given.split)}

    def work(job: JobHandle) -> JobOutcome:
        made = access.create_training_dataset(given.view, rows, progress=job.progress, **options)
        leaks = [leak.to_dict() for leak in made.leaks]
        return JobOutcome({"meta": made.meta.to_dict(), "leaks": leaks})

    asked = {**given.model_dump(exclude_defaults=True), "rows": None if rows is None else len(rows)}
    reads = await run_in_threadpool(access.reading_of, given.view)
    return await started(
        asking, jobs, work, kind="training-dataset", what=given.view, request=asked, wait=wait, read=reads
    )


def _split(given: str | dict[str, Any] | None) -> Any:
    """A split as verbs take it.

    Raises:
        DefinitionError: a split that is none.
    """
    if not isinstance(given, dict) or "type" not in given:
        return given
    from grange.definitions.splits import split_from_data

    try:
        return split_from_data(given)
    except GrangeError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DefinitionError("the split is none", found=f"{type(error).__name__}: {error}"[:200]) from error


@router.get("/{view}/diff", summary="Compare two training datasets", operation_id="diff_training_datasets",
            dependencies=needs(Permission.READ_HISTORY, "view"),
            openapi_extra={"x-examples": {"view": "shopping", "before": 1, "after": 1}})  # fmt: skip
def diff(
    asking: Asking,
    view: ViewName,
    before: Annotated[int, Query(ge=1, le=999_999_999)],
    after: Annotated[int, Query(ge=1, le=999_999_999)],
) -> Response:
    """What differs: versions, spine, split, rows, code, statistics."""
    for number in (before, after):
        asking.access.check_dataset(view, number)
    with asking.access.reading(Permission.READ_HISTORY, view) as store:
        return reply(store.diff_training_datasets(view, before, after).to_dict())


@router.get("/{view}/{number}", summary="Get a training dataset", operation_id="get_training_dataset",
            dependencies=needs(Permission.READ_HISTORY, "view"), openapi_extra=ONE)  # fmt: skip
def info(asking: Asking, view: ViewName, number: Number) -> Response:
    """Everything known of one: pinned versions, spine, split, statistics, what was learned."""
    asking.access.check_dataset(view, _number(number))
    with asking.access.reading(Permission.READ_HISTORY, view) as store:
        return reply(store.training_dataset_info(view, _number(number)).to_dict())


def _number(text: str) -> int | None:
    return None if text == "latest" else int(text)


@router.get("/{view}/{number}/rows", summary="Read a training dataset", operation_id="read_training_dataset",
            dependencies=needs(Permission.READ_HISTORY, "view"), openapi_extra=ONE)  # fmt: skip
def rows(
    request: Request,
    asking: Asking,
    view: ViewName,
    number: Number,
    part: Part = None,
    columns: Annotated[list[Column] | None, Query(max_length=5000)] = None,
    limit: Annotated[int | None, Query(ge=0, le=1 << 31, description="100 rows of JSON without, all of Arrow.")] = None,
) -> Response:
    """Its rows, as they were computed: as JSON, or as an Arrow stream when `Accept` says so."""
    asking.access.check_dataset(view, _number(number))
    with asking.access.reading(Permission.READ_HISTORY, view) as store:
        dataset = store.training_dataset(view, _number(number))
        table = dataset.read(part, columns).arrow
    if not wants_arrow(request):
        limit = min(USUAL_ROWS if limit is None else limit, MOST_JSON_ROWS)
    about = {"training_dataset": dataset.name, "part": part, "total": table.num_rows}
    return table_reply(request, table.slice(0, limit), about)


@router.get("/{view}/{number}/statistics", summary="Statistics of a training dataset",
            operation_id="get_training_dataset_statistics",
            dependencies=needs(Permission.READ_HISTORY, "view"), openapi_extra=ONE)  # fmt: skip
def statistics(
    asking: Asking,
    view: ViewName,
    number: Number,
    part: Part = None,
    columns: Annotated[list[Column] | None, Query(max_length=5000)] = None,
) -> Response:
    """By part and column, the statistics of features and labels, as they were before transformations."""
    asking.access.check_dataset(view, _number(number))
    with asking.access.reading(Permission.READ_HISTORY, view) as store:
        return reply(store.training_dataset_statistics(view, _number(number), part=part, columns=columns))


@router.post("/{view}/{number}/reproduce", status_code=202, summary="Compute a training dataset again",
             operation_id="reproduce_training_dataset", responses=RESPONSES,
             dependencies=needs(Permission.WRITE_DATASETS, "view"), openapi_extra=ONE)  # fmt: skip
async def reproduce(
    asking: Asking, jobs: Jobs, view: ViewName, number: Number, body: ReproduceBody | None = None, wait: Wait = 0
) -> Response:
    """Compute it again from the versions that it pins, and compare: as a job."""
    given = body or ReproduceBody()
    access = asking.access

    def check() -> None:
        access.check_dataset(view, _number(number))
        access.check_change(Permission.WRITE_DATASETS, view, action="reproduce training dataset")

    def work(job: JobHandle) -> JobOutcome:
        job.check()
        with access.writing(Permission.WRITE_DATASETS, "reproduce training dataset", view) as store:
            return JobOutcome(store.reproduce_training_dataset(view, _number(number), write=given.write).to_dict())

    await run_in_threadpool(check)
    request = {"number": number, "write": given.write}
    read = await run_in_threadpool(access.reading_of_dataset, view, _number(number))
    return await started(asking, jobs, work, kind="reproduce", what=view, request=request, wait=wait, read=read)


@router.delete("/{view}/{number}", summary="Delete a training dataset", operation_id="delete_training_dataset",
               dependencies=needs(Permission.DELETE, "view"),
               openapi_extra={"x-examples": {"view": "shopping", "number": 1}})  # fmt: skip
def delete(asking: Asking, view: ViewName, number: Annotated[int, Path(ge=1, le=999_999_999)]) -> Response:
    """Remove it with its files."""
    details = {"number": number}
    with asking.access.writing(Permission.DELETE, "delete training dataset", view, details=details) as store:
        return reply({"removed": list(store.delete_training_dataset(view, number))})


ROUTERS = (router,)
