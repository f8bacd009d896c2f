"""What collecting is measured with: results of generated pictures, our side, and the other sides."""

import base64
import hashlib
import io
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.runs import write_shoes

MODEL = "gemini-2.5-flash-image"
SIDE = 1024
ROW = 3 * SIDE + 1  # bytes: a filter, which is none, and the pixels
THREADS = 8

Told = dict[str, float]


# --- what is collected -------------------------------------------------------------------------------------------


def picture(size: int) -> bytes:
    """A whole PNG of about so many bytes, 1024 pixels square: noise that nothing compresses, then black."""
    noise = bytearray(os.urandom(min(size, SIDE * ROW)))
    noise[::ROW] = bytes(len(noise[::ROW]))
    packed = zlib.compressobj(0, wbits=-15)
    black = bytes(SIDE * ROW - len(noise))
    pixels = [b"\x78\x01", packed.compress(noise), packed.flush(zlib.Z_FULL_FLUSH)]
    pixels += [_packed(len(black)), struct.pack(">I", zlib.adler32(black, zlib.adler32(noise)))]
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"".join(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


@cache
def _packed(black: int) -> bytes:
    rest = zlib.compressobj(9, wbits=-15)
    return rest.compress(bytes(black)) + rest.flush()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    )


def line(place: int, data: bytes) -> bytes:
    """A line as Google writes it."""
    answer = {
        "response": {
            "candidates": [
                {
                    "content": {
                        "parts": [{"inlineData": {"data": "", "mimeType": "image/png"}}],
                        "role": "model",
                    },
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
            "usageMetadata": {
                "promptTokenCount": 12,
                "candidatesTokenCount": 1290,
                "totalTokenCount": 1302,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
            },
            "modelVersion": MODEL,
            "responseId": f"answer-{place}",
        },
        "key": f"b00000-{place:04}",
    }
    before, _, after = json.dumps(answer, separators=(",", ":")).encode().partition(b'"data":""')
    return b'%b"data":"%b"%b\n' % (before, base64.b64encode(data), after)


def prepare_result(*, folder: str, pictures: int, size: int = 1_500_000) -> Told:
    """A result in a file: the server must not be what is measured."""
    with (Path(folder) / "result.jsonl").open("wb") as file:
        for place in range(pictures):
            file.write(line(place, picture(size)))
        written = file.tell()
        os.fsync(file.fileno())
    return {"bytes": written}


# --- the other sides ----------------------------------------------------------------------------------------------


def collect_naive(*, folder: str) -> Told:
    """The loop that everybody copies: read all of it, parse each line whole, decode, write."""
    target = Path(folder) / "naive"
    target.mkdir()
    start = time.perf_counter()
    _write_all((Path(folder) / "result.jsonl").read_bytes(), target)
    return {"seconds": time.perf_counter() - start}


def _write_all(result: bytes, target: Path) -> None:
    for each in result.decode().splitlines():
        row = json.loads(each)
        for part in row["response"]["candidates"][0]["content"]["parts"]:
            if "inlineData" in part:
                (target / f"{row['key']}.png").write_bytes(base64.b64decode(part["inlineData"]["data"]))


def download_naive(*, url: str, pictures: int, folder: str) -> Told:
    """The same loop, with the result downloaded through Google's SDK."""
    from google import genai

    target = Path(folder) / "naive"
    target.mkdir()
    client = genai.Client(api_key="naive", http_options={"base_url": url})
    asked = [
        {"key": f"{n}", "request": {"contents": [{"parts": [{"text": f"Shoe {n}"}]}]}}
        for n in range(pictures)
    ]
    data = "".join(json.dumps(each) + "\n" for each in asked).encode()
    file = client.files.upload(file=io.BytesIO(data), config={"mime_type": "application/jsonl"})
    job = client.batches.create(model=MODEL, src=file.name or "")
    dest = client.batches.get(name=job.name or "").dest
    assert dest is not None
    start = time.perf_counter()
    result = client.files.download(file=dest.file_name or "")
    _write_all(result, target)
    return {"seconds": time.perf_counter() - start, "bytes": len(result)}


def hash_and_write(*, folder: str) -> Told:
    """What the disk and the digest cost alone: the same pictures, decoded already, hashed and written durably."""
    target = Path(folder) / "written"
    target.mkdir()
    seconds = 0.0
    with ThreadPoolExecutor(THREADS) as pool:
        for some in _decoded(Path(folder) / "result.jsonl", 100):
            start = time.perf_counter()
            list(pool.map(lambda one: _keep(target, *one), some))
            seconds += time.perf_counter() - start
    start = time.perf_counter()
    _sync(target)
    return {"seconds": seconds + time.perf_counter() - start}


def _decoded(result: Path, step: int) -> Iterator[list[tuple[str, bytes]]]:
    some = []
    with result.open("rb") as file:
        for each in file:
            row = json.loads(each)
            data = row["response"]["candidates"][0]["content"]["parts"][0]["inlineData"]["data"]
            some.append((row["key"], base64.b64decode(data)))
            if len(some) == step:
                yield some
                some = []
    yield some


def _keep(target: Path, name: str, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    with (target / f"{name}-{digest[:8]}.png").open("xb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    return digest


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


# --- our side -------------------------------------------------------------------------------------------------------


def _begun(folder: Path, service: str, pictures: int, clock: Any) -> tuple[Any, Any]:
    """A run of so many shoes in one batch, and who plans it."""
    from pipeline.job import job_for
    from pipeline.storage import open_storage
    from pipeline.survey import begin, planner, survey

    write_shoes(folder / "shoes.csv", pictures)
    said = {"prompt": "Photo of {{ title }}", "model": MODEL, "aspect_ratio": "1:1", "tier": 3}
    job = job_for("shoes.csv", **said, batches={"max_output_bytes": 10**12, "max_requests": 10**6})
    found = survey(job, base=folder)
    storage = open_storage(str(folder / "run"))
    run = begin(found, name="run", storage=storage, service=service, clock=clock, cap=None, canary=False)
    return run, planner(found, run)


def begin_ours(*, folder: str, pictures: int) -> Told:
    """A run whose one batch has just ended. Planned in a process of its own: planning has a measurement of its own."""
    from datetime import UTC, datetime

    from pipeline.clock import MachineClock
    from pipeline.events import Ended, ResultFile, Submitted, Submitting
    from pipeline.poll import cut

    run, planner = _begun(Path(folder), "http://x", pictures, MachineClock())
    assert planner.draw()
    now = datetime.now(UTC)
    intent = run.record(Submitting(batch=0, account="a", label="l", input="files/1", until=now)).number
    run.record(Submitted(batch=0, intent=intent, ticket="batches/1"))
    file = ResultFile("files/r", (Path(folder) / "result.jsonl").stat().st_size)
    parts = tuple(cut(file, run.created.limits.part_bytes))
    run.record(Ended(batch=0, how="succeeded", at=now, files=(file,), parts=parts))
    return {}


def collect_ours(*, folder: str, pictures: int) -> Told:
    """Our collect of the same file, index included: every picture looked at, hashed, durable."""
    from pipeline.frugal import be_frugal

    be_frugal()  # as every command does that drives a run
    from pipeline.backends.developer import Developer
    from pipeline.clock import MachineClock
    from pipeline.collect import collect
    from pipeline.run import open_run
    from pipeline.storage import open_storage

    class FromDisk(Developer):
        def open(self, ticket: str, file: str, *, start: int, end: int | None) -> io.BufferedReader:
            stream = (Path(folder) / "result.jsonl").open("rb")
            stream.seek(start)
            return stream

    clock = MachineClock()
    run = open_run(open_storage(str(Path(folder) / "run")), clock)
    backend = FromDisk(key="bench", service="http://127.0.0.1:9", clock=clock)
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        assert collect(run, backend, 0, pool=pool)
    seconds = time.perf_counter() - start
    assert run.state.batches[0].collected.pictures == pictures
    return {"seconds": seconds}


def download_ours(*, url: str, pictures: int, folder: str) -> Told:
    """Our collect, over HTTP."""
    from pipeline.frugal import be_frugal

    be_frugal()
    from pipeline.backends.developer import Developer
    from pipeline.clock import EmulatorClock
    from pipeline.drive import Driver

    clock = EmulatorClock(url)
    run, planner = _begun(Path(folder), url, pictures, clock)
    driver = Driver(run, Developer(key="ours", service=url, clock=clock), planner=planner, workers=THREADS)
    while driver.draw() or driver.submit():
        pass
    assert driver.poll()
    start = time.perf_counter()
    assert driver.collect()
    seconds = time.perf_counter() - start
    assert run.state.batches[0].collected.pictures == pictures
    return {"seconds": seconds, "bytes": sum(file.size for file in run.state.batches[0].ended.files)}
