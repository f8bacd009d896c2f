"""What happened, in order: every request to the service and every fault that fired."""

from collections.abc import Iterator
from typing import Any

from pipeline.emulator.clock import VirtualClock, rfc3339

KEPT = 200_000  # a test that polls all night must not eat the machine


class Events:
    """Appended to only. Holds nothing that differs between two identical sequences of calls: no ports, no
    real time.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._events: list[dict[str, Any]] = []
        self._number = 0

    def record(self, what: str, /, **facts: Any) -> None:
        self._number += 1
        event = {"number": self._number, "at": rfc3339(self._clock.now()), "what": what}
        self._events.append(event | {name: value for name, value in facts.items() if value is not None})
        if len(self._events) > KEPT:
            del self._events[: KEPT // 10]

    def after(self, number: int) -> Iterator[dict[str, Any]]:
        return (event for event in self._events if event["number"] > number)
