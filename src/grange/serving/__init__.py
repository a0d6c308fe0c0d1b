"""Serving: from a request to its feature vectors, and from feature rows to what an online store keeps.

`keys` and `values` say how keys and values are stored; `load` writes tables that way; `reader` reads them back.
"""
