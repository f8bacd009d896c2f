"""What comes back: every line explained, every picture on its own product, the books balanced."""

import base64
import dataclasses
import hashlib
import io
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pytest
from PIL import Image

from pipeline import emulator, staged
from pipeline.backends.base import Ending, Missing, Outcome
from pipeline.backends.developer import Developer
from pipeline.collect import collect
from pipeline.drive import Driver
from pipeline.errors import Corrupt, Unavailable
from pipeline.events import ResultFile
from pipeline.index import parts, pictures, read_index
from pipeline.money import dollars
from pipeline.results import LONGEST, Line
from pipeline.run import open_run, quarantine_file, staged_file
from pipeline.state import Stage
from pipeline.storage import Storage
from pipeline.survey import PART_BYTES
from pipeline.tally import tally
from tests.bench import Bench, fingerprints, outcomes, spent
from tests.faulty import Dying, PowerCut


def test_every_row_comes_back_with_its_own_picture(bench: Bench) -> None:
    """The emulator answers in another order than it was asked; keys and pictures still meet."""
    bench.make_job(rows=12, max_requests=5)
    index = bench.run()
    assert outcomes(index) == {"ok": 12}
    assert sorted(index["key"]) == sorted(f"sku-{n}" for n in range(12))
    for row in index.itertuples():
        data = bench.place().read(row.path)
        assert hashlib.sha256(data).hexdigest() == row.sha256
        assert Image.open(io.BytesIO(data)).size == (row.width, row.height) == (1024, 1024)
    assert bench.service.ledger()["total"]["rows"] == 12


def test_the_books_agree_with_the_cash_register(bench: Bench) -> None:
    """What the run says it spent is what the emulator billed, to the last billionth."""
    bench.make_job(rows=7, max_requests=3)
    driver = bench.begin()
    driver.to_the_end()
    assert spent(driver.run) == bench.bill()
    index = read_index(driver.run)
    assert round(index["usd"].sum() * 1e9) == spent(driver.run)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("text_only", "text_only"),
        ("no_image", "no_image"),
        ("image_safety", "blocked"),
        ("prompt_blocked", "blocked"),
        ("max_tokens", "truncated"),
        ("broken_picture", "broken"),
        ("wrong_size", "wrong_size"),
        ("missing_line", "missing"),
    ],
)
def test_a_bad_row_does_not_sink_its_batch(bench: Bench, fault: str, outcome: str) -> None:
    """Five pictures and one trouble are six rows in the index, whatever the trouble is."""
    bench.service.fault(fault, prompt="Shoe 3")
    index = bench.run()
    assert outcomes(index) == {"ok": 5, outcome: 1}
    assert list(index[index["outcome"] == outcome]["key"]) == ["sku-3"]


def test_a_second_attempt_may_succeed(bench: Bench) -> None:
    """Once without a picture, then with one: the index has the second, and the price of both."""
    bench.service.fault("no_image", prompt="Shoe 3", times=1)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run).set_index("key")
    assert outcomes(index) == {"ok": 6}
    assert index.loc["sku-3", "attempt"] == 2
    assert spent(driver.run) == bench.bill()
    assert round(index["usd"].sum() * 1e9) == spent(driver.run)


def test_a_blocked_row_is_never_sent_again(bench: Bench) -> None:
    bench.service.fault("image_safety", prompt="Shoe 3", times=1)
    index = bench.run().set_index("key")
    assert index.loc["sku-3", "outcome"] == "blocked"
    assert index.loc["sku-3", "attempt"] == 1


def test_attempts_end(bench: Bench) -> None:
    """A row that never works is tried twice and no more."""
    bench.service.fault("no_image", prompt="Shoe 3")
    index = bench.run().set_index("key")
    assert index.loc["sku-3", "attempt"] == 2
    assert sum(job["rows"] for job in bench.service.ledger()["jobs"]) == 7


