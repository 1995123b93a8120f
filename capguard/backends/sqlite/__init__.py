"""`sqlite://`: the ledger in one file, shared by every process of a host, with no server."""

from capguard.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
