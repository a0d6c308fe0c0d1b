"""Statistics of columns: how many, how many missing, how they spread; merged, compared, and stored as JSON.

    profile     statistics of rows or of batches of rows, in one pass        Profile.merge puts two together
    compare     what changed from one profile to another
    similarity  how alike the values of two columns are

Nothing is sampled. What is at hand is described exactly; what is merged stays exact but for percentiles, distinct and
top values, which come from summaries and say how far off they may be.
"""

from grange.quality.statistics.column import ColumnStatistics, ElementStatistics, ErrorBounds, Histogram
from grange.quality.statistics.comparing import (
    Change,
    ColumnChange,
    Comparison,
    compare,
    kolmogorov_smirnov,
    population_stability,
    quantile_shift,
)
from grange.quality.statistics.correlations import Correlations
from grange.quality.statistics.overlap import similarity
from grange.quality.statistics.profiling import Profile, profile, statistics

__all__ = [
    "Change", "ColumnChange", "ColumnStatistics", "Comparison", "Correlations", "ElementStatistics", "ErrorBounds",
    "Histogram", "Profile", "compare", "kolmogorov_smirnov", "population_stability", "profile", "quantile_shift",
    "similarity", "statistics",
]  # fmt: skip