def test_lines_nobody_claims_are_quarantined_and_counted(bench: Bench) -> None:
    """An unknown key, a second answer and garbage: kept with their bytes, and the books say what they cost."""
    bench.make_job(rows=6, max_requests=6)
    bench.service.fault("unknown_key", prompt="Shoe 1", times=1)
    bench.service.fault("duplicate_line", prompt="Shoe 2", times=1)
    bench.service.fault("garbage_line", prompt="Shoe 3", times=1)
    driver = bench.begin()
    driver.to_the_end()
    text = driver.run.storage.read(quarantine_file(0)).decode()
    assert [why in text for why in ("unknown id", "second answer", "unreadable")] == [True] * 3
    collected = driver.run.state.batches[0].collected
    assert collected is not None
    assert collected.surplus == 3
    strays = [json.loads(line)["spent"] for line in text.splitlines()]
    assert collected.surplus_spent == sum(spent for spent in strays if spent) > 0
    assert tally(driver.run).causes["surplus answers"] == collected.surplus_spent
    assert outcomes(read_index(driver.run)) == {"ok": 6}, "two were asked again, and came"
    total = bench.bill()
    assert driver.run.state.spent <= total <= driver.run.state.spent + driver.run.state.unconfirmed


@pytest.mark.parametrize(
    ("fault", "size"), [("text_only", range(1, 16_384)), ("broken_picture", range(16_385, 1 << 20))]
)
def test_a_second_answer_without_a_picture_is_kept_with_its_bytes(
    bench: Bench, fault: str, size: range
) -> None:
    """Short ones with the part that they came in, long ones are fetched again."""
    bench.make_job(rows=6, max_requests=6)
    bench.service.fault(fault, prompt="Shoe 2", times=1)
    bench.service.fault("duplicate_line", prompt="Shoe 2", times=1)
    driver = bench.begin()
    driver.to_the_end()
    (stray,) = driver.run.storage.read(quarantine_file(0)).splitlines()
    entry = msgspec.json.decode(stray)
    line = entry["line"].encode() if "line" in entry else base64.b64decode(entry["line_base64"])
    assert (entry["why"], entry["outcome"], entry["pictures"]) == (
        "second answer",
        fault.removesuffix("_picture"),
        [],
    )
    assert len(line) == entry["length"]
    assert entry["length"] in size
    assert msgspec.json.decode(line)["key"] == entry["wire_id"]


@pytest.mark.parametrize(("fault", "is_kept"), [("text_only", True), ("broken_picture", False)])
def test_a_long_line_that_is_gone_by_then_keeps_no_batch_from_being_settled(
    bench: Bench, fault: str, *, is_kept: bool
) -> None:
    """A short one is home with its part."""

    class Forgetful(Developer):
        def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
            if end is not None:  # who asks for a line, and not for all that is left
                raise Missing(f"{file} has expired")
            return super().open(ticket, file, start=start, end=end)

    bench.make_job(rows=6, max_requests=6)
    bench.service.fault(fault, prompt="Shoe 2", times=1)
    bench.service.fault("duplicate_line", prompt="Shoe 2", times=1)
    driver = bench.begin()
    backend = Forgetful(key=bench.key, service=bench.service.url, clock=bench.clock)
    Driver(driver.run, backend, planner=driver._planner).to_the_end()
    (stray,) = driver.run.storage.read(quarantine_file(0)).splitlines()
    entry = msgspec.json.decode(stray)
    assert entry["why"] == "second answer"
    assert ("line" in entry, "line_base64" in entry) == (is_kept, False)
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_quarantine_that_is_there_is_kept_though_its_lines_are_gone_by_now(bench: Bench) -> None:
    """Killed before the record, gone on with when the result has expired: the bytes that were saved stay."""
    bench.make_job(rows=6, max_requests=6)
    bench.service.fault("broken_picture", prompt="Shoe 2", times=1)
    bench.service.fault("duplicate_line", prompt="Shoe 2", times=1)
    ended(bench, bench.begin())
    Driver(open_run(bench.place(), bench.clock), bench.backend()).collect()
    saved = bench.place().read(quarantine_file(0))
    assert b"line_base64" in saved
    place = Path(bench.place().url)
    max((place / "journal").iterdir()).unlink()
    bench.service.advance(50 * 24 * 3600)
    run = open_run(bench.place(), bench.clock)
    Driver(run, bench.backend()).collect()
    books = run.state.batches[0].collected
    assert books is not None
    assert books.quarantine is not None
    assert books.quarantine.sha256 == hashlib.sha256(saved).hexdigest()
    assert bench.place().read(quarantine_file(0)) == saved
    max((place / "journal").iterdir()).unlink()
    (place / quarantine_file(0)).write_bytes(saved.replace(b'"length":', b'"length":1'))
    with pytest.raises(Corrupt, match="other lines"):
        Driver(open_run(bench.place(), bench.clock), bench.backend()).collect()


