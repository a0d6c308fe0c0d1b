"""`grange policy`: who may have the values of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from grange.cli.key import recorded, utc_now
from grange.cli.output import Table
from grange.cli.session import Session, YesOption, command
from grange.errors import UsageError

if TYPE_CHECKING:
    from grange.security.policies import Action, Policy
    from grange.security.principals import Principal
    from grange.store import FeatureStore

app = typer.Typer(help="Policies: who may have the values of what.", no_args_is_help=True, rich_markup_mode=None)

ActionOption = Annotated[
    list[str] | None,
    typer.Option("--action", metavar="ACTION", help="online, historical, preview, export, search, write. Repeatable."),
]


@command(app, "create")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, _ and -.")],
    on: Annotated[
        list[str],
        typer.Option("--on", metavar="WHAT", help="*, group:G, feature:G:F, tag:NAME=VALUE, view:V. Repeatable."),
    ],
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="WHOM", help="*, role:R, key:NAME, token:SUBJECT, team:NAME. Repeatable."),
    ],
    deny: Annotated[bool, typer.Option("--deny", help="They may not have it.")] = False,
    mask: Annotated[bool, typer.Option("--mask", help="They get null.")] = False,
    allow: Annotated[bool, typer.Option("--allow", help="They may have it, and nobody else may.")] = False,
    action: ActionOption = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Told to who is refused.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="In place of the one of this name.")] = False,
) -> None:
    """Put a policy in force, everywhere within 5 seconds.

    A deny goes before an allow that names others, that before a mask, whatever is more specific. A role's limits are
    never widened. `*` in a name stands for any characters.
    """
    from grange.security.policies import Policy

    now = utc_now()
    policy = Policy(
        name=name,
        effect=_effect(deny=deny, mask=mask, allow=allow),
        on=tuple(on),
        to=tuple(to),
        actions=_actions(action),
        reason=reason,
    )
    about = policy.to_dict()
    with session.store() as store, recorded(store, "policy create", f"policy:{name}", now, **about) as security:
        security.policies.create(policy, replace=replace, now=now)
    session.out.show(policy.to_dict(), _table([policy]))


@command(app, "list")
def list_(session: Session) -> None:
    """List the policies."""
    with session.store() as store:
        policies = store.security.policies.list()
    session.out.show([policy.to_dict() for policy in policies], _table(policies))


@command(app, "delete")
def delete(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy.")],
    yes: YesOption = False,
) -> None:
    """Take a policy out of force, everywhere within 5 seconds."""
    now = utc_now()
    with session.store() as store:
        policy = store.security.policies.get(name)
        session.confirm(f"delete policy {name} ({policy.effect} {' '.join(policy.on)})", yes=yes)
        with recorded(store, "policy delete", f"policy:{name}", now, **policy.to_dict()) as security:
            security.policies.delete(name)
    session.out.show({"deleted": name}, f"deleted policy {name}")


@command(app, "check")
def check(
    session: Session,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A feature group, GROUP:FEATURE, or a feature view.")],
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Whoever has this key: id or name.")] = None,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Instead, whoever has this role.")] = None,
    team: Annotated[
        list[str] | None, typer.Option("--team", metavar="NAME", help="With --role: and is of this team. Repeatable.")
    ] = None,
    action: ActionOption = None,
) -> None:
    """Say what somebody may have, action by action, and which policy decides."""
    with session.store() as store:
        who = _asker(store, key, role, team or [])
        decided = _decisions(store, who, what, action)
    rows = [(row["feature"], row["action"], row["effect"], row["policy"] or "-", row["reason"]) for row in decided]
    session.out.show(
        {"principal": who.name, "role": who.role, "scopes": sorted(who.scopes), "decisions": decided},
        Table(("feature", "action", "effect", "policy", "reason"), rows, spare=("reason",)),
    )


def _asker(store: FeatureStore, key: str | None, role: str | None, teams: list[str]) -> Principal:
    from grange.security.principals import Principal, check_role

    if (key is None) == (role is None):
        raise UsageError("policies are checked for a key or for a role", try_="--key ID, or --role viewer")
    if key is not None:
        if teams:
            raise UsageError("--team goes with --role: a key has its own teams", try_="--role viewer --team NAME")
        return store.security.keys.named(key, now=utc_now()).principal
    name = f"anybody of role {role}"
    return Principal("", name, "key", check_role(role or ""), store.config.project, teams=frozenset(teams))


def _decisions(store: FeatureStore, who: Principal, what: str, actions: list[str] | None) -> list[dict[str, Any]]:
    """What becomes of each stored feature that is asked for, action by action."""
    from grange.security.policies import ACTIONS

    policies = store.security.policies.current(now=utc_now())
    view = what if what in store.catalog.views else None
    made_of = store.origins(what if view else [what])
    features = dict.fromkeys(origin for origins in made_of.values() for origin in origins)
    wanted = _actions(actions)
    asked = [action for action in ACTIONS if not wanted or action in wanted]
    return [
        {"feature": f"{group}:{feature}", "action": action, **decided.to_dict()}
        for group, feature in features
        for action in asked
        for decided in [
            policies.decide(
                who, action, group=group, feature=feature, tags=dict(store.catalog.group(group).tags), view=view
            )
        ]
    ]


def _actions(given: list[str] | None) -> frozenset[Action]:
    from grange.security.policies import check_actions

    return check_actions(given or ())


def _effect(*, deny: bool, mask: bool, allow: bool) -> Literal["deny", "mask", "allow"]:
    if deny + mask + allow != 1:
        raise UsageError("a policy denies, masks or allows", try_="one of --deny, --mask, --allow")
    return "deny" if deny else "mask" if mask else "allow"


def _table(policies: Any) -> Table:
    rows = [
        (policy.name, policy.effect, " ".join(policy.on), " ".join(policy.to), _actions_text(policy), policy.reason)
        for policy in policies
    ]
    headers = ("name", "effect", "on", "to", "actions", "reason")
    return Table(headers, rows, empty="no policies: roles and scopes decide", spare=("reason",))


def _actions_text(policy: Policy) -> str:
    from grange.security.policies import EVERY

    return "all" if policy.actions == EVERY[policy.effect] else " ".join(sorted(policy.actions))
