"""Five planted defects with every run of the tests; `make defects` plants all of them."""

import pytest

from tests.defects.catalog import DEFECTS, IN_CI
from tests.defects.plant import HOUSE, try_defect


@pytest.mark.parametrize("name", IN_CI)
def test_a_planted_defect_is_noticed(name: str) -> None:
    (defect,) = [defect for defect in DEFECTS if defect.name == name]
    verdict = try_defect(defect)
    assert verdict.noticed, f"{defect.name}: {verdict.by}"


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_every_defect_still_fits_its_file(defect: object) -> None:
    """A defect whose line was rewritten plants nothing, and would be noticed by nobody."""
    from tests.defects.plant import Defect

    assert isinstance(defect, Defect)
    assert (HOUSE / defect.file).read_text(encoding="utf-8").count(defect.old) == 1
    for test in defect.tests:
        assert (HOUSE / test.partition("::")[0]).exists()


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len(DEFECTS) >= 20
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
