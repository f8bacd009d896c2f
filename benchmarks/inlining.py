"""Requests that carry their references themselves, against the loop that everybody copies."""

import base64
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.children import child
from benchmarks.collecting import picture
from benchmarks.runs import planned

MEGABYTE = 1_000_000


def inlining(*, small: bool) -> None:
    """a batch of rows with a distinct 1 MB reference each, made into the file that is uploaded."""
    facts = {"rows": 8 if small else 200}
    told = {}
    for name in ("naive", "ours"):
        told[name] = child(f"inline_{name}", facts)
        rate, megabytes = facts["rows"] / told[name]["seconds"], told[name]["memory"] / 1e6
        print(f"  {name:<6} {rate:>7.0f} rows/s   {megabytes:>6.0f} MB of memory at most")
    print(f"  ours is {told['naive']['seconds'] / told['ours']['seconds']:.1f} times as fast")


def inline_naive(*, rows: int) -> dict[str, float]:
    """Read, encode, dump, write."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number in range(rows):
            (place / f"{number}.png").write_bytes(picture(MEGABYTE))
        start = time.perf_counter()
        with (place / "batch.jsonl").open("w", encoding="utf-8") as file:
            for number in range(rows):
                data = base64.b64encode((place / f"{number}.png").read_bytes()).decode()
                file.write(json.dumps(_request(number, data)) + "\n")
        return {"seconds": time.perf_counter() - start}


def _request(number: int, data: str) -> dict[str, Any]:
    parts = [{"inlineData": {"data": data, "mimeType": "image/png"}}, {"text": f"Photo of Shoe {number}"}]
    return {"key": str(number), "request": {"contents": [{"role": "user", "parts": parts}]}}


def inline_ours(*, rows: int) -> dict[str, float]:
    """The same from a planned run: its stored requests, with its stored references put in."""
    import tempfile

    from pipeline.job import job_for
    from pipeline.submit import inline_lines

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = ["sku,title,photo", *(f"sku-{n},Shoe {n},{n}.png" for n in range(rows))]
        (place / "shoes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number in range(rows):
            (place / f"{number}.png").write_bytes(picture(MEGABYTE))
        job = job_for("shoes.csv", prompt="Photo of {{ title }}", references=["photo"])
        job = job.with_settings({"references.inline": True})
        _, run = planned(job, place)
        start = time.perf_counter()
        with (place / "batch.jsonl").open("wb") as file:
            for batch in run.state.batches:
                for line in inline_lines(run, batch):
                    file.write(line)
                    file.write(b"\n")
        return {"seconds": time.perf_counter() - start}


INSIDE = {"inline_naive": inline_naive, "inline_ours": inline_ours}
