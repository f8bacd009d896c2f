"""Vertex AI's batch prediction over HTTP: create, get, list, cancel, delete; what a job looks like."""

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from pipeline.emulator.calls import Call, nothing, page_token
from pipeline.emulator.clock import SECOND, VirtualClock, moment
from pipeline.emulator.fields import ANY, TEXT
from pipeline.emulator.gcs_objects import Objects
from pipeline.emulator.models import find
from pipeline.emulator.problems import CANCELLED, DEADLINE_EXCEEDED, Problem
from pipeline.emulator.quota import Quota
from pipeline.emulator.vertex import Prediction, Predictions, State, inputs_of, split

CREATE = {
    "name": TEXT,
    "displayName": TEXT,
    "model": TEXT,
    "inputConfig": {
        "instancesFormat": TEXT,
        "gcsSource": {"uris": ANY},
        "bigquerySource": ANY,
        "vertexMultimodalDatasetSource": ANY,
    },
    "outputConfig": {
        "predictionsFormat": TEXT,
        "gcsDestination": {"outputUriPrefix": TEXT},
        "bigqueryDestination": ANY,
        "vertexMultimodalDatasetDestination": ANY,
    },
    "instanceConfig": ANY,
    "labels": ANY,
    "modelParameters": ANY,
    "encryptionSpec": ANY,
    "serviceAccount": TEXT,
}
SHOWN = ("displayName", "model", "inputConfig", "outputConfig", "labels", "instanceConfig")
PUBLISHED = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?publishers/google/models/([^/@]+)(?:@default)?")
FILTER = re.compile(r'(?:display_name|displayName)="([^"]*)"|state="?(\w+)"?')
PAGE, LARGEST_PAGE = 50, 100


class PredictionCalls:
    def __init__(self, clock: VirtualClock, jobs: Predictions, objects: Objects, *, quota: Quota) -> None:
        self._clock = clock
        self._jobs = jobs
        self._objects = objects
        self._quota = quota

    async def create(self, call: Call) -> Response:
        """Accept a job and bill it in due time. Nothing in the request could say that it is a repetition."""
        account, parent = bearer(call), parent_of(call)
        asked = await call.json(CREATE)
        found = PUBLISHED.fullmatch(str(asked.get("model") or ""))
        name = found[1] if found else str(asked.get("model") or "")
        call.meet(display_name=asked.get("displayName"), model=name)
        model = find(name, now=self._clock.now())
        if found is None or model is None or call.faults.retired(name, at=self._clock.now()):
            raise Problem(404, f"Publisher Model `{asked.get('model')}` was not found or is not supported.")
        self._check(asked)
        weight = await self._quota.weigh(call.facts, model, lambda: self._jobs.read_lines(inputs_of(asked)))
        self._quota.admit(call.facts, account, model, weight=weight)
        job = self._jobs.create(parent, account, model=model, asked=asked)
        job.weight = weight
        call.facts["job"] = job.name
        return JSONResponse(resource(job, job.created - 1))

    def _check(self, asked: dict[str, Any]) -> None:
        """Refuse what could never run. That an input is missing is noticed by the job itself."""
        source = (asked.get("inputConfig") or {}).get("gcsSource") or {}
        uris = source.get("uris")
        uris = [uris] if isinstance(uris, str) else uris
        if (asked["inputConfig"] if source else {}).get("instancesFormat") != "jsonl" or not uris:
            raise Problem(400, "inputConfig: only jsonl from a gcsSource with uris is known here.")
        if any(not str(uri).startswith("gs://") or "*" in str(uri) for uri in uris):
            raise Problem(400, "inputConfig.gcsSource.uris: each is the name of one gs:// object.")
        output = asked.get("outputConfig") or {}
        prefix = (output.get("gcsDestination") or {}).get("outputUriPrefix") or ""
        if output.get("predictionsFormat") != "jsonl" or not prefix.startswith("gs://"):
            raise Problem(
                400, "outputConfig: only jsonl into a gcsDestination with outputUriPrefix is known."
            )
        if (bucket := split(prefix)[0]) not in self._objects.buckets:
            raise Problem(400, f"The Cloud Storage bucket of {prefix} does not exist: {bucket}.")

    async def get(self, call: Call) -> Response:
        job = self._one(call)
        odd = call.faults.take("unknown_state", **call.facts)
        return JSONResponse(resource(job, self._clock.now(), state=odd["value"] if odd else None))

    async def list(self, call: Call) -> Response:
        bearer(call)
        call.meet()
        size, last = call.page(PAGE)
        now = self._clock.now()
        wanted = self._filter(call)
        jobs = [
            job
            for job in self._jobs.of(parent_of(call))
            if (last is None or job.number < last) and wanted(job, now)
        ]
        lag, short, empty = (call.faults.take(kind, **call.facts) for kind in LISTING)
        if lag is not None:
            jobs = [job for job in jobs if job.created <= now - round(lag["seconds"] * SECOND)]
        if empty is not None:
            jobs = []
        shown = jobs[: min((short or {}).get("size") or size, LARGEST_PAGE)]
        if not shown:
            return nothing()
        page: dict[str, Any] = {"batchPredictionJobs": [resource(job, now) for job in shown]}
        if len(jobs) > len(shown) and short is None:
            page["nextPageToken"] = page_token(shown[-1])
        return JSONResponse(page)

    def _filter(self, call: Call) -> Any:
        """Display names and states that are to be equal, joined by AND."""
        text = call.request.query_params.get("filter") or ""
        terms = [FILTER.fullmatch(term.strip()) for term in text.split(" AND ")] if text else []
        if None in terms:
            raise Problem(400, f"This emulator does not know the filter {text!r}.")
        names = {term[1] for term in terms if term and term[1] is not None}
        states = {term[2] for term in terms if term and term[2]}
        return lambda job, now: (
            (not names or {job.display_name} == names)
            and (not states or {f"JOB_STATE_{job.state(now)[0]}"} == states)
        )

    async def cancel(self, call: Call) -> Response:
        self._jobs.cancel(self._one(call))
        return nothing()

    async def delete(self, call: Call) -> Response:
        job = self._one(call)
        self._jobs.delete(job)
        done = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        name = f"{job.parent}/operations/{job.id}"
        return JSONResponse({"name": name, "done": True, "response": done})

    def _one(self, call: Call) -> Prediction:
        bearer(call)
        job = self._jobs.get(parent_of(call), call.request.path_params["job"])
        call.meet(display_name=job.display_name, model=job.model.name, name=job.name)
        return job