def test_a_second_answer_with_a_picture_is_kept_with_what_it_says_beside_it(bench: Bench) -> None:
    bench.make_job(rows=6, max_requests=6, model="gemini-3-pro-image", thoughts=True)
    bench.service.fault("two_pictures", prompt="Shoe 2")
    bench.service.fault("duplicate_line", prompt="Shoe 2", times=1)
    driver = bench.begin()
    driver.to_the_end()
    (stray,) = driver.run.storage.read(quarantine_file(0)).splitlines()
    entry = msgspec.json.decode(stray)
    assert [path.partition("/")[0] for path in entry["pictures"]][:3] == ["pictures", "pictures", "thoughts"]
    assert entry["thoughts"]
    assert all(driver.run.storage.read(path) for path in entry["pictures"])
    assert entry["text"]
    assert entry["response_id"]
    assert "line" not in entry


def test_of_several_answers_the_first_in_the_result_wins(bench: Bench) -> None:
    """Each is another picture, each is billed; which one counts is decided by the bytes, not by who was faster."""
    bench.make_job(rows=6, max_requests=6)
    bench.service.fault("duplicate_line", prompt="Shoe 2", lines=4, times=1)
    driver = bench.begin()
    driver.to_the_end()
    lines = staged.rows_in(driver.run.storage, staged_file(0, 0))
    answers = {line["offset"]: line["sha256"] for line in lines if line["wire_id"] == "b00000-0002"}
    assert len(set(answers.values())) == 4
    index = read_index(driver.run).set_index("key")
    assert index.loc["sku-2", "sha256"] == answers[min(answers)]


def test_drafts_are_never_taken_for_results(bench: Bench) -> None:
    bench.make_job(model="gemini-3-pro-image")
    bench.service.fault("interim_picture", prompt="Shoe")
    index = bench.run()
    assert outcomes(index) == {"ok": 6}
    assert all(len(answer) == 1 for answer in index["pictures"])


def test_several_pictures_are_all_kept_and_the_last_is_final(bench: Bench) -> None:
    bench.service.fault("two_pictures", prompt="Shoe 2")
    index = bench.run().set_index("key")
    answer = index.loc["sku-2", "pictures"]
    assert [picture["role"] for picture in answer] == ["interleaved", "final"]
    assert index.loc["sku-2", "path"] == answer[-1]["path"]


def test_the_extension_comes_from_the_bytes(bench: Bench) -> None:
    bench.service.fault("wrong_mime", prompt="Shoe 2")
    row = bench.run().set_index("key").loc["sku-2"]
    assert Path(row["path"]).suffix == ".png"
    assert row["mime"] == "image/png"
    assert row["pictures"][0]["declared_mime"] != "image/png"
    assert "declared_mime" in list(row["checks"])


def test_a_line_separator_inside_a_text_does_not_split_the_line(bench: Bench) -> None:
    bench.service.fault("line_separator", prompt="Shoe 2")
    index = bench.run().set_index("key")
    assert "\u2028" in index.loc["sku-2", "text"]


@pytest.mark.parametrize("after", [0, 1, 1000, 100_000])
def test_a_cut_download_goes_on_where_it_broke(bench: Bench, after: int) -> None:
    bench.service.fault("cut", bytes=after, times=2)
    assert outcomes(bench.run()) == {"ok": 6}


def test_a_server_without_ranges_is_read_all_the_same(bench: Bench) -> None:
    bench.service.fault("no_range")
    bench.service.fault("cut", bytes=5000, times=2)
    assert outcomes(bench.run()) == {"ok": 6}


class Watched(Developer):
    """A backend that counts what it brings, and may end a stream too early, as a server does that says no length."""

    def __init__(self, bench: Bench, *, short: int = 0, by: int = 0) -> None:
        super().__init__(key=bench.key, service=bench.service.url, clock=bench.clock)
        self.brought = 0
        self.opened: list[int] = []
        self.streams: list[BinaryIO] = []
        self._short, self._by = short, by  # so many streams end after so many bytes

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        left = self._by if len(self.opened) < self._short else None
        self.opened.append(start)
        watched = _Counted(self, super().open(ticket, file, start=start, end=end), left)
        self.streams.append(io.BufferedReader(watched, 10_000))
        return self.streams[-1]


