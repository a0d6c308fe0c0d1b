"""The Polars engine: the default one. See README.md beside this file."""
