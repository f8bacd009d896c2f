"""Gemini's lines, both halves, against the shapes that the service documents and that were recorded."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends import schema, wire
from pipeline.backends.base import Outcome
from pipeline.prompt import Prompt
from pipeline.references import Reference

PNG = b"\x89PNG\r\n\x1a\n pretend"
SHA = "3f" * 32
PHOTO = Reference("photos/a.jpg", SHA, "image/jpeg", 1000, 10, 10)


def read(body: dict[str, Any]) -> Outcome:
    return wire.outcome(json.loads(json.dumps(body)))


def answer(*parts: dict[str, Any], reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"key": "b00000-0000", "response": {"candidates": [candidate], **more}}


def image(data: bytes = PNG, mime: str = "image/png", **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}, **more}


def test_a_line_is_what_the_service_documents() -> None:
    prompt = Prompt(
        model="gemini-3.1-flash-image",
        text="a red shoe",
        references=(PHOTO,),
        system="Be brief",
        aspect_ratio="4:5",
        image_size="2K",
        thinking="high",
        search=("web", "image"),
        seed=7,
    )
    assert json.loads(wire.encode("b00017-0212", prompt)) == {
        "key": "b00017-0212",
        "request": {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"fileData": {"fileUri": f"nightshoot:sha256/{SHA}", "mimeType": "image/jpeg"}},
                        {"text": "a red shoe"},
                    ],
                }
            ],
            "systemInstruction": {"parts": [{"text": "Be brief"}]},
            "tools": [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}],
            "generationConfig": {
                "responseModalities": ["TEXT", "IMAGE"],
                "imageConfig": {"aspectRatio": "4:5", "imageSize": "2K"},
                "thinkingConfig": {"thinkingLevel": "HIGH"},
                "seed": 7,
            },
        },
    }


def test_what_is_not_said_is_not_sent() -> None:
    """An empty imageConfig or a null would be refused, and a model whose size cannot be set must not get one."""
    request = json.loads(wire.encode("b00000-0000", Prompt(model="gemini-2.5-flash-image", text="a shoe")))[
        "request"
    ]
    assert request["generationConfig"] == {"responseModalities": ["TEXT", "IMAGE"]}
    assert set(request) == {"contents", "generationConfig"}


def test_a_conversation_comes_before_the_turn_it_leads_to() -> None:
    history = [
        {"role": "user", "parts": [{"text": 'a "shoe"'}]},
        {"role": "model", "parts": [{"text": "here", "thoughtSignature": "c2ln"}]},
    ]
    first = Prompt("gemini-3.1-flash-image", "make it night")
    later = msgspec.structs.replace(first, history=json.dumps(history))
    alone, led = (json.loads(wire.encode("b00000-0000", prompt))["request"] for prompt in (first, later))
    assert led["contents"] == [*history, *alone["contents"]]
    assert {**led, "contents": []} == {**alone, "contents": []}


def test_references_are_put_in_place_while_uploading() -> None:
    line = wire.encode("b00000-0000", Prompt(model="m", text="x", references=(PHOTO,)))
    sent = json.loads(wire.put_in_place(line, lambda sha256, mime: f"https://files/{sha256[:4]}?{mime}"))
    part = sent["request"]["contents"][0]["parts"][0]
    assert part == {"fileData": {"fileUri": "https://files/3f3f?image/jpeg", "mimeType": "image/jpeg"}}


@given(st.text(max_size=30))
def test_a_prompt_that_looks_like_a_reference_stays_a_prompt(noise: str) -> None:
    fake = f'"fileUri":"nightshoot:sha256/{SHA}","mimeType":"image/jpeg"{noise}'
    line = wire.encode("b00000-0000", Prompt(model="m", text=fake))
    assert wire.put_in_place(line, lambda sha256, mime: "https://stolen") == line


def test_the_final_picture_is_the_last_that_is_no_thought() -> None:
    outcome = read(answer(image(b"draft", thought=True), image(b"one"), {"text": "and"}, image(b"two")))
    assert outcome.kind == "ok"
    assert [drawing.data for drawing in outcome.drawings] == [b"one", b"two"]
    assert outcome.text == "and"


def test_a_thought_alone_is_no_picture() -> None:
    assert read(answer(image(b"draft", thought=True), {"text": "hm", "thought": True})).kind == "text_only"


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (answer({"text": "I would rather not"}), "text_only", "STOP"),
        (answer(reason="NO_IMAGE"), "no_image", "NO_IMAGE"),
        (answer(reason="IMAGE_OTHER"), "no_image", "IMAGE_OTHER"),
        (answer(reason="STOP"), "no_image", "STOP"),
        (answer(reason=None), "no_image", None),
        (answer(reason="IMAGE_SAFETY"), "blocked", "IMAGE_SAFETY"),
        (answer(reason="PROHIBITED_CONTENT"), "blocked", "PROHIBITED_CONTENT"),
        (answer(reason="RECITATION"), "blocked", "RECITATION"),
        (answer(reason="MAX_TOKENS"), "truncated", "MAX_TOKENS"),
        (answer(image(), reason="MAX_TOKENS"), "ok", "MAX_TOKENS"),
        (answer(reason="MISSING_THOUGHT_SIGNATURE"), "invalid", "MISSING_THOUGHT_SIGNATURE"),
        (answer(reason="SOMETHING_NEW"), "no_image", "SOMETHING_NEW"),
        ({"key": "k", "response": {"promptFeedback": {"blockReason": "SAFETY"}}}, "blocked", "SAFETY"),
        ({"key": "k", "response": {}}, "no_image", None),
        ({"key": "k", "error": {"code": 13, "message": "internal"}}, "error", "13"),
        ({"key": "k", "error": {"code": 8}}, "error", "8"),
        ({"key": "k", "error": {"code": 3, "message": "no such field"}}, "invalid", "3"),
        ({"key": "k"}, "error", None),
    ],
)
def test_every_answer_has_one_outcome(body: dict[str, Any], kind: str, reason: str | None) -> None:
    outcome = read(body)
    assert (outcome.kind, outcome.reason) == (kind, reason)


def test_an_error_row_was_not_billed_and_an_answer_was() -> None:
    assert not read({"key": "k", "error": {"code": 13}}).billed
    assert read(answer(reason="IMAGE_SAFETY")).billed


def test_a_payload_that_is_no_base64_is_broken() -> None:
    assert read(answer({"inlineData": {"mimeType": "image/png", "data": "%%%"}})).kind == "broken"


def test_snake_case_answers_are_read_too() -> None:
    part = {"inline_data": {"mime_type": "image/png", "data": base64.urlsafe_b64encode(PNG).decode()}}
    assert read(answer(part)).drawings[0].data == PNG


def test_usage_is_told_apart_by_what_it_costs() -> None:
    """The recorded sample: candidates exceed the sum of their details, and hold no thoughts."""
    counts = {
        "promptTokenCount": 9,
        "candidatesTokenCount": 1466,
        "thoughtsTokenCount": 337,
        "totalTokenCount": 1812,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    }
    usage = read(answer(image(), usageMetadata=counts)).usage
    assert usage is not None
    assert (usage.prompt, usage.image, usage.text, usage.thought) == (9, 1120, 346, 337)


def test_without_details_output_counts_as_the_dearer_kind() -> None:
    usage = read(
        answer(image(), usageMetadata={"promptTokenCount": "9", "candidatesTokenCount": "1290"})
    ).usage
    assert usage is not None
    assert (usage.prompt, usage.image, usage.text) == (9, 1290, 0)


@pytest.mark.parametrize(
    ("finish", "image"), [("STOP", 0), ("NO_IMAGE", 0), ("MAX_TOKENS", 0), ("IMAGE_SAFETY", 58)]
)
def test_words_alone_are_billed_as_words_unless_a_picture_was_withheld(finish: str, image: int) -> None:
    counts = {"promptTokenCount": 8, "candidatesTokenCount": 58}
    usage = read(answer({"text": "no"}, reason=finish, usageMetadata=counts)).usage
    assert usage is not None
    assert (usage.image, usage.text) == (image, 58 - image)


def test_searches_are_counted() -> None:
    body = answer(image(), usageMetadata={"promptTokenCount": 1})
    body["response"]["candidates"][0]["groundingMetadata"] = {
        "webSearchQueries": ["a", "b"],
        "imageSearchQueries": ["c"],
    }
    usage = read(body).usage
    assert usage is not None
    assert usage.searches == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-08-20T20:08:31.015405218Z", "2026-08-20T20:08:31.015405+00:00"),
        ("2024-11-01T18:13:16.826+00:00", "2024-11-01T18:13:16.826000+00:00"),
        ("2024-11-01T18:13:16Z", "2024-11-01T18:13:16+00:00"),
    ],
)
def test_times_have_up_to_nine_decimals(text: str, expected: str) -> None:
    moment = wire.moment(text)
    assert moment is not None
    assert moment.isoformat() == expected


@pytest.mark.parametrize("odd", [None, "", "yesterday", 12, "2026-13-41T00:00:00Z"])
def test_an_odd_time_is_no_time(odd: object) -> None:
    assert wire.moment(odd) is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "response",
                    "error",
                    "candidates",
                    "content",
                    "parts",
                    "inlineData",
                    "data",
                    "mimeType",
                    "text",
                    "thought",
                    "finishReason",
                    "code",
                    "message",
                    "usageMetadata",
                    "candidatesTokensDetails",
                    "promptFeedback",
                    "blockReason",
                    "groundingMetadata",
                    "status",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("count", ["9" * 18, 10**30, -5, "-5", 1.5, True, None, "many"])
def test_an_absurd_count_counts_as_not_said(count: object) -> None:
    counts = {"promptTokenCount": 3, "candidatesTokenCount": count}
    usage = read(answer(image(), usageMetadata=counts)).usage
    assert usage is not None
    assert (usage.prompt, usage.image) == (3, 0)


def test_a_count_may_be_written_as_a_float() -> None:
    usage = read(
        answer(image(), usageMetadata={"promptTokenCount": 3.0, "candidatesTokenCount": 1120.0})
    ).usage
    assert usage is not None
    assert (usage.prompt, usage.image) == (3, 1120)


@pytest.mark.parametrize("counts", [{}, {"totalTokenCount": 5}, None, "none"])
def test_usage_that_is_not_said_is_not_zero(counts: object) -> None:
    assert read(answer(image(), usageMetadata=counts)).usage is None


@pytest.mark.parametrize("odd", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_at_the_end_of_the_calendar_is_no_time(odd: str) -> None:
    assert wire.moment(odd) is None


def test_a_lone_surrogate_is_replaced_where_a_file_could_not_hold_it() -> None:
    outcome = read(answer(image(), {"text": "half \ud83d"}, responseId="\udc00"))
    assert outcome.text == "half ?"
    assert outcome.response_id == "?"


@given(st.dictionaries(st.sampled_from(["key", "response", "error"]), JUNK))
def test_nothing_a_server_could_send_raises(body: dict[str, Any]) -> None:
    """An odd line is an outcome, however odd: it must not stop the batch."""
    outcome = wire.outcome(body)
    assert outcome.kind in {
        "ok",
        "text_only",
        "no_image",
        "blocked",
        "truncated",
        "broken",
        "error",
        "invalid",
    }


@pytest.mark.parametrize("name", ["groundingMetadata", "grounding_metadata"])
def test_what_was_looked_up_is_kept_as_it_came(name: str) -> None:
    """In either casing, its members in their order, and every query is one that is billed."""
    queries = "webSearchQueries" if name == "groundingMetadata" else "web_search_queries"
    found = {"zebra": [1, 2.5, None], queries: ["a", "b"], "alpha": {"c": "\u2028é"}}
    body = answer(image(), usageMetadata={"promptTokenCount": 1})
    body["response"]["candidates"][0][name] = found
    outcome = read(body)
    assert outcome.grounding == json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    assert outcome.usage is not None
    assert outcome.usage.searches == 2


@pytest.mark.parametrize("odd", ["\ud800", 10**400, {"inlineData": {"data": "A" * 5000}}])
def test_odd_things_that_were_looked_up_lose_no_row(odd: object) -> None:
    body = answer(image())
    body["response"]["candidates"][0]["groundingMetadata"] = {"odd": odd}
    outcome = read(body)
    assert outcome.kind == "ok"
    assert outcome.grounding is not None
    assert outcome.grounding.startswith('{"odd":')


def test_a_level_and_the_wish_for_thoughts_stand_beside_each_other() -> None:
    def config(**said: Any) -> Any:
        line = wire.encode("b00000-0000", Prompt("gemini-3.1-flash-image", "t", **said))
        schema.check(line)
        return json.loads(line)["request"]["generationConfig"].get("thinkingConfig")

    assert config() is None
    assert config(thinking="high") == {"thinkingLevel": "HIGH"}
    assert config(thoughts=True) == {"includeThoughts": True}
    assert config(thinking="high", thoughts=True) == {"thinkingLevel": "HIGH", "includeThoughts": True}


# --- what is told to a model again --------------------------------------------------------------------------------

KEPT = {
    "path": "pictures/00000/0000-a.png",
    "sha256": SHA,
    "bytes": 7,
    "mime": "image/png",
    "declared_mime": "image/png",
}


def unasked(sha256: str, signature: bytes) -> str:
    raise AssertionError("it is short")


def told(*parts: dict[str, Any], signed: bool = True, pictures: int = 1) -> Any:
    found = wire.said(read(answer(*parts)).parts, [KEPT] * pictures, signed=signed, keep=unasked)
    return None if found is None else json.loads(found)


def test_what_a_model_said_is_told_to_it_member_for_member() -> None:
    words = {"text": 'Here:\u2028"it" is', "thoughtSignature": "d29yZHM=", "odd": {"b": 1, "a": [2.50, None]}}
    between = {"text": "and"}
    picture = image(thoughtSignature="cGljdHVyZQ==", partMetadata={"x": 1})
    place = f"nightshoot:picture/{SHA}/7/pictures/00000/0000-a.png"
    again = {**picture, "inlineData": {"mimeType": "image/png", "data": place}}
    assert told(words, picture, between, picture, pictures=2) == [words, again, between, again]


def test_thoughts_are_no_part_of_a_conversation_unless_they_are_signed() -> None:
    thought, signed = (
        {"text": "Hm", "thought": True},
        {"text": "Oh", "thought": True, "thoughtSignature": "b2g="},
    )
    draft = image(thought=True)
    picture = image(thoughtSignature="cGljdHVyZQ==")
    assert [list(part) for part in told(thought, signed, draft, picture)] == [
        ["text", "thought", "thoughtSignature"],
        ["inlineData", "thoughtSignature"],
    ]


@pytest.mark.parametrize(
    "parts",
    [
        [image()],
        [{"text": "Here"}, image(thoughtSignature="cGljdHVyZQ==")],  # the words that it begins with
        [image(thoughtSignature="cGljdHVyZQ=="), image()],
        [image(thoughtSignature="")],
    ],
)
def test_what_a_thinking_model_did_not_sign_cannot_be_told_to_it_again(parts: list[dict[str, Any]]) -> None:
    pictures = sum("inlineData" in part for part in parts)
    assert told(*parts, pictures=pictures) is None
    assert told(*parts, pictures=pictures, signed=False) is not None


@pytest.mark.parametrize("kept", [0, 2])
def test_nor_can_an_answer_of_which_a_picture_is_not_there(kept: int) -> None:
    """Which of them is which nobody knows then."""
    assert told(image(thoughtSignature="cGljdHVyZQ=="), pictures=kept) is None


def test_the_runs_own_pictures_are_put_into_the_conversation_and_nothing_else_is_touched() -> None:
    """Words of the model or of the user that look like one of ours stay words."""
    decoy = f'"inlineData":{{"data":"nightshoot:picture/{SHA}/7/pictures/x.png"'
    said = wire.said(
        [{"text": decoy, "thoughtSignature": "YQ=="}, image(thoughtSignature="Yg==")],
        [KEPT],
        signed=True,
        keep=unasked,
    )
    first = Prompt("m", decoy, (PHOTO,))
    assert said is not None
    later = Prompt("m", decoy, history=wire.conversation(first, said))
    line = wire.encode("b00000-0000", later)
    asked: list[tuple[str, str]] = []

    def picture(sha256: str, path: str) -> bytes:
        asked.append((sha256, path))
        return b"picture"

    contents = json.loads(wire.put_made(line, picture))["request"]["contents"]
    assert asked == [(SHA, KEPT["path"])]
    assert contents[1]["parts"][1]["inlineData"]["data"] == base64.b64encode(b"picture").decode()
    assert [contents[0]["parts"][1], contents[2]["parts"][0]] == [{"text": decoy}] * 2
    assert contents[1]["parts"][0]["text"] == decoy
    assert len(wire.put_made(line, picture)) <= len(line) + wire.made_bytes(later)
    assert list(wire.references_of(line)) == [(SHA, "image/jpeg")], "the photo is shown again"


def test_a_long_signature_is_kept_once_and_told_whole() -> None:
    """Each further turn names its file, and not its thousands of characters."""
    signature = "c2lnbmVk" * 2000
    kept: dict[str, bytes] = {}

    def keep(sha256: str, data: bytes) -> str:
        kept[sha256] = data
        return "turns/00000/0000-a.signature"

    parts = [{"text": "Here", "thoughtSignature": "YQ=="}, image(thoughtSignature=signature)]
    said = wire.said(parts, [KEPT], signed=True, keep=keep)
    assert said is not None
    assert len(said) < 1000
    later = Prompt("m", "and now", history=wire.conversation(Prompt("m", "a shoe"), said))
    line = wire.encode("b00000-0000", later)
    whole = wire.put_made(line, lambda sha256, path: kept.get(sha256, b"picture"))
    _, picture = json.loads(whole)["request"]["contents"][1]["parts"]
    assert picture["thoughtSignature"] == signature
    assert len(whole) <= len(line) + wire.made_bytes(later)