class _Counted(io.RawIOBase):
    def __init__(self, backend: Watched, stream: Any, left: int | None) -> None:
        self._backend, self._stream, self._left = backend, stream, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer) if self._left is None else min(len(buffer), self._left)
        piece = self._stream.read1(size) if size else b""
        buffer[: len(piece)] = piece
        self._backend.brought += len(piece)
        if self._left is not None:
            self._left -= len(piece)
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


def ended(bench: Bench, driver: Driver) -> int:
    """A run whose batches have ended, and the size of all their results."""
    while driver.draw() or driver.submit():
        pass
    bench.service.advance(50 * 3600)
    driver.poll()
    batches = [batch.ended for batch in driver.run.state.batches]
    return sum(file.size or 0 for batch in batches if batch is not None for file in batch.files)


def collected(bench: Bench, backend: Watched, storage: Storage | None = None) -> None:
    Driver(open_run(storage or bench.place(), bench.clock), backend).collect()


def test_a_download_is_closed_where_a_picture_could_not_be_kept(bench: Bench) -> None:
    """Whoever keeps the error keeps no connection with it."""
    bench.make_job(rows=12, max_requests=12)
    ended(bench, bench.begin(part_bytes=10_000))
    backend = Watched(bench)
    with pytest.raises(PowerCut) as cut:
        collected(bench, backend, Dying(bench.place(), at=2))
    assert cut.value.__traceback__ is not None
    assert [stream.closed for stream in backend.streams] == [True]


