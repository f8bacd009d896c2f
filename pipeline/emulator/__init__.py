"""Google on 127.0.0.1: Gemini's and Vertex AI's batch jobs and Cloud Storage, with a clock, a cash register
and bad luck.

A request comes in at `app`, which knows the paths. `calls` says whose key it carries and which fault meets
it. Uploads go to `files` (over HTTP: `upload_calls`), jobs to `batches` (`batch_calls`), as far as the `quota`
lets them. When the virtual `clock` says that a job begins, its rows are read (`reading`): each of the `lines`
as strictly as the service reads it, against `fields` and `models`; each becomes an answer in `answers`, with
its `grounding` and the `faults` ordered for it. `results` lays the answers out as the bytes of a file that
exists only while it is read (`downloads`), and `pictures` are drawn at that moment. `vertex` does the same
between two objects of Cloud Storage (`vertex_calls`, `vertex_lines`); `online` and `imagen` answer at once, and
`model_calls` say which models there are.
What it all cost is in the `ledger`, what happened in the `events`, and who is told of it in `webhooks`
(`webhook_calls`, `signatures`). A `scenario` is a night in a file; `disk` keeps everything across restarts.
Read them in this order. Cloud Storage is `gcs` and the modules named after it.

It is written from the description of the service and imports nothing else of this package, so that a
mistake on the client's side does not agree with itself. This module is what tests and other programs hold
in their hands.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

START = "2026-11-21T00:00:00Z"


@dataclass(slots=True)
class Service:
    """A running emulator, here or in another process, and its controls. Closing it stops one of ours."""

    url: str
    _stop: Callable[[], None] = field(default=lambda: None, repr=False)

    def clock(self) -> datetime:
        """The virtual time."""
        return datetime.fromisoformat(self._ask("GET", "/_clock")["now"])

    def advance(self, seconds: float) -> datetime:
        """Let this much virtual time pass, now."""
        return datetime.fromisoformat(self._ask("POST", "/_clock", {"advance": seconds})["now"])

    def at_least(self, moment: datetime) -> datetime:
        """Make it this time unless it is later already."""
        return datetime.fromisoformat(self._ask("POST", "/_clock", {"at_least": moment.isoformat()})["now"])

    def run_at(self, speed: float) -> None:
        """So many virtual seconds a second; 0 stands still."""
        self._ask("POST", "/_clock", {"speed": speed})

    def fault(self, kind: str, **order: Any) -> None:
        """Order a misfortune; `docs/emulator.md` has the kinds, what they can be told, and whom they hit."""
        self._ask("POST", "/_faults", {"kind": kind} | order)

    def clear_faults(self) -> None:
        self._ask("DELETE", "/_faults")

    def ledger(self, *, rows: bool = True) -> dict[str, Any]:
        """What was billed: `jobs`, each with its rows, and `total`; money in whole nanodollars."""
        whole: dict[str, Any] = self._ask("GET", f"/_ledger?rows={int(rows)}")
        return whole

    def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        """Every request and every fault that fired, in order."""
        events: list[dict[str, Any]] = self._ask("GET", f"/_events?after={after}")["events"]
        return events

    def environment(self) -> dict[str, str]:
        """The variables that make Google's SDKs, and this project, use the emulator."""
        return {
            "GEMINI_API_KEY": "emulator",
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "GOOGLE_VERTEX_BASE_URL": self.url,
            "GOOGLE_CLOUD_PROJECT": "emulator",
            "GOOGLE_CLOUD_LOCATION": "global",
            "STORAGE_EMULATOR_HOST": self.url,
            "NIGHTSHOOT_CLOCK": self.url,
        }

    def stop(self) -> None:
        """Cut every connection and end. Harmless when said twice."""
        self._stop()

    def __enter__(self) -> "Service":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, verb: str, path: str, body: Any = None) -> Any:
        # Not urllib: a proxy in the environment has no business between a test and its own machine.
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(verb, path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"]["message"])
        return answer


def launch(*arguments: str) -> Service:
    """Serve an emulator in a process of its own, with these options of the command, until it is stopped.

    OSError when it ends before it has said where it is.
    """
    house = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [house, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.emulator", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    said: dict[str, str] = {}
    for line in process.stdout:
        name, _, value = line.removeprefix("export ").strip().partition("=")
        said[name] = value
        if name == "NIGHTSHOOT_CLOCK":
            break

    def stop() -> None:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    if "NIGHTSHOOT_CLOCK" not in said:
        stop()
        raise OSError(f"its process ended with {process.returncode}")
    return Service(said["NIGHTSHOOT_CLOCK"], stop)


def start(
    *,
    port: int = 0,
    start: str | None = None,
    speed: float | None = None,
    data: str | Path | None = None,
    scenario: str | Path | None = None,
    **settings: Any,
) -> Service:
    """Serve an emulator in a thread of this process until it is stopped.

    `settings` are those of `settings.Settings`: seed, queue, run, picture_bytes and the rest. They go before
    those of the scenario. All state is kept in `data`, and taken up from there; without it, uploads are
    spooled to a temporary folder that goes when the emulator does. Several may run at once.
    """
    # Imported here: whoever only talks to an emulator in another process needs no server.
    from pipeline.emulator.app import build
    from pipeline.emulator.clock import VirtualClock, parse
    from pipeline.emulator.scenario import read
    from pipeline.emulator.server import bind, server
    from pipeline.emulator.settings import Settings

    folder = tempfile.TemporaryDirectory(prefix="emulator-") if data is None else None
    place = Path(folder.name if folder is not None else str(data))
    place.mkdir(parents=True, exist_ok=True)
    night = read(scenario) if scenario is not None else None
    told = dict(night.settings) if night else {}
    begins = start or (night.start if night else None) or START
    rate = speed if speed is not None else (night.speed if night else None) or 0.0
    clock = VirtualClock(parse(begins), speed=rate)
    chosen = Settings(data=place, keep=data is not None, **{**told, **settings})
    running = server(build(chosen, clock, night))
    listener = bind(port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(
        target=running.run, kwargs={"sockets": [listener]}, name="emulator", daemon=True
    )
    thread.start()

    def stop() -> None:
        running.stop()
        thread.join()
        listener.close()
        if folder is not None:
            folder.cleanup()

    return Service(url, stop)
