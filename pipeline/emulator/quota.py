"""How many tokens may wait: of every account and model, over all jobs that have not ended."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool

from pipeline.emulator.answers import Answer
from pipeline.emulator.batches import Batches, Job
from pipeline.emulator.clock import SECOND, VirtualClock
from pipeline.emulator.faults import Faults
from pipeline.emulator.models import Model
from pipeline.emulator.problems import Problem
from pipeline.emulator.settings import Settings
from pipeline.emulator.vertex import Prediction, Predictions


class Quota:
    """Knows what waits. Counts nothing as long as there is no limit."""

    def __init__(
        self,
        settings: Settings,
        clock: VirtualClock,
        faults: Faults,
        *,
        batches: Batches,
        predictions: Predictions,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._faults = faults
        self._batches = batches
        self._predictions = predictions

    async def weigh(
        self, facts: dict[str, Any], model: Model, lines: Callable[[], Iterable[bytes]]
    ) -> int | None:
        """The tokens of what is about to be sent; None where nobody counts them."""
        if self._limit(facts, model) is None:
            return None
        return await run_in_threadpool(lambda: tokens(lines(), model))

    def admit(self, facts: dict[str, Any], account: str, model: Model, *, weight: int | None) -> None:
        """Problem 429 when these tokens do not fit beside those that wait already."""
        limit = self._limit(facts, model)
        if limit is None or weight is None:
            return
        held = self.held(account, model)
        if held + weight <= limit:
            return
        self._faults.take("quota", **facts)  # now it has hit somebody
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/batch_enqueued_tokens",
            "quotaId": "BatchEnqueuedTokensPerProjectPerModel",
            "quotaDimensions": {"model": model.name},
            "quotaValue": str(limit),
        }
        raise Problem(
            429,
            f"You exceeded your current quota of enqueued tokens for {model.name}: "
            f"{held} are waiting, {weight} were to be added, {limit} are allowed.",
            details=[{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}],
        )

    def held(self, account: str, model: Model) -> int:
        """The tokens of all jobs that have not ended, and of those that ended and hold them all the same."""
        now = self._clock.now()
        jobs: list[Job | Prediction] = [*self._batches.all(), *self._predictions.jobs.values()]
        return sum(
            self._weight(job)
            for job in jobs
            if job.account == account and job.model.name == model.name and holds(job, now)
        )

    def _limit(self, facts: dict[str, Any], model: Model) -> int | None:
        told = self._faults.in_force("quota", **facts)
        limit: int | None = told["tokens"] if told is not None else self._settings.quota.get(model.name)
        return limit

    def _weight(self, job: Job | Prediction) -> int:
        if job.weight is None:  # it was taken when nobody counted
            source = self._batches.lines(job) if isinstance(job, Job) else self._predictions.lines(job)
            job.weight = (
                sum(weight_of(answer, job.model) for answer in job.answers)
                if job.answers
                else tokens(source, job.model)
            )
        return job.weight


def holds(job: Job | Prediction, now: int) -> bool:
    state, since = job.state(now)
    if state in ("QUEUED", "PENDING", "RUNNING", "CANCELLING"):
        return True
    ghost = job.faults.get("ghost_quota")
    return ghost is not None and state == "CANCELLED" and now < since + round(ghost["seconds"] * SECOND)


def weight_of(answer: Answer, model: Model) -> int:
    asked = answer.asked
    return asked.prompt_tokens + len(asked.references) * model.reference_tokens if asked else 0


def tokens(lines: Iterable[bytes], model: Model) -> int:
    """Of all input: four letters are one, and a picture has as many as the model says."""
    total = 0
    for part in parts(lines):
        letters = part.get("text")
        if isinstance(letters, str):
            total += -(-len(letters) // 4)
        elif part.keys() & {"inlineData", "inline_data", "fileData", "file_data"}:
            total += model.reference_tokens
    return total


def parts(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Every part of every line; what cannot be read has none, and is refused elsewhere."""
    for line in lines:
        try:
            contents = msgspec.json.decode(line)["request"]["contents"]
            yield from (part for content in contents for part in content["parts"] if isinstance(part, dict))
        except (msgspec.DecodeError, KeyError, TypeError):
            continue
