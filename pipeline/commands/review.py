"""nightshoot review: what people decide about the pictures of a run."""

from pathlib import Path

import click

from pipeline.commands.options import common, console_of, run_argument


@click.group()
def review() -> None:
    """Say which pictures are good.

    \b
      nightshoot review apply decisions.csv shoes
    """


@review.command(short_help="A table of decisions into a run.")
@click.argument("file", type=click.Path(path_type=Path))
@run_argument
@common
def apply(file: Path, run: str | None, as_json: bool, verbose: int, runs: str | None) -> None:
    """Apply decisions to pictures: FILE is a table with the columns key and decision (approved, rejected).

    \b
    And as far as they are needed shot, variant, turn, take, reason.
      nightshoot index shoes -o decisions.csv     such a table, to be filled in
      nightshoot review apply decisions.csv shoes
    """
    from pipeline.clock import clock_for
    from pipeline.review import apply as record
    from pipeline.run import open_run
    from pipeline.session import opened, which
    from pipeline.tally import waiting

    console = console_of(as_json, verbose)
    found = opened(run, runs)
    console.note(which(found))
    there = open_run(found.storage, clock_for(found.created.service))
    done = record(there, file)
    words = f"  {done.approved:,} approved, {done.rejected:,} rejected"
    if done.undecided:
        words += f"; {done.undecided:,} {'row' if done.undecided == 1 else 'rows'} without a decision"
    kept = (
        "  all of it is applied already"
        if done.file is None
        else f"  kept in {there.storage.url}/{done.file}"
    )
    left = [f"  {waiting(there.state.to_review)}"] if there.state.to_review else []
    document = {
        "run": there.name,
        "approved": done.approved,
        "rejected": done.rejected,
        "undecided": done.undecided,
        "applied": done.file is not None,
        "file": done.file,
        "to_review": there.state.to_review,
    }
    console.result([words, kept, *left], document)
    goes_on = there.state.turns_due and not there.state.finished
    console.note(
        f"Next: nightshoot {'run ' + there.created.job['name'] if goes_on else 'index ' + there.name}"
    )
