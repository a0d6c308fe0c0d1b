"""One group of ten features from a Parquet file into the online store."""
