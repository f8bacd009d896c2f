"""Jobs that are paid for and that nobody waits for: found, told with their cost, and given back where that is safe."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline import emulator
from pipeline.backends.developer import Developer
from pipeline.errors import Unavailable
from pipeline.index import read_index
from pipeline.orphans import Orphan, Orphans, find_orphans, take_in
from pipeline.run import Run, open_run
from pipeline.state import Stage
from pipeline.storage import open_storage
from tests.bench import Bench, outcomes, write_rows
from tests.shell import Shell

NAME = "shoes-2026-11-21"
HOUR = 3600


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    """A folder with six shoes, shot two to a batch."""
    write_rows(tmp_path / "shoes.csv", 6)
    return Shell(tmp_path, service.environment())


SENT = (
    *("submit", "shoes.csv", "--prompt", "Photo of {{ title }}", "--model", "gemini-2.5-flash-image"),
    *("--set", "batches.max_requests=2", "--yes", "--max-usd", "5"),
)


def told(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    orphans: list[dict[str, Any]] = json.loads(shell("orphans", "--json", *arguments).out)["orphans"]
    return orphans


def test_jobs_that_runs_wait_for_are_no_orphans(shell: Shell, service: emulator.Service) -> None:
    """Sent, at work, collected: all of them are somebody's. And asking buys nothing."""
    assert shell(*SENT).code == 0
    paid = len(service.ledger()["jobs"])
    said = shell("orphans")
    assert (said.code, said.out) == (0, "  no job on this account is lost\n")
    service.advance(HOUR)
    shell("collect")
    assert told(shell) == []
    assert len(service.ledger()["jobs"]) == paid == 3


def test_a_job_whose_reply_was_lost_is_given_back_and_brought_home(
    shell: Shell, service: emulator.Service
) -> None:
    """The machine went down right after it paid. Nothing is bought again, and every picture comes."""
    service.fault("lost", display_name="-00001-")
    assert shell(*SENT).code == 0
    service.advance(HOUR)
    before = shell("orphans")
    assert before.code == 1
    assert "succeeded, sent 2026-11-21 00:00 UTC, 2 requests, about $0.0388" in before.out
    assert f"{NAME}, batch 1: can be adopted" in before.out
    assert before.err == "Next: nightshoot orphans --adopt\n"
    after = shell("orphans", "--adopt")
    assert after.code == 0
    assert "batch 1: adopted" in after.out
    assert after.err == f"Next: nightshoot tick {NAME}\n"
    assert shell("tick", NAME).code == 0
    assert "6 of 6 on disk" in shell("status").out
    assert len(service.ledger()["jobs"]) == 3


def test_a_run_that_is_gone_leaves_jobs_that_are_told_with_what_they_cost(
    shell: Shell, service: emulator.Service
) -> None:
    """By what the provider says of them: so many pictures of this model."""
    shell(*SENT)
    shutil.rmtree(shell.folder / "runs")
    service.advance(HOUR)
    found = told(shell)
    assert len(found) == 3
    assert {orphan["run"] for orphan in found} == {None}
    assert {orphan["requests"] for orphan in found} == {2}
    for orphan in found:
        assert orphan["likely_usd"] == pytest.approx(2 * 0.0195, rel=0.1)
        assert orphan["why_not"].startswith("its run is not in this folder")
    assert told(shell, "--adopt") == found


def test_jobs_that_are_not_ours_are_left_alone(bench: Bench) -> None:
    backend = bench.backend()
    for label in ("my own experiment", "nightshoot-not-one"):
        line = b'{"key":"a","request":{"contents":[{"parts":[{"text":"mug"}]}]}}'
        backend.submit(label, "gemini-2.5-flash-image", backend.stage(label, [line]))
    assert looked(bench) == Orphans((), complete=True)


# --- what may be given back, and what may not ----------------------------------------------------------------------


def looked(bench: Bench, backend: Developer | None = None) -> Orphans:
    return find_orphans(backend or bench.backend(), str(bench.folder / "runs"), clock=bench.clock)


def only(found: Orphans) -> Orphan:
    [orphan] = found.found
    return orphan


def lost(bench: Bench) -> Run:
    """A run of three batches, the second of which was paid for and never written down."""
    driver = bench.begin(storage=bench.place(NAME))
    while driver.draw():
        pass
    bench.service.fault("lost", display_name="-00001-")
    driver.submit()
    return driver.run


def refreshed(bench: Bench) -> Run:
    return open_run(bench.place(NAME), bench.clock)


def test_what_is_held_can_be_given_back(bench: Bench) -> None:
    """The run had given up looking, since the listing hid it. Now it shows it."""
    lost(bench)
    bench.service.fault("list_empty")
    driver = bench.again(storage=bench.place(NAME))
    for _ in range(60):
        bench.service.advance(120)
        driver.step()
    assert driver.run.state.batches[1].stage is Stage.HELD
    bench.service.clear_faults()
    orphan = only(looked(bench))
    take_in(orphan, bench.backend())
    assert orphan.adopted
    batch = refreshed(bench).state.batches[1]
    assert batch.submitted is not None
    assert (batch.submitted.ticket, batch.submitted.adopted) == (orphan.job.ticket, True)
    driver = bench.again(storage=bench.place(NAME))
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert set(bench.paid().values()) == {1}


