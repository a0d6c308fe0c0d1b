"""What is known of the `reference` engine before it is loaded."""

from __future__ import annotations

from grange.ports.engine import Engine
from grange.ports.plugins import Descriptor


def _make() -> Engine:
    from grange.engines.reference.backend import ReferenceEngine

    return ReferenceEngine()


DESCRIPTOR = Descriptor(
    name="reference",
    factory=_make,
    summary="plain Python, slow and obvious: what every other engine is compared with",
)
