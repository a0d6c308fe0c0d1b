"""The `redis` online store: Redis or Valkey, shared by all machines that reach it."""
