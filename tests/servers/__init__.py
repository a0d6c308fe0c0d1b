"""Real servers for tests: one module each, with `missing()` that says how to install it, and context managers."""
