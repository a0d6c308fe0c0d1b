"""The `parquet` offline store: versions in folders of Parquet files."""
