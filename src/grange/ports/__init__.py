"""What a backend must be: a Protocol per kind, and how backends are found."""

from grange.ports.connector import Connector
from grange.ports.engine import Engine
from grange.ports.offline import OfflineStore, Snapshot, VersionMeta
from grange.ports.online import OnlineBatch, OnlineStore
from grange.ports.plugins import Descriptor
from grange.ports.registry import Registry

__all__ = [
    "Connector",
    "Descriptor",
    "Engine",
    "OfflineStore",
    "OnlineBatch",
    "OnlineStore",
    "Registry",
    "Snapshot",
    "VersionMeta",
]
