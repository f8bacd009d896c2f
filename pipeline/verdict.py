"""What a trial has shown: for people, for programs, and in two files beside the run. No credential is in any of it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import __version__
from pipeline.behaviours import Behaviour
from pipeline.console import is_emulated
from pipeline.errors import NightshootError
from pipeline.money import dollars
from pipeline.storage import AlreadyThere, Storage

_WORDS = {True: "held", False: "DID NOT HOLD", None: "not seen"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every fact and what was seen of it, and under which circumstances."""

    run: str
    at: datetime  # the run was begun
    service: str
    account: str
    model: str
    prices_as_of: str
    said: int
    took: int
    seen: tuple[Behaviour, ...]
    stopped: NightshootError | None = None  # what kept the trial from its end

    @property
    def held(self) -> bool:
        """Whether all that could be seen is as it was taken to be."""
        return all(each.seen.held is not False for each in self.seen)


def lines_of(verdict: Verdict) -> list[str]:
    """What people read: two lines for a fact, and a third for what follows where it does not hold."""
    who = "the EMULATOR at " if is_emulated(verdict.service) else "Google, at "
    lines = [
        f"  {verdict.run}, begun {verdict.at:%Y-%m-%d %H:%M} UTC, nightshoot {__version__}",
        f"  {who}{verdict.service}; {verdict.model}, prices of {verdict.prices_as_of}",
        f"  said {dollars(verdict.said)}, took {dollars(verdict.took)}",
        "",
    ]
    for each in verdict.seen:
        lines.append(f"  {_WORDS[each.seen.held]:<12}  {each.fact.name:<9}  {each.fact.words}")
        lines.append(f"{'':27}{each.seen.words}")
        if each.seen.held is False:
            lines.append(f"{'':27}so: {each.fact.otherwise}")
    if verdict.stopped is not None:
        lines += ["", f"  stopped: {verdict.stopped.message}"]
        lines += [f"  hint: {verdict.stopped.hint}"] if verdict.stopped.hint else []
    return lines


def document_of(verdict: Verdict) -> dict[str, Any]:
    """What programs read."""
    return {
        "run": verdict.run,
        "at": verdict.at.isoformat(),
        "service": verdict.service,
        "emulator": is_emulated(verdict.service),
        "account": verdict.account,
        "version": __version__,
        "model": verdict.model,
        "prices_as_of": verdict.prices_as_of,
        "said_usd": verdict.said / 1e9,
        "took_usd": verdict.took / 1e9,
        "held": verdict.held,
        "stopped": verdict.stopped.message if verdict.stopped else None,
        "facts": [
            {"name": each.fact.name, "fact": each.fact.words, "held": each.seen.held, "seen": each.seen.words}
            for each in verdict.seen
        ],
    }


def keep(verdict: Verdict, folder: Storage) -> str:
    """Both of them beside the run, and the readable one's name. A report that is there stays; the next has a number."""
    document = json.dumps(document_of(verdict), ensure_ascii=False, indent=2)
    number = 1
    while True:
        name = f"{verdict.run}.report" + (f"-{number}" if number > 1 else "")
        try:
            folder.put(f"{name}.txt", ("\n".join(lines_of(verdict)) + "\n").encode())
            folder.put(f"{name}.json", (document + "\n").encode())
        except AlreadyThere:
            number += 1
        else:
            return f"{name}.txt"
