"""`nightshoot proof`: a few rows at once, on one page, and bought once."""

import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline import emulator
from tests.bench import write_rows
from tests.shell import Shell

PAID = ("--yes", "--max-usd", "5")
JOB = """
manifest = "../shoes.csv"
[defaults]
model = "gemini-2.5-flash-image"
aspect_ratio = "1:1"
references = ["photo"]
[shots.hero]
prompt = "Photo of {{ title }}"
"""


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    """A shell in a folder with a job over twenty shoes, each with a photo."""
    write_rows(tmp_path / "shoes.csv", 20, photo=lambda n: "red.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "shoes.toml").write_text(JOB)
    return Shell(tmp_path, service.environment())


def calls(service: emulator.Service) -> int:
    return len(service.ledger()["calls"])


def rows_billed(service: emulator.Service) -> int:
    return sum(job["billedRows"] for job in service.ledger()["jobs"])


def run_of(shell: Shell, name: str) -> Path:
    return next(path for path in (shell.folder / "runs").iterdir() if path.name.startswith(name))


def test_a_proof_says_its_price_shoots_at_once_and_writes_one_page(
    shell: Shell, service: emulator.Service
) -> None:
    said = shell("proof", *PAID)
    assert said.code == 0, said.all
    assert re.search(
        r"6 rows, hero: 6 pictures at once at full price: about \$0\.2\d, at most \$0\.\d\d", said.err
    )
    assert re.search(r"6 of 6 pictures in .*\. They count: the run will not buy them again", said.out)
    assert "Wrote proofs/shoes-1.html" in said.out
    assert said.err.rstrip().endswith("Next: change the prompt and prove again, or  nightshoot run")
    page = (shell.folder / "proofs" / "shoes-1.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 12  # six photos beside six pictures
    assert not re.search(r'src="(?!data:)', page)
    assert len(re.findall(r"Photo of Shoe \d+", page)) == 6
    assert calls(service) == 6
    assert service.ledger()["jobs"] == []


def test_the_run_that_follows_does_not_buy_the_proofs_pictures_again(
    shell: Shell, service: emulator.Service
) -> None:
    """Twenty rows, six of them proved: plan and run know it, and the ledger has fourteen rows more."""
    shell("proof", *PAID)
    planned = shell("plan")
    assert re.search(r"pictures\s+14\s+of 20 rows; 6 proved already", planned.out), planned.out
    assert "  new " not in planned.out
    done = shell("run", *PAID)
    assert done.code == 0, done.all
    assert (rows_billed(service), calls(service)) == (14, 6)
    index = pd.read_parquet(run_of(shell, "shoes-2") / "index")
    assert index["outcome"].value_counts().to_dict() == {"ok": 14, "reused": 6}
    again = shell("run", *PAID)
    assert ", finished, " in again.err
    assert (rows_billed(service), calls(service)) == (14, 6)
