"""What rows are like: expectations on their values, and statistics of their columns."""

from grange.quality.expectations import Check, Outcome, evaluate
from grange.quality.statistics import ColumnStatistics, statistics

__all__ = ["Check", "ColumnStatistics", "Outcome", "evaluate", "statistics"]
