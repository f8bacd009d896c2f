"""Nightshoot in Python: `import nightshoot`. What it can do is in docs/python.md; the house behind it is `pipeline`.

Importing it costs nothing: pandas, pyarrow and Google's SDKs are loaded when they are first needed.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import __version__
    from pipeline.errors import BadInput, Corrupt, Denied, NightshootError, Refused, Unavailable
    from pipeline.notebook import Job, Plan, Price, Run, Spending, Status, job, open_run

__all__ = [
    "BadInput",
    "Corrupt",
    "Denied",
    "Job",
    "NightshootError",
    "Plan",
    "Price",
    "Refused",
    "Run",
    "Spending",
    "Status",
    "Unavailable",
    "__version__",
    "job",
    "open_run",
]

_ELSEWHERE = {
    "__version__": "pipeline",
    "BadInput": "pipeline.errors",
    "Corrupt": "pipeline.errors",
    "Denied": "pipeline.errors",
    "NightshootError": "pipeline.errors",
    "Refused": "pipeline.errors",
    "Unavailable": "pipeline.errors",
}
"""Where a name lives, if not in pipeline.notebook."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ELSEWHERE.get(name, "pipeline.notebook")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _refuse_a_stranger() -> None:
    """Stop if `pipeline` means another module, without running it: it may be anybody's script."""
    loaded = sys.modules.get("pipeline")
    found = getattr(loaded, "__file__", None) if loaded else getattr(find_spec("pipeline"), "origin", None)
    ours = Path(__file__).with_name("pipeline") / "__init__.py"
    if found is not None and Path(found).resolve() == ours.resolve():
        return
    if found is None or not ours.exists():
        raise ImportError("nightshoot is not installed whole: install it again", name="pipeline")
    raise ImportError(
        f"{found} hides the package 'pipeline' that nightshoot is made of: "
        "rename that file or folder, or start Python in another folder; then start Python again",
        name="pipeline",
        path=found,
    )


_refuse_a_stranger()
