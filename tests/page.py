"""Runs the python blocks of a page as one program: `python -m tests.page PAGE` fails where it shows something else.

The comment lines right below an expression are what it shows: its repr, or its error with the hint. `...` is anything.
"""

import ast
import re
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

from pipeline.errors import NightshootError


def main(page: Path) -> None:
    names: dict[str, Any] = {}
    shown = 0
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for statement, want in statements(block):
            got = run(statement, names, may_fail=bool(want))
            shown += bool(want)
            if want and not OutputChecker().check_output(want, got + "\n", ELLIPSIS | NORMALIZE_WHITESPACE):
                sys.exit(f"{ast.unparse(statement)}\nthe page says\n{want}\nand it is\n{got}")
    sys.stdout.write(f"{shown} results are as shown\n")


def statements(block: str) -> Iterator[tuple[ast.stmt, str]]:
    """Each statement with what the page says it shows; '' where it says nothing."""
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        want = []
        for line in lines[statement.end_lineno :]:
            if not line.startswith("#"):
                break
            want.append(line.removeprefix("#").removeprefix(" ") + "\n")
        yield statement, "".join(want)


def run(statement: ast.stmt, names: dict[str, Any], *, may_fail: bool) -> str:
    """What a notebook would show below it."""
    if not isinstance(statement, ast.Expr):
        exec(compile(ast.Module([statement], []), "page", "exec"), names)
        return ""
    try:
        value = eval(compile(ast.Expression(statement.value), "page", "eval"), names)
    except NightshootError as error:
        if not may_fail:
            raise
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return repr(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
