"""The fixtures for other people's tests, as their own pytest sees them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

THEIRS = """
from google import genai

pytest_plugins = ["pipeline.emulator.pytest_plugin"]


def test_of_theirs(gemini_emulator):
    client = genai.Client()
    assert client.models.generate_content(model="gemini-2.5-flash-image", contents="mug").candidates
    assert gemini_emulator.ledger()["total"]["rows"] == 1
    client.close()


def test_with_two(make_gemini_emulator):
    one, two = make_gemini_emulator(seed=1), make_gemini_emulator(seed=2)
    assert one.url != two.url
"""


def test_a_test_of_somebody_else_finds_an_emulator_in_its_environment(tmp_path):
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout or ".." in done.stdout