def test_what_is_being_sent_just_now_is_let_be(bench: Bench) -> None:
    """Its author may be about to write the ticket down."""
    lost(bench)
    assert only(looked(bench)).why == "it is being sent just now"


def test_of_two_jobs_of_one_name_none_is_given_back(bench: Bench) -> None:
    """Nothing is guessed: a person removes one, and the other is the one."""
    lost(bench)
    backend = bench.backend()
    first = only(looked(bench)).job
    assert first.label is not None
    staged = backend.stage("by hand", refreshed(bench).storage.read("requests/00001.jsonl").splitlines())
    backend.submit(first.label, "gemini-2.5-flash-image", staged)
    bench.service.advance(HOUR)
    found = looked(bench)
    assert [orphan.why for orphan in found.found] == [
        "2 jobs carry its name; cancel or remove all but one at Google, by hand"
    ] * 2
    for orphan in found.found:
        take_in(orphan, backend)
    assert refreshed(bench).state.batches[1].stage is Stage.SUBMITTING


def test_a_second_job_of_a_batch_that_has_one_is_told_and_kept_out(bench: Bench) -> None:
    run = lost(bench)
    backend = bench.backend()
    label = f"nightshoot-{run.created.run}-00000-{run.state.batches[0].planned.digest[:12]}"  # type: ignore[union-attr]
    staged = backend.stage("by hand", run.storage.read("requests/00000.jsonl").splitlines())
    second = backend.submit(label, "gemini-2.5-flash-image", staged)
    bench.service.advance(HOUR)
    why = {orphan.job.ticket: orphan.why for orphan in looked(bench).found}
    assert why[second] == "its run has another job for this batch, which is submitted"


def test_a_listing_that_breaks_off_gives_nothing_back(bench: Bench) -> None:
    """The page that is missing could show a second job of that name."""
    lost(bench)
    bench.service.advance(HOUR)
    breaks = Breaks(bench.backend())
    found = find_orphans(breaks, str(bench.folder / "runs"), clock=bench.clock)  # type: ignore[arg-type]
    assert not found.complete
    assert only(found).why == "the listing broke off, and another job may carry its name"


class Breaks:
    """A backend whose listing breaks off at its end."""

    def __init__(self, backend: Developer) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def jobs(self) -> Any:
        yield from self._backend.jobs()
        raise Unavailable("could not read batches: 503")


def test_adopting_never_buys_though_the_job_is_gone_when_it_is_looked_for_again(bench: Bench) -> None:
    """Between the two looks the listing went blind. A run would in time send the batch anew; this does not."""
    lost(bench)
    bench.service.advance(HOUR)
    orphan = only(looked(bench))
    bench.service.fault("list_empty")
    take_in(orphan, bench.backend())
    assert not orphan.adopted
    assert orphan.why is not None
    bench.service.clear_faults()
    assert set(bench.paid().values()) == {1}
    assert len(bench.paid()) == 3


def test_another_account_s_jobs_are_not_seen(bench: Bench) -> None:
    lost(bench)
    bench.service.advance(HOUR)
    assert looked(bench, bench.backend("another-key-altogether")).found == ()


def test_a_job_that_failed_has_cost_nothing(bench: Bench) -> None:
    bench.service.fault("job_failed", display_name="-00001-")
    lost(bench)
    bench.service.advance(HOUR)
    orphan = only(looked(bench))
    assert (orphan.likely, orphan.why) == (0, None)


def test_a_run_that_cannot_be_read_does_not_hide_the_others(bench: Bench) -> None:
    lost(bench)
    bench.service.advance(HOUR)
    broken = open_storage(str(bench.folder / "runs" / "shoes-2026-11-22"))
    broken.put("journal/00000000.json", b"{")
    assert only(looked(bench)).why is None


def test_the_listing_s_end_is_told_to_scripts(shell: Shell, service: emulator.Service) -> None:
    service.fault("refused", method="list", code=503)
    said = shell("orphans")
    assert said.code == 5
    assert "the listing broke off: there may be more" in said.out


def test_on_vertex_jobs_are_found_and_given_back_as_well(shell: Shell, service: emulator.Service) -> None:
    (shell.folder / "jobs").mkdir()
    (shell.folder / "jobs" / "shoes.toml").write_text(
        'manifest = "../shoes.csv"\nbackend = "vertex"\nproject = "catalog"\nbucket = "gs://shoes/night"\n'
        '[defaults]\nmodel = "gemini-3.1-flash-image"\nprompt = "Photo of {{ title }}"\n'
    )
    requests.post(f"{service.url}/storage/v1/b", json={"name": "shoes"}, timeout=10).raise_for_status()
    service.fault("lost", method="create")
    assert shell("submit", "--yes", "--max-usd", "5").code == 0
    service.advance(2 * HOUR)
    [orphan] = told(shell)
    assert (orphan["model"], orphan["requests"], orphan["why_not"]) == ("gemini-3.1-flash-image", 6, None)
    assert shell("orphans", "--adopt").code == 0
    assert shell("tick", NAME).code == 0
    assert "6 of 6 on disk" in shell("status").out
    assert len(service.ledger()["jobs"]) == 1
