"""Data types, schemas, durations, times and names: the small words everything else is written in."""

from grange.types.dtypes import DataType, as_dtype, parse_dtype
from grange.types.durations import format_duration, parse_duration
from grange.types.schema import Column, Schema

__all__ = ["Column", "DataType", "Schema", "as_dtype", "format_duration", "parse_dtype", "parse_duration"]
