"""Five groups joined point-in-time onto a spine: ttl 30 d, ten features each, files in time order."""
