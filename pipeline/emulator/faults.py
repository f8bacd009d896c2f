"""Misfortune on order: which kinds there are, whom they hit, and how often."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.emulator.clock import parse
from pipeline.emulator.events import Events

EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which the service can go wrong."""

    imitates: str
    scope: str  # call: when a request comes in; job: when one is created; row: when a job begins
    arguments: Mapping[str, Any] = field(default_factory=dict)
    times: int | None = None  # unless told otherwise; None is always. For rows: of the same content


MATCHES = {
    "call": ("method", "display_name", "model", "name", "every"),
    "job": ("display_name", "model", "every"),
    "row": ("display_name", "model", "key", "prompt", "every"),
}

KINDS: Mapping[str, Kind] = {
    "refused": Kind(
        "the request is refused before anything is done",
        "call",
        {"code": 503, "message": "", "retry_after": None},
        times=1,
    ),
    "lost": Kind(
        "everything is done, and the connection is cut before any reply",
        "call",
        {"method": "create"},
        times=1,
    ),
    "unsent": Kind("the connection is cut before anything is done", "call", {"method": "create"}, times=1),
    "done_but_error": Kind(
        "everything is done, and the reply is an error",
        "call",
        {"method": "create", "code": 503, "message": ""},
        times=1,
    ),
    "quota": Kind(
        "no job is taken while the account's jobs of a model would wait for more tokens than this",
        "call",
        {"tokens": 2_000_000},
    ),
    "model_retired": Kind(
        "a model is no longer there: 404 for whoever asks, failure for a job that was to begin",
        "call",
        {"at": None},
    ),
    "list_lags": Kind("the listing does not show jobs younger than this", "call", {"seconds": 60.0}),
    "list_truncated": Kind("the listing ends after its first page", "call", {"size": None}),
    "list_empty": Kind("the listing shows nothing, and no error", "call"),
    "unknown_state": Kind(
        "a job is in a state nobody has heard of",
        "call",
        {"value": "BATCH_STATE_PARTIALLY_SUCCEEDED"},
        times=1,
    ),
    "no_reply_over": Kind(
        "a job with inline results beyond this size cannot be read, only listed", "call", {"bytes": 1_000_000}
    ),
    "cut": Kind("a download's connection is cut after so many bytes", "call", {"bytes": 1000}, times=1),
    "stalled": Kind("a download stops after so many bytes and stays open", "call", {"bytes": 1000}, times=1),
    "slow": Kind("a download brings so many bytes a second of real time", "call", {"rate": 1_000_000}),
    "upload_no_file": Kind("the last reply of an upload names no file, which is there", "call", times=1),
    "upload_no_status": Kind("the reply to a chunk does not say what became of it", "call", times=1),
    "no_range": Kind("a download ignores Range and begins at the start", "call"),
    "late_output": Kind("a job has succeeded before its result file is there", "job", {"seconds": 600.0}),
    "job_stalled": Kind(
        "a job stays in one state for longer", "job", {"state": "PENDING", "seconds": 30 * 3600.0}
    ),
    "job_failed": Kind(
        "a job fails as a whole", "job", {"code": 13, "message": "An internal error has occurred."}
    ),
    "job_expired": Kind("a job expires without results", "job"),
    "job_cancelled": Kind("a job ends cancelled, and nobody here did it", "job"),
    "finishes_after_cancel": Kind(
        "a job is shown as cancelled, then finishes and is billed all the same", "job"
    ),
    "ghost_quota": Kind(
        "a job that was cancelled or deleted goes on to hold its tokens", "job", {"seconds": 48 * 3600.0}
    ),
    "hook_dropped": Kind("a job ends and nobody is told", "job"),
    "hook_doubled": Kind("who is to be told of a job's end is told twice", "job"),
    "hook_reordered": Kind("who is to be told of a job's end is told after the next one's", "job"),
    "hook_bad_signature": Kind("the signature of a message is wrong", "job"),
    "lenient": Kind("unknown and misplaced fields are ignored, and what they asked for too", "job"),
    "stats_odd": Kind("the counters of a finished job are absent, or all zero", "job", {"shape": "absent"}),
    "in_order": Kind("the rows come back in the order they were sent", "job"),
    "cut_last_line": Kind("the result file ends in the middle of its last line", "job"),
    "text_only": Kind("words instead of a picture, and STOP", "row"),
    "no_image": Kind("NO_IMAGE, without a picture", "row", {"reason": "NO_IMAGE"}),
    "image_safety": Kind(
        "the picture was made and withheld, with a finishMessage",
        "row",
        {"reason": "IMAGE_SAFETY", "pictures": None},  # of one call of Imagen's so many; None: all
    ),
    "prompt_blocked": Kind("promptFeedback and no candidates", "row", {"reason": "PROHIBITED_CONTENT"}),
    "max_tokens": Kind("MAX_TOKENS in the middle of the words, no picture", "row"),
    "no_content": Kind("a candidate with STOP and no content at all", "row"),
    "row_error": Kind(
        "an error instead of a response, with google.rpc's number",
        "row",
        {"code": 13, "message": "An internal error has occurred. Please retry or report in the forum."},
    ),
    "missing_line": Kind("billed, and no line comes back", "row"),
    "duplicate_line": Kind(
        "several lines for one key, each another picture, each billed", "row", {"lines": 2}
    ),
    "unknown_key": Kind("the answer comes under a key nobody sent", "row"),
    "no_key": Kind("the answer comes without a key", "row"),
    "swapped_keys": Kind("the answer of this row and of the next come under each other's key", "row"),
    "broken_picture": Kind("the picture's bytes end in the middle", "row"),
    "wrong_size": Kind("another ratio than was asked", "row"),
    "wrong_mime": Kind("the declared type is not the picture's", "row"),
    "interim_picture": Kind(
        "draft pictures, marked as thoughts, come before the final one", "row", {"pictures": 1}
    ),
    "no_signature": Kind("what a thinking model says comes without its thought signatures", "row"),
    "two_pictures": Kind("two pictures and words between them", "row"),
    "garbage_line": Kind("a line that is no JSON", "row"),
    "line_separator": Kind("U+2028 and U+0085 in the words", "row"),
    "c2pa": Kind("the picture carries a C2PA mark", "row"),
    "key_first": Kind("the key comes before the response", "row"),
}


