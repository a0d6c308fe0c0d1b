"""Writing a group's window state: events into one entity key's tree, or a whole group at once."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from grange.ports.online import WritableCells
from grange.serving.windows.head import Head, head_of
from grange.serving.windows.ids import Forget, Ids, Version, bucket_cells, tombstones_of
from grange.serving.windows.nodes import (
    HEAD,
    ROOT,
    Child,
    Header,
    Inner,
    Leaf,
    Node,
    cell_key,
    child_of,
    encode_node,
    encode_root,
    order_key,
)
from grange.serving.windows.spec import Event, StateSpec
from grange.serving.windows.tree import Editor


def apply(cells: WritableCells, spec: StateSpec, key: bytes, events: Sequence[Event], *, now: int) -> int:
    """Write versions of events of one entity key, in order (WIN-6).

    A version of an event counts when it is the last written: the newest created time, null the oldest, then the largest
    sequence, then the one applied last. So the state does not depend on the order in which versions arrive. Events
    without an id all count. An event older than what has been evicted is left out; and which version of it counted is
    forgotten then, so that an older version which arrives still later, and of a younger event time, would count.

    The cost grows with the logarithm of the number of events held. A few of the events that no longer count at `now`
    (`StateSpec.expired_before`) are evicted along the way.

    Args:
        cells: the group's.
        spec: what they are made for.
        key: the encoded entity key.
        events: in the order they were written.
        now: microseconds UTC.

    Returns:
        How many of the events changed what is held.

    Raises:
        StateLayoutError: the cells were made for other aggregations; nothing is written.
        CorruptStoreError: a cell cannot be read back.
        ValueError: an event has a created time, and the spec says there are none.
    """
    _check_created(spec, events)
    head = head_of(cells.get(HEAD), spec)
    editor = Editor(spec, key, cells)
    expired = spec.expired_before(now)
    ids = _ids(editor, expired)
    changed = sum(_written(editor, ids, event) for event in events)
    if not changed:
        return 0
    editor.settle()
    if expired is not None:
        editor.evict(expired, leaves=2 + 2 * changed // spec.leaf_size)
    new = editor.root_size == 0
    grown_cells, grown = editor.write(_id_cells(editor, ids, steps=1 + changed))
    head = head.grown(int(new), grown_cells, grown, editor.header.size + editor.root_size)
    cells.put(HEAD, head.wire(spec))
    return changed


def _check_created(spec: StateSpec, events: Sequence[Event]) -> None:
    if not spec.created and any(event[1] is not None for event in events):
        raise ValueError("an event has a created time, and this state keeps none: make its spec with created=True")


def _ids(editor: Editor, expired: int | None) -> Ids | None:
    spec, header, root = editor.spec, editor.header, editor.root
    if spec.event_id is None:
        return None
    forget = Forget(header.evicted, expired, bool(spec.rows))
    return Ids(spec, header, editor.read, forget, root if isinstance(root, Leaf) else None)


def _written(editor: Editor, ids: Ids | None, event: Event) -> bool:
    """Write one version. Whether it changed anything."""
    key, evicted = order_key(event), editor.header.evicted
    held = evicted is None or key >= evicted
    if ids is None or event.id is None:
        if held and not event.retracted:
            editor.insert(event)
            return True
        return False
    known = ids.get(event.id)
    if known is not None:
        if known.written > key[1:]:
            return False
        if known.live:
            editor.remove(known.order_key, event.id)
    elif not held and not event.retracted:
        return False
    if held and not event.retracted:
        editor.insert(event)
        ids.put(event.id, Version(*key, live=True))
    else:  # what is known of it must not come back
        times = [event.event_time, *([] if known is None else [known.event_time])]
        # remembered from its arrival on: an older version may still come, and lie inside the windows
        time = max(*times, event.event_time if event.created is None else event.created)
        ids.put(event.id, Version(time, key[1], key[2], live=False))
    return True


def _id_cells(editor: Editor, ids: Ids | None, steps: int) -> dict[int, bytes | None]:
    """The cells of the event ids, the header brought up to date with them."""
    if ids is None:
        return {}
    if not ids.count and isinstance(editor.root, Leaf) and ids.entries <= editor.spec.leaf_size:
        editor.header = editor.header._replace(tombstones=ids.tombstones())
        return {}
    ids.spread()
    cells = ids.cells(steps)
    editor.header = editor.header._replace(buckets=ids.count, ids=ids.entries, tombstones=[])
    return cells


# -- a whole group -----------------------------------------------------------------------------------------------


def build(
    spec: StateSpec,
    groups: Iterable[tuple[bytes, Sequence[Event]]],
    *,
    now: int,
    version: str = "",
    next_pushed: int = 0,
) -> Iterator[tuple[bytes, bytes]]:
    """The cells of a whole group, by ascending key: what `OnlineStore.load_cells` takes.

    What is read from them is what would be read after `apply` of each key's events one by one.

    Args:
        spec: what the cells are for.
        groups: entity keys, encoded, ascending, each with its events in the order they were written. One key's events
            are in memory at a time.
        now: microseconds UTC; what no longer counts by then is left out (`StateSpec.expired_before`).

    Raises:
        ValueError: an event has a created time, and the spec says there are none.
    """
    head = Head(spec.layout, version=version, next_pushed=next_pushed)
    for key, events in groups:
        cells = _built(spec, key, events, now)
        if cells:
            size = sum(len(name) + len(value) for name, value in cells)
            head = head.grown(1, len(cells), size, size)
            yield from cells
    yield HEAD, head.wire(spec)


def _built(spec: StateSpec, key: bytes, events: Sequence[Event], now: int) -> list[tuple[bytes, bytes]]:
    """One entity key's cells, ascending."""
    _check_created(spec, events)
    tombstones: dict[Any, Version] = {}
    if spec.event_id is not None:
        events, tombstones = _current(events)
    events, evicted = _without_expired(spec, _ordered(events), now)
    if not (events or tombstones or evicted):
        return []
    header = Header(evicted=evicted)
    values: dict[int, bytes] = {}
    root = _grown(spec, events, values)
    header = header._replace(next_cell=len(values) + 1)
    if isinstance(root, Leaf) and len(events) + len(tombstones) <= spec.leaf_size:
        header = header._replace(tombstones=tombstones_of(tombstones))
    elif spec.event_id is not None:
        remembered = [(each.id, *order_key(each), True) for each in events if each.id is not None]
        remembered += [(event, *version) for event, version in tombstones.items()]
        buckets, id_cells = bucket_cells(spec, remembered)
        values |= id_cells
        header = header._replace(buckets=buckets, ids=len(remembered))
    cells = [(cell_key(key, cell), value) for cell, value in sorted(values.items())]
    header = header._replace(cells=len(cells), size=sum(len(name) + len(value) for name, value in cells))
    return [(cell_key(key, ROOT), encode_root(header, root)), *cells]


