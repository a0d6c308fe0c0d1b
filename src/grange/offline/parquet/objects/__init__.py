"""The store's files in an object store: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage."""
