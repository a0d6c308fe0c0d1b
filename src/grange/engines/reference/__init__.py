"""The `reference` engine: plain Python, slow and obvious, the oracle of every suite."""
