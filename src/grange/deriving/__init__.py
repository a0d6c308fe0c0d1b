"""Evaluating derived features: `tables` for many rows, in DuckDB; `rows` for one row, in Python. The same values."""
