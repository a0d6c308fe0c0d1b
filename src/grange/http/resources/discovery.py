"""Finding things: search, likeness, lineage, impact, usage."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import StringConstraints

from grange.http.answers import reply
from grange.http.dependencies import Asking
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.routing import needs, resources
from grange.security.principals import Permission

if TYPE_CHECKING:
    from grange.lineage import Lineage

Kind = Literal["entity", "feature_group", "feature_view", "transformation"]
Thing = Annotated[
    str,
    Query(min_length=1, max_length=1024,
          description="`group`, `group@1.0.0`, `group:feature`, a view, `view#3`, a source, an entity."),
]  # fmt: skip
ThingKind = Annotated[
    str | None, Query(max_length=64, description="What the name means, where several things have it: `source`.")
]
Text = Annotated[str, StringConstraints(max_length=1000)]
ONE = {"x-examples": {"name": "spend"}}

searching = resources("/search", tag="discovery")
keywords_router = resources("/keywords", tag="discovery")
similar_router = resources("/similar", tag="discovery")
lineage_router = resources("/lineage", tag="discovery")
impact_router = resources("/impact", tag="discovery")
usage_router = resources("/usage", tag="discovery")


@searching.get("", summary="Search", operation_id="search", dependencies=needs(Permission.READ_DEFINITIONS),
               openapi_extra={"x-examples": {"query": "spend"}})  # fmt: skip
def search(
    asking: Asking,
    query: Annotated[str, Query(max_length=1000, description="Words; the last may be unfinished.")] = "",
    kinds: Annotated[list[Kind] | None, Query(max_length=4, description="Only these kinds.")] = None,
    tag: Annotated[list[Text] | None, Query(max_length=20, description="Only what has this tag: `name=value`.")] = None,
    owner: Annotated[str, Query(max_length=512, description="Only what this owner owns.")] = "",
    limit: Annotated[int, Query(ge=0, le=1000)] = 20,
) -> Response:
    """Definitions and features that have all words, best first. Without words all that the filters let through."""
    tags = {name: value for name, _, value in (each.partition("=") for each in tag or ())}
    return reply(asking.access.search(query, kinds=kinds or (), tags=tags, owner=owner, limit=limit).to_dict())


@keywords_router.get("", summary="List tags and owners", operation_id="list_keywords",
                     dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def keywords(asking: Asking) -> Response:
    """The tags and owners there are, each with how many definitions have it."""
    with asking.access.reading(Permission.READ_DEFINITIONS) as store:
        return reply(store.keywords().to_dict())


@similar_router.get("", summary="Find similar features", operation_id="find_similar",
                    dependencies=needs(Permission.READ_HISTORY),
                    openapi_extra={"x-examples": {"feature": "spend:amount"}})  # fmt: skip
def similar(
    asking: Asking,
    feature: Annotated[str, Query(min_length=1, max_length=512, description="`group:feature`.")],
    limit: Annotated[int, Query(ge=0, le=1000)] = 10,
    compute: Annotated[bool, Query(description="Compute the statistics that are not kept.")] = False,
) -> Response:
    """The features that are most like one: by name, by type, and by the values of the latest versions."""
    found = asking.access.similar(feature, limit=limit, compute=compute)
    return reply({"items": [item.to_dict() for item in found]})


@lineage_router.get("", summary="Lineage", operation_id="get_lineage", openapi_extra=ONE,
                    dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def lineage(
    asking: Asking,
    name: Thing,
    direction: Literal["both", "upstream", "downstream"] = "both",
    columns: Annotated[bool, Query(description="Column by column.")] = False,
    depth: Annotated[int | None, Query(ge=0, le=1000, description="At most so many steps away.")] = None,
    kind: ThingKind = None,
    form: Annotated[Literal["graph", "tree", "dot", "openlineage"], Query(description="How it is written.")] = "graph",
) -> Response:
    """What something is made of, and what is made of it."""
    with asking.access.reading(Permission.READ_DEFINITIONS) as store:
        found = store.lineage(name, direction=direction, columns=columns, depth=depth, kind=kind)
    match form:
        case "tree":
            return reply({"text": found.to_tree()})
        case "dot":
            return reply({"text": found.to_dot()})
        case "openlineage":
            return reply({"items": found.to_openlineage()})
        case "graph":
            return reply({**found.to_dict(), **_rest(found)})


def _rest(found: Lineage) -> dict[str, Any]:
    """What an answer of lineage has besides its graph."""
    return {
        "columns": found.columns,
        "depth": found.depth,
        "starts": [node.id for node in found.starts],
        "runs": [asdict(run) for run in found.graph.runs],
    }


@impact_router.get("", summary="Impact", operation_id="get_impact", openapi_extra=ONE,
                   dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def impact(asking: Asking, name: Thing, kind: ThingKind = None) -> Response:
    """What deleting something would break, the worst first."""
    with asking.access.reading(Permission.READ_DEFINITIONS) as store:
        return reply({"items": [item.to_dict() for item in store.impact(name, kind=kind)]})


@usage_router.get("", summary="Usage", operation_id="list_usage",
                  dependencies=needs(Permission.READ_METRICS))  # fmt: skip
def usage(
    asking: Asking,
    name: Annotated[
        str | None, Query(max_length=128, description="Of one group or view only, with its features.")
    ] = None,
    since: Annotated[dt.date | None, Query(description="The first day (UTC), inclusive.")] = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """How often groups, features and views were read, by day (UTC), thing and verb."""
    with asking.access.reading(Permission.READ_METRICS) as store:
        found = store.usage(name, since)
    return reply(
        paged(
            found,
            Page(limit, cursor),
            key=lambda each: (each.day.isoformat(), each.kind, each.name, each.feature, each.verb),
            of=f"usage {name} {since}",
            show=asdict,
        )
    )


ROUTERS = (searching, keywords_router, similar_router, lineage_router, impact_router, usage_router)
