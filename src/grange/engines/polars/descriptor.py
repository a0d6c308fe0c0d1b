"""What is known of the `polars` engine before it is loaded."""

from __future__ import annotations

from grange.ports.engine import Engine
from grange.ports.plugins import Descriptor


def _make() -> Engine:
    from grange.engines.polars.backend import PolarsEngine

    return PolarsEngine()


DESCRIPTOR = Descriptor(
    name="polars",
    factory=_make,
    summary="in this process, in memory, on all cores: the default, and the fastest",
)
