"""Compat: APIs of other systems over these parts, thin."""
