"""The project as a whole: all its definitions, many at once, its manifest, whether what is stored is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from grange.definitions.serialize import fingerprint, to_data
from grange.errors import RequestError
from grange.http.answers import reply
from grange.http.bodies import (
    Body,
    EntityBody,
    FeatureGroupBody,
    FeatureViewBody,
    Name,
    TransformationBody,
    made,
)
from grange.http.dependencies import Asking, Jobs, project_store
from grange.http.etags import etag, not_modified
from grange.http.places import inspected
from grange.http.resources.feature_groups import PINNED, GroupName, VersionQuery
from grange.http.resources.working import RESPONSES, Wait, started
from grange.http.routing import needs, resources
from grange.http.rows import take_options
from grange.jobs import JobHandle, JobOutcome, documents_of
from grange.security.principals import Permission
from grange.verbs.parts import record_kind

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.definitions.serialize import Definition
    from grange.http.context import Caller

router = resources("/definitions", tag="project")
manifests = resources("/manifest", tag="project")
verifying = resources("/verify", tag="project")
inspecting = resources("/inspect", tag="project")

_BODIES: dict[str, Any] = {
    "entity": EntityBody,
    "transformation": TransformationBody,
    "feature_group": FeatureGroupBody,
    "feature_view": FeatureViewBody,
}
"""In the order in which definitions are made of others."""


class GivenDefinition(Body):
    """One definition: its kind, its name, and its fields as the body of its own resource has them."""

    kind: Literal["entity", "transformation", "feature_group", "feature_view"]
    name: Name
    definition: dict[str, Any]


class DefinitionsBody(Body):
    """Definitions to apply together."""

    definitions: Annotated[list[GivenDefinition], Field(max_length=10_000)] | None = Field(
        default=None,
        description="Those of the server's own modules without.",
        examples=[[{"kind": "entity", "name": "depot", "definition": {"join_keys": ["depot_id"]}}]],
    )
    prune: bool = Field(default=False, description="Also delete what is applied and not among them.")


Pinned = Annotated[str, StringConstraints(pattern=PINNED, max_length=158)]


class VerifyOnlineBody(Body):
    """What to compare."""

    group: Name | None = Field(default=None, description="Only this feature group.", examples=["spend"])
    sample: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=10_000, description="At most so many entity keys of each group; null is all."
    )


class VerifyBody(Body):
    """What to look at."""

    group: Pinned | None = Field(
        default=None, description="Only this feature group, or `group@1.0.0`; training datasets too without."
    )
    repair: bool = Field(default=False, description="Clear the leftovers of crashes; needs the right to delete data.")


@router.get("", summary="Read all definitions", operation_id="read_definitions",
            dependencies=needs(Permission.READ_DEFINITIONS),
            responses={304: {"description": "The client has them: `If-None-Match` names their ETag."}})  # fmt: skip
def read_definitions(request: Request, asking: Asking) -> Response:
    """Everything that is applied, whole, with the revision. Its ETag changes with any definition."""
    documents: Any = documents_of(project_store(asking))
    revision = documents.revision()
    items = [
        {"kind": record_kind(item), "name": item.name, "definition": to_data(item)}
        for item in _every(project_store(asking).catalog)
        if asking.access.may(Permission.READ_DEFINITIONS, item.name)
    ]
    tag = etag(fingerprint({"items": items}))
    unchanged = not_modified(request, tag)
    return unchanged or reply({"revision": revision, "items": items}, headers={"ETag": tag})


def _every(catalog: Catalog) -> list[Definition]:
    kinds: tuple[Any, ...] = (catalog.entities, catalog.transformations, catalog.groups, catalog.views)
    return [item for kind in kinds for item in kind.values()]


@router.post(":plan", summary="Plan an apply", operation_id="plan_definitions",
             dependencies=needs(Permission.WRITE_DEFINITIONS))  # fmt: skip
def plan(asking: Asking, body: DefinitionsBody) -> Response:
    """What applying definitions would change. Looks at sources where a schema is inferred; changes nothing."""
    definitions = _definitions(asking, body)
    return reply(asking.access.plan(definitions, prune=body.prune).to_dict())


@router.post(":apply", summary="Apply definitions", operation_id="apply_definitions",
             dependencies=needs(Permission.WRITE_DEFINITIONS))  # fmt: skip
def apply(asking: Asking, body: DefinitionsBody) -> Response:
    """Make definitions known, in one transaction."""
    return reply(asking.access.apply(_definitions(asking, body), prune=body.prune).to_dict())


@router.delete("/{name}", summary="Delete anything by name", operation_id="delete_definition",
               dependencies=needs(Permission.DELETE, "name"),
               openapi_extra={"x-examples": {"name": "careful"}})  # fmt: skip
def delete(
    asking: Asking,
    name: GroupName,
    version: VersionQuery = None,
    cascade: Annotated[bool, Query(description="Also delete the feature views that use it.")] = False,
) -> Response:
    """Remove a definition of whatever kind with everything stored of it, or one version of a group.

    A version needs the right to delete data, a definition the right to delete definitions.
    """
    return reply({"removed": list(asking.access.delete(name, version=version, cascade=cascade))})


@manifests.get("", summary="Manifest", operation_id="get_manifest",
               dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def manifest(asking: Asking) -> Response:
    """Every feature group that has a version, by name: its versions, and what is known of the latest."""
    found = project_store(asking).manifest()
    may = asking.access.may
    shown = {name: found[name].to_dict() for name in found if may(Permission.READ_DEFINITIONS, name)}
    return reply({"items": shown})


@manifests.post(":regenerate", summary="Make the manifest anew", operation_id="regenerate_manifest",
                dependencies=needs(Permission.MATERIALIZE))  # fmt: skip
def regenerate(asking: Asking) -> Response:
    """Make the store's own summary anew, from the versions that are there."""
    with asking.access.writing(Permission.MATERIALIZE, "regenerate manifest") as store:
        return reply({"items": {name: entry.to_dict() for name, entry in store.manifest(regenerate=True).items()}})


