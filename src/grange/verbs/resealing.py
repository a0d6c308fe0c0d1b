"""reseal: everything that is sealed of feature groups, under the key that is primary now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from grange.definitions.feature_group import FeatureGroup
from grange.errors import ConfigError, GrangeError
from grange.ports.offline import VersionMeta
from grange.ports.online import GroupInfo
from grange.ports.registry import Run
from grange.verbs.parts import Parts
from grange.verbs.versions import latest_version, online_version, serve_latest, unservable

if TYPE_CHECKING:
    from grange.security.encryption import EncryptedOnlineStore, Sealer


@dataclass(frozen=True, slots=True)
class Resealed:
    """What became of one group."""

    group: str
    quarantine: int = 0
    """How many times rows were set aside whose rows were sealed anew."""
    online_rows: int = 0
    """Rows of the online store that were sealed anew."""
    online_keys: int = 0
    """Entity keys whose window state was loaded anew, whatever it was sealed under."""
    left: tuple[str, ...] = ()
    """What is online and was left as it is, and why: old keys must stay as long as there is any."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "quarantine": self.quarantine,
            "online_rows": self.online_rows,
            "online_keys": self.online_keys,
            "left": list(self.left),
        }


def reseal(parts: Parts, groups: Iterable[FeatureGroup], *, now: dt.datetime) -> tuple[Resealed, ...]:
    """Seal what is stored of groups under the primary key. See `FeatureStore.reseal`.

    One group that fails keeps no other back; its error is raised once the others are done.

    Raises:
        ConfigError: the settings name no key.
        GrangeError: the first that a group met. Its details say what is `done` and what `failed`.
    """
    sealer = parts.open_sealer()
    if sealer is None:
        raise ConfigError("nothing is sealed here: the settings name no key", try_='encryption_key = "file:keyring"')
    sealer.check()
    held: dict[str, list[GroupInfo]] = {}
    for info in parts.online.info():
        held.setdefault(info.group, []).append(info)
    done: list[Resealed] = []
    errors: dict[str, GrangeError] = {}
    for group in groups:
        try:
            done.append(_resealed(parts, group, held.get(group.name, ()), sealer, now))
        except GrangeError as error:
            error.asked_by = error.asked_by or f"feature group {group.name!r}"
            errors[group.name] = error
    if errors:
        first = next(iter(errors.values()))
        first.details |= {"done": [each.to_dict() for each in done], "failed": list(errors)}
        raise first
    return tuple(done)


def _resealed(
    parts: Parts, group: FeatureGroup, held: Iterable[GroupInfo], sealer: Sealer, now: dt.datetime
) -> Resealed:
    from grange.security.encryption import reseal_rows

    def hold() -> Any:
        return parts.offline.lock(group.name, timeout=parts.lock_timeout)

    with hold():
        aside = parts.offline.rewrite_quarantine(group.name, lambda rows: reseal_rows(rows, sealer, group=group.name))
    # there is a key, so that this is the sealed store, or passes on what that one has beyond its port
    online = cast("EncryptedOnlineStore", parts.online)
    rows = keys = 0
    left: list[str] = []
    for info in held:
        if info.rows:
            rows += online.reseal_rows(info.key_space, group.name, hold)
        if info.cells and not (group.online and group.aggregations and info.key_space == group.key_space):
            left.append(
                "window state that nothing reads as the group is defined now: "
                f"define it as it was, and grange materialize {group.name}; or grange fg delete {group.name}"
            )
        elif info.cells:
            with hold():
                reason = _unloadable(parts, group)
                if reason is None:
                    keys += _load_windows(parts, group, now)
                else:
                    left.append(f"window state {reason}: grange materialize {group.name}")
    return Resealed(group.name, aside, rows, keys, tuple(left))


def _unloadable(parts: Parts, group: FeatureGroup) -> str | None:
    """Why window state that is online would be another one if it were loaded from history; None if it would not."""
    loaded, latest = online_version(parts, group), latest_version(parts, group.name)
    if loaded != latest:
        return f"of version {loaded or 'none'}, where history has {latest or 'none'}"
    meta: VersionMeta = parts.offline.snapshot(group.name).meta
    return unservable(group, meta)


def _load_windows(parts: Parts, group: FeatureGroup, now: dt.datetime) -> int:
    """Load a group's window state from its history, which is what it was made of: cells cannot be listed. The caller
    holds the group's lock. Returns the entity keys."""
    served = serve_latest(parts, group, now=now)
    assert served is not None, "what is served was looked at under the lock"
    parts.record(Run(group.name, served.version, "load", now, now, served.rows, served.details()))
    return served.online_rows