class Noted:
    """A storage, and in what order pictures were ended, folders settled and parts kept."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.log: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        end = self._storage.begin(name, data, content_type=content_type)

        def ended() -> None:
            end()
            self.log.append(name)

        return ended

    def settle(self, folder: str) -> None:
        self._storage.settle(folder)
        self.log.append(folder)

    def put(self, name: str, data: Any, *, content_type: str | None = None) -> None:
        self.log.append(name)
        self._storage.put(name, data, content_type=content_type)


def test_a_part_is_said_to_be_there_when_its_pictures_are_durable(bench: Bench) -> None:
    """Each has its name by then, and the folder that holds the names was synced."""
    bench.make_job(max_requests=6)
    ended(bench, bench.begin())
    storage = Noted(bench.place())
    collected(bench, Watched(bench), cast("Storage", storage))
    kept = storage.log.index("staged/00000-000.arrows")
    assert len([name for name in storage.log[:kept] if name.startswith("pictures/00000/")]) == 6
    assert {"pictures/00000", "thoughts/00000"} <= set(storage.log[6:kept])


def test_a_stream_that_ends_too_early_is_taken_up_where_it_ended(bench: Bench) -> None:
    """The service said how long the result is. Rows must not count as missing, and be paid for again, before that."""
    bench.make_job(max_requests=6)
    driver = bench.begin()
    size = ended(bench, driver)
    backend = Watched(bench, short=3, by=120_000)
    collected(bench, backend)
    assert backend.brought < size + 3 * size / 6, "at most the line that was cut comes twice"
    assert len(backend.opened) == 4
    assert outcomes(read_index(open_run(bench.place(), bench.clock))) == {"ok": 6}


def test_a_stream_that_never_ends_where_it_should_is_said_and_loses_nothing(bench: Bench) -> None:
    bench.make_job(max_requests=6)
    ended(bench, bench.begin())
    driver = Driver(open_run(bench.place(), bench.clock), Watched(bench, short=100, by=20_000))
    driver.collect()
    assert driver.run.state.batches[0].stage is Stage.ENDED
    with pytest.raises(Unavailable, match=r"said [\d,]+ bytes, and sends no more than"):
        collect(driver.run, Watched(bench, short=100, by=20_000), 0, pool=ThreadPoolExecutor(2))
    collected(bench, Watched(bench))
    assert outcomes(read_index(open_run(bench.place(), bench.clock))) == {"ok": 6}


def test_a_last_line_that_is_cut_at_the_service_is_fetched_again_and_kept(bench: Bench) -> None:
    """Once: there may be nothing better. Its bytes are in quarantine, and its row gets another attempt."""
    bench.make_job(max_requests=6)
    bench.service.fault("cut_last_line", times=1)
    size = ended(bench, bench.begin())
    backend = Watched(bench)
    collected(bench, backend)
    assert len(backend.opened) == 2
    assert backend.opened[0] == 0 < backend.opened[1] < size
    run = open_run(bench.place(), bench.clock)
    (stray,) = run.storage.read(quarantine_file(0)).splitlines()
    assert msgspec.json.decode(stray)["why"] == "unreadable"
    assert run.state.batches[0].collected is not None
    assert run.state.batches[0].collected.again == {"missing": 1}


def test_rows_that_the_service_counts_and_does_not_send_are_said_to_be(bench: Bench) -> None:
    bench.make_job(max_requests=6, attempts=1)
    bench.service.fault("missing_line", prompt="Shoe 3")
    index = bench.run().set_index("key")
    assert index.loc["sku-3", "message"] == "the service counts 6 answers and sent 5"


@pytest.mark.parametrize(
    ("rows", "picture", "part"),
    [(40, 500_000, 5_000_000), pytest.param(150, 1_500_000, PART_BYTES, marks=pytest.mark.slow)],
    ids=["27 MB", "300 MB"],
)
def test_what_was_cut_and_killed_is_not_fetched_again(
    bench: Bench, rows: int, picture: int, part: int
) -> None:
    """Ten cuts at any byte and ten deaths at any write cost less than a part each, and change no byte."""
    bench.service.stop()
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=picture) as service:
        bench = Bench(service, bench.folder)
        bench.make_job(rows=rows, max_requests=rows)
        quiet = bench.begin(storage=bench.place("quiet"))
        quiet.to_the_end()
        size = ended(bench, bench.begin(part_bytes=part))
        assert size > 4 * part
        chance, brought, deaths, cuts = random.Random(7), 0, 0, 11
        a_part = part * rows // size  # pictures of it
        for last in [False] * 10 + [True]:
            service.fault("cut", method="download", bytes=chance.randrange(size // 10), times=1)
            backend = Watched(bench)
            at = None if last else chance.randint(1, a_part + 3)
            try:
                collected(bench, backend, Dying(bench.place(), at=at))
            except PowerCut:
                deaths += 1
            brought += backend.brought
        assert deaths >= 5
        assert size <= brought < size + (deaths + cuts) * part
        made = ("pictures", "index", "retry", "quarantine")
        assert fingerprints(bench.place(), made) == fingerprints(quiet.run.storage, made)


def test_a_line_too_long_to_be_held_is_quarantined_whole(bench: Bench) -> None:
    """Its beginning is kept with its part; its bytes are streamed into the quarantine when the batch is settled."""
    bench.make_job(rows=2, max_requests=2)
    endless = b"x" * (LONGEST + 1000)

    class Overlong(Watched):
        def ending(self, ticket: str) -> Ending | None:
            found = super().ending(ticket)
            if found is None:
                return None
            files = tuple(ResultFile(file.name, (file.size or 0) + len(endless) + 1) for file in found.files)
            return dataclasses.replace(found, files=files)

        def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
            with super().open(ticket, file, start=0, end=None) as stream:
                whole = io.BytesIO(endless + b"\n" + stream.read())
            whole.seek(start)
            return whole

    driver = bench.begin()
    driver = Driver(driver.run, Overlong(bench), planner=driver._planner)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 2}
    (stray,) = driver.run.storage.read(quarantine_file(0)).splitlines()
    entry = msgspec.json.decode(stray)
    assert (entry["why"], entry["length"]) == ("unreadable", len(endless))
    assert base64.b64decode(entry["line_base64"]) == endless


def test_a_result_in_many_parts_is_the_same_result(bench: Bench) -> None:
    """Byte ranges that begin and end anywhere in a line change nothing."""
    bench.make_job(rows=6, max_requests=6)
    whole = bench.begin()
    whole.to_the_end()
    driver = bench.begin(storage=bench.place("in-parts"), part_bytes=10_007)
    driver.to_the_end()
    ended = driver.run.state.batches[0].ended
    assert ended is not None
    assert len(ended.parts) > 3
    assert [*parts(driver.run)] == [*parts(whole.run)]


def test_a_part_holds_the_lines_that_begin_in_it(bench: Bench) -> None:
    """All of them, or who goes on behind it would never ask for what it lacks; and none of another part's."""
    bench.make_job(rows=30, max_requests=30)
    driver = bench.begin(part_bytes=100_003)
    driver.to_the_end()
    (batch,) = driver.run.state.batches
    assert batch.ended is not None
    assert len(batch.ended.parts) > 3
    found = []
    for place, part in enumerate(batch.ended.parts):
        begun = [row["offset"] for row in staged.rows_in(driver.run.storage, staged_file(0, place))]
        assert all(part.start <= offset < (part.end or offset + 1) for offset in begun)
        found += begun
    assert len(found) == 30


