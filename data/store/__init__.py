"""The artifact store: `open_store` and what users of a store need. Published versions are in `publication`."""

from __future__ import annotations

from pathlib import Path

from data.files import ArtifactError, explain_os_errors, no_space
from data.store.local import MANIFEST, USERS, Draft, Store, folder_size, is_alive, store_address

__all__ = [
    "MANIFEST",
    "USERS",
    "ArtifactError",
    "Draft",
    "Store",
    "explain_os_errors",
    "folder_size",
    "is_alive",
    "no_space",
    "open_store",
    "store_address",
]


def open_store(address: str | Path) -> Store:
    """Return the store at an address: a folder, or anything that fsspec knows, such as "s3://bucket/prefix".

    Nothing is connected to before the store is used.
    """
    address = store_address(address)
    if "://" not in address:
        return Store(Path(address))
    # Only who uses such a store waits for its packages.
    from data.store.remote import RemoteStore

    return RemoteStore(address)