@verifying.post("", status_code=202, summary="Verify what is stored", operation_id="verify",
                dependencies=needs(Permission.MANAGE_JOBS), responses=RESPONSES)  # fmt: skip
async def verify(asking: Asking, jobs: Jobs, body: VerifyBody | None = None, wait: Wait = 0) -> Response:
    """Read all of history and say what is wrong: as a job whose result has the findings."""
    given = body or VerifyBody()
    access, names = asking.access, [] if given is None or given.group is None else [given.group]

    def check() -> None:
        access.check(Permission.DELETE if given.repair else Permission.MANAGE_JOBS, *names)
        if given.group is not None:
            project_store(asking).catalog.group(given.group.partition("@")[0])

    def work(job: JobHandle) -> JobOutcome:
        job.check()
        permission = Permission.DELETE if given.repair else Permission.MANAGE_JOBS
        with access.writing(permission, "verify", *names, details={"repair": given.repair}) as store:
            found = store.verify(given.group, repair=given.repair)
        items = [{"path": each.path, "problem": each.problem, "removed": each.removed} for each in found]
        return JobOutcome({"items": items})

    await run_in_threadpool(check)
    what = given.group or "everything"
    return await started(asking, jobs, work, kind="verify", what=what, request=given.model_dump(), wait=wait)


@verifying.post("/online", summary="Compare what is served with history", operation_id="verify_online",
                dependencies=needs(Permission.MANAGE_JOBS))  # fmt: skip
def verify_online(asking: Asking, body: VerifyOnlineBody | None = None) -> Response:
    """Read entity keys of each group that is served online both ways at one moment, and compare value by value (ONL-1).

    Refused where a policy denies or masks anything of a group: differences are told with their values.
    """
    given = body or VerifyOnlineBody()
    groups = project_store(asking).catalog.groups
    for name in [given.group] if given.group is not None else [each.name for each in groups.values() if each.online]:
        asking.access.check_values(name)
    with asking.access.reading(Permission.MANAGE_JOBS) as store:
        found = store.verify_online(given.group, sample=given.sample)
    return reply({"items": [each.to_dict() for each in found]})


@inspecting.get("/{name}", summary="Everything known of a definition", operation_id="inspect",
                dependencies=needs(Permission.READ_DEFINITIONS, "name"),
                openapi_extra={"x-examples": {"name": "spend"}})  # fmt: skip
def inspect(asking: Asking, name: GroupName, version: VersionQuery = None) -> Response:
    """Of a feature group, feature view or entity: its definition, and of a group what is stored, run and used."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        return reply(inspected(store.inspect(name, version=version)))


def _definitions(asking: Caller, body: DefinitionsBody) -> list[Definition]:
    """The definitions of a body, those among it that others name looked up there; without any, the server's own.

    Raises:
        RequestError: a definition that is not as it should be, or another name inside it.
    """
    store = project_store(asking)
    if body.definitions is None:
        from grange.project import load_definitions

        return list(load_definitions(store.config, store.project))
    from grange.definitions.catalog import Catalog

    found: list[Definition] = []
    catalog = store.catalog
    for kind, shape in _BODIES.items():
        for given in body.definitions:
            if given.kind != kind:
                continue
            if given.definition.get("name", given.name) != given.name:
                raise RequestError(
                    f"{kind} {given.name!r} has another name inside", found=str(given.definition["name"])
                )
            each = take_options({**given.definition, "name": given.name}, shape)
            definition = made(each, catalog, store=store)
            found.append(definition)
            if kind in ("entity", "transformation"):
                catalog = catalog.merged(Catalog.of([definition]))
    return found


ROUTERS = (router, manifests, verifying, inspecting)
