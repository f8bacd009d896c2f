"""The words a run is told in."""

import io
import json
import sys
from dataclasses import replace

import pytest

from pipeline.console import (
    REASONS,
    Console,
    batch_lines,
    document_of,
    is_emulated,
    place_line,
    progress_line,
    reasons,
    status_lines,
    summary_lines,
)
from pipeline.errors import BadInput
from pipeline.run import create_run
from pipeline.tally import Tally, tally
from tests import events as e
from tests.fakes import FakeClock, MemoryStorage

DOLLAR = 10**9


GOOGLE = "https://generativelanguage.googleapis.com"


def now(**said: object) -> Tally:
    run = create_run(MemoryStorage(), FakeClock(), e.created(rows=10))
    return replace(tally(run), **{"service": GOOGLE} | said)  # type: ignore[arg-type]


def test_a_fresh_run_has_everything_before_it() -> None:
    assert status_lines(now())[0] == "  pictures  0 of 10 on disk (10 to send)"


def test_a_run_under_way_says_where_its_pictures_are() -> None:
    said = status_lines(now(sent=8, answered=3, pictures=3, again=1))[0]
    assert said == "  pictures  3 of 10 on disk (4 at Google, 1 to try again, 2 to send)"


def test_reasons_are_told_most_frequent_first_and_in_plain_words() -> None:
    told = reasons(now(outcomes={"ok": 5, "blocked": 2, "no_image": 3}))
    assert told == "3 came back without a picture, 2 blocked for safety"


def test_every_outcome_has_words() -> None:
    assert all(words and "_" not in words for words in REASONS.values())


def test_money_says_what_was_said_and_what_it_took() -> None:
    line = status_lines(
        now(
            likely=2 * DOLLAR,
            spent=DOLLAR,
            reserved=DOLLAR // 2,
            unconfirmed=DOLLAR // 4,
            overrun=DOLLAR // 10,
            cap=5 * DOLLAR,
        )
    )[1]
    assert line == (
        "  money     said $2.00, took $1.00, at most $0.50 more is ordered, $0.25 may have been spent and cannot be"
        " read; $0.10 of it beyond the worst case; cap $5.00"
    )


def test_why_it_took_more_or_less_is_said_in_words_and_only_what_matters() -> None:
    causes = {
        "asked again": -DOLLAR // 5,
        "other tokens than expected": DOLLAR,
        "cannot be read": DOLLAR // 1000,
    }
    line = status_lines(now(likely=DOLLAR, spent=2 * DOLLAR, causes=causes))[1]
    assert line == (
        "  money     said $1.00, took $2.00 (-$0.20 fewer retries than expected,"
        " +$1.00 more pictures, tokens or searches than expected)"
    )


def test_a_request_with_several_pictures_is_not_one_picture() -> None:
    """Two calls for four pictures each; and one request for one."""
    several = now(requests=2, sent=2, answered=2, pictures=2, files=8)
    assert "2 of 2 requests have pictures, 8 on disk" in summary_lines(several)[0]
    assert "2 of 2 on disk, 8 pictures in all" in status_lines(several)[0]
    assert "8 pictures on disk" in progress_line(several)
    single = now(requests=1, sent=1, answered=1, pictures=1, files=1)
    assert "1 of 1 pictures on disk" in summary_lines(single)[0]
    assert "1 picture on disk" in progress_line(single)


def test_trouble_is_named_only_where_there_is_some() -> None:
    quiet = "\n".join(status_lines(now()))
    assert "surplus" not in quiet
    assert "held" not in quiet
    loud = "\n".join(status_lines(now(surplus=2, held=1)))
    assert "2 answers that nobody asked for" in loud
    assert "nobody can tell whether Google has them" in loud


def test_answers_that_nobody_asked_for_are_named_at_the_end_and_so_is_what_they_cost() -> None:
    dear = now(likely=DOLLAR, spent=2 * DOLLAR, surplus=1, causes={"surplus answers": DOLLAR})
    said = summary_lines(dear)
    assert said[0].endswith("said $1.00, took $2.00 (+$1.00 surplus answers)")
    assert said[1] == "  1 answer that nobody asked for, kept in quarantine/"
    assert "nobody asked for" not in "\n".join(summary_lines(now()))