def _current(events: Sequence[Event]) -> tuple[Sequence[Event], dict[Any, Version]]:
    """The last written version of each event, in the order they were written, and the events taken back."""
    if len({event[3] for event in events}) == len(events) and not any(event[4] for event in events):
        return events, {}  # as a rule: ids all different, nothing retracted
    last: dict[Any, Event] = {}
    tombstones: dict[Any, Version] = {}
    for number, event in enumerate(events):
        if event.id is None:
            if not event.retracted:
                last[None, number] = event  # an id is a single value, so no tuple is one
            continue
        known = last.get(event.id)
        gone = tombstones.get(event.id)
        key = order_key(event)
        written = order_key(known)[1:] if known is not None else gone.written if gone is not None else None
        if written is not None and written > key[1:]:
            continue
        last.pop(event.id, None)
        tombstones.pop(event.id, None)
        if event.retracted:
            times = [version.event_time for version in (event, known, gone) if version is not None]
            times += [] if event.created is None else [event.created]
            tombstones[event.id] = Version(max(times), key[1], key[2], live=False)
        else:
            last[event.id] = event
    return list(last.values()), tombstones


def _ordered(events: Sequence[Event]) -> Sequence[Event]:
    """Events in PIT-3 order; those at the same place stay as they are."""
    times = [event[0] for event in events]
    return events if all(map(operator.lt, times, times[1:])) else sorted(events, key=order_key)


def _without_expired(
    spec: StateSpec, events: Sequence[Event], now: int
) -> tuple[Sequence[Event], tuple[int, int, int] | None]:
    """The events that still count, and the place of the newest that does not."""
    expired = spec.expired_before(now)
    if expired is None:
        return events, None
    surplus = bisect.bisect_left(events, expired, key=operator.itemgetter(0)) - spec.rows
    return (events, None) if surplus <= 0 else (events[surplus:], order_key(events[surplus - 1]))


def _grown(spec: StateSpec, events: Sequence[Event], values: dict[int, bytes]) -> Node:
    """The root of a tree of events in PIT-3 order; the nodes below it are put into `values` by cell."""
    if len(events) <= spec.leaf_size:
        return Leaf.of(spec, events)

    def stored(node: Node) -> Child:
        cell = len(values) + 1
        values[cell] = encode_node(node)
        return child_of(spec, cell, node)

    children = [stored(Leaf.of(spec, events[start:stop])) for start, stop in _cuts(len(events), spec.leaf_size)]
    while len(children) > spec.fan_out:
        cuts = _cuts(len(children), spec.fan_out)
        children = [stored(Inner.of(spec, children[start:stop])) for start, stop in cuts]
    return Inner.of(spec, children)


def _cuts(count: int, limit: int) -> list[tuple[int, int]]:
    """Even parts that leave room to grow."""
    parts = -(-count // (limit * 3 // 4))
    ends = [count * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(ends))
