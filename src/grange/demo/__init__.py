"""The demo: New York's flights of 2013, from raw rows to a served feature vector."""
