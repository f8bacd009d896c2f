"""Time, passed in: the machine's, or the clock of an emulator that lives a night in a second."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Everything that asks for the time or waits does so through one of these."""

    def now(self) -> datetime:
        """The time in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when this many seconds of this clock have passed."""
        ...


class MachineClock:
    """The computer's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
