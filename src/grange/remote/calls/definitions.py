"""Definitions: what is applied, what would change, changing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.serialize import Definition, to_data
from grange.definitions.sources import TableSource
from grange.errors import UnsupportedError
from grange.remote import answers, bodies
from grange.remote.calls.asked import features_as_sent
from grange.remote.calls.session import API, Session, asked, changed, fetched, shared
from grange.remote.messages import LONG, Call, Request, Response
from grange.remote.retrying import NOT_MODIFIED
from grange.types.time import Moment
from grange.verbs.names import pinned, unpinned
from grange.verbs.parts import record_kind

if TYPE_CHECKING:
    from grange.verbs.apply import ApplyPlan

REFRESH_SECONDS: Final = 1.0
"""How old the definitions may be that `catalog` answers with."""


def catalog(session: Session) -> Call[Catalog]:
    """The applied definitions, at most a second old. Functions and frames stay where they are."""

    def known() -> Catalog | None:
        return session.catalog if session.clock() - session.checked <= REFRESH_SECONDS else None

    return (yield from shared(session, "catalog", known, _refreshed(session)))


def _refreshed(session: Session) -> Call[Catalog]:
    moment, known = session.clock(), session.catalog
    headers = {"If-None-Match": session.etag} if known is not None and session.etag else {}
    response: Response = yield Request("GET", f"{API}/definitions", headers=headers)
    if response.status != NOT_MODIFIED or known is None:
        known = answers.catalog(bodies.from_json(response))
        session.catalog, session.etag = known, response.headers.get("etag", "")
        session.shapes.clear()
    session.checked = moment
    return known


def plan(
    session: Session, definitions: Iterable[Definition] | Definition | None = None, *, prune: bool = False
) -> Call[ApplyPlan]:
    """What `apply` would change. Without definitions, those of the server's own modules."""
    data = yield from asked("/definitions:plan", _as_sent(definitions, prune), patience=LONG)
    return answers.apply_plan(data)


def apply(
    session: Session, definitions: Iterable[Definition] | Definition | None = None, *, prune: bool = False
) -> Call[ApplyPlan]:
    """Make definitions known on the server. Paths of file sources are the server's; code runs where it is deployed."""
    response = yield from changed(session, "POST", "/definitions:apply", _as_sent(definitions, prune), patience=LONG)
    session.forget()
    return answers.apply_plan(bodies.from_json(response))


def delete(
    session: Session, name: str | Definition, *, version: str | None = None, cascade: bool = False
) -> Call[tuple[str, ...]]:
    """Remove a definition with everything stored of it, or one version of a group; returns what was removed."""
    name, version = pinned(name, version)
    response = yield from changed(
        session,
        "DELETE",
        f"/definitions/{bodies.quoted(name)}",
        query={"version": version, "cascade": cascade},
        patience=LONG,
    )
    session.forget()
    return tuple(bodies.from_json(response)["removed"])


def inspect(session: Session, name: str | Definition, *, version: str | None = None) -> Call[dict[str, Any]]:
    """Everything known of a feature group, feature view or entity, as plain data."""
    name, version = pinned(name, version)
    found: dict[str, Any] = yield from fetched(f"/inspect/{bodies.quoted(name)}", version=version)
    return found


def explain_online(session: Session, features: Any, *, full_feature_names: bool = False) -> Call[str]:
    """What an online read would do, as an indented tree."""
    sent = yield from features_as_sent(session, features)
    data = yield from asked("/explain/online", {"features": sent, "full_feature_names": full_feature_names})
    return str(data["text"])


def explain_materialize(
    session: Session, group: str | FeatureGroup, *, start: Moment | None = None, end: Moment | None = None
) -> Call[str]:
    """What materializing a group would do, as an indented tree."""
    name = bodies.quoted(unpinned(group, what="materialized"))
    data = yield from fetched(
        f"/feature-groups/{name}/explain", start=bodies.moment(start, "start"), end=bodies.moment(end, "end")
    )
    return str(data["text"])


def _as_sent(definitions: Iterable[Definition] | Definition | None, prune: bool) -> dict[str, Any]:
    """Definitions as they travel: what they say, and no code that runs by itself.

    Raises:
        UnsupportedError: a group whose rows are a frame of this process.
    """
    if definitions is None:
        return {"definitions": None, "prune": prune}
    every = list(definitions) if isinstance(definitions, Iterable) else [definitions]
    Catalog.of(every)  # what contradicts itself, or is no definition, needs no server to say so
    return {"definitions": [_sent(item) for item in every], "prune": prune}


def _sent(item: Definition) -> Mapping[str, Any]:
    if isinstance(item, FeatureGroup) and isinstance(item.source, TableSource) and item.source.frame is not None:
        raise UnsupportedError(
            f"feature group {item.name!r} has the rows of a frame in this process, which the server cannot read",
            found=f"gr.TableSource({item.source.name!r})",
            try_=f"gr.PushSource({item.source.name!r}, schema=...) and store.push(...); or a file that the server has",
        )
    return {"kind": record_kind(item), "name": item.name, "definition": to_data(item)}
