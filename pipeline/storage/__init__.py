"""Where runs live: a folder of this machine, or a prefix of a bucket. Read base first."""

import re

from pipeline.errors import BadInput
from pipeline.storage.base import AlreadyThere, Bucket, Inspected, NotFound, Storage, Stored, Versioned

__all__ = [
    "AlreadyThere",
    "Bucket",
    "Inspected",
    "NotFound",
    "Storage",
    "Stored",
    "Versioned",
    "inspect_bucket",
    "open_bucket",
    "open_storage",
]


def open_storage(url: str) -> Storage:
    """The place a person names by a path or by gs://bucket/prefix. Nothing is made, read or asked for yet."""
    if url.startswith("gs://"):
        from pipeline.storage.gcs import GcsStorage  # half a second that local runs need not pay

        return GcsStorage(url)
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://", url):
        raise BadInput(
            f"{url}: {scheme[1]}:// is no place for runs", hint="give a folder, or gs://bucket/folder"
        )
    if not url:
        raise BadInput("no folder given", hint="give a folder, or gs://bucket/folder")
    from pipeline.storage.local import LocalStorage

    return LocalStorage(url)


def open_bucket(url: str) -> Bucket:
    """A bucket of somebody's, gs://bucket. Nothing is asked for yet."""
    from pipeline.storage.gcs import GcsStorage

    return GcsStorage(url)


def inspect_bucket(url: str) -> Inspected:
    """The bucket of gs://bucket/folder, to be asked about itself. A person waits: trouble is said soon."""
    from pipeline.storage.gcs import GcsStorage

    return GcsStorage(url, patience=10)
