"""`grange search`: definitions by words, features like another, and the words there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from grange.cli.output import Part, Table, count
from grange.cli.session import Session, command
from grange.errors import UsageError

if TYPE_CHECKING:
    from grange.verbs.search import Keywords, SearchResults
    from grange.verbs.similar import SimilarFeature


def register(app: typer.Typer) -> None:
    """Put the command on the command line."""
    command(app, "search")(search)


def search(
    session: Session,
    query: Annotated[str, typer.Argument(metavar="[QUERY]", help="Words; the last may be unfinished.")] = "",
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only these: entity, feature_group, feature_view, transformation."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Only what has this tag.")
    ] = None,
    owner: Annotated[str, typer.Option("--owner", metavar="NAME", help="Only what this owner owns.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many.")] = 20,
    similar_to: Annotated[
        str | None, typer.Option("--similar-to", metavar="GROUP:FEATURE", help="Instead, features like this one.")
    ] = None,
    compute: Annotated[
        bool, typer.Option("--compute", help="With --similar-to: compute the statistics that are not kept.")
    ] = False,
    keywords: Annotated[bool, typer.Option("--keywords", help="Instead, the tags and owners there are.")] = False,
) -> None:
    """Find definitions and features by words.

    Names, features and columns with their types, tags, owners and descriptions are searched. Without words, everything
    that the options let through. --similar-to compares features by name, type and the kept statistics of their values.
    """
    filtered = bool(query or kind or tag or owner)
    if (similar_to is not None) + keywords + filtered > 1:
        raise UsageError("words, --similar-to and --keywords are three questions", try_="one of them")
    if compute and similar_to is None:
        raise UsageError("--compute is for --similar-to", try_="--similar-to GROUP:FEATURE --compute")
    if keywords:
        with session.store() as store:
            known = store.keywords()
        session.out.show(known.to_dict(), *_keyword_parts(known))
        return
    if similar_to is not None:
        with session.store() as store:
            alike = store.similar(similar_to, limit=limit, compute=compute)
        session.out.show([item.to_dict() for item in alike], _similar_table(alike))
        return
    from grange.cli.grammars import parse_tags

    with session.store() as store:
        found = store.search(query, kinds=kind or (), tags=parse_tags(tag or ()), owner=owner, limit=limit)
    session.out.show(found.to_dict(), _hit_table(found))


def _hit_table(found: SearchResults) -> Table:
    rows = [
        (
            hit.reference,
            ("feature" if hit.feature else hit.kind).replace("_", " "),
            f"{hit.score:.2f}" if hit.score else "",
            count(hit.uses),
            hit.field,
            hit.description or hit.excerpt,
        )
        for hit in found.hits
    ]
    headers = ("name", "kind", "score", "uses", "found in", "description")
    empty = f"nothing has {found.query!r}" if found.query.strip() else "nothing is applied that fits"
    return Table(headers, rows, right=frozenset({"score", "uses"}), empty=empty, spare=("description", "found in"))


def _similar_table(alike: Sequence[SimilarFeature]) -> Table:
    rows = [(item.reference, item.dtype, f"{item.score:.2f}", item.made_of, item.description) for item in alike]
    headers = ("feature", "type", "score", "made of", "description")
    return Table(headers, rows, right=frozenset({"score"}), empty="no other features", spare=("description", "made of"))


def _keyword_parts(known: Keywords) -> list[Part]:
    tags = [(f"{tag}={value}", count(number)) for tag, value, number in known.tags]
    owners = [(owner, count(number)) for owner, number in known.owners]
    right = frozenset({"definitions"})
    return [
        Table(("tag", "definitions"), tags, right=right, empty="no tags"),
        "",
        Table(("owner", "definitions"), owners, right=right, empty="no owners"),
    ]
