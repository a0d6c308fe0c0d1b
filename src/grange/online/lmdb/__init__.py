"""The `lmdb` online store: embedded, on local disk, shared by the processes of one machine."""
