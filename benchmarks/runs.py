"""Manifests and planned runs to measure with."""

from pathlib import Path
from typing import Any


def write_shoes(path: Path, rows: int) -> None:
    """A manifest of so many shoes. Not the tests' own: what that imports would be measured."""
    colours = ("red", "green", "blue", "olive", "black")
    with path.open("w", encoding="utf-8") as file:
        file.write("sku,title,colour\n")
        file.writelines(f"sku-{n},Shoe {n},{colours[n % 5]}\n" for n in range(rows))


def planned(job: Any, folder: Path) -> tuple[Any, Any]:
    """What was found of a job whose manifest lies here, and its run in the folder "run", planned to the end."""
    from pipeline.frugal import be_frugal

    be_frugal()  # as every command that drives a run
    from pipeline.clock import MachineClock
    from pipeline.storage import open_storage
    from pipeline.survey import begin, planner, survey

    found = survey(job, base=folder)
    storage = open_storage(str(folder / "run"))
    run = begin(found, name="run", storage=storage, service="http://x", clock=MachineClock(), cap=None)
    drawing = planner(found, run)
    while drawing.draw():
        pass
    return found, run
