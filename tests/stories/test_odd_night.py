"""Every tenth row goes wrong in a way of its own: no picture is on another product, no row and no dollar is lost."""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import emulator, tables
from pipeline.index import parts
from pipeline.run import Run, plan_file, wire_id
from tests.bench import Bench

FAULTS = (
    *("text_only", "no_image", "image_safety", "prompt_blocked", "max_tokens", "no_content", "row_error"),
    *("missing_line", "garbage_line", "duplicate_line", "unknown_key", "no_key", "broken_picture"),
    *("wrong_size", "wrong_mime", "interim_picture", "two_pictures", "line_separator", "key_first"),
)
UNREADABLE = ("missing_line", "garbage_line")  # billed, and nobody can read how much
COLOURS = [(r, g, b) for r, g, b in product((20, 125, 230), repeat=3)]


def fault_of(row: int) -> str | None:
    return FAULTS[row // 10 % len(FAULTS)] if row % 10 == 3 else None


def colour_of(row: int) -> int:
    return row * 7 % len(COLOURS)


def shot(bench: Bench, rows: int, *, batch: int) -> Run:
    """The night: a photo of one colour for every row, in batches that come back shuffled."""
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (32, 32), colour).save(bench.folder / f"{number}.png")
    bench.make_job(
        rows=rows,
        max_requests=batch,
        photo=lambda row: f"{colour_of(row)}.png",
        prompt="{{ title }}",
        model="gemini-3.1-flash-image",
        image_size="512",
        tier=3,
    )
    manifest = (bench.folder / "shoes.csv").read_text().splitlines()
    for row in range(rows):
        if fault := fault_of(row):
            manifest[row + 1] = manifest[row + 1].replace(f"Shoe {row},", f"Shoe {row} of {fault}!,")
    (bench.folder / "shoes.csv").write_text("\n".join(manifest) + "\n")
    for fault in FAULTS:
        bench.service.fault(fault, prompt=f"of {fault}!")
    driver = bench.begin(canary=False)
    driver.to_the_end()
    return driver.run


def answers(bench: Bench, run: Run) -> dict[str, list[str]]:
    """The digests of what came under each wire id, by a parser that knows nothing of ours."""
    found: dict[str, list[str]] = {}
    backend = bench.backend()
    for batch in run.state.batches:
        assert batch.ended is not None
        assert batch.submitted is not None
        for file in batch.ended.files:
            with backend.open(batch.submitted.ticket, file.name, start=0, end=None) as stream:
                for line in stream.read().split(b"\n"):
                    for key, digest in pictures_in(line):
                        found.setdefault(key, []).append(digest)
    return found


def pictures_in(line: bytes) -> Iterator[tuple[str, str]]:
    try:
        said = json.loads(line)
        parts = said["response"]["candidates"][0]["content"]["parts"]
    except (ValueError, KeyError, IndexError):
        return
    for part in parts:
        if "inlineData" in part and not part.get("thought"):
            data = base64.b64decode(part["inlineData"]["data"])
            yield str(said.get("key")), hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("rows", "batch"),
    [(600, 200), pytest.param(20_000, 4000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
    ids=["600 rows", "20,000 rows"],
)
def test_every_tenth_row_goes_wrong_and_nothing_is_misfiled_or_lost(
    tmp_path: Path, rows: int, batch: int
) -> None:
    night = ("--speed", "0", "--queue", "1", "60", "--run", "1", "60", "--picture-bytes", "1000")
    with emulator.launch(*night) as service:  # in a process of its own: it draws, and we collect
        bench = Bench(service, tmp_path)
        run = shot(bench, rows, batch=batch)
        index = [row for part in parts(run) for row in tables.rows_of(part)]
        assert sorted(row["key"] for row in index) == sorted(f"sku-{n}" for n in range(rows))
        _every_picture_is_its_own(run, index, answers(bench, run), step=max(1, rows // 600))
        _every_outcome_is_explained(index)
        _the_books_agree(run, index, service.ledger())


def _every_picture_is_its_own(
    run: Run, index: list[dict[str, Any]], came: dict[str, list[str]], *, step: int
) -> None:
    """By digest against another parser's join; and by what is seen on it: its photo's colour along the lower edge."""
    for row in index:
        theirs = came.get(wire_id(row["batch"], row["place"]), [])
        assert all(picture["sha256"] in theirs for picture in row["pictures"])
        assert bool(row["path"]) == (row["outcome"] in ("ok", "wrong_size"))
    for row in index[::step]:
        if row["path"] is not None:
            seen = Image.open(io.BytesIO(run.storage.read(row["path"]))).convert("RGB")
            assert nearest(seen.getpixel((seen.width // 2, seen.height - 2))) == colour_of(
                int(row["key"].removeprefix("sku-"))
            )


def nearest(colour: Any) -> int:
    distance = [sum((a - b) ** 2 for a, b in zip(colour, each, strict=True)) for each in COLOURS]
    return distance.index(min(distance))


def _every_outcome_is_explained(index: list[dict[str, Any]]) -> None:
    well = ("duplicate_line", "wrong_mime", "interim_picture", "two_pictures", "line_separator", "key_first")
    wrong = Counter(fault_of(int(row["key"].removeprefix("sku-"))) for row in index if row["outcome"] != "ok")
    asked = Counter(fault_of(n) for n in range(len(index)))
    assert wrong == {fault: asked[fault] for fault in FAULTS if fault not in well}


def _the_books_agree(run: Run, index: list[dict[str, Any]], ledger: dict[str, Any]) -> None:
    """To the last billionth, but for answers that nobody could read; those are not thought to be free."""
    rows = {
        wire_id(batch.number, row["place"]): int(row["key"].removeprefix("sku-"))
        for batch in run.state.batches
        for row in tables.rows_of(tables.from_parquet(run.storage.read(plan_file(batch.number))))
    }
    unread = sum(
        line["nanodollars"]
        for job in ledger["jobs"]
        for line in job["billed"]
        if fault_of(rows[line["key"]]) in UNREADABLE
    )
    assert unread > 0
    assert run.state.spent == ledger["total"]["nanodollars"] - unread
    assert run.state.unconfirmed >= unread
    surplus = sum(batch.collected.surplus for batch in run.state.batches if batch.collected)
    assert surplus > 0
    assert round(sum(row["usd"] for row in index) * 1e9) < run.state.spent
