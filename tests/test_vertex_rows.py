"""Who a row of Vertex AI is, and what it says."""

import base64
import json
from typing import Any

import msgspec
import pytest

from pipeline.backends import vertex_rows, wire
from pipeline.backends.vertex_rows import LABEL, asked, identity, mark, row
from pipeline.prompt import Prompt
from pipeline.results import Line, Payload

MODEL = "gemini-3.1-flash-image"


def sent(wire_id: str, text: str = "a red shoe", **settings: Any) -> dict[str, Any]:
    """A request as it goes out."""
    body: dict[str, Any] = msgspec.json.decode(row(wire.encode(wire_id, Prompt(MODEL, text, **settings))))
    assert set(body) == {"request"}
    request: dict[str, Any] = body["request"]
    return request


def answer(request: Any, **more: Any) -> Line:
    body = {"status": "", "processed_time": "2026-11-21T18:13:16.826+00:00", "request": request} | more
    raw = json.dumps(body).encode()
    return Line(0, raw)


def nothing_known() -> None:
    raise AssertionError("nobody had to ask")


def echoed(request: dict[str, Any]) -> dict[str, Any]:
    """As the service writes a request back: other spellings, nulls for what it is not, floats of 32 bits."""
    (content,) = request["contents"]
    parts = [{"text": None, "inline_data": None} | part for part in content["parts"]]
    config = {
        "response_modalities": request["generationConfig"]["responseModalities"],
        "temperature": 0.699999988079071,
        "topK": 40.0,
        "seed": 7,
    }
    return {
        "tools": None,
        "labels": request["labels"],
        "generation_config": config,
        "contents": [{"parts": parts, "role": "user"}],
    }


def test_a_row_carries_its_wire_id_where_the_service_brings_it_back() -> None:
    request = sent("b00017-0212")
    (label,) = request["labels"].values()
    assert label.startswith("b00017-0212-")
    assert len(label) <= 63
    assert all(c.islower() or c.isdigit() or c in "-_" for c in label)
    assert identity(answer(request), nothing_known) == "b00017-0212"


def test_a_request_is_known_however_it_is_written_back() -> None:
    request = sent("b00000-0001", temperature=0.7, top_k=40, seed=7)
    assert mark(echoed(request)) == mark(request)
    assert identity(answer(echoed(request)), nothing_known) == "b00000-0001"


@pytest.mark.parametrize(
    "change",
    [{"text": "a blue shoe"}, {"seed": 8}, {"temperature": 0.71}, {"system": "plain"}, {"top_k": 41}],
)
def test_any_other_request_has_another_mark(change: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"temperature": 0.7, "top_k": 40, "seed": 7}
    assert mark(sent("b00000-0001", **(settings | change))) != mark(sent("b00000-0001", **settings))


def test_what_vertex_does_not_know_is_not_sent() -> None:
    assert "store" not in sent("b00000-0000", store=False)


def table(*rows: tuple[str, str]) -> vertex_rows.Asked:
    return asked(row(wire.encode(wire_id, Prompt(MODEL, text))) for wire_id, text in rows)


TWO = table(("b00000-0000", "a red shoe"), ("b00000-0001", "a blue shoe"))


def test_a_label_over_another_row_s_request_is_believed_by_nobody() -> None:
    """The right picture would lie under the wrong product: it is kept, and joined to none."""
    request = sent("b00000-0000", "a red shoe")
    swapped = sent("b00000-0001", "a blue shoe") | {"labels": request["labels"]}
    assert identity(answer(swapped), lambda: TWO) is None


def test_a_label_stands_where_its_request_came_back_changed_beyond_recognition() -> None:
    changed = sent("b00000-0000") | {"newField": {"on": True}}
    assert identity(answer(changed), lambda: TWO) == "b00000-0000"
    assert identity(answer(changed), lambda: None) == "b00000-0000", "nor can it be looked up"


