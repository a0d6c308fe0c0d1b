"""One file of training rows divided into train, validation and test, in memory: by time, by key, by row."""

PARTS = {"train": 0.7, "validation": 0.15, "test": 0.15}
