"""The online state of windowed features: per entity key its recent events and tiles over them, in small cells.

    spec      what is kept of events and of runs of them, for given aggregates
    columns   columns as bytes that can be edited in place
    nodes     leaves and inner nodes of the tree, and their cells
    tree      finding runs in a tree, and editing it
    ids       which version of an event counts (WIN-6)
    writing   `apply` and `build`
    reading   `Reader`: the aggregates at any moment, exactly (WIN-2, ONL-1)
    head      what a group's cells are made for, and how much they are

Cells of one entity key: its encoded key and four bytes, big-endian, that count them. Cell 0 is the root: counters, and
either all events (a few hundred at most) or the topmost inner node of a tree. From 2**31 on they are buckets of event
ids. The cell 0xFF holds the head.
"""

from grange.serving.windows.head import Head, cover, describe
from grange.serving.windows.reading import Reader, Reading, read
from grange.serving.windows.spec import Event, StateSpec
from grange.serving.windows.writing import apply, build

__all__ = [
    "Event",
    "Head",
    "Reader",
    "Reading",
    "StateSpec",
    "apply",
    "build",
    "cover",
    "describe",
    "read",
]
