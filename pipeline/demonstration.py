"""A whole run on the built-in emulator, for who wants to see one before anything else."""

import shutil
from pathlib import Path

from pipeline.backends.developer import Developer
from pipeline.clock import EmulatorClock
from pipeline.console import Console, document_of, place_line, summary_lines
from pipeline.drive import Driver
from pipeline.errors import Unavailable
from pipeline.index import read_index, show
from pipeline.job import read_job
from pipeline.money import nanos
from pipeline.overview import plan_lines
from pipeline.rehearsal import started
from pipeline.runs import next_name, place
from pipeline.session import shown_to_the_end
from pipeline.storage import open_storage
from pipeline.survey import begin, planner, survey
from pipeline.tally import tally

CAP = nanos(5)
SAMPLES = ("jobs", "sample_manifests")


def demonstrate(console: Console, folder: Path) -> None:
    """Shoot the sample job into a folder of its own. Said again, it shoots again."""
    job = _samples(folder) / "jobs" / "shoes.toml"
    with started(None) as service:
        url, clock = service.url, EmulatorClock(service.url)
        backend = Developer(key="emulator", service=url, clock=clock)
        found = survey(read_job(job), base=job.parent)
        runs = str(folder / "runs")
        name = next_name(open_storage(runs), found.job.name, clock.now().date())
        console.note(place_line(str(name), "new run", url, backend.account), *plan_lines(found, cap=CAP))
        storage = open_storage(place(runs, name))
        run = begin(found, name=str(name), storage=storage, service=url, clock=clock, cap=CAP)
        driver = Driver(run, backend, planner=planner(found, run))
        shown_to_the_end(console, driver)
        _show(console, driver, since=(clock.now() - run.created_at).total_seconds())


def _show(console: Console, driver: Driver, *, since: float) -> None:
    run, now = driver.run, tally(driver.run)
    index = read_index(run)
    hours, minutes = divmod(round(since / 60), 60)
    table, _ = show(index, rows=6)
    lines = [
        *summary_lines(now),
        f"  Google would have taken {f'{hours} h ' if hours else ''}{minutes} min; the emulator's clock runs faster",
        "",
        f'  >>> pandas.read_parquet("{now.url}/index")',
        *(f"  {line}" for line in table),
        "",
        f"  pictures   {now.url}/pictures/",
        f"  index      {now.url}/index/",
        f"  run        {now.url}/",
    ]
    console.result(lines, document_of(now) | {"pictures_folder": f"{now.url}/pictures"})
    console.note("Next: nightshoot init YOUR.csv, or look into docs/first-run.md")


def _samples(folder: Path) -> Path:
    """The sample job with its manifest, copied to where a person may change it. What they changed is kept."""
    house = Path(__file__).parent
    source = next((place for place in (house / "samples", house.parent) if (place / "jobs").is_dir()), None)
    if source is None:
        raise Unavailable("the samples are not part of this installation", hint="install nightshoot again")
    for name in SAMPLES:
        for path in sorted((source / name).rglob("*")):
            target = folder / path.relative_to(source)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    return folder
