"""What everyone computes: nulls, mean, std, min, quartiles and max of every column, and a histogram of the numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

BINS = 20


def answer(rows: int, numbers: Iterable[tuple[int, Sequence[float], Sequence[int]]]) -> dict[str, Any]:
    """To compare contenders by: of each column of numbers the nulls, some statistics and the histogram's counts."""
    checksum, present = 0.0, 0
    for place, (nulls, statistics, counts) in enumerate(numbers, start=1):
        present += rows - nulls
        checksum += place * (sum(statistics) + sum(bin_ * count for bin_, count in enumerate(counts, start=1)))
    return {"rows": rows, "present": present, "checksum": float(f"{checksum:.10g}")}
