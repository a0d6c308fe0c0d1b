"""What can be said of rows: expectations that hold or not, and statistics."""
