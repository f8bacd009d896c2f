"""`nightshoot index`, as a person and a program use it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pipeline import emulator
from tests.bench import write_rows
from tests.shell import Shell

PROMPT = ("--prompt", "Photo of {{ title }}", "--model", "gemini-2.5-flash-image")
PAID = ("--yes", "--max-usd", "5")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell beside a finished run of thirty shoes, one of them without its picture."""
    folder = tmp_path_factory.mktemp("command")
    with emulator.start(queue=(0, 0), run=(0, 0)) as service:
        service.fault("image_safety", prompt="Shoe 3")
        write_rows(folder / "shoes.csv", 30)
        there = Shell(folder, service.environment())
        assert there("run", "shoes.csv", *PROMPT, *PAID).code == 1
        yield there


# --- how many rows -----------------------------------------------------------------------------------------------


def test_people_see_twenty_rows_unless_they_say_how_many(shell: Shell) -> None:
    said = shell("index").out.splitlines()
    assert (len(said), said[-1]) == (22, "... 10 more rows; --rows 0 shows all")
    assert len(shell("index", "--rows", "20").out.splitlines()) == 22
    assert len(shell("index", "--rows", "0").out.splitlines()) == 31
    assert "default: 20" in shell("index", "--help").out


def test_programs_get_all_rows_unless_they_say_how_many(shell: Shell) -> None:
    for options, shown in (((), 30), (("--rows", "0"), 30), (("--rows", "20"), 20), (("--rows", "3"), 3)):
        document = json.loads(shell("index", "--json", *options).out)
        assert (document["rows"], len(document["index"])) == (30, shown), options


def test_a_file_has_all_rows_unless_somebody_says_how_many(shell: Shell) -> None:
    for options, wrote, rows in (
        ((), "wrote 30 rows to all.csv", 30),
        (("--rows", "0"), "wrote 30 rows to all.csv", 30),
        (("--rows", "20"), "wrote the first 20 of 30 rows to all.csv", 20),
        (("--rows", "40"), "wrote 30 rows to all.csv", 30),
    ):
        said = shell("index", "-o", "all.csv", *options)
        assert said.out.startswith(wrote), options
        assert len(pd.read_csv(shell.folder / "all.csv")) == rows
    document = json.loads(shell("index", "-o", "all.csv", "--rows", "5", "--json").out)
    assert (document["rows"], document["of"], document["file"]) == (5, 30, "all.csv")


def test_columns_that_somebody_names_are_all_shown_however_many(shell: Shell) -> None:
    names = [
        "key",
        "shot",
        "variant",
        "turn",
        "take",
        "outcome",
        "attempt",
        "batch",
        "place",
        "model",
        "mime",
    ]
    assert shell("index", "--columns", ",".join(names)).out.splitlines()[0].split() == names
    line = shell("index", "--follow", "--columns", ",".join(names)).out.splitlines()[0]
    assert line.split()[-2:] == ["gemini-2.5-flash-image", "image/png"]


# --- what goes together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--follow", "--rows", "20"), "--follow --rows: --follow prints every row"),
        (("--follow", "-o", "all.csv"), "writes no file"),
        (("--follow", "--markdown", "told"), "writes no file"),
        (("--follow", "--again"), "--follow --again: --follow prints what is final, and that is not"),
        (("--follow", "--takes", "all"), "--follow --takes: --follow prints every take"),
        (("--again", "--takes", "all"), "--again --takes: what waits has one answer, its last"),
        (("--markdown", "told", "--takes", "all"), "--markdown --takes: --markdown writes files of its own"),
        (
            ("--markdown", "told", "--again"),
            "--markdown --again: what waits to be asked again has no pictures",
        ),
        (("--markdown", "told", "--rows", "20"), "--markdown --rows: --markdown writes files of its own"),
        (("--markdown", "told", "-o", "all.csv"), "--markdown -o: --markdown writes files of its own"),
        (
            ("--markdown", "told", "--columns", "key"),
            "--markdown --columns: --markdown writes files of its own",
        ),
    ],
)
def test_no_option_is_ignored_in_silence(shell: Shell, options: tuple[str, ...], why: str) -> None:
    (shell.folder / "all.csv").unlink(missing_ok=True)
    for more in ((), ("--json",)):
        said = shell("index", *options, *more)
        assert (said.code, said.out) == (2, "")
        assert why in said.err
        assert "hint: " in said.err
    assert not (shell.folder / "all.csv").exists()
    assert not (shell.folder / "told").exists()


# --- what waits to be asked again ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell beside a run that stands still: of twenty shoes eleven came to words, and one is blocked."""
    folder = tmp_path_factory.mktemp("waiting")
    with emulator.start(queue=(0, 0), run=(0, 0)) as service:
        service.fault("text_only", prompt="Shoe 1", times=1)
        service.fault("image_safety", prompt="Shoe 3")
        write_rows(folder / "shoes.csv", 20)
        there = Shell(folder, service.environment())
        assert there("run", "shoes.csv", *PROMPT, *PAID).code == 3
        yield there


