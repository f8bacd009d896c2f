"""Every error has a number that means one thing, and docs/exit-codes.md says which."""

import re

import pytest

from pipeline import cli, errors
from pipeline.commands import ending
from pipeline.storage.base import AlreadyThere, NotFound
from tests.shell import HOUSE

PAGE = (HOUSE / "docs" / "exit-codes.md").read_text(encoding="utf-8")
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, errors.NightshootError)
    and kind is not errors.NightshootError
]


def test_every_code_is_on_the_page_and_no_other() -> None:
    documented = {
        int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in cell.split(",")
    }
    ours = {kind.exit_code for kind in KINDS}
    theirs = {ending.STILL_RUNNING, ending.TO_SEND, cli.BUG, cli.INTERRUPTED, cli.TERMINATED}
    assert documented == ours | theirs | {0, 1}


def test_no_two_kinds_share_a_code() -> None:
    assert len({kind.exit_code for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_a_message_and_a_hint(kind: type[errors.NightshootError]) -> None:
    error = kind("shoes.csv: row 4: no title", hint="add one")
    assert str(error) == error.message == "shoes.csv: row 4: no title"
    assert error.hint == "add one"


@pytest.mark.parametrize("kind", [NotFound, AlreadyThere])
def test_a_file_that_is_not_as_it_must_be_says_so_by_itself(kind: type[NotFound]) -> None:
    """Where nobody expects it, it reaches the person as it is."""
    error = kind("index/00000.parquet")
    assert error.exit_code == errors.Corrupt.exit_code
    assert error.name in error.message
    assert error.hint
