"""`import nightshoot`: light, typed, and never mistaken for somebody's pipeline.py."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nightshoot

ROOT = Path(__file__).parent.parent


def python(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script that lies in this folder, as a notebook would: what lies beside it is imported first."""
    (folder / "notebook.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_importing_it_loads_nothing_heavy(tmp_path: Path):
    done = python(
        "import json, sys, nightshoot\n"
        "nightshoot.BadInput, nightshoot.__version__, dir(nightshoot)\n"
        "print(json.dumps(sorted(sys.modules)))",
        tmp_path,
    )
    modules = set(json.loads(done.stdout))
    assert "pipeline.errors" in modules
    assert not modules & {"pandas", "pyarrow", "google", "PIL", "numpy", "rich", "pipeline.notebook"}


def test_planning_loads_no_sdk_of_google(tmp_path: Path):
    (tmp_path / "shoes.csv").write_text("sku,title\na,Boot\n", encoding="utf-8")
    done = python(
        "import sys, nightshoot\n"
        "print(nightshoot.job('shoes.csv', prompt='{{ title }}').plan().usd)\n"
        "print([name for name in ('google.genai', 'google.cloud.storage', 'pandas') if name in sys.modules])",
        tmp_path,
    )
    assert done.stdout.splitlines()[1:] == ["[]"], done.stderr


STRAYS = {
    "a file": "pipeline.py",
    "a package": "pipeline/__init__.py",
}


@pytest.mark.parametrize("name", STRAYS.values(), ids=STRAYS)
def test_a_stray_pipeline_beside_the_notebook_is_named_and_not_run(tmp_path: Path, name: str):
    stray = tmp_path / name
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("print('somebody deletes their data here')", encoding="utf-8")
    done = python("import nightshoot", tmp_path)
    complaint = done.stderr.splitlines()[-1]
    assert complaint.startswith(f"ImportError: {stray} hides the package 'pipeline'")
    assert "rename that file or folder, or start Python in another folder" in complaint
    assert done.stdout == ""


def test_a_stray_that_is_loaded_already_is_named_too(tmp_path: Path):
    stray = tmp_path / "pipeline.py"
    stray.write_text("", encoding="utf-8")
    done = python("import pipeline, sys\nsys.path.pop(0)\nimport nightshoot", tmp_path)
    assert f"ImportError: {stray} hides" in done.stderr
    assert "then start Python again" in done.stderr


def test_a_folder_of_data_called_pipeline_hides_nothing(tmp_path: Path):
    (tmp_path / "pipeline").mkdir()
    done = python("import nightshoot\nprint(nightshoot.job)", tmp_path)
    assert done.stdout.startswith("<function job"), done.stderr


def imported(lines: list[ast.stmt]) -> list[tuple[str | None, str]]:
    return [
        (line.module, name.name) for line in lines if isinstance(line, ast.ImportFrom) for name in line.names
    ]


def test_every_name_is_there_for_people_and_for_type_checkers():
    tree = ast.parse((ROOT / "nightshoot.py").read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    stub = ast.parse((ROOT / "nightshoot-stubs" / "__init__.pyi").read_text(encoding="utf-8"))
    assert imported(typed.body) == imported(stub.body)
    assert sorted(name for _, name in imported(stub.body)) == nightshoot.__all__ == dir(nightshoot)
    for name in nightshoot.__all__:
        assert getattr(nightshoot, name) is not None
    assert nightshoot.BadInput is importlib.import_module("pipeline.errors").BadInput
    with pytest.raises(AttributeError, match="no attribute 'jobs'"):
        nightshoot.jobs  # noqa: B018
    assert (ROOT / "pipeline" / "py.typed").exists()
