"""What goes wrong with a server, as errors of Grange. No text of them ever holds a password."""

from __future__ import annotations

import re
from typing import Final

from grange.errors import CorruptStoreError, GrangeError, StateLostError, StorageFullError, StoreUnavailableError
from grange.online.redis.settings import Address

REBUILD: Final = "run grange materialize: all that is stored here comes from the offline store"
_IN_SCRIPT: Final = re.compile(r"(?:@user_script:\s*\d+: |: )-?(OOM|WRONGTYPE|READONLY|MISCONF|NOREPLICAS|CORRUPT) ")
_CREDENTIALS: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_LOST: Final = (
    "evicted (set maxmemory-policy noeviction), lost in a failover, or with a server that came back without its data"
)
_ADVICE: Final = {
    "READONLY": "it is a replica: give the address of the primary, or its Sentinels",
    "LOADING": "it is reading its data from disk: wait for it",
    "MISCONF": "it cannot save to disk and takes no writes: see its log",
    "BUSY": "a script keeps it busy: wait for it",
}


class DisconnectedError(Exception):
    """A connection that could not be made or was lost; the answer, if any, will never come.

    Args:
        address: of the server.
        reason: what the system said.
        timed_out: whether the time was up, rather than the connection closed.
    """

    def __init__(self, address: Address, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason
        self.timed_out = timed_out

    def as_outage(self) -> StoreUnavailableError:
        """The error that callers get. Its details say that what was asked may have been done."""
        error = unavailable(self.address, self.reason)
        error.details["unanswered"] = True
        return error


def unavailable(address: Address | str, found: str, try_: str | None = None) -> StoreUnavailableError:
    """An outage of a server."""
    return StoreUnavailableError(
        f"online store redis at {address} cannot be used",
        found=found,
        try_=try_ or "see that the server runs and can be reached from here",
        details={"server": str(address)},
    )


def code_of(reply: BaseException) -> str:
    """The code of an error that a server answered, also when a script met it."""
    text = str(reply)
    inside = _IN_SCRIPT.search(text)
    return inside.group(1) if inside else text.partition(" ")[0]


def refused(address: Address | str, reply: BaseException) -> GrangeError:
    """An error that a server answered."""
    code, text = code_of(reply), str(reply)
    if code == "OOM":
        return StorageFullError(
            f"online store redis at {address} has reached its maxmemory; nothing changed",
            found=text,
            try_="raise maxmemory, or drop feature groups that are no longer served",
            details={"server": str(address)},
        )
    if code in ("WRONGTYPE", "CORRUPT"):
        return corrupt(address, text)
    if code in _CREDENTIALS:
        return unavailable(address, f"it refuses the credentials ({code})", "check username and password")
    return unavailable(address, text, _ADVICE.get(code))


def lost(address: Address | str, *, key_space: str, group: str, partly: bool) -> StateLostError:
    """What was loaded and is not there any more, while the server answers."""
    return StateLostError.of(
        group, key_space=key_space, store=_named(address), found=_LOST, partly=partly, server=str(address)
    )


def lost_layouts(address: Address | str) -> StateLostError:
    """Rows are there, and nothing says what their columns are."""
    return StateLostError(
        f"the layouts of all rows are gone from {_named(address)}",
        found=_LOST,
        try_="grange materialize",
        details={"server": str(address), "retry_after": StateLostError.RETRY_AFTER_S},
    )


def _named(address: Address | str) -> str:
    return f"online store redis at {address}"


def corrupt(address: Address | str, found: str) -> CorruptStoreError:
    """Something stored that this store did not write so."""
    return CorruptStoreError(
        f"online store redis at {address} cannot be read back",
        found=found,
        try_=REBUILD,
        details={"server": str(address)},
    )
