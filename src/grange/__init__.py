"""Grange."""
