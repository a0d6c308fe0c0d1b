"""Exports: copies of feature groups and feature views in files, on disk or in an object store.

create        the verb: what is written where, as a job with a record
destinations  where it goes: a path or a URL, checked and without secrets
files         Parquet, CSV and Arrow files, written batch by batch
places        how files appear: on disk, in an object store
records       what is known of exports, and of those whose process is gone
"""
