"""What a scheduler says every night, and what ends a run or begins it anew."""

import sys

import click

from pipeline.commands.ending import STILL_RUNNING, finish, report
from pipeline.commands.options import common, console_of, run_argument


@click.command()
@run_argument
@click.option("--exit-code", is_flag=True, help="6 while the run goes on.")
@common
def tick(run: str | None, exit_code: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Do what can be done now, and wait for nothing: for cron. Two at once are harmless.

    \b
      nightshoot tick shoes
    """

    from pipeline.session import driver_of

    console = console_of(as_json, verbose)
    driver = driver_of(console, run, runs)
    driver.tick()
    report(console, driver.run)
    sys.exit(STILL_RUNNING if exit_code and not driver.run.state.finished else 0)


@click.command()
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@common
def tidy(run: str | None, yes: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Remove what a run uploaded and nobody needs any more. The run itself stays as it is.

    \b
      nightshoot tidy shoes
    """

    from pipeline.session import tidied

    tidied(console_of(as_json, verbose), run, runs, yes=yes)


@click.command()
@run_argument
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    metavar="WORD",
    help="These only, as in --outcome blocked; repeatable.",
)
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Never order more than this.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs a cap.")
@common
def retry(
    run: str | None,
    outcomes: tuple[str, ...],
    max_usd: float | None,
    yes: bool,
    as_json: bool,
    verbose: int,
    runs: str | None,
) -> None:
    """Ask once more for what has no picture, or a wrong one.

    \b
      nightshoot retry shoes --max-usd 25
      nightshoot retry shoes --outcome blocked
    """

    from pipeline.session import asked_again, shown_to_the_end

    console = console_of(as_json, verbose)
    driver = asked_again(console, run, runs, outcomes=outcomes, max_usd=max_usd, yes=yes)
    shown_to_the_end(console, driver)
    finish(console, driver.run, 1.0)


@click.command()
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@common
def cancel(run: str | None, yes: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Stop a run, and bring home what Google has made by now.

    \b
      nightshoot cancel shoes
    """

    from pipeline.session import cancelled, shown_to_the_end

    console = console_of(as_json, verbose)
    driver = cancelled(console, run, runs, yes=yes)
    shown_to_the_end(console, driver)
    report(console, driver.run)
