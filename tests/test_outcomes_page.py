"""docs/outcomes.md against reality: a good row, an odd one and a good row, for everything that can come back."""

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pipeline import emulator, tables
from pipeline.backends.base import Ending
from pipeline.backends.developer import Developer
from pipeline.drive import Driver
from pipeline.emulator.faults import KINDS
from pipeline.events import Collected, ResultFile
from pipeline.index import parts
from pipeline.run import Run, plan_file
from tests.bench import Bench
from tests.shell import HOUSE

PAGE = (HOUSE / "docs" / "outcomes.md").read_text(encoding="utf-8")
EVIL = "../../evil "  # what the key of every odd row begins with

Rewrite = Callable[[dict[str, Any]], bytes]


def _snake(line: dict[str, Any]) -> bytes:
    text = json.dumps(line)
    for name in ("inlineData", "mimeType", "finishReason"):
        text = text.replace(
            f'"{name}"', '"' + re.sub("([A-Z])", lambda big: f"_{big[1].lower()}", name) + '"'
        )
    return text.encode()


def _corrupt(line: dict[str, Any]) -> bytes:
    return re.sub(rb'("data": ")(.{40})', rb"\1\2!!", json.dumps(line).encode())


def _surrogate(line: dict[str, Any]) -> bytes:
    return json.dumps({"said": 0} | line).replace('"said": 0', '"said": "\\ud800"').encode()


REWRITTEN: dict[str, Rewrite] = {
    "snake_case": _snake,
    "corrupt_base64": _corrupt,
    "lone_surrogate": _surrogate,
    "null_response": lambda line: json.dumps(line | {"response": None}).encode(),
    "nothing_in_it": lambda line: json.dumps({"key": line["key"]}).encode(),
    "no_usage": lambda line: json.dumps(
        line | {"response": {k: v for k, v in line["response"].items() if k != "usageMetadata"}}
    ).encode(),
}
"""What no fault of the emulator's does: the line of the odd row, written in another way."""


class Rewriting(Developer):
    """A service that writes the lines of some rows in its own way."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(key=bench.key, service=bench.service.url, clock=bench.clock)
        self._storage = bench.place()

    def ending(self, ticket: str) -> Ending | None:
        found = super().ending(ticket)
        if found is None:
            return None
        files = tuple(ResultFile(file.name, len(self._whole(ticket, file.name))) for file in found.files)
        return dataclasses.replace(found, files=files)

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        return io.BytesIO(self._whole(ticket, file)[start:])

    @cache  # noqa: B019 - a backend lives as long as its run here
    def _whole(self, ticket: str, file: str) -> bytes:
        with super().open(ticket, file, start=0, end=None) as stream:
            return b"".join(self._written(line) for line in stream.read().splitlines(keepends=True))

    def _written(self, raw: bytes) -> bytes:
        line = json.loads(raw) if raw.endswith(b"}\n") else {}
        match = re.fullmatch(r"b(\d{5})-(\d{4,})", line.get("key", ""))
        fault = self._whose(int(match[1]), int(match[2])).removeprefix(EVIL) if match else ""
        return REWRITTEN[fault](line) + b"\n" if fault in REWRITTEN else raw

    def _whose(self, batch: int, place: int) -> str:
        return str(self._keys_of(batch)[place])

    @cache  # noqa: B019
    def _keys_of(self, batch: int) -> list[str]:
        return list(tables.from_parquet(self._storage.read(plan_file(batch)))["key"].to_pylist())


def documented() -> dict[str, tuple[str, ...]]:
    """The page's rows: what is said of each fault."""
    rows = re.findall(r"^\| `([\w ]+)` \|(.*)\|$", PAGE, re.MULTILINE)
    return {name: tuple(cell.strip() for cell in cells.split("|"))[1:] for name, cells in rows}


