"""A job, its plan and its run, as a notebook has them. Real runs on the emulator."""

import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import nightshoot
from pipeline import emulator
from pipeline.clock import EmulatorClock
from pipeline.manifest import frame_manifest
from pipeline.overview import problem_lines
from pipeline.storage import open_storage
from pipeline.survey import begin, planner, survey
from tests.bench import Bench, write_rows

ROOT = Path(__file__).parent.parent
PROMPT = "Studio photo of {{ title }} in {{ colour }}"
CHEAP = {"prompt": PROMPT, "model": "gemini-2.5-flash-image", "aspect_ratio": "1:1"}
ONE_BY_ONE = {"max_requests": 1}


@pytest.fixture
def desk(service: emulator.Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The folder a notebook is in, and the environment it has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NIGHTSHOOT_RUNS", raising=False)
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    return Bench(service, tmp_path)


def shoes(count: int = 4) -> pd.DataFrame:
    colours = ["red", "green", "blue", "olive"]
    return pd.DataFrame(
        [{"sku": f"s{n}", "title": f"Shoe {n}", "colour": colours[n % 4]} for n in range(count)]
    )


def in_another_process(script: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- a job and its plan ------------------------------------------------------------------------------------------


def test_a_plan_has_prices_in_dollars_and_requests_as_a_table(desk: Bench):
    plan = nightshoot.job(rows=shoes(3), shots={"hero": PROMPT, "side": "Side view of {{ title }}"}).plan()
    assert 0 < plan.usd.low < plan.usd.likely < plan.usd.high < 1
    assert list(plan.requests.columns) == ["key", "shot", "variant", "prompt", "model", "references", "usd"]
    assert list(plan.requests["key"]) == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert plan.requests["prompt"][0] == "Studio photo of Shoe 0 in red"
    assert plan.requests["usd"].sum() == pytest.approx(plan.usd.likely, rel=0.01), (
        "but for what is bought again"
    )
    assert plan.problems.empty
    assert "of 3 rows; 3 hero, 3 side" in repr(plan)
    assert plan._repr_html_().startswith("<pre>  pictures")


def test_a_plan_may_be_of_some_rows(desk: Bench):
    job = nightshoot.job(rows=shoes(8), **CHEAP)
    assert list(job.plan(limit=2).requests["key"]) == ["s0", "s1"]
    assert list(job.plan(where="colour == 'red'").requests["key"]) == ["s0", "s4"]
    assert list(job.plan(keys=["s7"], where="colour == 'olive'").requests["key"]) == ["s7"]
    assert list(job.plan(where="colour == 'red'", limit=1).requests["key"]) == ["s0"]


def test_cells_of_a_frame_are_text(desk: Bench):
    rows = pd.DataFrame(
        {"n": [1.0, None], "tags": [["a", "b"], None], "on": [True, False], "name": [float("nan"), "NA"]}
    )
    told = nightshoot.job(rows=rows, prompt="{{ n }}/{{ tags }}/{{ on }}/{{ name }}").plan()
    assert list(told.requests["prompt"]) == ["1/a|b/true/", "//false/NA"]


def test_photos_of_a_frame_are_relative_to_the_working_folder(desk: Bench):
    (desk.folder / "photos").mkdir()
    Image.new("RGB", (8, 8), "red").save(desk.folder / "photos" / "s0.png")
    rows = shoes(2).assign(photo=["photos/s0.png", "photos/s1.png"])
    plan = nightshoot.job(rows=rows, references=["photo"], **CHEAP).plan()
    assert list(plan.requests["references"]) == [["photos/s0.png"]]
    assert plan.problems.to_dict("records")[0] | {"hint": ""} == {
        "row": 2,
        "key": "s1",
        "column": "references",
        "value": "photos/s1.png",
        "message": "reference not found",
        "hint": "",
    }
    assert "s0.png" in plan.problems["hint"][0]


def test_every_problem_is_a_line_and_what_two_shots_share_is_said_once(desk: Bench):
    rows = shoes(30).assign(title="")
    shots = {"hero": "{{ title }}", "side": "{{ title }}"}
    plan = nightshoot.job(rows=rows, shots=shots).plan()
    assert len(plan.problems) == 30
    assert list(plan.problems["row"]) == list(range(1, 31))
    assert plan.requests.empty
    assert "30 rows: the prompt is empty" in repr(plan)


def test_a_job_is_a_file_its_name_or_a_manifest(desk: Bench):
    write_rows(desk.folder / "shoes.csv", 2)
    (desk.folder / "jobs").mkdir()
    text = (
        'manifest = "../shoes.csv"\n[shots.hero]\nprompt = "{{ title }}"\nmodel = "gemini-2.5-flash-image"\n'
    )
    (desk.folder / "jobs" / "shoes.toml").write_text(text, encoding="utf-8")
    for path in ("jobs/shoes.toml", "shoes", Path("jobs/shoes.toml")):
        assert repr(nightshoot.job(path)) == "job shoes: ../shoes.csv, hero"
    assert list(nightshoot.job("shoes", prompt="Just {{ sku }}").plan().requests["prompt"]) == [
        "Just sku-0",
        "Just sku-1",
    ]
    assert nightshoot.job("shoes.csv", **CHEAP, name="quick").name == "quick"


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "either a path or rows"),
        ({"path": "shoes.csv", "rows": shoes()}, "either a path or rows"),
        ({"rows": [{"sku": "a"}]}, "rows is a list, no DataFrame"),
        ({"path": "nothing.toml"}, "no such job"),
        ({"path": "jobs.toml", "shots": {"hero": "x"}}, "has shots of its own"),
        ({"rows": shoes(), "promt": "x"}, "unknown key 'promt'"),
        ({"rows": shoes(), "name": "../elsewhere"}, "not a name for a job"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(desk: Bench, said, complaint):
    with pytest.raises(nightshoot.BadInput, match=complaint):
        nightshoot.job(**said)


def test_a_traceback_shows_the_hint():
    """A notebook shows nothing else of an error."""
    with pytest.raises(nightshoot.BadInput) as caught:
        nightshoot.job()
    assert 'hint: nightshoot.job("jobs/shoes.toml")' in "".join(traceback.format_exception(caught.value))


# --- what submit refuses -----------------------------------------------------------------------------------------


def test_a_cap_is_required_and_is_a_number_of_dollars(desk: Bench):
    plan = nightshoot.job(rows=shoes(), **CHEAP).plan()
    with pytest.raises(TypeError, match="max_usd"):
        plan.submit()
    for cap in (None, 0, -1, float("nan"), float("inf"), "5"):
        with pytest.raises(nightshoot.BadInput, match="max_usd"):
            plan.submit(max_usd=cap)
    assert not (desk.folder / "runs").exists()
    assert not desk.paid()


def test_bad_rows_are_refused_in_the_words_of_the_command_and_left_out_if_asked(desk: Bench):
    rows = shoes(4)
    rows.loc[2, "title"] = ""
    plan = nightshoot.job(rows=rows, **(CHEAP | {"prompt": "{{ title }}"})).plan()
    with pytest.raises(nightshoot.BadInput) as caught:
        plan.submit(max_usd=1)
    assert caught.value.message.splitlines() == problem_lines(plan._found)
    assert caught.value.hint == "submit(..., skip_bad=True) shoots the other 3 pictures"
    assert not (desk.folder / "runs").exists()
    borne = nightshoot.job(rows=rows, **(CHEAP | {"prompt": "{{ title }}", "max_bad": "25 %"})).plan()
    assert borne.submit(max_usd=1).wait().outcomes == {"ok": 3, "refused_by_plan": 1}
    run = plan.submit(max_usd=1, skip_bad=True)
    assert run.wait().outcomes == {"ok": 3, "refused_by_plan": 1}
    assert list(run.index(where="outcome != 'ok'")["key"]) == ["s2"]
    assert run.status().left_out == 1


def test_without_a_key_nothing_is_begun(desk: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(nightshoot.Denied, match="no API key"):
        nightshoot.job(rows=shoes(), **CHEAP).plan().submit(max_usd=1)
    assert not (desk.folder / "runs").exists()


def test_a_manifest_that_changed_since_the_plan_is_not_sent(desk: Bench):
    write_rows(desk.folder / "shoes.csv", 2)
    plan = nightshoot.job("shoes.csv", **CHEAP).plan()
    write_rows(desk.folder / "shoes.csv", 2000)
    with pytest.raises(nightshoot.BadInput, match=r"shoes\.csv: changed since it was planned"):
        plan.submit(max_usd=100)
    assert not desk.paid()


def test_a_frame_may_change_in_the_cells_between(desk: Bench):
    rows = shoes(2)
    plan = nightshoot.job(rows=rows, **CHEAP).plan()
    rows.loc[:, "title"] = "Hat"
    run = plan.submit(max_usd=1)
    run.wait()
    assert list(run.index()["prompt"]) == ["Studio photo of Shoe 0 in red", "Studio photo of Shoe 1 in green"]


# --- a run -------------------------------------------------------------------------------------------------------


def test_a_cell_that_runs_twice_pays_once(desk: Bench):
    def cell() -> nightshoot.Run:
        return nightshoot.job(rows=shoes(2), **CHEAP, batches=ONE_BY_ONE).plan().submit(max_usd=1)

    first, second = cell(), cell()
    assert first.url == second.url
    second.wait()
    third = cell()
    assert (third.url, third.status().finished) == (first.url, True)
    assert set(desk.paid().values()) == {1}
    assert len(desk.paid()) == 2
    plan = nightshoot.job(rows=shoes(2), **CHEAP, batches=ONE_BY_ONE).plan()
    assert plan.submit(max_usd=1, new=True).url == f"{first.url}-2"
    assert len(desk.paid()) == 4


def test_an_edited_job_whose_run_is_under_way_is_a_question(desk: Bench):
    nightshoot.job(rows=shoes(2), **CHEAP).plan().submit(max_usd=1)
    edited = nightshoot.job(rows=shoes(3), **CHEAP).plan()
    with pytest.raises(nightshoot.Refused, match="the job was edited") as caught:
        edited.submit(max_usd=1)
    assert "new=True" in caught.value.hint
    assert edited.submit(max_usd=1, new=True).wait().pictures == 3


def test_the_cap_holds_and_a_higher_one_goes_on_with_the_same_run(desk: Bench):
    plan = nightshoot.job(rows=shoes(4), **CHEAP, batches=ONE_BY_ONE).plan()
    run = plan.submit(max_usd=plan.usd.high * 0.6)
    assert run.status().sent == 2
    with pytest.raises(nightshoot.Refused, match="has no room for more"):
        run.wait()
    assert desk.bill() / 1e9 <= run.status().usd.cap == pytest.approx(plan.usd.high * 0.6)
    higher = plan.submit(max_usd=plan.usd.high)
    assert (higher.url, higher.wait().pictures) == (run.url, 4)
    assert set(desk.paid().values()) == {1}
    assert run.status().usd.spent == desk.bill() / 1e9
    low = nightshoot.job(rows=shoes(5), **CHEAP, name="low").plan().submit(max_usd=1)
    with pytest.raises(nightshoot.Refused, match=r"max_usd=0\.001"):
        nightshoot.job(rows=shoes(5), **CHEAP, name="low").plan().submit(max_usd=0.001)
    assert low.status().usd.cap == 1


def test_a_run_of_a_frame_is_finished_by_another_process_that_has_no_frame(desk: Bench):
    run = nightshoot.job(rows=shoes(3), **CHEAP, name="caps", batches=ONE_BY_ONE).plan().submit(max_usd=1)
    assert run.status().sent == 3
    script = f"import nightshoot; print(nightshoot.open_run({run.url!r}).wait().pictures)"
    other = in_another_process(script, desk.folder)
    out, err = other.communicate(timeout=60)
    assert out == "3\n", err
    assert "3 pictures on disk" in err
    assert run.status().finished
    assert run.wait().pictures == 3


def test_a_frame_whose_planning_was_cut_short_is_planned_on_from_the_same_frame(desk: Bench):
    job = nightshoot.job(rows=shoes(4), **CHEAP, name="caps", batches=ONE_BY_ONE)
    plan = job.plan()
    rows = frame_manifest(shoes(4), "caps")
    found = survey(job._job, manifest=rows)
    url = desk.service.url
    storage = open_storage("runs/caps-2026-11-21")
    cut = begin(
        found, name="caps-2026-11-21", storage=storage, service=url, clock=EmulatorClock(url), cap=10**9
    )
    planner(found, cut).draw()

    with pytest.raises(nightshoot.BadInput, match="not all rows are planned yet"):
        nightshoot.open_run("caps").wait()
    run = plan.submit(max_usd=1)
    assert (run.name, run.wait().pictures) == ("caps-2026-11-21", 4)
    assert set(desk.paid().values()) == {1}


def test_looking_at_a_run_needs_no_key_and_going_on_with_it_does(
    desk: Bench, monkeypatch: pytest.MonkeyPatch
):
    done = nightshoot.job(rows=shoes(1), **CHEAP).plan().submit(max_usd=1)
    done.wait()
    half = nightshoot.job(rows=shoes(2), **CHEAP, name="half").plan().submit(max_usd=1)
    for name in ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "NIGHTSHOOT_CLOCK"):
        monkeypatch.delenv(name)
    seen = nightshoot.open_run(half.url)
    assert (seen.status().sent, seen.status().pictures, len(seen.index())) == (2, 0, 0)
    with pytest.raises(nightshoot.BadInput, match="this run talks to"):
        seen.tick()
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", desk.service.url)
    with pytest.raises(nightshoot.Denied, match="no API key"):
        seen.wait()
    assert nightshoot.open_run(done.url).wait().finished


def test_a_tick_does_what_can_be_done_and_waits_for_nothing(desk: Bench):
    run = nightshoot.job(rows=shoes(2), **CHEAP).plan().submit(max_usd=1)
    before = desk.service.clock()
    status = run.tick()
    assert (status.finished, status.sent, status.pictures) == (False, 2, 0)
    assert desk.service.clock() == before
    desk.service.advance(3600)
    assert nightshoot.open_run().tick().pictures == 2


def test_a_status_reads_as_the_command_says_it(desk: Bench):
    desk.service.fault("prompt_blocked", prompt="Shoe 1")
    run = nightshoot.job(rows=shoes(2), **CHEAP).plan().submit(max_usd=1)
    status = run.wait()
    lines = repr(status).splitlines()
    assert lines[0] == f"{run.name}, finished, to the EMULATOR at {desk.service.url} (Developer API)"
    assert "  pictures  1 of 2 on disk" in lines
    assert "  others    1 blocked for safety" in lines
    assert repr(run) == repr(status)
    assert status._repr_html_().startswith("<pre>notebook-2026-11-21, finished")
    assert status.usd.spent == desk.bill() / 1e9
    assert (status.usd.reserved, status.usd.cap, status.outcomes) == (0, 1, {"blocked": 1, "ok": 1})


def test_an_interrupted_wait_leaves_google_s_jobs_alone(desk: Bench):
    """Without the emulator's clock, its time stands still while ours goes by: the wait never ends by itself."""
    script = (
        "import nightshoot, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background shell may ignore it
        "import pandas\n"
        "rows = pandas.DataFrame({'sku': ['a', 'b'], 'title': ['Boot', 'Clog'], 'colour': ['red', 'blue']})\n"
        f"nightshoot.job(rows=rows, **{CHEAP!r}).plan().submit(max_usd=1).wait()\n"
    )
    waiting = in_another_process(script, desk.folder, NIGHTSHOOT_CLOCK="")
    assert waiting.stderr is not None
    assert "2 of 2 sent, 0 pictures on disk" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert err.splitlines()[-2:] == [
        "KeyboardInterrupt",
        "Google goes on with what was sent; the same call goes on from here",
    ]
    assert not [event for event in desk.service.events() if "cancel" in str(event)]
    assert nightshoot.open_run().wait().pictures == 2
    assert set(desk.paid().values()) == {1}


def test_pictures_are_a_stream_of_rows_with_their_bytes(desk: Bench):
    desk.service.fault("prompt_blocked", prompt="Shoe 1")
    run = nightshoot.job(rows=shoes(3), **CHEAP, batches=ONE_BY_ONE).plan().submit(max_usd=1)
    run.wait()
    pictures = run.pictures()
    assert iter(pictures) is pictures
    found = {}
    for picture in pictures:
        found[picture.row["key"]] = picture.path
        assert hashlib.sha256(picture.read()).hexdigest() == picture.row["sha256"]
        with picture.open() as file:
            assert file.read() == Path(picture.path).read_bytes()
    assert list(found) == ["s0", "s2"]


def test_a_gallery_is_small_and_holds_keys_of_any_kind(desk: Bench):
    rows = shoes(3).assign(sku=["<script>alert(1)</script>", 'a"b&c', "plain"])
    desk.service.fault("prompt_blocked", prompt="Shoe 2")
    run = nightshoot.job(rows=rows, **CHEAP).plan().submit(max_usd=1)
    run.wait()
    page = run.show(12)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, main, ok" in page
    assert 'alt="a&quot;b&amp;c, main, ok"' in page
    assert "2 of 3 pictures in runs/notebook-2026-11-21; others: 1 blocked for safety" in page
    for uri in page.split('src="')[1:]:
        data = base64.b64decode(uri.partition('"')[0].removeprefix("data:image/jpeg;base64,"))
        assert len(data) < 30_000
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, max(image.size)) == ("JPEG", 192)
    assert page.count("<img ") == 2
    assert run.show(1)._repr_html_().count("<img ") == 1


def test_a_gallery_says_which_file_is_gone(desk: Bench):
    run = nightshoot.job(rows=shoes(2), **CHEAP).plan().submit(max_usd=1)
    run.wait()
    gone = next(run.pictures())
    Path(gone.path).unlink()
    shown = run.show()
    assert f"s0, main, ok, the file is gone  {gone.path}" in repr(shown)
    assert shown._repr_html_().count("<img ") == 1


def test_what_waits_to_be_asked_again_is_an_index_of_its_own(desk: Bench):
    desk.service.fault("text_only", prompt="Shoe 1", times=1)
    run = nightshoot.job(rows=shoes(20), **CHEAP).plan().submit(max_usd=1)
    with pytest.raises(nightshoot.Refused, match="came to nothing for one reason") as refused:
        run.wait()
    assert f"nightshoot index {run.name} --again shows them" in refused.value.hint
    waiting = run.index(again=True, columns=["key", "outcome", "text"], where="outcome == 'text_only'")
    assert (len(run.index()), len(waiting), run.status().again) == (9, 11, 11)
    assert waiting["text"].str.contains("I cannot draw").all()
    with pytest.raises(nightshoot.BadInput, match="what waits has one answer, its last"):
        run.index(again=True, takes="all")


def test_runs_live_where_the_environment_or_the_notebook_says(desk: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NIGHTSHOOT_RUNS", "elsewhere")
    plan = nightshoot.job(rows=shoes(1), **CHEAP).plan()
    assert plan.submit(max_usd=1).url.endswith("elsewhere/notebook-2026-11-21")
    assert nightshoot.open_run().name == "notebook-2026-11-21"
    said = nightshoot.job(rows=shoes(1), **CHEAP, runs=desk.folder / "third").plan().submit(max_usd=1)
    assert nightshoot.open_run(runs=desk.folder / "third").url == said.url
    with pytest.raises(nightshoot.BadInput, match="no runs in fourth"):
        nightshoot.open_run(runs="fourth")
