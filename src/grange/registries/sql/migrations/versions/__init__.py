"""One file per step, `v<number>_<what>.py`. There is no way down: a backup is the way back."""