@dataclasses.dataclass(frozen=True)
class Night:
    """One run in which every fault of the page happened: a batch for each, of a good row, an odd one, a good one."""

    run: Run
    index: dict[str, dict[str, Any]]  # by key
    bill: int
    folder: Path


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=2000) as service:
        folder = tmp_path_factory.mktemp("night") / "deeper" / "still"
        folder.mkdir(parents=True)
        yield shot(Bench(service, folder))


def shot(bench: Bench) -> Night:
    bench.make_job(rows=1, max_requests=3, prompt="Studio photo of {{ title }}")
    faults = list(documented())
    rows = [
        row
        for fault in faults
        for row in (
            (f"first of {fault}", "Shoe"),
            (EVIL + fault, f"the {fault} one"),
            (f"last of {fault}", "Shoe"),
        )
    ]
    (bench.folder / "shoes.csv").write_text(
        "sku,title\n" + "".join(f"{key},{title}\n" for key, title in rows)
    )
    for fault in faults:
        kind, _, code = fault.partition(" ")
        if kind in KINDS:
            bench.service.fault(kind, prompt=f"the {fault} one", **({"code": int(code)} if code else {}))
    run = bench.begin().run
    found = bench.again()
    Driver(run, Rewriting(bench), planner=found._planner).to_the_end()
    index = {row["key"]: row for part in parts(run) for row in tables.rows_of(part)}
    return Night(run, index, bench.bill(), bench.folder)


@pytest.mark.parametrize("fault", documented())
def test_what_the_page_says_of_an_odd_row_is_what_becomes_of_it(night: Night, fault: str) -> None:
    """Its outcome, whether it is asked again, who pays, and what is kept; and both of its neighbours are well."""
    row = night.index[EVIL + fault]
    batch = night.run.state.batches[list(documented()).index(fault)].collected
    assert batch is not None
    name = batch.quarantine.name if batch.quarantine else None
    strays = night.run.storage.read(name).splitlines() if name else []
    again = "once more" if row["attempt"] == 2 else "no"
    assert (row["outcome"], again, _billed(row, batch, strays), _kept(row, batch)) == documented()[fault]
    for neighbour in (f"first of {fault}", f"last of {fault}"):
        assert (night.index[neighbour]["outcome"], night.index[neighbour]["attempt"]) == ("ok", 1)


def _billed(row: dict[str, Any], batch: Collected, strays: list[bytes]) -> str:
    """In the row's own price, as an answer too many, or where nobody can read how much."""
    words = {
        "its tokens": row["usd"] > 0,
        "surplus": any(json.loads(stray)["spent"] for stray in strays),
        "worst case": batch.unconfirmed > 0,
    }
    return ", ".join(word for word, holds in words.items() if holds) or "nothing"


def _kept(row: dict[str, Any], batch: Collected) -> str:
    words = {
        "pictures": bool(row["pictures"]),
        "words": bool(row["text"]),
        "reason": row["outcome"] != "ok" and bool(row["reason"] or row["message"]),
        "quarantine": batch.quarantine is not None,
    }
    return ", ".join(word for word, holds in words.items() if holds) or "nothing"


def test_nothing_of_such_a_night_is_lost(night: Night) -> None:
    """Rows in are rows in the index, every dollar is known or feared, and no key leads a file out of the run."""
    assert len(night.index) == 3 * len(documented()) == sum(map(len, parts(night.run)))
    state = night.run.state
    assert state.spent <= night.bill <= state.spent + state.unconfirmed
    assert {path.name for path in night.folder.parent.parent.iterdir()} == {"deeper"}
    assert {path.name for path in night.folder.iterdir()} == {"shoes.csv", "runs"}
    for row in night.index.values():
        for picture in row["pictures"]:
            data = night.run.storage.read(picture["path"])
            assert hashlib.sha256(data).hexdigest() == picture["sha256"]


def test_every_row_fault_of_the_emulator_is_on_the_page() -> None:
    known = {name.partition(" ")[0] for name in documented()}
    assert {name for name, kind in KINDS.items() if kind.scope == "row"} <= known
    assert known - KINDS.keys() == REWRITTEN.keys()
