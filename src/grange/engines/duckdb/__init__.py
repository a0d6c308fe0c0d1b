"""The `duckdb` engine: plans as SQL, rows larger than memory."""