def test_progress_is_one_line_of_pictures_and_dollars() -> None:
    assert progress_line(now(sent=10, reserved=DOLLAR)) == (
        "10 of 10 sent, 0 pictures on disk, paid $0, reserved $1.00"
    )
    assert "10 of 10 sent, 7 made and not here yet, 0 pictures" in progress_line(now(sent=10), answered=7)


def test_a_bucket_s_summary_names_a_command_that_can_read_it() -> None:
    assert "nightshoot index gs://shop/runs/x -o" in summary_lines(now(url="gs://shop/runs/x"))[-1]
    assert 'pandas.read_parquet("runs/x/index")' in summary_lines(now(url="runs/x"))[-1]


def test_an_emulator_is_always_said_to_be_one() -> None:
    assert "the EMULATOR at http://127.0.0.1:1" in place_line(
        "r", "new run", "http://127.0.0.1:1", "developer"
    )
    real = place_line("r", "new run", "https://generativelanguage.googleapis.com", "developer:0:a3f2")
    assert real == "r, new run, to Google (Developer API, key ...a3f2)"
    assert not is_emulated("https://generativelanguage.googleapis.com")
    assert is_emulated("http://127.0.0.1:8085/googleapis.com")


def test_no_line_about_an_emulator_s_pictures_or_dollars_reads_like_a_real_one() -> None:
    """What is on stdout may be all that somebody keeps."""
    there = now(service="http://127.0.0.1:8085", sent=8)
    pictures, money, *_ = status_lines(there)
    assert "8 at the EMULATOR" in pictures
    assert money.endswith("(EMULATOR: nothing was paid)")
    assert "EMULATOR: nothing was paid" in summary_lines(there)[0]
    assert progress_line(there).startswith("EMULATOR: ")
    real = now(sent=8)
    assert "EMULATOR" not in "".join([*status_lines(real), *summary_lines(real), progress_line(real)])


def test_batches_are_listed_for_who_asks() -> None:
    run = create_run(MemoryStorage(), FakeClock(), e.created(rows=10))
    for event in (e.drawn(0, 0, 10), e.planned(0), e.submitting(0), e.submitted(0, 3, ticket="batches/x")):
        run.record(event)
    assert batch_lines(run) == ["  batch 00000      10 requests  submitted   batches/x"]


def test_a_document_is_dollars_and_counts() -> None:
    document = document_of(now(spent=DOLLAR, cap=None))
    assert document["usd"]["spent"] == 1.0
    assert document["usd"]["cap"] is None
    json.dumps(document)


def test_results_go_to_stdout_and_everything_else_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.result(["a result"], {"a": 1})
    console.note("a note")
    console.detail("a detail")
    console.error(BadInput("shoes.csv: no such file", hint="did you mean shoos.csv?"))
    said = capsys.readouterr()
    assert said.out == "a result\n"
    assert said.err == "a note\nerror: shoes.csv: no such file\nhint: did you mean shoos.csv?\n"


def test_json_is_one_line_with_the_version_of_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    Console(as_json=True).result(["a result"], {"title": "Schuh größer"})
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "title": "Schuh größer"}


@pytest.mark.parametrize(
    ("answer", "meant"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_only_a_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, answer: str, meant: bool) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert Console().ask("Shoot?") is meant


def test_a_program_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Console(as_json=True).can_ask()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not Console().can_ask()


def test_progress_away_from_a_terminal_is_a_plain_line_for_each_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = create_run(MemoryStorage(), FakeClock(), e.created(rows=10))
    with Console().progress(run) as progress:
        progress.update(run)
        run.record(e.drawn(0, 0, 10))
        progress.update(run)
        for event in (e.planned(0), e.submitting(0), e.submitted(0, 3)):
            run.record(event)
        progress.update(run)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "  18:00 EMULATOR: 0 of 10 sent, 0 pictures on disk, paid $0",
        "  18:00 EMULATOR: 10 of 10 sent, 0 pictures on disk, paid $0, reserved under $0.0001",
    ]


def test_with_v_every_step_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(MemoryStorage(), FakeClock(), e.created(rows=10))
    with Console(verbose=1).progress(run) as progress:
        run.record(e.drawn(0, 0, 10))
        progress.update(run)
    assert "record 1; batches: 1 drawn" in capsys.readouterr().err
