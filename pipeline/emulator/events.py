"""What happened, in order: every request to the service and every fault that fired."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

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
        self._log: TextIO | None = None
        self.faults = 0  # that have fired

    def keep_in(self, path: Path) -> None:
        """Go on from what an earlier process wrote there, and write there from now on."""
        if path.exists():
            self._events = read_events(path)[-KEPT:]
            self._number = self._events[-1]["number"] if self._events else 0
        self._log = path.open("a", encoding="utf-8")

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def record(self, what: str, /, **facts: Any) -> None:
        self._number += 1
        event = {"number": self._number, "at": rfc3339(self._clock.now()), "what": what}
        event |= {name: value for name, value in facts.items() if value is not None}
        self._events.append(event)
        self.faults += what == "fault"
        if self._log is not None:
            self._log.write(json.dumps(event) + "\n")
            self._log.flush()
        if len(self._events) > KEPT:
            del self._events[: KEPT // 10]

    def after(self, number: int) -> Iterator[dict[str, Any]]:
        return (event for event in self._events if event["number"] > number)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every whole line; the last one may have been cut by the end of a process."""
    with path.open("rb") as file:
        return [json.loads(line) for line in file if line.endswith(b"\n")]