def test_the_error_of_answers_that_came_to_nothing_names_the_command_that_shows_them(waiting: Shell) -> None:
    """Whatever run is the newest by then: the command is said in full, and does show them."""
    said = waiting("run", "shoes.csv", *PROMPT, *PAID)
    assert said.code == 3
    assert "11 of 20 requests of batch 0 came to nothing for one reason: text_only" in said.err
    hint = said.err.partition("hint: ")[2]
    command = hint.partition(" shows them; ")[0].split()
    assert command == ["nightshoot", "index", "shoes-2026-11-21", "--again"]
    assert "; nightshoot retry shoes-2026-11-21 asks again" in hint
    head, *rows = waiting(*command[1:], "--rows", "0").out.splitlines()
    assert head.split() == ["key", "shot", "variant", "outcome", "attempt", "usd", "reason", "text"]
    assert len(rows) == 11
    assert all("text_only" in row and "I cannot draw" in row for row in rows), rows


def test_the_index_says_how_many_wait_and_how_to_see_them(waiting: Shell) -> None:
    said = waiting("index").out.splitlines()
    assert (len(said), said[-1]) == (11, "11 more wait to be asked again; --again shows them")
    document = json.loads(waiting("index", "--json").out)
    assert (document["rows"], document["again"]) == (9, 11)
    said = waiting("index", "-o", "all.csv")
    assert said.out.splitlines()[-1] == "11 more wait to be asked again; --again shows them"
    assert json.loads(waiting("index", "-o", "all.csv", "--json").out)["again"] == 11


def test_what_waits_is_chosen_shown_and_written_as_the_index_is(waiting: Shell) -> None:
    document = json.loads(waiting("index", "--again", "--json", "--where", "outcome == 'text_only'").out)
    assert (document["rows"], document["again"], len(document["index"])) == (11, 11, 11)
    row = document["index"][0]
    assert (row["key"], row["outcome"], row["batch"], row["place"], row["attempt"]) == (
        "sku-1", "text_only", 0, 1, 1,
    )  # fmt: skip
    assert "I cannot draw" in row["text"]
    assert row["usd"] > 0
    assert row["row.colour"] == "green"
    assert row["sent_at"].startswith("2026-11-2")
    chosen = waiting("index", "--again", "--columns", "key,text", "--where", "place == 10", "--rows", "1")
    assert chosen.out.splitlines()[1].split()[0] == "sku-10"
    assert waiting("index", "--again", "--where", "outcome == 'ok'").out == "(no rows)\n"
    assert waiting("index", "--again", "-o", "some.csv", "--rows", "3").out.startswith(
        "wrote the first 3 of 11 rows to some.csv"
    )
    assert list(pd.read_csv(waiting.folder / "some.csv")["outcome"]) == ["text_only"] * 3
    refused = waiting("index", "--again", "--columns", "key,path")
    assert (refused.code, "no column 'path' of what waits to be asked again" in refused.err) == (2, True)


def test_where_nothing_waits_nothing_is_said_of_it(shell: Shell) -> None:
    assert "asked again" not in shell("index").all
    assert json.loads(shell("index", "--json").out)["again"] == 0
    assert shell("index", "--again").out == "(no rows)\n"
    assert json.loads(shell("index", "--again", "--json").out)["index"] == []


# --- words that are no choice ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--where", "1"),
        ("--where", ""),
        ("--where", "key"),
        ("--columns", "key,key"),
        ("--follow", "--where", "colour == 'red'"),
        ("--follow", "--columns", "key,key"),
        ("--markdown", "told", "--where", "batch"),
    ],
)
def test_what_cannot_be_read_is_no_bug_of_the_program(shell: Shell, options: tuple[str, ...]) -> None:
    said = shell("index", *options)
    assert (said.code, said.out) == (2, "")
    assert "error: " in said.err
    assert "hint: " in said.err
    assert "a bug" not in said.err


def test_a_run_of_which_nothing_is_home_refuses_them_as_well(
    service: emulator.Service, tmp_path: Path
) -> None:
    write_rows(tmp_path / "shoes.csv", 2)
    shell = Shell(tmp_path, service.environment())
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    for options in ((), ("--follow",)):
        said = shell("index", "--where", "colour == 'red'", *options)
        assert (said.code, "no column 'colour'" in said.err) == (2, True), options
    assert shell("index").out == "(no rows)\n"


# --- whole numbers -----------------------------------------------------------------------------------------------


def test_programs_that_follow_get_whole_numbers(shell: Shell) -> None:
    rows = [json.loads(line)["row"] for line in shell("index", "--follow", "--json").out.splitlines()]
    assert {repr(row["width"]) for row in rows} == {"1024", "None"}
    assert {type(row["prompt_tokens"]) for row in rows} == {int}


def test_people_who_follow_see_whole_numbers_and_a_dash_for_none(shell: Shell) -> None:
    lines = shell("index", "--follow", "--columns", "key,width", "--where", "batch == 0").out.splitlines()
    assert lines[2:5] == ["sku-2  1024", "sku-3  -", "sku-4  1024"]
