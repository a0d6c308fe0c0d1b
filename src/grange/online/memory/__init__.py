"""The `memory` online store: dicts of one process, the reference for every other store."""
