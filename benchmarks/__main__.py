"""`make bench`: measure the stages on this machine, and print what was measured on what.

Machines are shared and noisy, so what counts are the ratios within one run.
"""

import argparse
import base64
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import write_rows

HOUSE = Path(__file__).parent.parent


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
        if options.only in (None, name):
            print(f"\n{name}: {benchmark.__doc__}")
            benchmark(small=options.small)


# --- what is measured --------------------------------------------------------------------------------------------


def collecting(*, small: bool) -> None:
    """one batch's result from the emulator into pictures and an index, against the loop that everybody copies."""
    pictures = 12 if small else 600
    with tempfile.TemporaryDirectory() as folder:
        facts = {"folder": folder, "pictures": pictures}
        result = _child("prepare_result", facts)
        print(f"  {pictures} pictures, {result['bytes'] / 1e6:.0f} MB of result")
        for name in ("naive", "ours"):
            told = _child(f"collect_{name}", facts)
            seconds, megabytes = told["seconds"], told["peak"] / 1e6
            print(
                f"  {name:<6} {result['bytes'] / 1e6 / seconds:>7.0f} MB/s   {megabytes:>6.0f} MB of memory at most"
            )


def planning(*, small: bool) -> None:
    """a CSV looked over, drawn and written as batches, nothing sent; memory by number of rows."""
    for rows in (500, 2000) if small else (10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            told = _child("plan_rows", {"folder": folder, "rows": rows})
        megabytes = told["peak"] / 1e6
        print(
            f"  {rows:>8,} rows   {rows / told['seconds']:>8,.0f} rows/s   {megabytes:>6.0f} MB of memory at most"
        )


def dataset(*, small: bool) -> None:
    """a Parquet manifest of prompts, three shots, sampled to as many requests as rows: looked over, drawn, written."""
    for rows in (900, 3000) if small else (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            told = _child("plan_dataset", {"folder": folder, "rows": rows})
        rate, busy = told["requests"] / told["seconds"], told["requests"] / told["processor"]
        print(
            f"  {rows:>9,} rows   {told['requests']:>9,.0f} requests   {rate:>8,.0f} requests/s, {busy:>8,.0f} a second"
            f" of one processor   {told['peak'] / 1e6:>6.0f} MB of memory at most"
        )


def journal(*, small: bool) -> None:
    """records appended by one driver to a local journal, each durable, and a run of so many records opened."""
    records = 50 if small else 2000
    with tempfile.TemporaryDirectory() as folder:
        told = _child("append_records", {"folder": folder, "records": records})
    print(
        f"  {records:,} appended: {records / told['append']:,.0f}/s; opened: {records / told['open']:,.0f}/s"
    )


def serving(*, small: bool) -> None:
    """a result file of the emulator, made while it is read by a client that throws it away."""
    told = _child("serve_result", {"rows": 10 if small else 1000})
    print(
        f"  {told['bytes'] / 1e6:,.0f} MB   {told['bytes'] / 1e6 / told['seconds']:.0f} MB/s   "
        f"{told['server'] / 1e6:.0f} MB of memory at most, in the emulator's process"
    )


BENCHMARKS: dict[str, Callable[..., None]] = {
    "serving": serving,
    "collecting": collecting,
    "planning": planning,
    "dataset": dataset,
    "journal": journal,
}


# --- each in a process of its own, so that memory is its own -----------------------------------------------------


def _child(name: str, facts: dict[str, object]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--inside", name],
        input=json.dumps(facts),
        capture_output=True,
        text=True,
        cwd=HOUSE,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _inside(name: str, facts: dict[str, object]) -> None:
    told = INSIDE[name](**facts)
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(told))


def _prepare_result(*, folder: str, pictures: int) -> dict[str, float]:
    """A result as Google writes it, kept in a file: the server must not be what is measured."""
    from pipeline import emulator
    from pipeline.backends.developer import Developer
    from pipeline.clock import EmulatorClock
    from pipeline.prompt import Prompt
    from pipeline.run import wire_id

    model = "gemini-2.5-flash-image"
    with emulator.start(queue=(0, 0), run=(0, 0), picture_bytes=1_500_000) as service:
        backend = Developer(key="bench", service=service.url, clock=EmulatorClock(service.url))
        prompts = [
            Prompt(model=model, text=f"Photo of Shoe {n}", aspect_ratio="1:1") for n in range(pictures)
        ]
        lines = [backend.encode(wire_id(0, n), prompt) for n, prompt in enumerate(prompts)]
        ticket = backend.submit("bench", model, backend.stage("bench", lines))
        ending = backend.ending(ticket)
        assert ending is not None
        size = 0
        with (
            backend.open(ticket, ending.files[0].name, start=0, end=None) as stream,
            (Path(folder) / "result.jsonl").open("wb") as file,
        ):
            while piece := stream.read(1 << 20):
                size += file.write(piece)
    return {"bytes": size}


def _serve_result(*, rows: int) -> dict[str, float]:
    """All of it, into the void; then a stretch at once and in two pieces, which must be the same bytes."""
    import hashlib
    import io

    from google import genai

    from pipeline import emulator

    now = ("--speed", "0", "--queue", "0", "0", "--run", "0", "0")
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


def _collect_naive(*, folder: str, pictures: int) -> dict[str, float]:
    """Read all of it, parse each line whole, decode, write."""
    del pictures
    target = Path(folder) / "naive"
    target.mkdir()
    start = time.perf_counter()
    text = (Path(folder) / "result.jsonl").read_bytes().decode()
    for line in text.splitlines():
        row = json.loads(line)
        for part in row["response"]["candidates"][0]["content"]["parts"]:
            if "inlineData" in part:
                data = base64.b64decode(part["inlineData"]["data"])
                (target / f"{row['key']}.png").write_bytes(data)
    return {"seconds": time.perf_counter() - start}


def _collect_ours(*, folder: str, pictures: int) -> dict[str, float]:
    """Our collect, with the result read from a file in place of the network; every picture decoded and durable."""
    import io
    from concurrent.futures import ThreadPoolExecutor
    from datetime import UTC, datetime

    from pipeline.backends.developer import Developer
    from pipeline.clock import MachineClock
    from pipeline.collect import collect
    from pipeline.events import Ended, Part, ResultFile, Submitted, Submitting
    from pipeline.job import job_for
    from pipeline.storage import open_storage
    from pipeline.survey import begin, planner, survey

    class FromDisk(Developer):
        def open(self, ticket: str, file: str, *, start: int, end: int | None) -> io.BufferedReader:
            stream = (Path(folder) / "result.jsonl").open("rb")
            stream.seek(start)
            return stream

    place = Path(folder)
    write_rows(place / "shoes.csv", pictures)
    job = job_for(
        "shoes.csv",
        prompt="Photo of {{ title }}",
        model="gemini-2.5-flash-image",
        aspect_ratio="1:1",
        batches={"max_output_bytes": 10**12},
    )
    clock = MachineClock()
    found = survey(job, base=place)
    run = begin(
        found, name="run", storage=open_storage(str(place / "run")), service="http://x", clock=clock, cap=None
    )
    assert planner(found, run).draw()
    backend = FromDisk(key="bench", service="http://127.0.0.1:9", clock=clock)
    now = datetime.now(UTC)
    intent = run.record(Submitting(batch=0, account="a", label="l", input="files/1", until=now)).number
    run.record(Submitted(batch=0, intent=intent, ticket="batches/1"))
    file = ResultFile("files/r", (place / "result.jsonl").stat().st_size)
    run.record(Ended(batch=0, how="succeeded", at=now, files=(file,), parts=(Part(file.name, 0, None),)))
    start = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        assert collect(run, backend, 0, pool=pool)
    seconds = time.perf_counter() - start
    books = run.state.batches[0].collected
    assert books is not None
    assert books.pictures == pictures
    return {"seconds": seconds}


def _plan_rows(*, folder: str, rows: int) -> dict[str, float]:
    from pipeline.clock import MachineClock
    from pipeline.job import job_for
    from pipeline.storage import open_storage
    from pipeline.survey import begin, planner, survey

    place = Path(folder)
    write_rows(place / "shoes.csv", rows)
    job = job_for("shoes.csv", prompt="Studio photo of {{ title }} in {{ colour }}", aspect_ratio="1:1")
    start = time.perf_counter()
    found = survey(job, base=place)
    storage = open_storage(str(place / "run"))
    run = begin(found, name="run", storage=storage, service="http://x", clock=MachineClock(), cap=None)
    drawing = planner(found, run)
    while drawing.draw():
        pass
    return {"seconds": time.perf_counter() - start}


def _plan_dataset(*, folder: str, rows: int) -> dict[str, float]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.clock import MachineClock
    from pipeline.job import job_for
    from pipeline.storage import open_storage
    from pipeline.survey import begin, planner, survey

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
    found = survey(job, base=place)
    storage = open_storage(str(place / "run"))
    run = begin(found, name="run", storage=storage, service="http://x", clock=MachineClock(), cap=None)
    drawing = planner(found, run)
    while drawing.draw():
        pass
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
    "prepare_result": _prepare_result,
    "collect_naive": _collect_naive,
    "collect_ours": _collect_ours,
    "plan_rows": _plan_rows,
    "plan_dataset": _plan_dataset,
    "append_records": _append_records,
}

if __name__ == "__main__":
    main()
