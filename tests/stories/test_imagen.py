"""Imagen on Vertex AI: asked at once, paid by the picture, and brought home as everything else is."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.earlier import night
from pipeline.errors import Refused
from pipeline.events import Capped
from pipeline.index import read_index
from pipeline.run import Run
from pipeline.survey import begin, planner, survey
from pipeline.takes import draw, failed
from pipeline.tally import tally
from tests.bench import Bench, outcomes, write_rows
from tests.shell import Shell
from tests.stories.processes import finish, kill, release, start

IMAGEN = "imagen-4.0-generate-001"
PRICES = {
    "imagen-3.0-generate-001": 40_000_000,
    "imagen-3.0-generate-002": 40_000_000,
    "imagen-4.0-generate-001": 40_000_000,
    "imagen-4.0-fast-generate-001": 20_000_000,
    "imagen-4.0-ultra-generate-001": 60_000_000,
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(0, 0), run=(0, 0), picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    """Six rows for Imagen."""
    bench = Bench(service, tmp_path, key="catalog")
    job_of(bench)
    return bench


def job_of(bench: Bench, **said: Any) -> None:
    """A job for Imagen, quick enough for a test: a hundred calls a minute."""
    there = {"backend": "vertex", "bucket": "shoes/night", "online": {"per_minute": 100}}
    bench.make_job(**({"model": IMAGEN, "max_requests": 40} | there | said))


def calls(bench: Bench) -> int:
    return len(bench.service.ledger()["calls"])


def assert_paid_once(bench: Bench, run: Run) -> None:
    """Spent is what the ledger has, to the billionth; nothing is open, and nothing went in a batch."""
    run.catch_up()
    assert run.state.finished
    assert run.state.spent == bench.bill()
    assert run.state.unconfirmed == run.state.reserved == run.state.overrun == 0
    assert bench.service.ledger()["jobs"] == []


@pytest.mark.parametrize("model", PRICES)
def test_every_imagen_runs_to_its_end_at_the_price_the_plan_said(bench: Bench, model: str) -> None:
    job_of(bench, model=model)
    found = survey(bench.job, base=bench.folder)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert set(index["model"]) == {model}
    assert list(zip(index["width"], index["height"], strict=True)) == [(1024, 1024)] * 6
    assert found.price.low == found.price.likely == 6 * PRICES[model] == bench.bill()
    assert calls(bench) == 6
    assert_paid_once(bench, driver.run)


# --- what is asked -----------------------------------------------------------------------------------------------


def requests_of(bench: Bench) -> list[dict[str, Any]]:
    """The bodies that were sent, as the run holds them."""
    storage = bench.place()
    names = [name for name in storage.list("requests/") if name.endswith(".jsonl")]
    lines = [line for name in names for line in storage.read(name).split(b"\n") if line]
    return [json.loads(line)["predict"] for line in lines]


def test_four_pictures_of_one_call_are_four_results_in_order(bench: Bench) -> None:
    """One request, one call, one row of the index; its first picture counts, and the others stand beside it."""
    job_of(bench, rows=2, pictures=4)
    found = survey(bench.job, base=bench.folder)
    assert (found.requests, found.price.images, found.price.likely) == (2, 8, 320_000_000)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 2}
    assert calls(bench) == 2
    for row in index.to_dict("records"):
        shown = list(row["pictures"])
        assert [one["role"] for one in shown] == ["final", "alternative", "alternative", "alternative"]
        assert len({one["sha256"] for one in shown}) == 4
        assert row["path"] == shown[0]["path"]
        names = [one["path"].rpartition("/")[2] for one in shown]
        assert names == sorted(names)
        assert [name.split("-hero-")[-1].split("-main-")[-1][:3] for name in names] == [
            "0-1",
            "0-2",
            "0-3",
            "0-4",
        ]
        for one in shown:
            data = driver.run.storage.read(one["path"])
            assert hashlib.sha256(data).hexdigest() == one["sha256"]
            assert Image.open(io.BytesIO(data)).size == (1024, 1024)
        assert len(row["checks"]) == 0
    assert index["usd"].tolist() == [0.16, 0.16]
    assert_paid_once(bench, driver.run)


@pytest.mark.parametrize(
    ("ratio", "size", "pixels"),
    [
        ("1:1", None, (1024, 1024)),
        ("3:4", "1K", (896, 1280)),
        ("4:3", "1K", (1280, 896)),
        ("9:16", "1K", (768, 1408)),
        ("16:9", "1K", (1408, 768)),
        ("1:1", "2K", (2048, 2048)),
        ("3:4", "2K", (1792, 2560)),
        ("4:3", "2K", (2560, 1792)),
        ("9:16", "2K", (1536, 2816)),
        ("16:9", "2K", (2816, 1536)),
    ],
)
def test_every_ratio_and_size_is_what_the_table_says_in_pixels(
    bench: Bench, ratio: str, size: str | None, pixels: tuple[int, int]
) -> None:
    job_of(bench, rows=1, aspect_ratio=ratio, image_size=size)
    run = run_of(bench)
    (row,) = read_index(run).to_dict("records")
    assert (row["outcome"], row["width"], row["height"]) == ("ok", *pixels)
    assert row["effective"] == {"aspect_ratio": ratio, "image_size": size or "1K", "thinking": None}
    assert Image.open(io.BytesIO(run.storage.read(row["path"]))).size == pixels
    assert_paid_once(bench, run)


def run_of(bench: Bench) -> Run:
    driver = bench.begin()
    driver.to_the_end()
    return driver.run


def test_everything_that_imagen_can_be_asked_is_said_and_kept(bench: Bench) -> None:
    said: dict[str, Any] = {
        "pictures": 2,
        "negative_prompt": "rain on {{ colour }}",
        "person_generation": "allow_all",
        "safety_filter": "high",
        "guidance": 7.5,
        "language": "en",
        "enhance_prompt": True,
        "watermark": False,
        "output": "jpeg",
        "quality": 80,
        "safety_scores": True,
    }
    job_of(bench, rows=1, seed=7, labels={"team": "shoes"}, **said)
    run = run_of(bench)
    assert requests_of(bench) == [
        {
            "instances": [{"prompt": "Studio photo of Shoe 0 in red"}],
            "parameters": {
                "sampleCount": 2,
                "includeRaiReason": True,
                "aspectRatio": "1:1",
                "negativePrompt": "rain on red",
                "personGeneration": "ALLOW_ALL",
                "safetySetting": "BLOCK_ONLY_HIGH",
                "seed": 7,
                "guidanceScale": 7.5,
                "language": "en",
                "enhancePrompt": True,
                "addWatermark": False,
                "includeSafetyAttributes": True,
                "outputOptions": {"mimeType": "image/jpeg", "compressionQuality": 80},
            },
        }
    ]
    (row,) = read_index(run).to_dict("records")
    assert row["imagen"] == said | {"negative_prompt": "rain on red"}
    assert (row["outcome"], row["mime"], row["seed"]) == ("ok", "image/jpeg", 7)
    assert row["enhanced_prompt"] == "Studio photo of Shoe 0 in red, in soft light"
    assert [one["enhanced_prompt"] for one in row["pictures"]] == [row["enhanced_prompt"]] * 2
    told = json.loads(row["safety_scores"])
    assert [each.get("contentType") for each in told] == [None, None, "Positive Prompt"]
    assert all(len(each["safetyAttributes"]["scores"]) == 6 for each in told)
    assert row["prompt_tokens"] is None or row["prompt_tokens"] != row["prompt_tokens"]
    assert_paid_once(bench, run)


def test_what_is_not_said_is_left_to_the_service(bench: Bench) -> None:
    job_of(bench, rows=1, aspect_ratio=None)
    run = run_of(bench)
    assert requests_of(bench)[0]["parameters"] == {"sampleCount": 1, "includeRaiReason": True}
    (row,) = read_index(run).to_dict("records")
    assert row["imagen"]["pictures"] == 1
    assert row["imagen"]["negative_prompt"] is None
    assert list(row["modalities"]) == ["IMAGE"]


def test_variants_are_calls_of_their_own_and_a_seed_tells_them_apart(bench: Bench) -> None:
    job_of(bench, rows=1, variants=3, pictures=2, seed=5, watermark=False)
    run = run_of(bench)
    assert [body["parameters"]["seed"] for body in requests_of(bench)] == [5, 6, 7]
    index = read_index(run)
    assert sorted(index["variant"]) == [0, 1, 2]
    assert len({one["sha256"] for row in index["pictures"] for one in row}) == 6
    assert calls(bench) == 3
    assert_paid_once(bench, run)


# --- what is withheld --------------------------------------------------------------------------------------------


def test_a_call_whose_pictures_are_all_withheld_is_blocked_free_and_final(bench: Bench) -> None:
    bench.service.fault("image_safety", prompt="Shoe 2 ")
    run = run_of(bench)
    index = read_index(run).set_index("key")
    assert outcomes(index) == {"ok": 5, "blocked": 1}
    row = index.loc["sku-2"]
    assert (row["reason"], row["attempt"], row["usd"]) == ("56562880", 1, 0)
    assert row["message"].startswith("Unable to show All images.")
    assert calls(bench) == 6
    assert bench.bill() == 5 * PRICES[IMAGEN]
    assert_paid_once(bench, run)


def test_a_call_of_which_some_are_withheld_keeps_the_others(bench: Bench) -> None:
    """They are results, they are all that is paid for, and the row says that there are fewer, and why."""
    job_of(bench, rows=2, pictures=3)
    bench.service.fault("image_safety", prompt="Shoe 1 ", pictures=1)
    run = run_of(bench)
    index = read_index(run).set_index("key")
    assert outcomes(index) == {"ok": 2}
    row = index.loc["sku-1"]
    assert [one["role"] for one in row["pictures"]] == ["final", "alternative"]
    assert list(row["checks"]) == ["fewer"]
    assert row["reason"] == "56562880"
    assert "Some images were filtered out" in row["message"]
    assert row["usd"] == 0.08
    assert list(index.loc["sku-0", "checks"]) == []
    assert_paid_once(bench, run)


def test_people_are_drawn_where_the_row_allows_them(bench: Bench) -> None:
    """A column of the manifest says who may be in the picture, and the index what was withheld for it."""
    job_of(bench, prompt="{{ title }}")
    (bench.folder / "shoes.csv").write_text(
        "id,title,person_generation\n"
        "nobody,a crowd in the rain,dont_allow\n"
        "grown,a crowd in the rain,allow_adult\n"
        "young,a child with a kite,\n"
        "all,a child with a kite,ALLOW_ALL\n"
    )
    run = run_of(bench)
    index = read_index(run).set_index("key")
    assert index["outcome"].to_dict() == {"nobody": "blocked", "grown": "ok", "young": "blocked", "all": "ok"}
    assert (index.loc["nobody", "reason"], index.loc["young", "reason"]) == ("39322892", "17301594")
    assert_paid_once(bench, run)


def test_a_prompt_that_is_refused_for_what_it_says_is_blocked_and_others_are_not(bench: Bench) -> None:
    bench.service.fault("prompt_blocked", prompt="Shoe 3 ")
    bench.service.fault("row_error", prompt="Shoe 4 ", code=3, message="no such thing")
    run = run_of(bench)
    index = read_index(run).set_index("key")
    assert outcomes(index) == {"ok": 4, "blocked": 1, "invalid": 1}
    assert index.loc["sku-3", "reason"] == "61493863"
    assert "Responsible AI" in index.loc["sku-3", "message"]
    assert (index.loc["sku-4", "message"], index.loc["sku-4", "usd"]) == ("no such thing", 0)
    assert_paid_once(bench, run)


def test_one_broken_picture_of_several_loses_none_of_the_others(bench: Bench) -> None:
    job_of(bench, rows=1, pictures=3)
    bench.service.fault("broken_picture")
    run = run_of(bench)
    (row,) = read_index(run).to_dict("records")
    assert row["outcome"] == "ok"
    assert [one["role"] for one in row["pictures"]] == ["final", "alternative"]
    assert row["path"].rpartition("/")[2].startswith("0000-sku-0-main-0-2-")
    assert list(row["checks"]) == ["fewer"]
    assert_paid_once(bench, run)


def test_a_picture_that_is_broken_alone_is_asked_for_once_more(bench: Bench) -> None:
    job_of(bench, rows=1)
    bench.service.fault("broken_picture", times=1)
    run = run_of(bench)
    (row,) = read_index(run).to_dict("records")
    assert (row["outcome"], row["attempt"], row["usd"]) == ("ok", 2, 0.08)
    assert_paid_once(bench, run)


# --- trouble -----------------------------------------------------------------------------------------------------


def test_a_service_that_is_busy_is_left_alone_by_all_batches(bench: Bench) -> None:
    """429 in the first batch: the second waits as well, nothing is bought twice, and no attempt is counted."""
    job_of(bench, max_requests=3)
    bench.service.fault("refused", method="predict", code=429, retry_after=40, times=3)
    run = run_of(bench)
    index = read_index(run)
    assert outcomes(index) == {"ok": 6}
    assert set(index["attempt"]) == {1}
    times = [datetime.fromisoformat(call["at"]) for call in bench.service.ledger()["calls"]]
    refused = [event for event in bench.service.events() if event["what"] == "fault"]
    assert len(refused) == 3
    assert min(times) >= datetime.fromisoformat(refused[0]["at"]) + timedelta(seconds=40)
    assert_paid_once(bench, run)


def test_no_more_calls_begin_in_a_minute_than_the_job_says_whatever_the_batch(bench: Bench) -> None:
    job_of(bench, max_requests=2, online={"per_minute": 2, "in_flight": 1})
    run = run_of(bench)
    times = [datetime.fromisoformat(call["at"]) for call in bench.service.ledger()["calls"]]
    assert len(run.state.batches) == 3
    pairs = zip(times, times[2:], strict=False)
    assert all(later - earlier >= timedelta(minutes=1) for earlier, later in pairs)
    assert_paid_once(bench, run)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_in_the_middle_goes_on_and_pays_again_for_calls_in_flight_only(
    bench: Bench, when: str
) -> None:
    """SIGKILL at the third reply or so: what came is kept, and the books cover the ledger."""
    job_of(bench, pictures=2, online={"per_minute": 100, "in_flight": 2})
    run = bench.begin().run
    kill(bench, run.storage.url, when, "results/*/0002.jsonl")
    before = calls(bench)
    assert 3 <= before <= 5
    last = start(bench, run.storage.url)
    release(last)
    finish([last])
    run.catch_up()
    assert run.state.finished
    index = read_index(run)
    assert outcomes(index) == {"ok": 6}
    assert all(len(row) == 2 for row in index["pictures"])
    assert calls(bench) <= 6 + 2
    assert run.state.spent + run.state.unconfirmed >= bench.bill()
    assert run.state.spent + run.state.unconfirmed - bench.bill() <= 2 * 2 * PRICES[IMAGEN]
    assert run.state.reserved == 0


def test_the_cap_holds_and_its_raise_sends_the_rest(bench: Bench) -> None:
    """Three batches of two, and money for two of them."""
    job_of(bench, max_requests=2)
    driver = bench.begin(cap=5 * PRICES[IMAGEN])
    with pytest.raises(Refused) as caught:
        driver.to_the_end()
    assert "the cap of $0.20 has no room" in caught.value.message
    assert bench.bill() == 4 * PRICES[IMAGEN] == driver.run.state.spent
    driver.run.record(Capped(cap=6 * PRICES[IMAGEN]))
    last = bench.again()
    last.to_the_end()
    assert outcomes(read_index(last.run)) == {"ok": 6}
    assert_paid_once(bench, last.run)


@pytest.mark.parametrize("kind", ["done_but_error", "lost"])
def test_an_answer_that_does_not_tell_counts_as_spent_at_the_price_of_all_its_pictures(
    bench: Bench, kind: str
) -> None:
    job_of(bench, rows=2, pictures=4)
    bench.service.fault(kind, method="predict", times=1)
    run = run_of(bench)
    assert outcomes(read_index(run)) == {"ok": 2}
    assert calls(bench) == 3
    assert run.state.unconfirmed == 4 * PRICES[IMAGEN]
    assert run.state.spent + run.state.unconfirmed == bench.bill()


# --- beside others -----------------------------------------------------------------------------------------------


def test_one_job_may_ask_gemini_in_batches_and_imagen_at_once(bench: Bench) -> None:
    shots = {"hero": {"model": "gemini-2.5-flash-image"}, "art": {"model": IMAGEN, "pictures": 2}}
    job_of(bench, shots=shots)
    found = survey(bench.job, base=bench.folder)
    run = run_of(bench)
    index = read_index(run)
    assert outcomes(index) == {"ok": 12}
    assert [(batch.online, batch.sends) for batch in run.state.batches] == [(False, True), (True, True)]
    assert calls(bench) == 6
    assert len(bench.service.ledger()["jobs"]) == 1
    assert run.state.spent == bench.bill()
    assert found.price.likely == pytest.approx(bench.bill(), rel=0.02)


def test_a_further_take_of_what_failed_is_asked_at_once_too(bench: Bench) -> None:
    job_of(bench, rows=2)
    bench.service.fault("image_safety", prompt="Shoe 1 ", times=1)
    run = run_of(bench)
    assert draw(run, failed(run, ["blocked"])) == 1
    last = bench.again()
    last.to_the_end()
    index = read_index(last.run).set_index("key")
    assert outcomes(index) == {"ok": 2}
    assert index.loc["sku-1", "take"] == 2
    assert_paid_once(bench, last.run)


def test_a_proof_counts_and_the_run_takes_its_pictures_over(bench: Bench) -> None:
    """With what was made of the prompt: nothing is bought twice."""
    job_of(bench, rows=4, pictures=2)
    found = survey(bench.job, base=bench.folder, lane="standard", limit=2)
    place, clock = bench.place("shoes-proof"), bench.clock
    proof = begin(found, name="shoes-proof", storage=place, service=bench.service.url, clock=clock, cap=None)
    Driver(proof, bench.backend_of(proof), planner=planner(found, proof)).to_the_end()
    assert calls(bench) == 2
    earlier = [night(proof.storage, home=str(bench.folder / "runs"))]
    found = survey(bench.job, base=bench.folder, nights=earlier, runs=str(bench.folder / "runs"))
    assert (found.requests, sum(found.carried.values())) == (2, 2)
    run = begin(found, name="run", storage=bench.place(), service=bench.service.url, clock=clock, cap=None)
    Driver(run, bench.backend_of(run), planner=planner(found, run)).to_the_end()
    index = read_index(run)
    assert outcomes(index) == {"ok": 2, "reused": 2}
    assert index["enhanced_prompt"].notna().all()
    assert [[picture["role"] for picture in row] for row in index["pictures"]] == [
        ["final", "alternative"]
    ] * 4
    assert tally(run).files == 4, "of its own"
    assert calls(bench) == 4
    assert proof.state.spent + run.state.spent == bench.bill()


# --- by command --------------------------------------------------------------------------------------------------

JOB = """
manifest = "shoes.csv"
key = "sku"
backend = "vertex"
bucket = "gs://shoes/night"
max_usd = 5
[online]
per_minute = 100
[defaults]
model = "imagen-4.0-generate-001"
[shots.hero]
prompt = "Studio photo of {{ title }} in {{ colour }}"
pictures = 2
"""


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    write_rows(tmp_path / "shoes.csv", 4)
    (tmp_path / "shoes.toml").write_text(JOB, encoding="utf-8")
    return Shell(tmp_path, service.environment())


def test_the_plan_says_the_full_price_and_that_it_is_asked_at_once(shell: Shell) -> None:
    said = shell("plan", "shoes.toml")
    assert said.code == 0, said.all
    assert "$0.32" in said.out
    assert "imagen-4.0-generate-001 never comes in batches: asked at once, at the full price" in said.all
    assert re.search(r"pictures +8  of 4 rows; in 4 calls; imagen", said.out)
    assert "at 100 calls a minute" in said.out
    assert "24 h" not in said.out
    assert "the same at once" not in said.out


def test_the_plan_says_where_and_what_google_does_not_promise(shell: Shell) -> None:
    plain = shell("plan", "shoes.toml").all
    assert "the global endpoint does not name Imagen" in plain
    assert "negative prompts are not supported" not in plain
    said = shell("plan", "shoes.toml", "--set", "location=us-central1", "--set", "negative_prompt=rain").all
    assert "the global endpoint does not name Imagen" not in said
    assert "negative prompts are not supported" in said
    older = ("--set", "model=imagen-3.0-generate-001", "--set", "negative_prompt=rain")
    assert "negative prompts are not supported" not in shell("plan", "shoes.toml", *older).all


def test_a_live_trial_of_what_comes_in_no_batches_says_what_to_do_instead(shell: Shell) -> None:
    said = shell("doctor", "shoes.toml", "--live", "--yes")
    assert said.code == 2
    assert "this tries what comes in batches, and it comes in none" in said.err
    assert "nightshoot proof JOB --rows 1" in said.err


def test_what_would_be_sent_is_shown_with_every_setting(shell: Shell) -> None:
    said = shell("expand", "shoes.toml", "--set", "negative_prompt=rain")
    first = json.loads(said.out.splitlines()[0])
    assert (first["pictures"], first["negative_prompt"], first["modalities"]) == (2, "rain", ["IMAGE"])


def test_a_run_by_command_ends_with_its_pictures_and_its_price(
    shell: Shell, service: emulator.Service
) -> None:
    said = shell("run", "shoes.toml", "--yes", "--json")
    assert said.code == 0, said.all
    done = json.loads(said.out)
    assert done["outcomes"] == {"ok": 4}
    assert done["usd"]["spent"] == service.ledger()["total"]["usd"] == 0.32
    again = shell("run", "shoes.toml", "--yes", "--json")
    assert again.code == 0
    assert len(service.ledger()["calls"]) == 4


def test_a_proof_of_imagen_is_shot_and_shown(shell: Shell, service: emulator.Service) -> None:
    said = shell("proof", "shoes.toml", "--rows", "2", "--yes", "--max-usd", "1")
    assert said.code == 0, said.all
    assert "2 of 2 requests have pictures, 4 made in " in said.out
    assert service.ledger()["total"]["usd"] == 0.16


def test_the_developer_api_is_refused_with_where_to_go(shell: Shell, service: emulator.Service) -> None:
    said = shell("plan", "shoes.toml", "--set", "backend=developer")
    assert said.code == 2
    assert "imagen-4.0-generate-001 is not served on the Developer API" in said.err
    assert 'Vertex AI serves it: backend = "vertex"' in said.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("thinking=high", "has no such level of thinking"),
        ("search=web", "has no such search"),
        ("modalities=TEXT|IMAGE", "does not answer in these modalities alone"),
        ("references=red.png", "takes no references"),
        ("system=Be brief", "takes no system instruction"),
        ("temperature=1", "takes no temperature"),
        ("seed=7", "draws by a seed only without a watermark"),
        ("image_size=4K", "makes no such size"),
        ("aspect_ratio=21:9", "makes no such ratio"),
        ("quality=80", "only a JPEG has a quality"),
        ("model=imagen-4.0-ultra-generate-001", "makes 1 picture a call"),
        ("model=gemini-2.5-flash-image", "has no such setting"),
        ("pictures=5", "pictures"),
        ("language=xx", "language"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words_before_anything_is_sent(
    shell: Shell, service: emulator.Service, change: str, words: str
) -> None:
    Image.new("RGB", (64, 64), "red").save(shell.folder / "red.png")
    said = shell("plan", "shoes.toml", "--set", change.replace("references=red.png", "references=./red.png"))
    assert (said.code, words in said.err) == (2, True), said.all
    assert service.ledger()["calls"] == []


def test_words_in_another_script_are_told_unless_the_language_is_said(shell: Shell) -> None:
    (shell.folder / "shoes.csv").write_text("sku,title,colour\n1,赤いブーツ,red\n", encoding="utf-8")
    told = shell("plan", "shoes.toml").all
    assert "imagen-4.0-generate-001 works best in EN; 1 has words in Japanese letters" in told
    assert 'language = "auto" has it translated' in told
    for language in ("auto", "ja"):
        assert "works best in" not in shell("plan", "shoes.toml", "--set", f"language={language}").all
    said = shell("plan", "shoes.toml", "--set", "language=ko").all
    assert "works best in ko; 1 has words in Japanese letters" in said
