"""Rows with follow-ups: each turn is asked when the one before it is home, with the whole conversation before it."""

import json
from typing import Any

import msgspec

from pipeline.asked import columns_of
from pipeline.drive import Driver
from pipeline.index import read_index
from pipeline.plan import Planner, _plan_row, write_batch
from pipeline.prompt import fingerprint
from tests.bench import Bench, outcomes


def follow(request: Any, texts: list[str], **said: Any) -> str:
    turns, after = [], request.fingerprint
    for text in texts:
        prompt = msgspec.structs.replace(request.prompt, text=text, references=(), after=after, **said)
        after = fingerprint(prompt)
        row = columns_of(prompt) | {"fingerprint": after, "likely": 0, "high": 0}
        turns.append({name: value for name, value in row.items() if name not in ("model", "history")})
    return json.dumps(turns)


class TurnedPlanner(Planner):
    texts = ["make it night", "add snow"]

    def write(self, number, lane, requests):
        for request in requests:
            for reference in request.prompt.references:
                self._keep(reference)
        rows = [_plan_row(p, r) | {"turns": follow(r, self.texts)} for p, r in enumerate(requests)]
        write_batch(self._run, number, rows, model=self._models.get(lane))


def turned(driver: Driver, texts: list[str]) -> Driver:
    driver._planner.__class__ = TurnedPlanner
    driver._planner.texts = texts
    return driver


def test_each_turn_is_asked_with_the_conversation_before_it(bench: Bench) -> None:
    bench.make_job(rows=3, max_requests=2, model="gemini-3.1-flash-image")
    driver = turned(bench.begin(), ["make it night", "add snow"])
    driver.to_the_end()
    index = read_index(driver.run)
    print(index[["key", "turn", "outcome", "message", "continued", "prompt", "batch"]])
    print(outcomes(index))
    print(driver.run.storage.read("requests/00002.jsonl").decode()[:3000])
    print(driver.run.state.spent, bench.bill())
    assert 0
