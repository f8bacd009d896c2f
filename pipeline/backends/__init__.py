"""Who makes the pictures. Which one, with which key, at which address: read from the environment here."""

import os

from pipeline.backends.base import Backend
from pipeline.clock import Clock
from pipeline.errors import BadInput, Denied

GOOGLE = "https://generativelanguage.googleapis.com"
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")


def service_in_environment() -> str:
    """The address that would be talked to now."""
    return (os.environ.get("GOOGLE_GEMINI_BASE_URL") or GOOGLE).rstrip("/")


def open_backend(kind: str, *, service: str, clock: Clock) -> Backend:
    """A backend for a run that talks to this service. Needs the key in the environment; sends nothing yet."""
    if kind != "developer":
        raise BadInput(f"no backend {kind!r}", hint="this version knows: developer")
    here = service_in_environment()
    if here != service:
        raise BadInput(
            f"this run talks to {service}, and the environment names {here}",
            hint="unset GOOGLE_GEMINI_BASE_URL, or set it to the run's, before you go on",
        )
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    if key is None:
        raise Denied(
            "no API key in the environment",
            hint="export GEMINI_API_KEY=...; get one at https://aistudio.google.com/apikey",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Denied(
            "the API key holds characters that no key has", hint="copy it again, without spaces or quotes"
        )
    from pipeline.backends.developer import Developer

    return Developer(key=key, service=service, clock=clock)
