"""docs/models.md against the matrix of models and modes: no cell that is not run, and none that is missing.

`python -m tests.test_models_page` writes the page's tables anew.
"""

import re

from tests.shell import HOUSE
from tests.stories.modes import MODES, TABLE, cells, page

PAGE = HOUSE / "docs" / "models.md"
MARK = "<!-- The tables below are tests/stories/modes.py; a test holds them against it. -->\n\n"


def test_the_tables_of_the_page_are_the_matrix() -> None:
    _, mark, tables = PAGE.read_text(encoding="utf-8").partition(MARK)
    assert mark
    assert tables.splitlines() == list(page())


def test_every_cell_of_the_page_names_a_test_that_runs_or_says_why_there_is_none() -> None:
    told = PAGE.read_text(encoding="utf-8").partition(MARK)[2]
    named = set(re.findall(r"`test_every_mode\[(.*?)\]`", told))
    assert named == {cell.id for cell in cells()}
    rows = [line for line in told.splitlines() if line.startswith(("| gemini", "| imagen"))]
    assert len(rows) == (1 + len(MODES)) * len(TABLE.models)
    empty = [cell for row in rows for cell in row.strip("|").split("|") if not cell.strip()]
    assert empty == []


def test_every_sample_that_the_page_names_is_there() -> None:
    for mode in MODES:
        assert (HOUSE / mode.path).is_file()


if __name__ == "__main__":
    before, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(before + mark + "\n".join(page()) + "\n", encoding="utf-8")
