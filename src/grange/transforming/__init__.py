"""Running what users wrote: transforms of a feature group's rows (`groups`), functions on columns (`columns`)."""

from grange.transforming.groups import query_sql, run_python, run_sql, run_transform

__all__ = ["query_sql", "run_python", "run_sql", "run_transform"]
