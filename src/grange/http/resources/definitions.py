"""Entities, feature groups, feature views and transformations: listing, reading, creating, replacing, deleting them.

All four are the same five routes. A definition is created or replaced by applying it: see `FeatureStore.apply`.
"""

# no deferred annotations: each noun's routes take a body of its own model
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import BaseModel

from grange.definitions.catalog import Catalog
from grange.errors import RefusedError
from grange.http.answers import reply
from grange.http.bodies import (
    NAME,
    EntityBody,
    FeatureGroupBody,
    FeatureViewBody,
    TransformationBody,
    made,
)
from grange.http.context import Caller
from grange.http.dependencies import Asking, project_store
from grange.http.etags import check_match, not_modified
from grange.http.pages import Cursor, Limit, Page, chosen, paged
from grange.http.resources.records import definition_record, definition_summary, tag_of
from grange.http.routing import PREFIX, needs, resources
from grange.security.principals import Permission

DefinitionName = Annotated[str, Path(pattern=NAME, max_length=128, description="Its name.")]
Fields = Annotated[
    str | None, Query(max_length=1000, description="Only these fields of each item, with commas between them.")
]
_WRITING: Final = threading.Lock()
"""Held from the look at `If-Match` until the definition is applied."""


@dataclass(frozen=True)
class Noun:
    """One kind of definition."""

    path: str
    one: str
    many: str
    body: type[BaseModel]
    all_of: Callable[[Catalog], Mapping[str, Any]]
    get: Callable[[Catalog, str], Any]
    """By name; raises where there is none."""
    example: Mapping[str, Any]
    """A body of the shop that the documentation tells of."""
    listed: str
    """A name that there is in that shop."""

    @property
    def a(self) -> str:
        """One, with its article."""
        return f"{'an' if self.one[0] in 'aeiou' else 'a'} {self.one}"


NOUNS: Final = (
    Noun(
        "/entities", "entity", "entities", EntityBody, lambda c: c.entities, lambda c, name: c.entity(name),
        {"name": "courier", "join_keys": ["courier_id"], "key_types": {"courier_id": "string"},
         "description": "Who delivers."}, "user",
    ),
    Noun(
        "/feature-groups", "feature group", "feature groups", FeatureGroupBody,
        lambda c: c.groups, lambda c, name: c.group(name),
        {"name": "recent_spend", "entities": ["user"],
         "source": {"type": "file", "path": "data/spend.parquet", "event_time": "at", "created_time": "loaded"},
         "aggregations": [{"type": "rolling", "columns": {"amount": ["sum", "count"]}, "windows": ["7d"]}],
         "ttl": "90d", "owner": "payments", "tags": {"tier": "gold"}}, "spend",
    ),
    Noun(
        "/feature-views", "feature view", "feature views", FeatureViewBody,
        lambda c: c.views, lambda c, name: c.view(name),
        {"name": "churn", "features": ["spend:amount", {"source": "shops", "features": ["country"]}],
         "labels": [{"name": "churned", "after": "7d"}]}, "shopping",
    ),
    Noun(
        "/transformations", "transformation", "transformations", TransformationBody,
        lambda c: c.transformations, lambda c, name: c.transformation(name),
        {"name": "ratio", "sql": {"ratio": "amount / NULLIF(visits, 0)"}}, "doubled",
    ),
)  # fmt: skip


