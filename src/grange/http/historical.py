"""`POST /api/v1/serving/historical`: features as they were, beside the rows that are asked for.

Rows come as JSON, MessagePack, Arrow IPC or Parquet (`grange.http.rows`); the answer is JSON or MessagePack, or streams
Arrow IPC, whose schema says in its metadata `grange` what each column is. Joins run in a few threads; one that has more
rows than `server.historical_rows`, or is asked to with `job=true`, runs as a job, and the answer says where.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from grange.errors import RequestError
from grange.http.codecs import CONTENT_TYPES, answer_form, arrow_chunks, encode, form_of
from grange.http.limits import check_nesting
from grange.http.messages import ARROW, Call, Reply, json_reply
from grange.http.places import relative
from grange.http.rows import OPTIONS, Upload
from grange.http.selections import Features, Selections, selections_of
from grange.jobs import JobOutcome

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.frames import Rows
    from grange.jobs import JobHandle, JobRunner
    from grange.verbs.history import HistoricalFeatures

HISTORICAL: Final = "/api/v1/serving/historical"
AT_ONCE: Final = 2
"""Joins at once: each uses all cores that it gets."""
ABOUT: Final = b"grange"
"""The metadata of an Arrow answer that says what its columns are."""
IMMATURE: Final = "__immature"
"""A column of an Arrow answer: whether a label of the row is not known yet."""


class HistoricalOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request says beside its rows: in the body with them, or in the header `X-Grange-Options` as JSON."""

    features: Features
    """A feature view, or a list of references (`group`, `group:feature`, `group@1.0.0:feature`) and of selections."""
    event_time: str | None = None
    start: str | None = None
    end: str | None = None
    as_known: bool = False
    engine: str | None = None
    full_feature_names: bool = False
    now: str | None = None
    training_dataset: int | None = None
    transform: bool = True


@dataclass(slots=True)
class _Question:
    """A request, read."""

    features: Selections
    spine: Any
    options: dict[str, Any]
    sent: Any
    """The features as the request has them."""
    older: Any = None
    """The question in the shape of another system, which its answer has too."""

    @property
    def what(self) -> str:
        """For the record of a job."""
        return self.features if isinstance(self.features, str) else ", ".join(map(str, self.features))


class Historical:
    """`POST /api/v1/serving/historical`.

    Args:
        jobs: runs large requests.
        most: rows from which a request is large; 0 is none.
    """

    def __init__(self, *, jobs: JobRunner, most: int) -> None:
        self._jobs = jobs
        self._most = most
        self._room = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, call: Call) -> Reply:
        """One request."""
        question = await asyncio.to_thread(_read, call)
        if self._is_job(call, question):
            return await asyncio.to_thread(self._job, call, question)
        async with self._room:
            found = await asyncio.to_thread(_joined, call, question)
        return await asyncio.to_thread(_reply, call, question, found)

    def _is_job(self, call: Call, question: _Question) -> bool:
        asked = call.parameters().get("job", [""])[-1].lower()
        if asked not in ("", "true", "false", "1", "0"):
            raise RequestError("`job` is true or false", found=repr(asked))
        large = question.spine is not None and self._most and len(question.spine) > self._most
        return asked in ("true", "1") or (bool(large) and asked not in ("false", "0"))

    def _job(self, call: Call, question: _Question) -> Reply:
        from grange.http.resources.working import owner_of, shown_job

        # who may not is told now, not by a job
        if question.spine is not None:
            _joined(call, _first_row(question))
        caller = call.caller

        def work(handle: JobHandle) -> JobOutcome:
            found = _joined(call, question)
            handle.check()
            table = described(found)
            return JobOutcome({"rows": table.num_rows, "columns": len(table.column_names)}, table)

        handle = self._jobs.submit(
            caller.project.store,
            work,
            kind="historical",
            what=question.what,
            created_by=caller.principal.name,
            owner=owner_of(caller.principal),
            request={"features": question.sent, **question.options},
            request_id=caller.request_id,
            read=caller.access.reading_of(question.features, **_naming(question)).to_dict(),
        )
        job = handle.job
        headers = (("location", f"/api/v1/jobs/{job.id}"), ("retry-after", "1"))
        return json_reply(shown_job(caller, job), 202, headers)


