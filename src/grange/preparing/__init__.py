"""Preparing features for a model: what transformations learn from training data, applied to tables and to rows."""

from grange.preparing.prepared import Prepared, RowPreparation, fit

__all__ = ["Prepared", "RowPreparation", "fit"]
