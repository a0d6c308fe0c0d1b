"""Windows offline: exact features as of any times, over whole histories (WIN-1 to WIN-6, LAG-1).

    index = KeyIndex.of({"user_id": spine_ids})
    spine = Spine.of(index, Instants.of(spine_times))
    events = Events.of(index.lookup({"user_id": ids}), event_time, created_time=created, sequence=sequence)
    columns = evaluate(spine, events, aggregates, {"amount": amounts}, {}, ttl=None, exact_matches=True, as_known=False)

Every window is a contiguous range of one entity key's events in PIT-3 order. So there are two halves: finding the
ranges (`events` orders rows, `reach` says what bounds a window, `timeline` finds it, `track` adds what was known
when), and functions of ranges of an array, which know nothing of keys and times (`sums`, `moments`, `extremes`,
`wavelet`, `frequent`, `decay`, `sketches`; `functions` says which answers what). `evaluate` goes through the entity
keys part by part, and `answers` puts columns together.
"""

from grange.kernels.windows.evaluation import evaluate
from grange.kernels.windows.events import Events

__all__ = ["Events", "evaluate"]