JOB_FAULTS = tuple(name for name, kind in KINDS.items() if kind.scope == "job")


@dataclass(slots=True)
class Fault:
    """One order. Without a match it hits everything of its kind."""

    kind: str
    match: dict[str, Any]
    arguments: dict[str, Any]
    times: int | None
    fired: int = 0
    met: int = 0  # calls or jobs it would have hit, were it not for `every`
    contents: Counter[bytes] = field(default_factory=Counter)

    def hits(self, facts: Mapping[str, Any]) -> bool:
        for name, wanted in self.match.items():
            actual = facts.get(name)
            if name == "method":
                hit = actual == wanted or str(actual).startswith(f"{wanted}.")
            elif name == "every":
                hit = "number" not in facts or facts["number"] % wanted == 0
            elif name == "key":
                hit = actual == wanted
            else:
                hit = actual is not None and wanted in actual
            if not hit:
                return False
        return True

    def its_turn(self) -> bool:
        """Each n-th call or job, where it is to be every n-th."""
        self.met += 1
        every: int = self.match.get("every", 1)
        return self.met % every == 0

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.match, **self.arguments, "times": self.times, "fired": self.fired}


def ordered(order: Mapping[str, Any]) -> Fault:
    """A fault from its JSON. ValueError names what is not known."""
    name = order.get("kind")
    kind = KINDS.get(str(name))
    if kind is None:
        raise ValueError(f"no fault {name!r}; there are {', '.join(KINDS)}")
    given = {key: value for key, value in order.items() if key not in ("kind", "times")}
    matches = MATCHES[kind.scope]
    if unknown := given.keys() - set(matches) - set(kind.arguments):
        raise ValueError(f"fault {name!r} knows no {sorted(unknown)}")
    everything = {**kind.arguments, **given}
    return Fault(
        kind=str(name),
        match={key: value for key, value in everything.items() if key in matches},
        arguments={key: value for key, value in everything.items() if key not in matches},
        times=order.get("times", kind.times),
    )


class Faults:
    """The orders in force. Every one that fires is an event."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def all(self) -> list[Fault]:
        return list(self._faults)

    def as_json(self) -> list[dict[str, Any]]:
        return [fault.as_json() for fault in self._faults]

    def retired(self, model: str, *, at: int) -> bool:
        """Whether this model was taken away before this moment, by an order."""
        return (
            self.take("model_retired", lambda told: at >= parse(told["at"] or EPOCH), model=model) is not None
        )

    def in_force(self, kind: str, **facts: Any) -> dict[str, Any] | None:
        """What the first order of this kind that would hit was told. It is not used."""
        return next(
            (
                fault.arguments
                for fault in self._faults
                if fault.kind == kind
                and fault.hits(facts)
                and (fault.times is None or fault.fired < fault.times)
            ),
            None,
        )

    def take(
        self, kind: str, applies: Callable[[dict[str, Any]], bool] | None = None, /, **facts: Any
    ) -> dict[str, Any] | None:
        """The arguments of the first order of this kind that hits, now used once; None when there is none.

        `applies` sees what the order was told.
        """
        for fault in self._faults:
            if (
                fault.kind == kind
                and fault.hits(facts)
                and (fault.times is None or fault.fired < fault.times)
                and (applies is None or applies(fault.arguments))
                and fault.its_turn()
            ):
                fault.fired += 1
                self._events.record("fault", kind=kind, **named(facts))
                return fault.arguments
        return None

    def of_row(self, content: bytes, **facts: Any) -> list[tuple[str, dict[str, Any]]]:
        """What befalls a row, in the order it was ordered; each counted by content, so that a retry can fare
        better.
        """
        found = []
        for fault in self._faults:
            if KINDS[fault.kind].scope != "row" or not fault.hits(facts):
                continue
            if fault.times is not None and fault.contents[content] >= fault.times:
                continue
            fault.contents[content] += 1
            fault.fired += 1
            self._events.record("fault", kind=fault.kind, **named(facts))
            found.append((fault.kind, fault.arguments))
        return found


def named(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in ("prompt", "number", "model")}
