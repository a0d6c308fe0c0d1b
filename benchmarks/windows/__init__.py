"""What everyone computes: six functions of one column over four windows, `(t-w, t]`."""

WINDOWS = {"1h": 3600, "1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
"""In seconds."""
FUNCTIONS = ("sum", "mean", "count", "min", "max", "std")
