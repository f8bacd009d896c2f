"""`make bench`: measure the stages on this machine, and print what was measured on what.

Machines are shared and noisy, so what counts are the ratios within one run.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import collecting as collecting_sides
from benchmarks.checking import checking
from benchmarks.children import Side, child, race
from benchmarks.inlining import INSIDE as INLINING
from benchmarks.inlining import inlining
from benchmarks.runs import planned, write_shoes
from benchmarks.witness import witness

ROUNDS = 3  # of each side, by turns


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="seconds instead of minutes; the figures mean nothing"
    )
    parser.add_argument("--only", choices=sorted(BENCHMARKS), help="one of them")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside is not None:
        _inside(options.inside, json.loads(sys.stdin.read()))
        return
    print(f"on {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} processors")
    for name, benchmark in BENCHMARKS.items():
        if options.only == name or (options.only is None and name not in ON_DEMAND):
            print(f"\n{name}: {benchmark.__doc__}")
            benchmark(small=options.small)


# --- what is measured --------------------------------------------------------------------------------------------


def collecting(*, small: bool) -> None:
    """one batch's result, in a file, into pictures and an index; against the loop that everybody copies, and against
    hashing and durably writing the same pictures with as many threads. It needs 21 GB of disk."""
    with tempfile.TemporaryDirectory() as folder:
        result = child("prepare_result", {"folder": folder, "pictures": (pictures := 12 if small else 1000)})
        size = result["bytes"]
        rounds = 1 if small else ROUNDS
        print(f"  {pictures} pictures, {size / 1e6:,.0f} MB of result; the fastest of {rounds} turns")
        here, facts = Path(folder), {"folder": folder}
        known = {"folder": folder, "pictures": pictures}
        told = race(
            [
                Side("the usual loop", "collect_naive", facts, here / "naive"),
                Side("hash and write", "hash_and_write", facts, here / "written"),
                Side("ours", "collect_ours", known, here / "run", begin=lambda: child("begin_ours", known)),
            ],
            rounds=rounds,
        )
        for name, each in told.items():
            _say(name, size, each)
        loop, limit, ours = (told[name]["seconds"] for name in ("the usual loop", "hash and write", "ours"))
        print(f"  {loop / ours:.1f} times the loop, {limit / ours:.0%} of hash and write")


def downloading(*, small: bool) -> None:
    """the same over HTTP from the emulator, which runs beside it; against the loop through Google's SDK."""
    from pipeline import emulator

    pictures = 12 if small else 1000
    now = ("--speed", "0", "--queue", "0", "0", "--run", "0", "0", "--picture-bytes", "1500000")
    with tempfile.TemporaryDirectory() as folder, emulator.launch(*now) as service:
        here, facts = Path(folder), {"url": service.url, "pictures": pictures, "folder": folder}
        told = race(
            [
                Side("the usual loop", "download_naive", facts, here / "naive"),
                Side("ours", "download_ours", facts, here / "run"),
            ],
            rounds=1 if small else ROUNDS,
        )
    for name, each in told.items():
        _say(name, each["bytes"], each)
    print(f"  {told['the usual loop']['seconds'] / told['ours']['seconds']:.1f} times the loop")


def growing(*, small: bool) -> None:
    """memory by the size of a result, and time per picture by their number."""
    few = [(10, 1_500_000), (50, 20_000)]
    many = [(100, 1_500_000), (1000, 1_500_000), (100, 20_000), (5_000, 20_000), (50_000, 20_000)]
    for pictures, size in few if small else many:
        _grown(pictures, size)


def huge(*, small: bool) -> None:
    """the same for a result of 10 GB. It needs 20 GB of disk."""
    _grown(50 if small else 5000, 1_500_000)


