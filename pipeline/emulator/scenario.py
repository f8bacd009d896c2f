"""A night as a TOML file: how long things take, what is allowed, and what goes wrong."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.emulator.faults import Fault, ordered
from pipeline.emulator.gcs_faults import Fault as StorageFault
from pipeline.emulator.gcs_objects import Problem
from pipeline.emulator.settings import Settings

HERE = Path(__file__).parent / "scenarios"
LENGTH = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d|)")
UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
SECONDS = ("queue", "run", "file_life", "result_life", "job_life", "queue_life", "run_life", "cancelling")
OWN = ("data", "keep")  # settings that no scenario decides


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a file says; nothing it is silent about."""

    settings: Mapping[str, Any]
    faults: tuple[Fault, ...]
    storage_faults: tuple[StorageFault, ...]
    start: str | None = None
    speed: float | None = None


def known() -> list[str]:
    """The names of the scenarios that come with the emulator."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def read(name: str | Path) -> Scenario:
    """The scenario of a file, or of one that comes with the emulator. ValueError says what is wrong in it."""
    path = Path(name)
    if not path.exists():
        path = HERE / f"{path.name.removesuffix('.toml')}.toml"
    if not path.exists():
        raise ValueError(f"{name}: no such scenario; there are {', '.join(known())}")
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, Problem) as error:
        raise ValueError(f"{path}: {error}") from error


def parse(said: Mapping[str, Any]) -> Scenario:
    names = {field.name for field in fields(Settings)} - set(OWN)
    tables = {"fault", "storage_fault", "start", "speed"}
    if unknown := said.keys() - names - tables:
        raise ValueError(f"unknown {sorted(unknown)}; there are {', '.join(sorted(names | tables))}")
    settings = {name: setting(name, said[name]) for name in said.keys() & names}
    faults = []
    for order in said.get("fault", ()):
        known_ones = {key: seconds(value) if key == "seconds" else value for key, value in order.items()}
        faults.append(ordered(known_ones))
    storage = tuple(StorageFault.parse(order) for order in said.get("storage_fault", ()))
    start = said.get("start")
    return Scenario(
        settings, tuple(faults), storage, None if start is None else str(start), said.get("speed")
    )


def setting(name: str, value: Any) -> Any:
    if name in SECONDS:
        return tuple(map(seconds, value)) if isinstance(value, list) else seconds(value)
    return tuple(value) if isinstance(value, list) else value


def seconds(value: Any) -> float:
    """Seconds as a number, or a length of time as people write it: `90 min`."""
    if isinstance(value, int | float):
        return float(value)
    found = LENGTH.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{value!r} is no length of time; write a number of seconds, or 90 min, 2 h, 3 d")
    return float(found[1]) * UNITS[found[2]]
