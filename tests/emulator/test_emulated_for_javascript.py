"""A client nobody here wrote, in another language: Google's JavaScript SDK. `make js` fetches it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = Path(os.environ.get("NIGHTSHOOT_JS", Path(__file__).parents[2] / ".cache" / "js"))
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="Node is not installed: no JavaScript client to try")
@pytest.mark.skipif(
    not (PACKAGES / "node_modules" / "@google" / "genai").is_dir(),
    reason="@google/genai is not in .cache/js: `make js` fetches it from the npm registry",
)
def test_googles_javascript_sdk_lives_a_night_here(make_bench):
    bench = make_bench(queue=(60, 60), run=(60, 60))
    script = Path(__file__).parent / "night.mjs"
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [str(NODE), str(script), str(PACKAGES), bench.service.url],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "uploaded": "263",
        "listed": True,
        "state": "JOB_STATE_SUCCEEDED",
        "keys": ["blue", "green", "red"],
        "cancelled": "JOB_STATE_CANCELLED",
        "picture": True,
        "gone": 404,
    }
    assert [entry["state"] for entry in bench.service.ledger()["jobs"]] == ["SUCCEEDED", "CANCELLED"]
