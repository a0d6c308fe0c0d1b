"""API keys, policies and the audit log."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response
from pydantic import Field, StringConstraints

from grange.http.answers import reply
from grange.http.bodies import Body, Duration, Line
from grange.http.dependencies import Asking, Now
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.routing import needs, resources
from grange.security.audit import anchor_text, entry_data, parse_anchor
from grange.security.policies import Policy
from grange.security.principals import Permission, Principal, check_role
from grange.types import parse_duration

keys = resources("/keys", tag="security")
policies = resources("/policies", tag="security")
audit = resources("/audit", tag="security")

NO_STORE = {"Cache-Control": "no-store"}
"""Of answers with a key in them: nobody keeps them, the server neither."""
KeyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9]{1,64}$", description="Its id.")]
PolicyName = Annotated[str, Path(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,127}$", description="Its name.")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ActionName = Literal["online", "historical", "preview", "export", "search", "write"]


class KeyBody(Body):
    """A key to make."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(examples=["checkout"])
    role: Literal["viewer", "editor", "operator", "admin"] = Field(examples=["viewer"])
    scopes: Annotated[list[Line], Field(max_length=100)] = Field(
        default_factory=list, description="What narrows the role: `read`, `serve:churn`, `write:user_*`."
    )
    teams: Annotated[list[Line], Field(max_length=100)] = Field(default_factory=list)
    expires_at: dt.datetime | None = None
    expires_in: Duration | None = Field(default=None, description="Instead of a moment: `90d`.")


class RotateBody(Body):
    """How a key is replaced."""

    grace: Duration | None = Field(
        default=None, description="For how long the old key goes on working.", examples=["1h"]
    )


class PolicyBody(Body):
    """Who may have what."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,127}$")] = Field(examples=["mask-amount"])
    effect: Literal["allow", "deny", "mask"] = Field(examples=["mask"])
    on: Annotated[list[Pattern], Field(min_length=1, max_length=100)] = Field(examples=[["feature:spend:amount"]])
    to: Annotated[list[Pattern], Field(min_length=1, max_length=100)] = Field(examples=[["role:viewer"]])
    actions: Annotated[list[ActionName], Field(max_length=6)] = Field(default_factory=list)
    reason: Annotated[str, StringConstraints(max_length=500)] = ""

    def policy(self) -> Policy:
        """The policy.

        Raises:
            RequestError: a part that the grammar does not have.
        """
        return Policy(self.name, self.effect, tuple(self.on), tuple(self.to), frozenset(self.actions), self.reason)


class CheckBody(Body):
    """Who asks for what."""

    role: Literal["viewer", "editor", "operator", "admin"] = Field(examples=["viewer"])
    key: Line = Field(default="", description="The name of a key; nobody's without.")
    action: ActionName = Field(examples=["online"])
    group: Line = Field(examples=["spend"])
    feature: Line = Field(default="", examples=["amount"])
    view: Line | None = None


@keys.get("", summary="List keys", operation_id="list_keys",
          dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def list_keys(asking: Asking, now: Now, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """All keys that ever were, oldest first; never their secrets."""
    found = asking.project.security.keys.list()
    return reply(
        paged(found, Page(limit, cursor), key=lambda info: (info.created_at.isoformat(), info.id), of="keys",
              show=lambda info: info.to_dict(now))
    )  # fmt: skip


@keys.post("", status_code=201, summary="Create a key", operation_id="create_key",
           dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def create_key(asking: Asking, now: Now, body: KeyBody) -> Response:
    """Make a key. Its text is in this answer and nowhere else: it cannot be seen again. It gives nothing that the
    caller's own does not."""
    expires = body.expires_at
    if body.expires_in is not None:
        expires = now + parse_duration(body.expires_in, what="expires_in")
    asking.access.check_grant(body.role, body.scopes)
    details = {"role": body.role, "scopes": body.scopes}
    with asking.access.writing(Permission.MANAGE_SECURITY, "key create", details={**details, "key": body.name}):
        made = asking.project.security.keys.create(
            body.name,
            role=body.role,
            scopes=body.scopes,
            teams=body.teams,
            expires_at=expires,
            created_by=asking.principal.id,
            now=now,
        )
    return reply({**made.info.to_dict(now), "key": made.text}, 201, NO_STORE)


