"""`grange fg derive`: a feature group made of others."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from grange.cli.fv import check_joins
from grange.cli.keys import entities_of, refuse_existing
from grange.cli.session import Session, command, from_command_line
from grange.cli.verbs import tell_leaks


def register(app: typer.Typer) -> None:
    """Put `derive` among the commands of feature groups."""
    command(app, "derive")(derive)


def derive(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    base: Annotated[
        str, typer.Option("--base", metavar="FG[@X.Y.Z]", help="Whose entity keys and times its rows have.")
    ],
    join: Annotated[
        list[str],
        typer.Option(
            "--join",
            metavar='"FG[@X.Y.Z] KIND ON[=KEY],... [PREFIX]"',
            help="What else is in its rows, found point-in-time. KIND: INNER, LEFT, RIGHT, FULL or ASOF. Repeatable.",
        ),
    ],
    keys: Annotated[
        str | None,
        typer.Option("--keys", "--primary-key", metavar="KEY[:TYPE],...", help="Its join keys; the base's without."),
    ] = None,
    entity: Annotated[list[str] | None, typer.Option("--entity", metavar="NAME", help="Whom it describes.")] = None,
    features: Annotated[str | None, typer.Option("--features", metavar="A,B", help="Of the base; all without.")] = None,
    event_time: Annotated[
        str, typer.Option("--event-time", metavar="COL", help="What the time of its rows is called.")
    ] = "event_time",
    condition: Annotated[
        str, typer.Option("--filter", metavar="SQL", help="Only joined rows for which this is true.")
    ] = "",
    sql: Annotated[
        str | None, typer.Option("--sql", metavar="QUERY", help="SELECT ... FROM source: what makes the features.")
    ] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", metavar="90d", help="How long a value stays valid.")] = None,
    online: Annotated[bool, typer.Option("--online/--no-online", help="Serve it online.")] = True,
    description: Annotated[str, typer.Option("--description", help="What it is derived from without.")] = "",
    owner: Annotated[str, typer.Option("--owner")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE")] = None,
) -> None:
    """Apply a feature group whose rows are joined from other groups.

    Its parents are recorded with every version, and when one of them is materialized it is materialized after it.
    """
    from grange.cli.grammars import parse_join, parse_references, parse_tags
    from grange.definitions import FeatureGroup
    from grange.definitions.references import parse_reference, select
    from grange.definitions.sources import DerivedSource

    with session.store() as store:
        refuse_existing(store.catalog, group=name)
        check_joins(store.catalog, join)
        reference = parse_reference(base)
        group = store.catalog.group(reference.source, asked_by="--base")
        entities = entities_of(store.catalog, keys, entity or []) if keys or entity else list(group.entities)
        chosen = [item.partition(":")[2] for item in parse_references(features, base=base)] if features else []
        taken: list[Any] = [select(base, *chosen), *(parse_join(text) for text in join)]
        with from_command_line():
            definition = FeatureGroup(
                name,
                entities=entities,
                source=DerivedSource(taken, event_time=event_time, filter=condition),
                transform=sql,
                ttl=ttl,
                online=online,
                description=description,
                owner=owner,
                tags=parse_tags(tag or ()),
            )
        done = store.apply([definition])
    told = f"applied as revision {done.revision}; next: grange materialize {name}"
    session.out.show(done.to_dict(), str(done), told, *tell_leaks(session, done.leaks))
