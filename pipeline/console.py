"""What people see: tables, progress, questions, errors with hints; or JSON for programs. The one place that prints.

Results go to stdout, everything else to stderr. People read job, run, row, shot, picture, batch, reason and dollars.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import NightshootError
from pipeline.money import dollars
from pipeline.run import Run
from pipeline.tally import Tally, tally, waiting

SCHEMA = 1
"""Of --json. A field may be added; what is there keeps its meaning."""

REASONS = {
    "text_only": "came back with words only",
    "no_image": "came back without a picture",
    "blocked": "blocked for safety",
    "truncated": "cut short by the model's limit",
    "wrong_size": "with the wrong size or shape",
    "unfit": "that fail a check of the job",
    "broken": "with broken bytes",
    "error": "failed at Google",
    "invalid": "refused by Google as malformed",
    "missing": "never answered",
    "expired": "expired in Google's queue",
    "cancelled": "cancelled",
    "no_parent": "without the picture they build on",
    "refused_by_plan": "left out by the plan",
    "not_sent": "not sent",
    "reused": "there already",
}


class Console:
    """One command's voice."""

    def __init__(self, *, as_json: bool = False, verbose: int = 0) -> None:
        self.as_json = as_json
        self.verbose = verbose

    def result(self, lines: Sequence[str], document: Mapping[str, Any]) -> None:
        """What the command was asked for."""
        text = (
            json.dumps({"schema": SCHEMA, **document}, ensure_ascii=False)
            if self.as_json
            else "\n".join(lines)
        )
        try:
            print(text, flush=True)
        except BrokenPipeError:  # `| head`: nobody reads on, which is no error; what is left goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def stream(self, documents: Iterable[Mapping[str, Any] | str]) -> bool:
        """A result of any length: a JSON object or a text a line. False: nobody reads on."""
        try:
            for document in documents:
                print(document if isinstance(document, str) else json.dumps(document, ensure_ascii=False))
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        return True

    def answer(self, question: str, *, default: str) -> str:
        """What the person says to a question, or the default where they say nothing."""
        print(f"{question} [{default}] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip() or default

    def note(self, *lines: str) -> None:
        """Something beside the result."""
        for line in lines:
            print(line, file=sys.stderr, flush=True)

    def detail(self, *lines: str) -> None:
        """Something for who asked with -v."""
        if self.verbose:
            self.note(*lines)

    def error(self, error: NightshootError) -> None:
        self.note(f"error: {error.message}")
        if error.hint:
            self.note(f"hint: {error.hint}")

    def can_ask(self) -> bool:
        return sys.stdin.isatty() and not self.as_json

    def ask(self, question: str) -> bool:
        """Whether the person says yes. No answer is a no."""
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(self, run: Run, answered: Callable[[], int] = lambda: 0) -> Iterator["Progress"]:
        """One line that changes on a terminal; elsewhere a plain line for each change. `answered` is how many requests
        the service says it has done, and still keeps."""
        if not sys.stderr.isatty():
            yield Progress(self, run, answered)
            return
        from rich.console import Console as Terminal
        from rich.live import Live

        with Live(console=Terminal(stderr=True), auto_refresh=False, transient=True) as live:
            yield Progress(self, run, answered, live)


class Progress:
    """How far a run is, said whenever that changes."""

    def __init__(self, console: Console, run: Run, answered: Callable[[], int], live: Any = None) -> None:
        self._console = console
        self._answered = answered
        self._live = live
        self._last = ""
        self._seen = run.state.next
        self.update(run)

    def update(self, run: Run) -> None:
        if self._console.verbose:
            self._details(run)
        now = tally(run)
        line = progress_line(now, self._answered())
        # What the service counts moves all night: a line that changes follows it, a log does not.
        news = line if self._live is not None else progress_line(now)
        if news == self._last:
            return
        self._last = news
        if self._live is not None:
            self._live.update(f"  {line}", refresh=True)
        else:
            self._console.note(f"  {run.clock.now():%H:%M} {line}")

    def _details(self, run: Run) -> None:
        """The batches' own steps since last time."""
        if run.state.next == self._seen:
            return
        self._seen = run.state.next
        stages = [batch.stage.value for batch in run.state.batches]
        counts = ", ".join(f"{stages.count(stage)} {stage}" for stage in dict.fromkeys(stages))
        self._console.note(f"  {run.clock.now():%H:%M:%S} record {run.state.next - 1}; batches: {counts}")


def progress_line(now: Tally, answered: int = 0) -> str:
    """Pictures and dollars, nothing of how it is done."""
    pictures = max(now.files, now.pictures)
    parts = [
        f"{now.sent:,} of {now.requests:,} sent",
        f"{pictures:,} {'picture' if pictures == 1 else 'pictures'} on disk",
    ]
    if answered:
        parts.insert(1, f"{answered:,} made and not here yet")
    if now.again:
        parts.append(f"{now.again:,} to try again")
    parts.append(
        f"paid {dollars(now.spent)}" + (f", reserved {dollars(now.reserved)}" if now.reserved else "")
    )
    return ("EMULATOR: " if is_emulated(now.service) else "") + ", ".join(parts)


def reasons(now: Tally) -> str:
    """Why some have no picture, most frequent first."""
    counts = sorted(((n, o) for o, n in now.outcomes.items() if o not in ("ok", "reused")), reverse=True)
    return ", ".join(f"{count:,} {REASONS.get(outcome, outcome)}" for count, outcome in counts)


def status_lines(now: Tally) -> list[str]:
    """A run at a glance."""
    several = f", {now.files:,} pictures in all" if now.files > now.pictures else ""
    lines = [f"  pictures  {now.pictures:,} of {now.requests:,} on disk{several}{_under_way(now)}"]
    if without := reasons(now):
        lines.append(f"  others    {without}")
    if now.to_review:
        lines.append(
            f"  review    {waiting(now.to_review)}: nightshoot review apply decisions.csv {now.name}"
        )
    lines.append(f"  money     {money_line(now)}")
    if now.surplus:
        lines.append(f"  surplus   {_surplus(now)}")
    if now.held:
        lines.append(f"  held      {now.held:,} sendings of which nobody can tell whether Google has them")
    lines.append(f"  folder    {now.url}")
    return lines


def _surplus(now: Tally) -> str:
    """How many answers there are too many of."""
    answers = "1 answer" if now.surplus == 1 else f"{now.surplus:,} answers"
    return f"{answers} that nobody asked for, kept in quarantine/"


def _under_way(now: Tally) -> str:
    never = now.outcomes.get("no_parent", 0)  # what would come after an answer without a picture
    unasked = now.outcomes.get("refused_by_plan", 0) + never
    waiting = max(0, now.sent - (now.answered - unasked) - now.again)
    unsent = now.requests - now.sent - never
    parts = [
        f"{waiting:,} at {'the EMULATOR' if is_emulated(now.service) else 'Google'}" if waiting else "",
        f"{now.again:,} to try again" if now.again else "",
        f"{unsent:,} to send" if unsent > 0 else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f" ({said})" if said else ""


WORTH_SAYING = 0.005
"""A difference of less than half a percent needs no reasons."""


_COUNTED = "pictures, tokens or searches"
_MORE_OR_LESS = {
    "asked again": ("asked again", "fewer retries than expected"),
    "other tokens than expected": (f"more {_COUNTED} than expected", f"fewer {_COUNTED} than expected"),
}
"""What a cause is called where it made the run dearer, and where cheaper."""


def _causes(now: Tally) -> Iterator[str]:
    """Why it took what it took. What is next to nothing beside the whole is left out."""
    for why, by in now.causes.items():
        if abs(by) >= now.likely * WORTH_SAYING:
            more, less = _MORE_OR_LESS.get(why, (why, why))
            yield f"{signed(by)} {more if by > 0 else less}"


def signed(amount: int) -> str:
    return f"{'+' if amount > 0 else '-'}{dollars(abs(amount))}"


def money_line(now: Tally) -> str:
    """Said, took, and what may still come."""
    line = f"said {dollars(now.likely)}, took {dollars(now.spent)}"
    if now.reserved:
        line += f", at most {dollars(now.reserved)} more is ordered"
    if now.unconfirmed:
        line += f", {dollars(now.unconfirmed)} may have been spent and cannot be read"
    if now.causes and abs(now.spent + now.unconfirmed - now.likely) >= now.likely * WORTH_SAYING:
        line += f" ({', '.join(_causes(now))})" if any(_causes(now)) else ""
    if now.overrun:
        line += f"; {dollars(now.overrun)} of it beyond the worst case"
    if now.cap is not None:
        line += f"; cap {dollars(now.cap)}"
    return f"{line} (EMULATOR: nothing was paid)" if is_emulated(now.service) else line


def came(now: Tally, pictures: int, requests: int, *, where: str = "") -> str:
    """How many pictures, where a request is one; else how many requests have theirs, and how many pictures that is."""
    if now.files <= now.pictures:
        return f"{pictures:,} of {requests:,} pictures {where}".rstrip()
    return f"{pictures:,} of {requests:,} requests have pictures, {now.files:,} {where or 'made'}"


def summary_lines(now: Tally) -> list[str]:
    """What there is to say when a run is through."""
    lines = [f"  {came(now, now.pictures, now.requests, where='on disk')}       {money_line(now)}"]
    if before := now.reused - now.expected:
        lines.append(f"  {before:,} as before, {now.before:,} of them with their picture")
    if now.expected:
        lines.append(f"  {now.expected:,} left to an earlier run, which has paid for them")
    if without := reasons(now):
        lines.append(f"  {without}")
    if now.surplus:
        lines.append(f"  {_surplus(now)}")
    # pandas reads a bucket only with another package; the index command always does.
    by_command = f"nightshoot index {now.url} -o index.parquet"
    table = by_command if "://" in now.url else f'pandas.read_parquet("{now.url}/index")'
    return [*lines, f"  folder  {now.url}", f"  index   {table}"]


def batch_lines(run: Run) -> list[str]:
    """The batches, for who asked with -v."""
    lines = []
    for batch in run.state.batches:
        ticket = batch.submitted.ticket if batch.submitted else ""
        requests = batch.planned.requests if batch.planned else 0
        lines.append(
            f"  batch {batch.number:05}  {requests:>6,} requests  {batch.stage.value:<10}  {ticket}".rstrip()
        )
    return lines


def is_emulated(service: str) -> bool:
    """Whether it is anybody but Google."""
    parts = urlsplit(service)
    host = parts.hostname or ""
    return parts.scheme != "https" or not (host == "googleapis.com" or host.endswith(".googleapis.com"))


def table_mark(service: str) -> tuple[str, dict[str, Any]]:
    """What an index says beside its rows of where they are from: to people, and to programs."""
    if not is_emulated(service):
        return "", {"service": service, "emulator": False}
    return "of a run on the EMULATOR: no row is Google's", {"service": service, "emulator": True}


def place_line(name: str, what: str, service: str, account: str) -> str:
    """Which run a command means: its first line. Where nobody pays now the account is the surface alone."""
    whom = "Google" if not is_emulated(service) else f"the EMULATOR at {service}"
    surface, _, which = account.partition(":")
    if surface == "vertex":
        project, _, location = which.rpartition(":")
        return f"{name}, {what}, to {whom} (Vertex AI" + (
            f", project {project}, {location})" if which else ")"
        )
    key = which.rpartition(":")[2]
    return f"{name}, {what}, to {whom}" + (f" (Developer API, key ...{key})" if key else " (Developer API)")


def document_of(now: Tally) -> dict[str, Any]:
    """A run for programs."""
    usd = {
        name: getattr(now, name) / 1e9
        for name in ("low", "likely", "high", "spent", "unconfirmed", "reserved", "overrun")
    }
    return {
        "run": now.name,
        "url": now.url,
        "service": now.service,
        "emulator": is_emulated(now.service),
        "finished": now.finished,
        "requests": now.requests,
        "left_out": now.refused,
        "as_before": now.reused - now.expected,
        "on_their_way": now.expected,
        "sent": now.sent,
        "answered": now.answered,
        "again": now.again,
        "to_review": now.to_review,
        "pictures": now.pictures,
        "outcomes": now.outcomes,
        "batches": now.batches,
        "surplus": now.surplus,
        "held": now.held,
        "difference": {why: by / 1e9 for why, by in now.causes.items()},
        "usd": usd | {"cap": None if now.cap is None else now.cap / 1e9},
        "tokens": now.tokens,
    }
