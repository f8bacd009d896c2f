"""The pieces that a run is made of, one by one."""

import sys
from typing import Any

import click

from pipeline.commands.ending import STILL_RUNNING, go_on, report
from pipeline.commands.options import common, console_of, job_argument, run_argument, spend


@click.command()
@job_argument
@spend
def submit(job: str | None, as_json: bool, verbose: int, runs: str | None, **chosen: Any) -> None:
    """Plan a job and send it, as far as the cap allows. Waits for nothing.

    \b
      nightshoot submit jobs/shoes.toml --max-usd 20 --yes
    """

    from pipeline.session import begin_or_continue

    console = console_of(as_json, verbose)
    driver = begin_or_continue(console, job, runs, go_on=go_on(), **chosen)
    while driver.draw() or driver.submit():
        pass
    report(console, driver.run)
    if driver.has_no_room:
        raise driver.no_room()


@click.command()
@run_argument
@common
def poll(run: str | None, as_json: bool, verbose: int, runs: str | None) -> None:
    """Ask Google after every batch of a run, once.

    \b
      nightshoot poll
    """

    from pipeline.session import driver_of

    console = console_of(as_json, verbose)
    driver = driver_of(console, run, runs)
    driver.poll()
    report(console, driver.run)


@click.command()
@run_argument
@common
def collect(run: str | None, as_json: bool, verbose: int, runs: str | None) -> None:
    """Bring home what Google has finished: pictures and index. Exit 6 while more is to come.

    \b
      nightshoot collect
    """

    from pipeline.session import driver_of

    console = console_of(as_json, verbose)
    driver = driver_of(console, run, runs)
    driver.poll()
    driver.collect()
    report(console, driver.run)
    sys.exit(0 if driver.run.state.finished else STILL_RUNNING)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Google on this machine: start it, export what it prints.

    \b
      nightshoot emulator --port 8085
    """
    from pipeline.emulator.__main__ import main as serve

    serve(arguments)
