"""Values as JSON has them."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

from grange.types.time import isoformat, to_utc


def plain(value: Any) -> Any:
    """A value for JSON: times as ISO 8601 text, NaN and infinities as text, bytes as hexadecimal text."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dt.datetime():
            return isoformat(to_utc(value))
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return str(value)
        case Decimal():
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value
