"""A clock that can be set, pushed forward and sped up, so that a night takes a second."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

SECOND = 1_000_000_000  # everything inside is whole nanoseconds, as the service's own times are


class VirtualClock:
    """The emulator's only time. At speed 0 it stands still until told; at speed 60 a minute takes a second.

    Moments are nanoseconds since 1970.
    """

    def __init__(self, start: int, *, speed: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._base = start
        self._since = time.monotonic_ns()
        self._speed = checked(speed)

    def now(self) -> int:
        """Nanoseconds since 1970, in virtual time."""
        with self._lock:
            return self._now()

    @property
    def speed(self) -> float:
        return self._speed

    def take_up(self, state: tuple[int, float]) -> None:
        """Go on from a moment at a speed."""
        with self._lock:
            self._restart(state[0])
            self._speed = checked(state[1])

    def set(self, moment: int) -> None:
        """Make it this time now; backwards is allowed, for those who ask for it."""
        with self._lock:
            self._restart(moment)

    def at_least(self, moment: int) -> None:
        """Make it this time now unless it is later already, so that several may wait on one clock."""
        with self._lock:
            self._restart(max(moment, self._now()))

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._restart(self._now() + round(seconds * SECOND))

    def run_at(self, speed: float) -> None:
        with self._lock:
            self._restart(self._now())
            self._speed = checked(speed)

    def _now(self) -> int:
        return self._base + int((time.monotonic_ns() - self._since) * self._speed)

    def _restart(self, moment: int) -> None:
        self._base, self._since = moment, time.monotonic_ns()


def checked(speed: float) -> float:
    if not 0 <= speed < 1e9:
        raise ValueError(f"speed {speed} is not between 0 and a thousand million")
    return float(speed)


def parse(text: str) -> int:
    """Nanoseconds since 1970 of an ISO time; one without a zone is UTC."""
    moment = datetime.fromisoformat(text)
    return nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def nanoseconds(moment: datetime) -> int:
    whole = moment.astimezone(UTC)
    return int(whole.replace(microsecond=0).timestamp()) * SECOND + whole.microsecond * 1000


def rfc3339(moment: int) -> str:
    """As the service writes times: UTC with nine digits."""
    seconds, rest = divmod(moment, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def moment(nanoseconds: int) -> datetime:
    """In UTC, to the microsecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=nanoseconds // 1000)


def http_date(moment: int) -> str:
    """As the `Date` header wants it: whole seconds, rounded down."""
    return formatdate(moment // SECOND, usegmt=True)