def _register(router: APIRouter, noun: Noun) -> None:
    """The five routes of a noun."""
    singular = noun.one.replace(" ", "_")

    @router.get(
        noun.path, summary=f"List {noun.many}", operation_id=f"list_{noun.many.replace(' ', '_')}", tags=[noun.many],
        dependencies=needs(Permission.READ_DEFINITIONS),
    )  # fmt: skip
    def list_them(
        asking: Asking,
        owner: Annotated[str | None, Query(max_length=512, description="Only what this owner owns.")] = None,
        tag: Annotated[
            list[str] | None, Query(max_length=20, description="Only what has this tag: `name=value`.")
        ] = None,
        prefix: Annotated[str, Query(max_length=128, description="Only names that begin like this.")] = "",
        fields: Fields = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        pairs = [tuple(each.partition("=")[::2]) for each in tag or ()]
        found = [
            item
            for item in noun.all_of(project_store(asking).catalog).values()
            if item.name.startswith(prefix) and owner in (None, item.owner) and set(pairs) <= set(item.tags)
            if asking.access.may(Permission.READ_DEFINITIONS, item.name)
        ]
        of = "\n".join((noun.path, owner or "", *(tag or ()), prefix))
        return reply(
            paged(found, Page(limit, cursor), key=lambda item: item.name, of=of,
                  show=lambda item: chosen(definition_summary(item), fields))
        )  # fmt: skip

    list_them.__doc__ = f"The applied {noun.many}, by name."

    @router.get(
        noun.path + "/{name}", summary=f"Get {noun.a}", operation_id=f"get_{singular}", tags=[noun.many],
        dependencies=needs(Permission.READ_DEFINITIONS, "name"),
        responses={304: {"description": "The client has it: `If-None-Match` names its ETag."}},
        openapi_extra={"x-examples": {"name": noun.listed}},
    )  # fmt: skip
    def get_one(request: Request, asking: Asking, name: DefinitionName, fields: Fields = None) -> Response:
        item = noun.get(project_store(asking).catalog, name)
        tag = tag_of(item)
        unchanged = not_modified(request, tag)
        return unchanged or reply(chosen(definition_record(item), fields), headers={"ETag": tag})

    get_one.__doc__ = (
        f"The {noun.one} as it is applied. Its ETag changes when the definition does, and with nothing else."
    )

    @router.post(
        noun.path, status_code=201, summary=f"Create {noun.a}", operation_id=f"create_{singular}", tags=[noun.many],
        dependencies=needs(Permission.WRITE_DEFINITIONS),
    )  # fmt: skip
    def create(
        asking: Asking,
        body: Annotated[noun.body, Body(examples=[noun.example])],  # type: ignore[name-defined]
    ) -> Response:
        with _WRITING:
            catalog = project_store(asking).catalog
            if body.name in noun.all_of(catalog):
                raise RefusedError(
                    f"{noun.one} {body.name!r} exists already", try_=f"PUT {PREFIX}{noun.path}/{body.name} replaces it"
                )
            return _applied(asking, noun, body, catalog, status=201)

    create.__doc__ = f"Apply {noun.a} of a new name. One that is there already is a 409."

    @router.put(
        noun.path + "/{name}", summary=f"Create or replace {noun.a}", operation_id=f"replace_{singular}",
        tags=[noun.many], dependencies=needs(Permission.WRITE_DEFINITIONS, "name"),
        responses={201: {"description": "There was none of this name."}},
        openapi_extra={"x-examples": {"name": noun.example["name"]}},
    )  # fmt: skip
    def replace(
        request: Request,
        asking: Asking,
        name: DefinitionName,
        body: Annotated[noun.body, Body(examples=[noun.example])],  # type: ignore[name-defined]
    ) -> Response:
        if body.name != name:
            raise RefusedError(
                f"the path names {name!r}, and the body {body.name!r}", try_="a definition keeps its name"
            )
        with _WRITING:
            catalog = project_store(asking).catalog
            known = noun.all_of(catalog).get(name)
            check_match(request, None if known is None else tag_of(known), what=f"{noun.one} {name!r}")
            return _applied(asking, noun, body, catalog, status=201 if known is None else 200)

    replace.__doc__ = (
        f"Apply {noun.a}. With `If-Match` it is replaced only if it is what the client saw; with "
        "`If-None-Match: *` only made."
    )

    @router.delete(
        noun.path + "/{name}", summary=f"Delete {noun.a}", operation_id=f"delete_{singular}", tags=[noun.many],
        dependencies=needs(Permission.DELETE_DEFINITIONS, "name"),
        openapi_extra={"x-examples": {"name": noun.example["name"]}},
    )  # fmt: skip
    def delete(
        request: Request,
        asking: Asking,
        name: DefinitionName,
        cascade: Annotated[bool, Query(description="Also delete the feature views that use it.")] = False,
    ) -> Response:
        with _WRITING:
            item = noun.get(project_store(asking).catalog, name)
            check_match(request, tag_of(item), what=f"{noun.one} {name!r}")
            return reply({"removed": list(asking.access.delete(name, cascade=cascade))})

    delete.__doc__ = (
        f"Remove {noun.a} with everything that is stored of it. What is still used is a 409 that names its users."
    )


def _applied(asking: Caller, noun: Noun, body: Any, catalog: Catalog, *, status: int) -> Response:
    """Apply one definition; the answer is what it became, and the plan that was carried out."""
    store = project_store(asking)
    plan = asking.access.apply([made(body, catalog, store=store)])
    item = noun.get(store.catalog, body.name)
    headers = {"ETag": tag_of(item), "Location": f"{PREFIX}{noun.path}/{body.name}"}
    return reply({**definition_record(item), "applied": plan.to_dict()}, status, headers)


router = resources("", tag="definitions")
router.tags = []
for _noun in NOUNS:
    _register(router, _noun)


ROUTERS = (router,)