LISTING = ("list_lags", "list_truncated", "list_empty")


def bearer(call: Call) -> str:
    """The account, which is the project; any token opens any of them, and none opens none."""
    kind, _, token = call.request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Problem(
            401,
            "Request is missing required authentication credential. Expected OAuth 2 access token, login "
            "cookie or other valid authentication credential.",
        )
    account = f"project {call.request.path_params['project']}"
    call.facts["account"] = account
    return account


def parent_of(call: Call) -> str:
    path = call.request.path_params
    return f"projects/{path['project']}/locations/{path['location']}"


def stamp(at: int) -> str:
    return moment(at).isoformat(timespec="microseconds").replace("+00:00", "Z")


def resource(job: Prediction, now: int, *, state: str | None = None) -> dict[str, Any]:
    """The job as the service shows it."""
    known, since = job.state(now)
    whole: dict[str, Any] = {"name": job.name}
    whole |= {name: job.asked[name] for name in SHOWN if name in job.asked}
    whole |= {
        "state": state or f"JOB_STATE_{known}",
        "createTime": stamp(job.created),
        "updateTime": stamp(since),
        "modelVersionId": "1",
    }
    if job.begun:
        whole["startTime"] = stamp(job.starts)
    if not job.ended(now) or state:
        return whole
    whole["endTime"] = stamp(since)
    if error := ending(job, known):
        whole["error"] = dict(zip(("code", "message"), error, strict=True))
    if job.done_answers is None or job.error is not None:
        return whole
    if counts := stats(job, job.done_answers):
        whole["completionStats"] = counts
    if job.done_answers and now >= job.delivery:
        whole["outputInfo"] = {"gcsOutputDirectory": job.directory}
    return whole


def ending(job: Prediction, state: State) -> tuple[int, str] | None:
    match state:
        case "CANCELLED":
            return CANCELLED, "The job was cancelled."
        case "EXPIRED":
            return DEADLINE_EXCEEDED, "The job did not end in time; what was done by then has been written."
        case "FAILED":
            told = job.faults.get("job_failed", {})
            return job.error or (told["code"], told["message"])
        case _:
            return None


def stats(job: Prediction, done: list[Any]) -> dict[str, str]:
    """Counts as strings; what is zero is absent."""
    shape = job.faults["stats_odd"]["shape"] if "stats_odd" in job.faults else None
    failed = sum(answer.error is not None for answer in done)
    counts = {
        "successfulCount": len(done) - failed,
        "failedCount": failed,
        "incompleteCount": job.rows - len(done),
    }
    if shape == "absent":
        return {}
    if shape == "zero":
        return dict.fromkeys(counts, "0")
    return {name: str(count) for name, count in counts.items() if count}
