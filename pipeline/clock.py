"""Time, passed in: the machine's, or the clock of an emulator that lives a night in a second."""

import json
import os
import re
import threading
import time
import weakref
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import Protocol
from urllib.parse import urlsplit

from pipeline.errors import BadInput, Unavailable

LOOPBACK = ("127.0.0.1", "localhost", "::1")


_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|s)[a-z]*", re.IGNORECASE)
_UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


def duration(text: str) -> timedelta:
    """How long '90 min', '36h' or '1 h 30 min' is. Raises ValueError for what is no length of time."""
    spans = _SPAN.findall(text)
    if not spans or _SPAN.sub("", text).strip():
        raise ValueError(f"{text!r} is no length of time")
    return timedelta(seconds=sum(float(count) * _UNITS[unit.lower()] for count, unit in spans))


class Clock(Protocol):
    """Everything that asks for the time or waits does so through one of these."""

    def now(self) -> datetime:
        """The time in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when this many seconds of this clock have passed."""
        ...

    def sleep_until(self, moment: datetime) -> None:
        """Return when it is this time, or at once where it is later."""
        ...


class MachineClock:
    """The computer's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def sleep_until(self, moment: datetime) -> None:
        time.sleep(max(0.0, (moment - self.now()).total_seconds()))


class _Open:
    """A connection, closed with whoever has this: a thread that ends, or a clock that nobody asks any more."""

    def __init__(self, host: str, port: int) -> None:
        self.connection = HTTPConnection(host, port, timeout=10)
        # Not __del__: in a circle of garbage the socket may go first, and complain that nobody closed it.
        weakref.finalize(self, self.connection.close)


class EmulatorClock:
    """The virtual time of an emulator, so that real processes live a night in a second.

    Waiting moves that time on, for everybody who follows it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in LOOPBACK:
            raise BadInput(
                f"NIGHTSHOOT_CLOCK={url} is not on this machine",
                hint="only an emulator on 127.0.0.1 may tell the time; unset NIGHTSHOOT_CLOCK",
            )
        self._host, self._port = parts.hostname, parts.port or 80
        self._open = threading.local()  # a connection of each thread's: a night asks thousands of times

    def now(self) -> datetime:
        return datetime.fromisoformat(self._ask("GET", None)["now"])

    def sleep(self, seconds: float) -> None:
        self.sleep_until(self.now() + timedelta(seconds=seconds))

    def sleep_until(self, moment: datetime) -> None:
        self._ask("POST", {"at_least": moment.isoformat()})

    def _ask(self, method: str, body: dict[str, str] | None) -> dict[str, str]:
        try:
            try:
                return self._exchange(method, body)
            except (
                OSError,
                HTTPException,
            ):  # a connection that was idle for long is closed; asking twice is the same
                return self._exchange(method, body)
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(
                f"this shell exports the address of an emulator, {self._host}:{self._port}, "
                f"which does not answer: {error}",
                hint=f"start it again, or go back to Google:  unset {' '.join(EXPORTED)}",
            ) from error

    def _exchange(self, method: str, body: dict[str, str] | None) -> dict[str, str]:
        kept: _Open | None = getattr(self._open, "kept", None)
        if kept is None:
            kept = self._open.kept = _Open(self._host, self._port)
        connection = kept.connection
        try:
            connection.request(method, "/_clock", json.dumps(body) if body else None)
            answer: dict[str, str] = json.loads(connection.getresponse().read())
        except BaseException:
            connection.close()  # and is opened again by the next request
            raise
        return answer


EXPORTED = (  # what a shell was told to export when the emulator began
    "GEMINI_API_KEY",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "STORAGE_EMULATOR_HOST",
    "NIGHTSHOOT_CLOCK",
)


def clock_for(service: str) -> Clock:
    """The clock for a run that talks to this service: the machine's, unless NIGHTSHOOT_CLOCK names its emulator."""
    url = os.environ.get("NIGHTSHOOT_CLOCK")
    if not url:
        return MachineClock()
    if urlsplit(url).netloc != urlsplit(service).netloc:
        raise BadInput(
            f"NIGHTSHOOT_CLOCK={url} is another service than {service}",
            hint="an emulator's clock is good for that emulator only; unset NIGHTSHOOT_CLOCK",
        )
    return EmulatorClock(url)
