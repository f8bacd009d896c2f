"""Tonight's job on an emulator of its own, as a person starts it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.shell import HOUSE, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with the sample job, and a shell without a key."""
    for name in ("jobs", "sample_manifests"):
        shutil.copytree(HOUSE / name, tmp_path / name)
    return Shell(tmp_path, {})


def test_a_rehearsal_lives_the_whole_night_without_a_key(shell: Shell) -> None:
    said = shell("rehearse", "shoes", "--limit", "4", "--scenario", "quiet-night")
    assert said.code == 0, said.err
    assert "8 of 8 pictures on disk" in said.out
    assert "the EMULATOR at http://127.0.0.1:" in said.err
    assert "of the EMULATOR's time" in said.out
    [run] = (shell.folder / "rehearsals").iterdir()
    created = json.loads((run / "journal" / "00000000.json").read_text())
    assert created["event"]["service"].startswith("http://127.0.0.1:")
    assert not (shell.folder / "runs").exists()


def test_a_bad_night_is_brought_home_and_says_what_went_wrong(shell: Shell) -> None:
    """The run's own books agree with those of the other side."""
    said = shell("rehearse", "shoes", "--scenario", "bad-night", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert told["finished"]
    assert told["emulator"]
    assert told["pictures"] == 24
    assert {"lost", "upload_no_file", "row_error", "cut"} <= told["night"]["faults"].keys()
    assert told["night"]["seconds"] > 3600
    assert told["usd"]["spent"] == pytest.approx(told["night"]["billed_usd"], abs=0.02)


def test_a_rehearsal_is_nothing_a_real_run_goes_on_with(shell: Shell) -> None:
    assert shell("rehearse", "shoes", "--limit", "1").code == 0
    shell.environment["GEMINI_API_KEY"] = "a-key-of-the-real-service"
    [run] = (shell.folder / "rehearsals").iterdir()
    said = shell("tick", str(run.relative_to(shell.folder)))
    assert said.code != 0
    assert "this run talks to http://127.0.0.1:" in said.err


def test_a_rehearsal_leaves_out_the_bad_rows_that_the_night_would_leave_out(shell: Shell) -> None:
    (shell.folder / "few.csv").write_text("id,prompt\na,A boot\nb,\n")
    assert shell("rehearse", "few.csv").code == 2
    said = shell("rehearse", "few.csv", "--set", "max_bad=1")
    assert said.code == 0, said.err
    assert "1 of 2 rows has a problem" in said.err
    assert "1 of 1 pictures on disk" in said.out


@pytest.mark.parametrize(
    ("scenario", "words"),
    [("good-night", "no such scenario; there are bad-night, quiet-night"), ("odd.toml", "no fault 'rain'")],
)
def test_a_scenario_that_cannot_be_played_is_said_before_anything_starts(
    shell: Shell, scenario: str, words: str
) -> None:
    (shell.folder / "odd.toml").write_text('[[fault]]\nkind = "rain"\n')
    said = shell("rehearse", "shoes", "--scenario", scenario)
    assert said.code == 2
    assert words in said.err
    assert "hint: " in said.err
    assert not (shell.folder / "rehearsals").exists()


def test_a_rehearsal_waits_for_nobody_s_approval(shell: Shell) -> None:
    (shell.folder / "few.csv").write_text("id,prompt,prompt_2\na,A boot,by night\n")
    said = shell("rehearse", "few.csv", "--set", "follow_ups=approved")
    assert said.code == 0, said.err
    assert "2 of 2 pictures on disk" in said.out
