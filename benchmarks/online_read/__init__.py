"""Fifty features of five groups for some entities, in process, through the public API."""