def _read(call: Call) -> _Question:
    """What is asked for.

    Raises:
        RequestError: a body or options that cannot be read.
        TooLargeError: more than a request may have.
    """
    upload = Upload(call.body, call.content_type, call.headers.get(OPTIONS.encode(), b"").decode("latin-1"))
    if call.content_type in ("", "application/json") and b'"entity_df"' in call.body:
        return _older(call)
    rows, options = upload.given(call.caller)
    try:
        asked = msgspec.convert(options, HistoricalOptions)
    except msgspec.ValidationError as error:
        raise RequestError(f"the request is not as it should be: {error}", try_="/docs has the shape") from error
    features, _ = selections_of(call.caller.project.store.catalog, asked.features)
    named = {name: value for name in asked.__struct_fields__ if (value := getattr(asked, name)) is not None}
    del named["features"]
    return _Question(features, _spine(rows), named, options["features"])


def _spine(rows: Rows | None) -> Any:
    return None if rows is None else rows.arrow


def _older(call: Call) -> _Question:
    """A question in the shape that has `entity_df`."""
    from grange.http.compat.feature_store_2.serving import historical_question

    check_nesting(call.body)
    try:
        body = msgspec.json.decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("the request's body cannot be read", found=str(error)) from error
    question = historical_question(body, call.caller.project.store.catalog)
    features = question.features
    return _Question(list(features), question.spine, {"full_feature_names": True}, features, question)


def _first_row(question: _Question) -> _Question:
    return replace(question, spine=question.spine[:1])


def _joined(call: Call, question: _Question) -> HistoricalFeatures:
    return call.caller.access.get_historical_features(question.features, question.spine, **question.options)


def _naming(question: _Question) -> dict[str, Any]:
    """The options that decide what columns are called, and which there are."""
    options = question.options
    return {name: options[name] for name in ("full_feature_names", "transform") if name in options}


def _reply(call: Call, question: _Question, found: HistoricalFeatures) -> Reply:
    view = question.features if isinstance(question.features, str) else ""
    view = view if view in call.caller.project.store.catalog.views else ""
    if question.older is not None:
        from grange.http.compat.feature_store_2.serving import historical_answer

        return json_reply(historical_answer(question.older, found.to_arrow()))
    asked = "json" if call.content_type not in _PLAIN else form_of(call.content_type.encode())
    form = answer_form(call.accept, "arrow" if call.content_type == ARROW else asked)
    if form == "arrow":
        return Reply(200, b"", ARROW, view=view, chunks=arrow_chunks(described(found)))
    table = found.to_arrow()
    body = {
        "columns": table.column_names,
        "rows": table.to_pylist(),
        "metadata": {**_about(found), "request_id": call.caller.request_id},
    }
    return Reply(200, encode(body, form), CONTENT_TYPES[form], view=view)


_PLAIN: Final = ("", "application/json", "application/msgpack", "application/x-msgpack", "application/vnd.msgpack")


def _about(found: HistoricalFeatures) -> dict[str, Any]:
    return {
        "event_time": found.event_time,
        "feature_names": list(found.feature_names),
        "roles": dict(found.roles),
        "versions": dict(found.versions),
        "leaks": [leak.to_dict() for leak in found.leaks],
        "rows_left_out": found.rows_left_out,
    }


def described(found: HistoricalFeatures) -> pa.Table:
    """The joined rows as a table that says in its schema what its columns are."""
    import pyarrow as pa

    table = found.to_arrow()
    if found.immature is not None:
        table = table.append_column(pa.field(IMMATURE, pa.bool_()), pa.array(found.immature))
    about = {
        **_about(found),
        "pins": [list(pin) for pin in found.pins],
        "explain": relative(found.explain()),
        "immature": None if found.immature is None else IMMATURE,
    }
    metadata = {**(table.schema.metadata or {}), ABOUT: msgspec.json.encode(about)}
    return table.replace_schema_metadata(metadata)