def test_without_a_label_the_request_says_who_it_is() -> None:
    request = sent("b00000-0001", "a blue shoe")
    for labels in ({}, None, {"other": "label"}):
        assert identity(answer(request | {"labels": labels}), lambda: TWO) == "b00000-0001"
    assert identity(answer(sent("x", "a green shoe") | {"labels": None}), lambda: TWO) is None
    assert identity(answer(request | {"labels": None}), lambda: None) is None
    assert identity(answer(None), lambda: TWO) is None


def test_rows_that_ask_the_same_are_interchangeable_without_labels() -> None:
    """Each answer goes to one of them and to no third, and to the same one whoever looks."""
    twins = table(("b00000-0003", "a red shoe"), ("b00000-0007", "a red shoe"), ("b00000-0008", "other"))
    lines = [
        answer(sent("x", "a red shoe") | {"labels": None}, response={"responseId": str(n)}) for n in range(20)
    ]
    found = [identity(line, lambda: twins) for line in lines]
    assert set(found) == {"b00000-0003", "b00000-0007"}
    assert found == [identity(line, lambda: twins) for line in lines]


def failed(status: str) -> Line:
    return answer(sent("b00000-0000"), status=status, response={})


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        ('Bad Request: {"error": {"code": 400, "message": "no", "status": "INVALID"}}', "invalid", "INVALID"),
        ('Too Many Requests: {"error": {"code": 429, "message": "later"}}', "error", "429"),
        ('Internal Server Error: {"error": {"code": 500, "message": "oops"}}', "error", "500"),
        ("Bad Request: not JSON at all", "invalid", "400"),
        ('Service Unavailable: {"error": 7}', "error", "503"),
        ("It was a dark and stormy night", "error", None),
        ("\ud800", "error", None),
    ],
)  # fmt: skip
def test_a_failed_row_says_why_in_words_with_a_body_behind_them(
    status: str, kind: str, reason: str | None
) -> None:
    outcome = vertex_rows.outcome(failed(status))
    assert (outcome.kind, outcome.reason, outcome.billed) == (kind, reason, False)
    assert outcome.message


def test_an_answer_has_the_provider_s_time() -> None:
    response = {"candidates": [{"finishReason": "NO_IMAGE"}]}
    outcome = vertex_rows.outcome(answer(sent("b00000-0000"), response=response))
    assert (outcome.kind, outcome.reason) == ("no_image", "NO_IMAGE")
    assert outcome.at is not None
    assert outcome.at.isoformat() == "2026-11-21T18:13:16.826000+00:00"


@pytest.mark.parametrize("status", [None, 3, {}, [], ""])
@pytest.mark.parametrize("response", [None, {}, [], "x"])
def test_whatever_a_server_sends_is_an_outcome(status: Any, response: Any) -> None:
    line = answer({"labels": {LABEL: 3}}, status=status, response=response, processed_time=7)
    assert vertex_rows.outcome(line).kind == "error"
    assert identity(line, lambda: TWO) is None


@pytest.mark.parametrize("spelled", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_conversation_with_pictures_is_known_however_they_are_written_back(spelled: Any) -> None:
    """A picture comes back with every answer, as bytes that nobody has decoded."""
    picture = bytes(range(256)) * 20
    data = base64.b64encode(picture).decode()
    said = {"role": "model", "parts": [{"inlineData": {"data": data, "mimeType": "image/png"}}]}
    request = sent("b00000-0001", history=json.dumps([said], separators=(",", ":")))
    back = json.loads(json.dumps(request).replace(data, spelled(picture).decode().rstrip("=")))
    raw = answer(back).raw
    line = Line(0, raw)
    assert isinstance(line.body["request"]["contents"][0]["parts"][0]["inlineData"]["data"], Payload)  # type: ignore[index]
    assert mark(line.body["request"]) == mark(request)  # type: ignore[index]
    assert identity(line, nothing_known) == "b00000-0001"
