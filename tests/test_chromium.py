"""Pages as a real browser shows them. Skipped where there is none: Debian has it as chromium."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.attribution import credits_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (  # it talks to nobody, keeps nothing, and may run as root
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=2000",
)
HOSTILE = """</iframe><img src=x onerror="parent.document.title='taken'">
<script>parent.document.title = 'taken'; top.location = 'about:blank'</script>
<form action=x><input autofocus onfocus="top.document.title='taken'"></form>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def shown(page: Path, profile: Path) -> str:
    """The page's document once everything on it has run."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize(("allowed", "title"), [(False, "kept"), (True, "taken")])
def test_a_chip_cannot_touch_the_page_around_it(tmp_path: Path, allowed: bool, title: str) -> None:
    """Its script would run where a frame lets it, which shows that the test can see it."""
    chip = credits_of({"search_chip": HOSTILE, "sources": []})
    if allowed:
        chip = chip.replace('sandbox="', 'sandbox="allow-scripts allow-same-origin ')
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>kept</title><body>{chip}", encoding="utf-8")
    assert f"<title>{title}</title>" in shown(page, tmp_path / "profile")
