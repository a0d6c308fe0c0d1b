"""The tree of one entity key's events: finding positions and runs in it, and editing it.

A position is the number of events before an event in PIT-3 order; a run is a pair of positions, the second one outside.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from grange.kernels.algebra import Count
from grange.ports.online import Cells, WritableCells
from grange.serving.windows import columns as packed
from grange.serving.windows.nodes import (
    ROOT,
    Child,
    Header,
    Inner,
    Leaf,
    Node,
    OrderKey,
    Run,
    cell_key,
    child_of,
    decode_node,
    decode_root,
    encode_node,
    encode_root,
    order_key,
)
from grange.serving.windows.spec import Event, Selection, StateSpec, Tile


class Piece(NamedTuple):
    """A part of a run: events of a leaf, or whole children of an inner node."""

    node: Node
    start: int
    stop: int


class Events(NamedTuple):
    """A part of a leaf."""

    leaf: Leaf
    start: int
    stop: int


class Tree:
    """An entity key's events, to look at. Good for as long as its cells are.

    Args:
        spec: what the cells were made for.
        key: the entity key.
        cells: the group's.
        data: the value of the key's root cell, if there is one.
    """

    def __init__(self, spec: StateSpec, key: bytes, cells: Cells, data: bytes | None) -> None:
        self.spec = spec
        self.key = key
        self._cells = cells
        self.header, root = (Header(), Leaf.of(spec, ())) if data is None else decode_root(data, key)
        self._nodes: dict[int, Node] = {ROOT: root}
        self._positions: dict[int, int] = {}
        self._runs: dict[tuple[int, int, int, Selection], Run] = {}

    @property
    def root(self) -> Node:
        """The root node."""
        return self._nodes[ROOT]

    def load(self, cell: int) -> Node:
        """A node by its cell.

        Raises:
            CorruptStoreError: it is not there or cannot be read.
        """
        node = self._nodes.get(cell)
        if node is None:
            node = self.accept(cell, self._cells.get(cell_key(self.key, cell)))
        return node

    def accept(self, cell: int, data: bytes | None) -> Node:
        """The node of a cell whose value is `data`."""
        self._got(cell, data)
        node = self._nodes[cell] = decode_node(data, cell_key(self.key, cell))
        return node

    def load_all(self, cells: Sequence[int]) -> None:
        """Load several nodes at once."""
        missing = [cell for cell in cells if cell not in self._nodes]
        keys = [cell_key(self.key, cell) for cell in missing]
        for cell, data in zip(missing, self._cells.get_many(keys), strict=True):
            self.accept(cell, data)

    def _got(self, cell: int, data: bytes | None) -> None:
        """Called with every cell that is read."""

    def position(self, time: int) -> int:
        """How many events are before a time: the position of the first one at or after it."""
        before = self._positions.get(time)
        if before is None:
            before = self._positions[time] = self._position(time)
        return before

    def _position(self, time: int) -> int:
        node, before = self.root, 0
        while isinstance(node, Inner):
            child = bisect.bisect_left(node.last_view(), time)
            if child:
                before += node.offsets()[child - 1]
            if child == len(node) or node.time_view()[child] >= time:
                return before
            node = self.load(node.children()[child])
        return before + bisect.bisect_left(node.time_view(), time)

    def time_at(self, position: int) -> int:
        """The event time at a position."""
        node = self.root
        while isinstance(node, Inner):
            ends = node.offsets()
            child = bisect.bisect_right(ends, position)
            if ends[child] == position + 1:
                return node.last_view()[child]
            position -= ends[child - 1] if child else 0
            node = self.load(node.children()[child])
        return node.time_view()[position]

    def pieces(self, start: int, stop: int) -> list[Piece]:
        """A run as few pieces, oldest first."""
        pieces: list[Piece] = []
        if start < stop:
            self._cover(self.root, start, stop, pieces)
        return pieces

    def _cover(self, node: Node, start: int, stop: int, pieces: list[Piece]) -> None:
        if isinstance(node, Leaf):
            pieces.append(Piece(node, start, stop))
            return
        ends = node.offsets()
        first, last = bisect.bisect_right(ends, start), bisect.bisect_left(ends, stop)
        begin = ends[first - 1] if first else 0
        if first == last:
            if start == begin and stop == ends[first]:
                pieces.append(Piece(node, first, first + 1))
            else:
                self._cover(self.load(node.children()[first]), start - begin, stop - begin, pieces)
            return
        if start > begin:
            self._cover(self.load(node.children()[first]), start - begin, ends[first] - begin, pieces)
            first += 1
        whole = last + 1 if stop == ends[last] else last
        if first < whole:
            pieces.append(Piece(node, first, whole))
        if whole == last:
            self._cover(self.load(node.children()[last]), 0, stop - ends[last - 1], pieces)

    def state(self, place: int, pieces: Sequence[Piece]) -> Any:
        """The state of a tile over a run."""
        spec = self.spec
        tile = spec.tiles[place]
        states = [
            node.state(spec, place, start, stop)
            if isinstance(node, Inner)
            else tile.partial.of(*self._run(node, tile, start, stop))
            for node, start, stop in pieces
        ]
        return states[0] if len(states) == 1 else tile.partial.merge(states)

    def _run(self, leaf: Leaf, tile: Tile, start: int, stop: int) -> Run:
        key = (id(leaf), start, stop, tile.selection)
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = leaf.run(self.spec, tile, start, stop)
        return run

    def leaves(self, pieces: Sequence[Piece], *, counted: int | None, newest_first: bool = False) -> Iterator[Events]:
        """The leaves of a run, in order; children in which a count is 0 are left out.

        Args:
            pieces: the run.
            counted: the place of the count's tile; None reads all leaves, many at once.
            newest_first: the order of the leaves.
        """
        for node, start, stop in reversed(pieces) if newest_first else pieces:
            if isinstance(node, Leaf):
                yield Events(node, start, stop)
                continue
            children = node.children()[start:stop]
            if counted is None:
                self.load_all(children)
            else:
                counts = packed.view("q", node.tiles[counted])[start:stop]
                children = [child for child, count in zip(children, counts, strict=True) if count]
            for cell in reversed(children) if newest_first else children:
                child = self.load(cell)
                yield from self.leaves([Piece(child, 0, len(child))], counted=counted, newest_first=newest_first)

    def nth_newest(self, stop: int, number: int, filter_: int) -> int | None:
        """The position of the n-th newest event before `stop` that matches a filter; None when there are fewer."""
        place = self.spec.places[Tile(Count(), filter=filter_)]
        for node, first, last in reversed(self.pieces(0, stop)):
            at: Node = node
            while isinstance(at, Inner):
                counts, sizes = packed.view("q", at.tiles[place]), at.counts()
                while last > first and counts[last - 1] < number:
                    last -= 1
                    number -= counts[last]
                    stop -= sizes[last]
                if last == first:
                    break
                at = self.load(at.children()[last - 1])
                first, last = 0, len(at)
            else:
                mask = at.masks[filter_][first:last]
                matching = mask.count(1)
                if matching >= number:
                    places = [place for place, matches in enumerate(mask) if matches]
                    return stop - len(mask) + places[-number]
                number -= matching
                stop -= len(mask)
        return None


class Editor(Tree):
    """An entity key's events, to change. Nothing is written before `write`."""

    def __init__(self, spec: StateSpec, key: bytes, cells: WritableCells) -> None:
        self._sizes: dict[int, int] = {}
        self._writable = cells
        data = cells.get(cell_key(key, ROOT))
        super().__init__(spec, key, cells, data)
        self.root_size = 0 if data is None else len(key) + 4 + len(data)
        """Bytes of the root cell as it is stored, its key included."""
        self._touched: set[int] = set()
        """Nodes that were edited, and those above them."""
        self._changed: dict[int, Node | None] = {}
        """What to write besides the root; None deletes."""

    def _got(self, cell: int, data: bytes | None) -> None:
        self._sizes[cell] = len(data or b"")

    def read(self, cell: int) -> bytes | None:
        """The value of a cell that is not a node."""
        data = self._writable.get(cell_key(self.key, cell))
        self._got(cell, data)
        return data

    def insert(self, event: Event) -> None:
        """Add an event after those at the same place in PIT-3 order."""
        key = order_key(event)
        cell = ROOT
        node = self.root
        while isinstance(node, Inner):
            self._touched.add(cell)
            cell = node.children()[max(node.keys().first_after(key) - 1, 0)]
            node = self.load(cell)
        place = node.keys().first_after(key)
        self._edit(cell, node.replaced(self.spec, place, place, Leaf.of(self.spec, (event,))))

    def remove(self, key: OrderKey, event: Any) -> bool:
        """Remove the event with an id at a place in PIT-3 order. Whether there was one."""
        return self._remove(ROOT, key, event)

    def _remove(self, cell: int, key: OrderKey, event: Any) -> bool:
        node = self.load(cell)
        keys = node.keys()
        place = keys.first_from(key)
        if isinstance(node, Leaf):
            ids = packed.unpack(self.spec.id_code, node.ids)
            while place < len(keys) and keys[place] == key:
                if ids[place] == event:
                    self._edit(cell, node.replaced(self.spec, place, place + 1, Leaf.of(self.spec, ())))
                    return True
                place += 1
            return False
        # events at `key` may begin at the end of the child before the first one that begins there
        for child in range(max(place - 1, 0), max(keys.first_after(key), 1)):
            if self._remove(node.children()[child], key, event):
                self._touched.add(cell)
                return True
        return False

    def _edit(self, cell: int, leaf: Leaf) -> None:
        self._nodes[cell] = leaf
        self._touched.add(cell)

    # -- eviction

    def evict(self, before: int, leaves: int) -> None:
        """Drop the oldest events while they are before a time: of a tree at most so many whole leaves.

        The newest `StateSpec.rows` of them stay.
        """
        root = self.root
        if isinstance(root, Leaf):
            surplus = bisect.bisect_left(root.time_view(), before) - self.spec.rows
            if surplus > 0:
                self._evicted(root.keys()[surplus - 1])
                self._nodes[ROOT] = root.part(self.spec, surplus, len(root))
            return
        for _ in range(leaves):
            path = [ROOT]
            node = self.root
            while isinstance(node, Inner):
                if node.time_view()[0] >= before:
                    return
                path.append(node.children()[0])
                node = self.load(path[-1])
            last = node.keys()[-1]
            if last[0] >= before or (self.spec.rows and self._position(before) - self.spec.rows < len(node)):
                return
            self._evicted(last)
            self._edit(path[-1], Leaf.of(self.spec, ()))
            self._touched.update(path)
            self.settle()
            if isinstance(self.root, Leaf):
                return

    def _evicted(self, key: OrderKey) -> None:
        self.header = self.header._replace(evicted=max(key, self.header.evicted or key))

    # -- back into shape

    def settle(self) -> None:
        """Bring the nodes above edited leaves up to date, and every node's size within its limits."""
        if not self._touched:
            return
        root: Node = self.root
        if isinstance(root, Inner):
            root = self._with_settled_children(root, last=True)
        while isinstance(root, Inner) and len(root) < 2:
            if not len(root):
                root = Leaf.of(self.spec, ())
                break
            only = root.children()[0]
            root = self.load(only)
            self._changed[only] = None
        while len(root) > self._limit(root):
            children = [self._store(self._new_cell(), part) for part in self._parts(root, last=True)]
            root = Inner.of(self.spec, children)
        self._nodes[ROOT] = root
        self._touched = set()

    def _settled(self, cell: int, last: bool) -> list[Child]:
        """What takes the place of an edited child in its parent; `last` when no events come after it."""
        node = self._nodes[cell]
        if isinstance(node, Inner):
            node = self._with_settled_children(node, last)
        return self._placed(cell, node, last)

    def _placed(self, cell: int, node: Node, last: bool) -> list[Child]:
        if not len(node):
            self._changed[cell] = None
            self._nodes.pop(cell, None)
            return []
        parts = self._parts(node, last)
        return [self._store(self._new_cell() if place else cell, part) for place, part in enumerate(parts)]

    def _store(self, cell: int, node: Node) -> Child:
        self._nodes[cell] = self._changed[cell] = node
        return child_of(self.spec, cell, node)

    def _with_settled_children(self, node: Inner, last: bool) -> Inner:
        edited = [(place, cell) for place, cell in enumerate(node.children()) if cell in self._touched]
        end = len(node) - 1
        for place, cell in reversed(edited):
            node = node.replaced(self.spec, place, place + 1, self._settled(cell, last and place == end))
        for _, cell in edited:
            node = self._joined(node, cell, last)
        return node

    def _joined(self, node: Inner, cell: int, last: bool) -> Inner:
        """The node with a child that became small joined to its neighbour."""
        children = list(node.children())
        if cell not in children or len(children) < 2:
            return node
        small = self.load(cell)
        if len(small) * 4 >= self._limit(small):
            return node
        left = max(children.index(cell) - 1, 0)
        one, other = self.load(children[left]), self.load(children[left + 1])
        joined: Node
        if isinstance(one, Inner):
            assert isinstance(other, Inner), "siblings are of one height"
            joined = one.joined(self.spec, other)
        else:
            assert isinstance(other, Leaf), "siblings are of one height"
            joined = one.replaced(self.spec, len(one), len(one), other)
        self._changed[children[left + 1]] = None
        self._nodes.pop(children[left + 1], None)
        placed = self._placed(children[left], joined, last and left + 2 == len(children))
        return node.replaced(self.spec, left, left + 2, placed)

    def _limit(self, node: Node) -> int:
        return self.spec.leaf_size if isinstance(node, Leaf) else self.spec.fan_out

    def _parts(self, node: Node, last: bool) -> list[Node]:
        """A node cut into such that are within limits: the last one of a tree unevenly, because most events are new."""
        count, limit = len(node), self._limit(node)
        if count <= limit:
            return [node]
        step = limit * 3 // 4
        if last:
            ends = [*range(step, count - limit // 4, step), count]
        else:
            parts = -(-count // step)
            ends = [count * part // parts for part in range(1, parts + 1)]
        return [node.part(self.spec, start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _new_cell(self) -> int:
        cell = self.header.next_cell
        self.header = self.header._replace(next_cell=cell + 1)
        return cell

    def write(self, others: dict[int, bytes | None]) -> tuple[int, int]:
        """Write what changed, and cells that are no nodes (None deletes). Returns by how much cells and bytes grew."""
        values = {cell: None if node is None else encode_node(node) for cell, node in self._changed.items()} | others
        cells, size = self.header.cells, self.header.size
        for cell, value in values.items():
            key = cell_key(self.key, cell)
            known = cell in self._sizes
            if value is None:
                self._writable.delete(key)
            else:
                self._writable.put(key, value)
            cells += (value is not None) - known
            size += (0 if value is None else len(key) + len(value)) - (len(key) + self._sizes[cell] if known else 0)
        grown_cells, grown = cells - self.header.cells, size - self.header.size
        self.header = self.header._replace(cells=cells, size=size)
        key = cell_key(self.key, ROOT)
        data = encode_root(self.header, self.root)
        self._writable.put(key, data)
        root_size = len(key) + len(data)
        grown_cells += not self.root_size
        grown += root_size - self.root_size
        self.root_size = root_size
        return grown_cells, grown