def test_plans_that_lie_in_each_other_s_place_put_no_picture_on_another_product(bench: Bench) -> None:
    bench.make_job(rows=4, max_requests=2)
    ended(bench, bench.begin())
    place = Path(bench.place().url) / "plan"
    for old, new in (("00000.parquet", "x"), ("00001.parquet", "00000.parquet"), ("x", "00001.parquet")):
        (place / old).rename(place / new)
    with pytest.raises(Corrupt, match=r"plan/0000\d.parquet is not what was recorded"):
        Driver(open_run(bench.place(), bench.clock), bench.backend()).collect()
    assert not list(bench.place().list("pictures/"))


def test_pictures_are_streamed_with_their_rows(bench: Bench) -> None:
    driver = bench.begin()
    driver.to_the_end()
    shown = list(pictures(driver.run))
    assert len(shown) == 6
    assert all(hashlib.sha256(one.read()).hexdigest() == one.row["sha256"] for one in shown)


def test_a_failed_job_is_named_and_tried_again(bench: Bench) -> None:
    bench.service.fault("job_failed", times=1)
    index = bench.run()
    assert outcomes(index) == {"ok": 6}
    assert (index["attempt"] == 2).sum() == 2


def test_an_expired_job_counts_as_spent_until_proven_otherwise(bench: Bench) -> None:
    bench.service.fault("job_expired", times=1)
    driver = bench.begin()
    driver.to_the_end()
    state = driver.run.state
    assert state.unconfirmed > 0, dollars(state.unconfirmed)
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_an_answer_that_does_not_say_what_it_cost_counts_as_its_worst_case(bench: Bench) -> None:
    """Nothing read is not nothing spent: the cap must not be passed by what nobody can see."""

    class Silent(Developer):
        def outcome(self, line: Line) -> Outcome:
            return dataclasses.replace(super().outcome(line), usage=None)

    driver = bench.begin()
    backend = Silent(key=bench.key, service=bench.service.url, clock=bench.clock)
    Driver(driver.run, backend, planner=driver._planner).to_the_end()
    state = driver.run.state
    assert (state.spent, state.reserved) == (0, 0)
    assert state.unconfirmed == sum(batch.high for batch in state.batches) >= bench.bill()


def test_one_damaged_batch_keeps_no_other_from_coming_home(bench: Bench) -> None:
    driver = bench.begin()
    while driver.draw() or driver.submit():
        pass
    bench.service.advance(3600)
    driver.poll()
    (Path(driver.run.storage.url) / "plan" / "00000.parquet").unlink()
    driver = bench.again()
    with pytest.raises(Corrupt, match=r"plan/00000\.parquet"):
        driver.to_the_end()
    stages = [batch.stage for batch in driver.run.state.batches]
    assert stages == [Stage.ENDED, Stage.COLLECTED, Stage.COLLECTED]


def test_a_picture_that_somebody_changed_is_corrupt_and_not_overwritten(bench: Bench) -> None:
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    place = Path(driver.run.storage.url)
    path = place / index.iloc[0]["path"]
    path.chmod(0o644)
    path.write_bytes(b"touched")
    (place / "staged" / "00000-000.arrows").unlink()
    for record in sorted((place / "journal").iterdir()):
        if b'"collected"' in record.read_bytes() and b'"batch":0' in record.read_bytes():
            after = [each for each in sorted((place / "journal").iterdir()) if each >= record]
            for each in after:
                each.unlink()
            break
    with pytest.raises(Corrupt, match="is there already, with other bytes"):
        bench.again().to_the_end()
    assert path.read_bytes() == b"touched"
