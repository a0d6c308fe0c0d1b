"""The arithmetic that the project exists for, over NumPy and Arrow arrays: no frames, no files, no clock."""