def _grown(pictures: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = child("prepare_result", {"folder": folder, "pictures": pictures, "size": size})
        child("begin_ours", {"folder": folder, "pictures": pictures})
        ours = child("collect_ours", {"folder": folder, "pictures": pictures})
    _say(f"{pictures:,} of {size / 1e6:g} MB", result["bytes"], ours)
    print(f"  {'':<22} {ours['seconds'] / pictures * 1000:>7.2f} ms per picture")


def _say(side: str, size: float, told: dict[str, float]) -> None:
    rate, memory = size / 1e6 / told["seconds"], told["memory"] / 1e6
    print(f"  {side:<22} {rate:>7,.0f} MB/s   {memory:>6,.0f} MB of memory at most")


def planning(*, small: bool) -> None:
    """a CSV looked over, drawn and written as batches, nothing sent; memory by number of rows."""
    for rows in (500, 2000) if small else (10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            told = child("plan_rows", {"folder": folder, "rows": rows})
        megabytes = told["peak"] / 1e6
        print(
            f"  {rows:>8,} rows   {rows / told['seconds']:>8,.0f} rows/s   {megabytes:>6.0f} MB of memory at most"
        )


def dataset(*, small: bool) -> None:
    """a Parquet manifest of prompts, three shots, sampled to as many requests as rows: looked over, drawn, written."""
    for rows in (900, 3000) if small else (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            told = child("plan_dataset", {"folder": folder, "rows": rows})
        rate, busy = told["requests"] / told["seconds"], told["requests"] / told["processor"]
        print(
            f"  {rows:>9,} rows   {told['requests']:>9,.0f} requests   {rate:>8,.0f} requests/s, {busy:>8,.0f} a second"
            f" of one processor   {told['peak'] / 1e6:>6.0f} MB of memory at most"
        )


def journal(*, small: bool) -> None:
    """records appended by one driver to a local journal, each durable, and a run of so many records opened."""
    records = 50 if small else 2000
    with tempfile.TemporaryDirectory() as folder:
        told = child("append_records", {"folder": folder, "records": records})
    print(
        f"  {records:,} appended: {records / told['append']:,.0f}/s; opened: {records / told['open']:,.0f}/s"
    )


def serving(*, small: bool) -> None:
    """a result file of the emulator, made while it is read by a client that throws it away."""
    told = child("serve_result", {"rows": 10 if small else 1000})
    print(
        f"  {told['bytes'] / 1e6:,.0f} MB   {told['bytes'] / 1e6 / told['seconds']:.0f} MB/s   "
        f"{told['server'] / 1e6:.0f} MB of memory at most, in the emulator's process"
    )


BENCHMARKS: dict[str, Callable[..., None]] = {
    "serving": serving,
    "collecting": collecting,
    "downloading": downloading,
    "growing": growing,
    "huge": huge,
    "planning": planning,
    "dataset": dataset,
    "inlining": inlining,
    "journal": journal,
    "checking": checking,
    "witness": witness,
}

ON_DEMAND = frozenset({"huge"})
"""Measured only when asked for by name."""

# --- each in a process of its own -------------------------------------------------------------------------------------


def _inside(name: str, facts: dict[str, object]) -> None:
    told = INSIDE[name](**facts)
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(told))


def _serve_result(*, rows: int) -> dict[str, float]:
    """All of it, into the void; then a stretch at once and in two pieces, which must be the same bytes."""
    import hashlib
    import io

    from google import genai

    now = ("--speed", "0", "--queue", "0", "0", "--run", "0", "0")
    from pipeline import emulator

    with emulator.launch(*now, "--picture-bytes", "1500000") as service:
        client = genai.Client(api_key="bench", http_options={"base_url": service.url})
        lines = [
            {"key": f"{n}", "request": {"contents": [{"parts": [{"text": f"shoe {n}"}]}]}}
            for n in range(rows)
        ]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = client.files.upload(file=io.BytesIO(data), config={"mime_type": "application/jsonl"})
        job = client.batches.create(model="gemini-3-pro-image", src=file.name)
        name = client.batches.get(name=job.name).dest.file_name
        path, headers = f"/v1/{name}:download?alt=media", {"x-goog-api-key": "bench"}
        start = time.perf_counter()
        size = _read(service.url, path, headers, lambda piece: None)
        seconds = time.perf_counter() - start
        whole, again = hashlib.sha256(), hashlib.sha256()
        middle = size // 2
        _read(service.url, path, headers | {"range": f"bytes={middle}-{middle * 3 // 2}"}, whole.update)
        for first, last in ((middle, middle + 999_999), (middle + 1_000_000, middle * 3 // 2)):
            _read(service.url, path, headers | {"range": f"bytes={first}-{last}"}, again.update)
        assert again.digest() == whole.digest()
        client.close()
    server = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"bytes": size, "seconds": seconds, "server": server}


def _read(url: str, path: str, headers: dict[str, str], take: Callable[[memoryview], None]) -> int:
    """Every byte into one buffer: on two processors, a client that does more is what would be measured."""
    import http.client

    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", path, headers=headers)
    reply, buffer, size = connection.getresponse(), memoryview(bytearray(1 << 20)), 0
    assert reply.status in (200, 206)
    while count := reply.readinto(buffer):
        take(buffer[:count])
        size += count
    connection.close()
    return size


def _plan_rows(*, folder: str, rows: int) -> dict[str, float]:
    from pipeline.job import job_for

    place = Path(folder)
    write_shoes(place / "shoes.csv", rows)
    job = job_for("shoes.csv", prompt="Studio photo of {{ title }} in {{ colour }}", aspect_ratio="1:1")
    start = time.perf_counter()
    planned(job, place)
    return {"seconds": time.perf_counter() - start}


def _plan_dataset(*, folder: str, rows: int) -> dict[str, float]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.job import job_for

    place = Path(folder)
    schema = pa.schema([("id", pa.string()), ("caption", pa.string()), ("style", pa.string())])
    with pq.ParquetWriter(place / "prompts.parquet", schema) as file:
        for start in range(0, rows, 50_000):
            some = range(start, min(rows, start + 50_000))
            columns = [
                [f"p{n}" for n in some],
                [f"a photograph of thing number {n} in evening light" for n in some],
                [("ink", "oil", "pastel")[n % 3] for n in some],
            ]
            file.write_table(pa.table(columns, schema=schema))
    job = job_for(
        "prompts.parquet",
        shots={
            name: {"prompt": f"{name}: {{{{ caption }}}}, {{{{ style }}}}"}
            for name in ("wide", "near", "top")
        },
        aspect_ratio="1:1",
        sample=max(1, rows // 3),
    )
    start_at, busy_at = time.perf_counter(), time.process_time()
    found, _ = planned(job, place)
    return {
        "seconds": time.perf_counter() - start_at,
        "processor": time.process_time() - busy_at,
        "requests": found.requests,
    }


def _append_records(*, folder: str, records: int) -> dict[str, float]:
    from pipeline.clock import MachineClock
    from pipeline.journal import Journal
    from pipeline.storage import open_storage
    from tests import events

    journal = Journal(open_storage(folder), MachineClock(), writer="bench")
    start = time.perf_counter()
    for number in range(records):
        journal.append(number, events.planned(number))
    appended = time.perf_counter()
    assert sum(1 for _ in journal.since(0)) == records
    return {"append": appended - start, "open": time.perf_counter() - appended}


INSIDE: dict[str, Callable[..., dict[str, float]]] = {
    "serve_result": _serve_result,
    "prepare_result": collecting_sides.prepare_result,
    "collect_naive": collecting_sides.collect_naive,
    "hash_and_write": collecting_sides.hash_and_write,
    "begin_ours": collecting_sides.begin_ours,
    "collect_ours": collecting_sides.collect_ours,
    "download_naive": collecting_sides.download_naive,
    "download_ours": collecting_sides.download_ours,
    "plan_rows": _plan_rows,
    "plan_dataset": _plan_dataset,
    "append_records": _append_records,
    **INLINING,
}

if __name__ == "__main__":
    main()
