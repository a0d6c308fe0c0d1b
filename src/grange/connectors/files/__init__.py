"""The `files` connector: sources on a local or mounted disk, and rows that the process holds."""