@keys.get("/{id}", summary="Get a key", operation_id="get_key",
          dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def get_key(asking: Asking, now: Now, id: KeyId) -> Response:
    """What is known of a key; never its secret."""
    return reply(asking.project.security.keys.get(id).to_dict(now))


@keys.delete("/{id}", summary="Revoke a key", operation_id="revoke_key",
             dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def revoke_key(asking: Asking, now: Now, id: KeyId) -> Response:
    """Stop a key from working, for ever. It is over everywhere within five seconds."""
    asking.project.security.keys.get(id)
    with asking.access.writing(Permission.MANAGE_SECURITY, "key revoke", details={"key": id}):
        return reply(asking.project.security.keys.revoke(id, now=now).to_dict(now))


@keys.post("/{id}/rotate", status_code=201, summary="Rotate a key", operation_id="rotate_key",
           dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def rotate_key(asking: Asking, now: Now, id: KeyId, body: RotateBody | None = None) -> Response:
    """Make a key that takes another's place; the old one goes on working until the grace ends."""
    grace = dt.timedelta(0)
    if body is not None and body.grace is not None:
        grace = parse_duration(body.grace, what="grace")
    known = asking.project.security.keys.get(id)
    asking.access.check_grant(known.role, known.scopes)
    with asking.access.writing(Permission.MANAGE_SECURITY, "key rotate", details={"key": id}):
        made = asking.project.security.keys.rotate(id, grace=grace, created_by=asking.principal.id, now=now)
    return reply({**made.info.to_dict(now), "key": made.text}, 201, NO_STORE)


@policies.get("", summary="List policies", operation_id="list_policies",
              dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def list_policies(asking: Asking, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """All policies, by name."""
    found = asking.project.security.policies.list()
    return reply(
        paged(found, Page(limit, cursor), key=lambda item: item.name, of="policies", show=lambda item: item.to_dict())
    )


@policies.post("", status_code=201, summary="Create a policy", operation_id="create_policy",
               dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def create_policy(asking: Asking, now: Now, body: PolicyBody) -> Response:
    """Make a policy. One of the name that is there already is a 409."""
    return _written(asking, body.policy(), replace=False, now=now)


def _written(asking: Any, policy: Policy, *, replace: bool, now: dt.datetime) -> Response:
    details = policy.to_dict()
    with asking.access.writing(Permission.MANAGE_SECURITY, "policy create", details=details):
        asking.project.security.policies.create(policy, replace=replace, now=now)
    return reply(policy.to_dict(), 200 if replace else 201, {"Location": f"/api/v1/policies/{policy.name}"})


@policies.get("/{name}", summary="Get a policy", operation_id="get_policy",
              dependencies=needs(Permission.MANAGE_SECURITY),
              openapi_extra={"x-examples": {"name": "mask-visits"}})  # fmt: skip
def get_policy(asking: Asking, name: PolicyName) -> Response:
    """One policy."""
    return reply(asking.project.security.policies.get(name).to_dict())


@policies.put("/{name}", summary="Create or replace a policy", operation_id="replace_policy",
              dependencies=needs(Permission.MANAGE_SECURITY),
              openapi_extra={"x-examples": {"name": "mask-amount"}})  # fmt: skip
def replace_policy(asking: Asking, now: Now, name: PolicyName, body: PolicyBody) -> Response:
    """Make a policy, or put it in the place of the one of its name."""
    from grange.errors import RefusedError

    if body.name != name:
        raise RefusedError(f"the path names policy {name!r}, and the body {body.name!r}")
    return _written(asking, body.policy(), replace=True, now=now)


@policies.delete("/{name}", summary="Delete a policy", operation_id="delete_policy",
                 dependencies=needs(Permission.MANAGE_SECURITY),
                 openapi_extra={"x-examples": {"name": "mask-visits"}})  # fmt: skip
def delete_policy(asking: Asking, name: PolicyName) -> Response:
    """Remove a policy. What it denied or masked is open then, unless another says so too."""
    asking.project.security.policies.get(name)
    with asking.access.writing(Permission.MANAGE_SECURITY, "policy delete", details={"policy": name}):
        asking.project.security.policies.delete(name)
    return reply({"removed": [name]})


@policies.post(":check", summary="Check a decision", operation_id="check_policies",
               dependencies=needs(Permission.MANAGE_SECURITY))  # fmt: skip
def check_policies(asking: Asking, now: Now, body: CheckBody) -> Response:
    """What somebody of a role, or with a key, may do with a feature, and which policy decides."""
    security, catalog = asking.project.security, asking.access.catalog
    if body.key:
        somebody = security.keys.named(body.key, now=now).principal
    else:
        somebody = Principal("", "", "key", check_role(body.role), asking.project.name)
    group = catalog.group(body.group)
    decided = security.policies.current(now=now).decide(
        somebody, body.action, group=group.name, feature=body.feature, tags=dict(group.tags), view=body.view
    )
    return reply(decided.to_dict())


@audit.get("", summary="Read the audit log", operation_id="read_audit_log",
           dependencies=needs(Permission.READ_AUDIT))  # fmt: skip
def read_audit(
    asking: Asking,
    since: Annotated[dt.datetime | None, Query(description="The earliest time, inclusive.")] = None,
    principal: Annotated[str | None, Query(max_length=256, description="Only of who has this id or name.")] = None,
    action: Annotated[str | None, Query(max_length=128, description="Only this verb.")] = None,
    denied: Annotated[bool, Query(description="Only what was denied.")] = False,
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=1, description="`next` of the page before.")] = None,
) -> Response:
    """Who changed what, and what was denied to whom: newest first."""
    since = since if since is None or since.tzinfo is not None else since.replace(tzinfo=dt.UTC)
    found = asking.project.security.audit.entries(
        since=since, principal=principal, action=action, denied=denied, limit=limit, before=cursor
    )
    more = found[-1].number if len(found) == limit and found[-1].number > 1 else None
    return reply({"items": [entry_data(entry) for entry in found], "next": more})


@audit.get(":verify", summary="Verify the audit log", operation_id="verify_audit_log",
           dependencies=needs(Permission.READ_AUDIT))  # fmt: skip
def verify_audit(
    asking: Asking,
    anchor: Annotated[
        str | None, Query(max_length=100, description="`NUMBER:HASH`, as `anchor` said it once, kept elsewhere.")
    ] = None,
) -> Response:
    """Whether anything in the log was changed, removed, inserted or cut off."""
    found = asking.project.security.audit.verify(None if anchor is None else parse_anchor(anchor))
    head = None if found.head is None else anchor_text(found.head)
    return reply(
        {
            "intact": found.is_intact,
            "entries": found.entries,
            "anchor": head,
            "findings": [asdict(each) for each in found.findings],
        }
    )


ROUTERS = (keys, policies, audit)
