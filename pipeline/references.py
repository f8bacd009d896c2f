"""Pictures shown to the model: found, looked at, and pinned by digest."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """One picture the model is shown, known by what is in it."""

    source: str  # as the manifest names it
    sha256: str  # hex, of the bytes that are sent
    mime: str  # from the bytes, never from the name
    size: int  # bytes
    width: int
    height: int
