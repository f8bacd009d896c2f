"""What people see: commands by hand, their words, their exit codes."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline import emulator
from tests.bench import write_rows
from tests.shell import HOUSE, Shell

INSIDE = re.compile(r"\b(ticket|ending|place|part|wave|intent|record|fold|staged|lane)s?\b", re.IGNORECASE)
"""Words of the code, which people never meet."""


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    """A shell in a folder with a manifest of six shoes, its environment naming the emulator."""
    write_rows(tmp_path / "shoes.csv", 6)
    return Shell(tmp_path, service.environment())


PROMPT = ("--prompt", "Photo of {{ title }}", "--model", "gemini-2.5-flash-image")
PAID = ("--yes", "--max-usd", "5")


def test_a_manifest_becomes_pictures_and_an_index(shell: Shell) -> None:
    """init, plan, run: three commands from a spreadsheet to a folder of pictures."""
    assert shell.process("init", "shoes.csv").code == 0
    planned = shell.process("plan")
    assert planned.code == 0
    assert re.search(r"pictures\s+6\s+of 6 rows", planned.out)
    done = shell.process("run", *PAID)
    assert done.code == 0, done.err
    assert "6 of 6 pictures on disk" in done.out
    run = next((shell.folder / "runs").iterdir())
    index = pd.read_parquet(run / "index")
    assert all((run / path).is_file() for path in index["path"])


def test_the_same_command_says_that_it_is_finished_and_pays_nothing(
    shell: Shell, service: emulator.Service
) -> None:
    assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 0
    paid = service.ledger()["total"]
    again = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert again.code == 0
    assert ", finished, " in again.err
    assert service.ledger()["total"] == paid


def test_new_forces_a_new_run(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    again = shell("run", "shoes.csv", *PROMPT, *PAID, "--new")
    assert re.match(r"shoes-\d{4}-\d\d-\d\d-2, new run, ", again.err)


def test_an_edited_job_is_a_new_run_when_the_old_one_is_finished(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    edited = shell("run", "shoes.csv", *PROMPT, *PAID, "--set", "aspect_ratio=4:5")
    assert re.match(r"shoes-\S+-2, new run, ", edited.err)


def test_an_edited_job_asks_while_its_run_is_under_way(shell: Shell, service: emulator.Service) -> None:
    assert shell("submit", "shoes.csv", *PROMPT, *PAID).code == 0
    jobs = service.ledger()["jobs"]
    edited = shell("run", "shoes.csv", *PROMPT, *PAID, "--set", "aspect_ratio=4:5")
    assert edited.code == 3
    assert "hint: undo the change" in edited.err
    assert len(service.ledger()["jobs"]) == len(jobs)


def test_at_a_terminal_an_edited_job_asks_what_to_do(shell: Shell) -> None:
    assert shell("submit", "shoes.csv", *PROMPT, *PAID).code == 0
    edited = ("run", "shoes.csv", *PROMPT, *PAID, "--set", "aspect_ratio=4:5")
    code, seen = shell.on_a_terminal(*edited, answer="y\n")
    assert code == 0, seen
    assert "Start a new run beside it? [y/N]" in seen
    assert "shoes-2026-11-21-2, new run, " in seen


def test_plan_can_tell_a_script_that_there_is_something_to_send(shell: Shell) -> None:
    assert shell("plan", "shoes.csv", *PROMPT, "--detailed-exitcode").code == 8


def test_a_parquet_manifest_is_a_job_too(shell: Shell) -> None:
    frame = pd.DataFrame(
        {"caption": ["a red shoe", "a blue shoe", "a green shoe"], "weight": [1.5, 2.0, None]}
    )
    frame.to_parquet(shell.folder / "prompts.parquet")
    options = (
        "--prompt",
        "{{ caption }}",
        "--model",
        "gemini-2.5-flash-image",
        "--runs",
        "out",
        "--limit",
        "2",
    )
    assert shell("run", "prompts.parquet", *options, *PAID).code == 0
    index = pd.read_parquet(next((shell.folder / "out").iterdir()) / "index")
    assert sorted(index["prompt"]) == ["a blue shoe", "a red shoe"]
    assert sorted(index["row.weight"]) == ["1.5", "2"]


def test_a_directory_that_contradicts_itself_exits_7(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    run = next((shell.folder / "runs").iterdir())
    (run / "journal" / "00000002.json").unlink()
    said = shell("status")
    assert said.code == 7
    assert "00000002.json is missing" in said.err


def test_an_unfinished_run_goes_on_whatever_its_date(shell: Shell, service: emulator.Service) -> None:
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    service.advance(30 * 3600)
    on = shell("run", "shoes.csv", *PROMPT)
    assert on.code == 0
    assert re.match(r"shoes-2026-11-21, continued, ", on.err)


def test_the_pieces_do_what_run_does(shell: Shell, service: emulator.Service) -> None:
    """submit, poll, collect, with time passing between them."""
    assert shell("submit", "shoes.csv", *PROMPT, *PAID).code == 0
    assert shell("collect").code == 6, "Google is still at it"
    service.advance(3600)
    assert shell("poll").code == 0
    assert shell("collect").code == 0
    assert "6 of 6 on disk" in shell("status").out


def test_tick_does_what_can_be_done_and_waits_for_nothing(shell: Shell, service: emulator.Service) -> None:
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    assert shell("tick", "--exit-code").code == 6
    assert shell("tick").code == 0, "a plain tick while the run goes on is nothing for a person"
    service.advance(3600)
    assert shell("tick", "--exit-code").code == 0
    assert shell("status", "--exit-code").code == 0


def test_a_run_with_missing_pictures_exits_1_unless_that_is_allowed(
    shell: Shell, service: emulator.Service
) -> None:
    service.fault("image_safety", prompt="Shoe 3")
    done = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert done.code == 1
    assert "1 blocked for safety" in done.out
    assert shell("run", "shoes.csv", *PROMPT, *PAID, "--fail-under", "0.8").code == 0


def test_json_is_one_object_on_stdout(shell: Shell) -> None:
    for command in (
        ("plan", "shoes.csv", *PROMPT),
        ("run", "shoes.csv", *PROMPT, *PAID),
        ("status",),
        ("index",),
        ("tick",),
    ):
        said = shell(*command, "--json")
        document = json.loads(said.out)
        assert document["schema"] == 1, command
    assert len(document["usd"]) > 3


def test_the_index_is_shown_chosen_and_written(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    chosen = shell("index", "--where", "key == 'sku-3'", "--columns", "key,outcome,row.colour")
    assert chosen.out.split() == ["key", "outcome", "row.colour", "sku-3", "ok", "olive"]
    for name in ("all.csv", "all.jsonl", "all.parquet"):
        assert shell("index", "-o", name).code == 0
        assert (shell.folder / name).stat().st_size > 100
    assert len(pd.read_csv(shell.folder / "all.csv")) == 6


def test_limit_where_key_and_set_choose(shell: Shell) -> None:
    def requests(*options: str) -> object:
        return json.loads(shell("plan", "shoes.csv", *PROMPT, "--json", *options).out)["requests"]

    assert requests("--limit", "2") == 2
    assert requests("--where", "colour == 'red'") == 2
    assert requests("--key", "sku-1", "--key", "sku-4") == 2
    assert requests("--set", "variants=3") == 18


def test_a_name_means_the_newest_run_of_that_job(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    shell("run", "shoes.csv", *PROMPT, *PAID, "--new")
    for what in ((), ("shoes",)):
        assert re.match(r"shoes-\S+-2, finished", shell("status", *what).err)
    assert re.match(r"shoes-2026-11-21, finished", shell("status", "shoes-2026-11-21").err)
    assert re.match(r"shoes-2026-11-21, finished", shell("status", "runs/shoes-2026-11-21").err)


def test_an_unfinished_run_goes_on_though_newer_runs_lie_beside_it(
    shell: Shell, service: emulator.Service
) -> None:
    """A trial of one row, or a rehearsal on another service, must not make anybody pay for the rest again."""
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    assert shell("run", "shoes.csv", *PROMPT, *PAID, "--limit", "1", "--new").code == 0
    with emulator.start() as other:
        mine = dict(shell.environment)
        shell.environment |= other.environment()
        assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 0
        shell.environment = mine
    on = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert re.match(r"shoes-2026-11-21, continued, ", on.err), on.err
    assert [job["rows"] for job in service.ledger()["jobs"]] == [6, 1]


def test_a_run_that_is_planned_goes_on_without_its_manifest(shell: Shell) -> None:
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    (shell.folder / "shoes.csv").unlink()
    on = shell("run", "shoes.csv", *PROMPT)
    assert on.code == 0, on.err
    assert "6 of 6 pictures on disk" in on.out


def test_a_higher_cap_in_the_job_is_no_other_job(shell: Shell) -> None:
    shell("init", "shoes.csv")
    job = shell.folder / "jobs" / "shoes.toml"
    text = job.read_text()
    job.write_text(text.replace("# max_usd = 20", "max_usd = 0.01"))
    assert shell("run", "--yes").code == 3
    job.write_text(text.replace("# max_usd = 20", "max_usd = 5"))
    on = shell("run", "--yes")
    assert on.code == 0, on.err
    assert ", continued, " in on.err


def test_a_photo_that_changed_is_noticed_by_the_next_run(shell: Shell) -> None:
    photos = sorted((HOUSE / "sample_manifests" / "photos").glob("*.jpg"))
    (shell.folder / "photo.jpg").write_bytes(photos[0].read_bytes())
    options = ("--set", "references=photo.jpg,./photo.jpg")
    write_rows(shell.folder / "shoes.csv", 2, photo=lambda n: "photo.jpg")
    options = ("--set", "references=photo")
    assert shell("run", "shoes.csv", *PROMPT, *PAID, *options).code == 0
    assert ", finished, " in shell("run", "shoes.csv", *PROMPT, *PAID, *options).err
    (shell.folder / "photo.jpg").write_bytes(photos[1].read_bytes())
    assert "-2, new run, " in shell("run", "shoes.csv", *PROMPT, *PAID, *options).err


def test_submit_says_when_the_cap_stops_it(shell: Shell) -> None:
    said = shell("submit", "shoes.csv", *PROMPT, "--yes", "--max-usd", "0.01")
    assert said.code == 3
    assert "has no room for more" in said.err


# --- at a terminal -----------------------------------------------------------------------------------------------


def test_a_person_is_asked_once_and_sees_one_table_one_line_and_one_folder(shell: Shell) -> None:
    code, seen = shell.on_a_terminal("run", "shoes.csv", *PROMPT, answer="y\n")
    assert code == 0, seen
    assert seen.count("[y/N]") == 1
    assert "Shoot 6 pictures for about $0.12?" in seen
    assert seen.count("  folder  ") == 1
    assert "batch" not in seen


def test_a_no_sends_nothing(shell: Shell, service: emulator.Service) -> None:
    code, seen = shell.on_a_terminal("run", "shoes.csv", *PROMPT, answer="\n")
    assert code == 3
    assert "nothing was paid" in seen
    assert not (shell.folder / "runs").exists()
    assert service.ledger()["jobs"] == []


def test_bad_rows_are_named_and_the_others_are_offered(shell: Shell) -> None:
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write("sku-x,,red,\n")
    code, seen = shell.on_a_terminal("run", "shoes.csv", *PROMPT[:1], "{{ title }}", answer="y\n")
    assert code == 1, "one row has no picture"
    assert "the prompt is empty, e.g. row 8" in seen
    assert "1 row has a problem. Shoot the other 6" in seen


def test_a_run_is_cancelled_by_its_name_and_says_what_that_means(
    shell: Shell, service: emulator.Service
) -> None:
    assert shell("submit", "shoes.csv", *PROMPT, *PAID).code == 0
    assert shell("cancel").code == 3, "nobody said yes"
    said = shell("cancel", "--yes")
    assert said.code == 0
    assert "1 batch with 6 requests is at the EMULATOR" in said.err
    assert json.loads(shell("status", "--json").out)["outcomes"] == {"cancelled": 6}
    again = shell("cancel", "--yes")
    assert (again.code, "is finished" in again.err) == (2, True)
    assert "was stopped: nothing more is sent for it" in shell("retry", "--outcome", "cancelled").err


def test_a_cancel_counts_the_turns_that_were_not_sent_yet(shell: Shell) -> None:
    (shell.folder / "cars.csv").write_text("id,prompt,prompt_2,prompt_3\ncar,A car,a convertible,in yellow\n")
    assert shell("submit", "cars.csv", *PAID).code == 0
    said = shell("cancel", "cars", "--yes")
    assert "1 batch with 1 request" in said.err
    assert "2 requests not sent" in said.err


def test_the_index_tells_turns_apart_where_there_are_some(shell: Shell) -> None:
    (shell.folder / "cars.csv").write_text("id,prompt,prompt_2\ncar,A car,a convertible\n")
    assert shell("run", "cars.csv", *PAID).code == 0
    head, *rows = shell("index", "cars").out.splitlines()
    assert head.split() == ["key", "shot", "variant", "turn", "outcome", "width", "height", "usd", "path"]
    assert [row.split()[3] for row in rows] == ["0", "1"]


def test_the_runs_of_a_month_share_what_the_job_may_spend_in_it(shell: Shell) -> None:
    job = '[defaults]\nmodel = "gemini-2.5-flash-image"\naspect_ratio = "1:1"\n[shots.main]\nprompt = "{{ title }}"\n'
    (shell.folder / "shoes.toml").write_text('manifest = "shoes.csv"\nmax_usd_month = 0.2\n' + job)
    said = shell("run", "shoes.toml", "--yes")
    assert said.code == 0
    assert "cap $0.20" in said.out
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write("sku-9,Shoe 9,red,\n")
    said = shell("submit", "shoes.toml", "--yes")
    assert said.code == 3
    assert "has no room for more" in said.err
    (shell.folder / "shoes.toml").write_text('manifest = "shoes.csv"\nmax_usd_month = 0.1\n' + job)
    said = shell("run", "shoes.toml", "--yes", "--new")
    assert said.code == 3
    assert "this month's $0.1 for shoes are spent or reserved by its other runs" in said.err


def test_what_ended_without_a_picture_is_asked_once_more_when_a_person_says_so(
    shell: Shell, service: emulator.Service
) -> None:
    service.fault("image_safety", prompt="Shoe 1", times=1)
    assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 1
    said = shell("retry")
    assert "nothing to ask again\n" in said.err
    assert "it has 1 blocked; name what you mean, as in --outcome blocked" in said.err
    said = shell("retry", "--outcome", "blocked", "--yes")
    assert "1 request (1 blocked), for about $0.0" in said.err
    assert said.code == 0
    assert json.loads(shell("status", "--json").out)["outcomes"] == {"ok": 6}
    assert json.loads(shell("index", "--json").out)["rows"] == 6
    takes = json.loads(shell("index", "--takes", "all", "--json").out)["index"]
    assert [(row["take"], row["outcome"]) for row in takes if row["key"] == "sku-1"] == [
        (1, "blocked"),
        (2, "ok"),
    ]


def test_what_a_retry_may_cost_is_heeded_when_the_run_is_over(
    shell: Shell, service: emulator.Service
) -> None:
    service.fault("image_safety", prompt="Shoe 1", times=1)
    assert shell("run", "shoes.csv", *PROMPT, "--yes", "--max-usd", "0.13").code == 1
    paid = service.ledger()["total"]
    said = shell("retry", "--outcome", "blocked", "--yes", "--max-usd", "0.05")
    assert said.code == 3
    assert "is spent or reserved already" in said.err
    assert service.ledger()["total"] == paid
    said = shell("retry", "--outcome", "blocked", *PAID)
    assert said.code == 0
    assert "cap $5.00" in said.out


def test_what_is_not_over_is_not_said_to_be_well(shell: Shell) -> None:
    assert shell("submit", "shoes.csv", *PROMPT, *PAID).code == 0
    said = shell("retry", *PAID)
    assert said.code == 2
    assert "the run is not over, and asks again by itself what came to nothing" in said.err


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("ok", "a run of its own makes another picture"),
        ("blocket", "did you mean 'blocked'?"),
        ("missing,broken", "more than one is --outcome A --outcome B"),
    ],
)
def test_what_has_its_picture_and_what_there_is_no_word_for_is_not_asked_again(
    shell: Shell, service: emulator.Service, word: str, hint: str
) -> None:
    assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 0
    said = shell("retry", "--outcome", word, *PAID)
    assert said.code == 2
    assert f"--outcome {word}: nothing that ends so is asked again" in said.err
    assert hint in said.err
    assert len(service.ledger()["jobs"]) == 1


def test_what_is_held_back_is_asked_again_when_it_is_meant_and_its_price_is_named(
    shell: Shell, service: emulator.Service
) -> None:
    rows = "".join(f"sku-{n},Shoe {n},red,\n" for n in range(10, 30))
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write(rows)
    service.fault("image_safety", prompt="Shoe 3", times=1)
    service.fault("text_only", prompt="Shoe 2")
    service.fault("no_image", prompt="Shoe 4")
    assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 3
    before = service.ledger()["total"]["nanodollars"]
    said = shell("retry", "--outcome", "blocked", *PAID)
    assert "1 request (1 blocked), for about $0.0" in said.err
    assert "held back" not in said.err.splitlines()[1]
    assert said.code == 3, "the others wait as before"
    only = service.ledger()["total"]["nanodollars"] - before
    assert "nothing to ask again of what ended broken" in shell("retry", "--outcome", "broken", *PAID).err
    said = shell("retry", "--outcome", "no_image", *PAID)
    assert "held back with its batch, all of which --outcome text_only asks again" in said.err
    service.clear_faults()
    said = shell("retry", *PAID)
    assert "12 requests held back (11 text_only, 1 no_image), for about $0.2" in said.err
    assert said.code == 0
    assert service.ledger()["total"]["nanodollars"] - before - only > 10 * only


def test_without_a_terminal_bad_rows_stop_and_the_hint_goes_on(shell: Shell) -> None:
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write("sku-x,,red,\n")
    said = shell("run", "shoes.csv", "--prompt", "{{ title }}", *PAID)
    assert said.code == 2
    hint = said.err.partition("6 of 7 rows are good; nightshoot ")[2].strip()
    import shlex

    assert shell(*shlex.split(hint)).code == 1
    index = pd.read_parquet(next((shell.folder / "runs").iterdir()) / "index").set_index("key")
    assert index.loc["sku-x", "outcome"] == "refused_by_plan"
    assert index.loc["sku-x", "message"] == "the prompt is empty"


def test_where_nobody_answers_as_many_bad_rows_are_left_out_as_the_job_bears(shell: Shell) -> None:
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write("sku-x,,red,\n")
    command = ("shoes.csv", "--prompt", "{{ title }}", "--set")
    few = shell("run", *command, "max_bad=10 %", *PAID)
    assert few.code == 2, "a seventh is more than a tenth"
    assert "6 of 7 rows are good; max_bad = 10 % allows fewer bad ones; nightshoot run" in few.err
    assert not (shell.folder / "runs").exists()
    planned = shell("plan", *command, "max_bad=15 %", "--detailed-exitcode")
    assert planned.code == 8, "there is something to send, and nothing is in its way"
    said = shell("run", *command, "max_bad=15 %", *PAID)
    assert said.code == 1, "one row has no picture"
    for told in (planned, said):
        assert "1 of 7 rows has a problem" in told.err
        assert "the prompt is empty, e.g. row 8" in told.err
    index = pd.read_parquet(next((shell.folder / "runs").iterdir()) / "index").set_index("key")
    assert index.loc["sku-x", "outcome"] == "refused_by_plan"


def test_a_price_that_nobody_knows_stops_the_plan_unless_it_is_given(shell: Shell) -> None:
    own = '[models.mine]\nbatch = ["developer"]\nsizes = ["1K"]\nratios = "five"\ncontainer = "PNG"\n'
    own += 'modalities = [["TEXT", "IMAGE"]]\ntokens = { 1K = 1000 }\n'
    (shell.folder / "own.toml").write_text(own)
    asked = ("shoes.csv", "--prompt", "x", "--model", "mine", "--models", "own.toml", "--set", "variants=100")
    said = shell("plan", *asked)
    assert (said.code, said.out) == (2, "")
    assert "mine: no price is known in batches" in said.err
    assert 'give one: [models."mine".prices] in a file for --models' in said.err
    (shell.folder / "own.toml").write_text(
        own + "prices.batch = { text_in = 1, text_out = 2, image_out = 3 }\n"
    )
    assert "price          $1.80  from $1.80 to" in shell("plan", *asked).out


def test_nobody_there_and_no_cap_sends_nothing(shell: Shell) -> None:
    assert shell("run", "shoes.csv", *PROMPT).code == 3
    without = shell("run", "shoes.csv", *PROMPT, "--yes")
    assert without.code == 3
    assert "--max-usd" in without.err
    assert not (shell.folder / "runs").exists()


def test_a_cap_that_is_too_small_says_what_is_left(shell: Shell) -> None:
    said = shell("run", "shoes.csv", *PROMPT, "--yes", "--max-usd", "0.01")
    assert said.code == 3
    assert "6 requests are left for at most" in said.err
    assert shell("run", "shoes.csv", *PROMPT, "--max-usd", "1").code == 0, "raised, it goes on"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on_with_the_same_command(
    shell: Shell, service: emulator.Service, number: signal.Signals, code: int
) -> None:
    service.fault("job_stalled")  # so that it is still at it when the signal comes
    service.fault("stalled", method="download", times=None)
    process = shell.start("run", "shoes.csv", *PROMPT, *PAID, "--new")
    assert process.stderr is not None
    for line in process.stderr:
        if "6 of 6 sent" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert "go on from here with  nightshoot run shoes.csv" in err
    assert "--new" not in err, "that would begin, and pay, once more"
    assert "cancel" not in {event["what"] for event in service.events()}
    service.clear_faults()
    assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 0
    assert len(service.ledger()["jobs"]) == 1


# --- bad input ---------------------------------------------------------------------------------------------------


BAD = {
    "missing file": (("plan", "shoos.csv", *PROMPT), 2, "shoos.csv", "shoes"),
    "unknown column": (
        ("plan", "shoes.csv", "--prompt", "{{ titel }}"),
        2,
        "'titel'",
        "did you mean 'title'?",
    ),
    "unknown model": (
        ("run", "shoes.csv", *PROMPT[:2], "--model", "gemini-9", *PAID),
        2,
        "unknown model",
        "gemini",
    ),
    "unsupported ratio": (
        ("run", "shoes.csv", *PROMPT, "--set", "aspect_ratio=7:3", *PAID),
        2,
        "makes no such ratio, e.g. row 2 7:3",
        "the nearest is 21:9",
    ),
    "unknown option": (("run", "--max-used", "5"), 2, "--max-used", "--help"),
    "unknown command": (("frobnicate",), 2, "frobnicate", "--help"),
    "unknown setting": (
        ("plan", "shoes.csv", *PROMPT, "--set", "modle=x"),
        2,
        "'modle'",
        "did you mean 'model'?",
    ),
    "a --set without a value": (
        ("plan", "shoes.csv", *PROMPT, "--set", "model"),
        2,
        "--set model",
        "name=value",
    ),
    "no such run": (("status", "hats"), 2, "hats", "nightshoot run"),
    "no row chosen": (("plan", "shoes.csv", *PROMPT, "--key", "sku-99"), 2, "no row is chosen", "--key"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_said_with_a_hint_and_nothing_is_sent(
    shell: Shell, service: emulator.Service, what: str
) -> None:
    command, code, says, hint = BAD[what]
    said = shell(*command)
    assert said.code == code, said.all
    assert "error: " in said.err
    assert says in said.err
    assert hint in said.err
    assert "hint: " in said.err or "    " in said.err
    assert "Traceback" not in said.err
    assert service.ledger()["jobs"] == []
    assert not (shell.folder / "runs").exists()


def test_manifests_that_cannot_be_right(shell: Shell) -> None:
    folder = shell.folder
    (folder / "empty.csv").write_text("sku,title\n")
    (folder / "twice.csv").write_text("sku,title\na,1\nb,2\na,3\n")
    (folder / "photos.csv").write_text("sku,photo\na,nowhere.jpg\nb,photos.csv\n")
    assert "no rows below the header" in shell("plan", "empty.csv", *PROMPT).err
    assert "row 4: sku: same key as an earlier row 'a'" in shell("plan", "twice.csv", "--prompt", "x").err
    said = shell("plan", "photos.csv", "--prompt", "x", "--set", "references=photo")
    assert said.code == 2
    assert "reference not found, e.g. row 2 nowhere.jpg" in said.err
    assert "reference is no picture, e.g. row 3 photos.csv" in said.err, "all problems at once"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("run", "shoes.csv", *PROMPT, "--yes", "--max-usd", "inf"), 2),
        (("run", "shoes.csv", *PROMPT, "--yes", "--max-usd", "nan"), 2),
        (("plan", "shoes.csv", *PROMPT, "--set", "seed=99999999999999999999999"), 2),
        (("plan", "."), 2),
        (("init", "shoes.csv", "-o", "/proc/nope.toml"), 5),
        (("index", "--rows", "-5"), 2),
    ],
)
def test_nothing_a_person_can_cause_is_a_bug(shell: Shell, command: tuple[str, ...], code: int) -> None:
    said = shell(*command)
    assert said.code == code, said.all
    assert "bug" not in said.err
    assert "error: " in said.err


def test_an_index_that_cannot_be_written_is_said(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    said = shell("index", "-o", "nowhere/all.csv")
    assert said.code == 2
    assert "cannot be written" in said.err


def test_an_odd_key_is_denied_before_anything_is_tried(shell: Shell) -> None:
    shell.environment["GEMINI_API_KEY"] = "kéy"
    said = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert said.code == 4
    assert "copy it again" in said.err


def test_a_table_of_the_run_that_was_cut_exits_7(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    part = next((next((shell.folder / "runs").iterdir()) / "index").iterdir())
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:100])
    assert shell("index").code == 7


def test_no_key_in_the_environment(shell: Shell) -> None:
    del shell.environment["GEMINI_API_KEY"]
    said = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert said.code == 4
    assert "GEMINI_API_KEY" in said.err


def test_another_service_than_the_run_s(shell: Shell, service: emulator.Service) -> None:
    """A run made on an emulator is never gone on with as a real one, or the other way round."""
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    with emulator.start() as other:
        shell.environment |= other.environment()
        said = shell("tick")
        assert said.code == 2
        assert service.url in said.err
        assert re.match(r"shoes-2026-11-21-2, new run", shell("run", "shoes.csv", *PROMPT, *PAID).err)


def test_every_output_of_a_run_on_an_emulator_says_so(shell: Shell) -> None:
    """On stdout as well, which may be kept without the first line on stderr; and in every document."""
    job = ("shoes.csv", *PROMPT, *PAID)
    assert "EMULATOR" in shell("submit", *job).out
    assert json.loads(shell("run", *job, "--json").out)["emulator"] is True
    for command in (("run", *job), ("status",), ("tick",), ("poll",), ("collect",)):
        assert "EMULATOR" in shell(*command).out, command
        assert json.loads(shell(*command, "--json").out)["emulator"] is True, command
    assert "EMULATOR" in shell("index").err, "its stdout is the table alone"
    assert json.loads(shell("index", "--json").out)["emulator"] is True
    assert "EMULATOR" in shell("index", "-o", "shoes.jsonl").out


def test_a_shell_that_still_exports_an_emulator_that_is_gone_is_told_what_to_unset(shell: Shell) -> None:
    with emulator.start() as other:
        shell.environment |= other.environment()
    said = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert said.code == 5
    assert f"this shell exports the address of an emulator, {other.url.removeprefix('http://')}" in said.err
    assert set(other.environment()) <= set(said.err.split())


def test_a_run_of_a_newer_format_is_refused(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    first = next((shell.folder / "runs").iterdir()) / "journal" / "00000000.json"
    text = first.read_text()
    first.chmod(0o644)
    first.write_text(text.replace('"format":1', '"format":2'))
    said = shell("status")
    assert said.code == 2
    assert "format 2" in said.err
    assert "update" in said.err


def test_a_directory_that_belongs_to_another_job_is_not_gone_on_with(shell: Shell) -> None:
    """Same job name, other manifest, and something was sent: a person decides."""
    shell("submit", "shoes.csv", *PROMPT, *PAID)
    write_rows(shell.folder / "shoes.csv", 7)
    said = shell("run", "shoes.csv", *PROMPT, *PAID)
    assert said.code == 3
    assert "--new" in said.err


# --- manners -----------------------------------------------------------------------------------------------------

COMMANDS = (
    "init",
    "proof",
    "plan",
    "run",
    "demo",
    "rehearse",
    "tick",
    "status",
    "index",
    "review",
    "submit",
    "poll",
    "collect",
)


@pytest.mark.parametrize("words", [(), ("review",)])
def test_who_names_no_command_is_told_which_there_are(shell: Shell, words: tuple[str, ...]) -> None:
    said = shell(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"Usage: {' '.join(['nightshoot', *words])} ")
    assert "error" not in said.err


def test_help_fits_one_screen_in_groups(shell: Shell) -> None:
    said = shell("--help")
    assert said.code == 0
    assert len(said.out.splitlines()) <= 42
    assert max(map(len, said.out.splitlines())) <= 100
    for title in ("Shoot:", "Every night:", "Look inside:", "Pieces:"):
        assert title in said.out
    assert "..." not in said.out.partition("Shoot:")[2], "a help line that is cut helps nobody"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_s_help_shows_an_example(shell: Shell, command: str) -> None:
    said = shell(command, "--help")
    assert said.code == 0
    assert f"\n    nightshoot {command}" in said.out


def test_people_read_pictures_and_dollars_and_nothing_of_the_code(
    shell: Shell, service: emulator.Service
) -> None:
    """All the output of ordinary commands, held to the words of people."""
    service.fault("no_image", prompt="Shoe 2")
    seen = [shell(command, "--help").all for command in COMMANDS]
    for command in (
        ("init", "shoes.csv"),
        ("plan",),
        ("proof", *PAID, "--rows", "1"),
        ("submit", *PAID),
        ("status",),
        ("tick",),
        ("run", *PAID),
        ("status",),
        ("index",),
        ("run", "--max-usd", "0.001", "--new", "--yes"),
    ):
        seen.append(shell(*command).all)
    found = {match[0] for text in seen for match in INSIDE.finditer(text)}
    assert not found


def test_what_is_not_needed_is_not_imported(shell: Shell, service: emulator.Service) -> None:
    """--help, usage errors, status and the plan of a CSV start fast because they load little."""
    shell("run", "shoes.csv", *PROMPT, *PAID)
    heavy = ("google.genai", "google.cloud.storage", "pandas", "PIL", "httpx2", "starlette", "rich")
    code = (
        "import sys\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write('LOADED ' + ' '.join(m for m in {heavy!r} + ('pyarrow', 'jinja2') if m in sys.modules))"
    )
    for command, allowed in {
        ("--help",): set(),
        ("run", "--help"): set(),
        ("frobnicate",): set(),
        ("status",): {"pyarrow", "jinja2"},
        ("plan", "shoes.csv", *PROMPT): {"pyarrow", "jinja2"},
    }.items():
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            cwd=shell.folder,
            env=shell.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert set(done.stderr.rpartition("LOADED")[2].split()) <= allowed, command


def test_a_reader_that_stops_early_is_no_error(shell: Shell) -> None:
    shell("run", "shoes.csv", *PROMPT, *PAID)
    process = shell.start("index", "--rows", "0")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 0


def test_a_key_never_appears(shell: Shell, service: emulator.Service) -> None:
    """Neither in what is said, nor in any file of the run."""
    secret = "AIzaSecretSecretSecretSecret9a3f"
    shell.environment["GEMINI_API_KEY"] = secret
    said = shell.process("run", "shoes.csv", *PROMPT, *PAID, "-vv")
    assert said.code == 0
    assert "key ...9a3f" in said.err
    assert secret not in said.all
    files = [path for path in (shell.folder / "runs").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_run_of_fifty_rows_has_few_files_beside_the_pictures(shell: Shell) -> None:
    write_rows(shell.folder / "shoes.csv", 50)
    assert shell("run", "shoes.csv", *PROMPT, *PAID).code == 0
    run = next((shell.folder / "runs").iterdir())
    files = [path for path in run.rglob("*") if path.is_file() and "pictures" not in path.parts]
    assert len(files) < 30, [str(path.relative_to(run)) for path in files]


def test_the_demo_shows_a_whole_run_and_works_again(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {})
    for name in ("shoes", "shoes"):
        said = shell.process("demo")
        assert said.code == 0, said.err
        assert "24 of 24 pictures on disk" in said.out
        assert name in said.out
    assert len(list((tmp_path / "demo" / "runs").iterdir())) == 2
    shutil.rmtree(tmp_path / "demo")


def test_the_house_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--version"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.match(r"nightshoot \d+\.\d+", done.stdout), done.stderr


def test_a_saved_plan_is_run_as_it_was_agreed_and_refused_where_anything_changed(shell: Shell) -> None:
    assert (
        shell("plan", "shoes.csv", "--prompt", "{{ title }}", "--limit", "3", "--save", "plan.json").code == 0
    )
    manifest = shell.folder / "shoes.csv"
    before = manifest.read_bytes()
    manifest.write_bytes(before.replace(b"Shoe 1", b"Clog 1"))
    refused = shell("run", "plan.json", "--yes", "--max-usd", "5")
    assert refused.code == 3
    assert "not as it was planned any more: manifest" in refused.err
    manifest.write_bytes(before)
    done = shell("run", "plan.json", "--yes", "--max-usd", "5")
    assert done.code == 0, done.err
    assert "3 of 3 pictures on disk" in done.out


def test_an_index_is_followed_to_the_end_of_its_run(shell: Shell) -> None:
    """The rows of a finished run come at once, a line each; and nothing is written beside that."""
    shell("run", "shoes.csv", *PROMPT, *PAID)
    said = shell("index", "--follow", "--columns", "key,outcome", "--where", "key != 'sku-3'")
    assert said.code == 0, said.err
    assert sorted(said.out.splitlines()) == [f"sku-{n}  ok" for n in (0, 1, 2, 4, 5)]
    lines = [json.loads(line) for line in shell("index", "--follow", "--json").out.splitlines()]
    assert sorted(line["row"]["key"] for line in lines) == [f"sku-{n}" for n in range(6)]
    assert {line["emulator"] for line in lines} == {True}
    refused = shell("index", "--follow", "-o", "all.csv")
    assert (refused.code, "writes no file" in refused.err) == (2, True)


def test_a_plan_says_what_a_cap_is_enough_for(shell: Shell) -> None:
    said = shell("plan", "shoes.csv", *PROMPT, "--max-usd", "0.05")
    assert "cap            $0.05  not enough: for 2 of 6 in the worst case, 2 if likely" in said.out
    document = json.loads(shell("plan", "shoes.csv", *PROMPT, "--max-usd", "5", "--json").out)
    assert document["cap"] == {"usd": 5.0, "words": "enough in the worst case"}
    assert shell("plan", "shoes.csv", *PROMPT, "--json").code == 0
    (shell.folder / "shoes.toml").write_text(
        'manifest = "shoes.csv"\nmax_usd = 7\n[night]\ncanary = 2\n[shots.a]\nprompt = "{{ title }}"\n'
    )
    said = shell("plan", "shoes.toml")
    assert "cap            $7.00  enough in the worst case" in said.out
    assert "canary             2  of each model go first" in said.out
