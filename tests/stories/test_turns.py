"""Rows with follow-ups: each turn is asked when the one before it is home, with the whole conversation before it."""

import json
from typing import Any

from pipeline.index import read_index
from pipeline.run import Run
from tests.bench import Bench, outcomes

THINKS = "gemini-3.1-flash-image"


def lines_of(run: Run) -> dict[tuple[str, int], dict[str, Any]]:
    """What was asked in each turn of each row, as it is stored."""
    told = [
        json.loads(line)
        for name in run.storage.list("requests/")
        for line in run.storage.read(name).splitlines()
    ]
    by_wire = {line["key"]: line["request"] for line in told}
    index = read_index(run)
    found = {}
    for row in index.itertuples():
        wire = f"b{row.batch:05}-{row.place:04}"
        if wire in by_wire:
            found[row.key, int(row.turn)] = by_wire[wire]
    return found


def test_each_turn_is_asked_with_the_conversation_before_it(bench: Bench) -> None:
    """Three rows, two follow-ups each: nine pictures, in three waves, and every bill is right to the cent."""
    bench.make_job(rows=3, model=THINKS, turns=["make it night", "add snow to {{ title }}"])
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 9}
    assert driver.run.state.spent == bench.bill()
    asked = lines_of(driver.run)
    for n in range(3):
        first, second, third = (asked[f"sku-{n}", turn]["contents"] for turn in range(3))
        made = [index[(index.key == f"sku-{n}") & (index.turn == turn)].iloc[0] for turn in range(3)]
        assert second[0] == first[0]
        assert third[:2] == second[:2]
        assert third[2] == second[2]
        assert [content["role"] for content in third] == ["user", "model"] * 2 + ["user"]
        assert third[4]["parts"] == [{"text": f"add snow to Shoe {n}"}]
        for place, row in ((1, made[0]), (3, made[1])):
            picture = next(part for part in third[place]["parts"] if "inlineData" in part)
            assert picture["inlineData"]["data"] == f"nightshoot:picture/{row.sha256}/{row.bytes}/{row.path}"
            assert picture["thoughtSignature"]
        assert [row.continued for row in made[1:]] == ["conversation", "conversation"]
        assert made[2].prompt_tokens > made[1].prompt_tokens > made[0].prompt_tokens
