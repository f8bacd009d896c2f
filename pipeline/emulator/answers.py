"""One line of a result: what the model said, its pictures, its usage and its price.

Everything is made from what was asked, when it is asked for. The length of a line is known without making
its pictures, which is why a result of any size can be continued at any byte.
"""

import base64
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pybase64

from pipeline.emulator.grounding import Grounding, grounding
from pipeline.emulator.lines import Asked
from pipeline.emulator.models import QUERY, Model
from pipeline.emulator.pictures import Picture, render, salted
from pipeline.emulator.thoughts import for_picture, for_words

GARBAGE = b'{"response":{"candidates":[{"content":{"parts":[{"text":"an answer that was cut \xff\n'
TRAPS = "\u2028 and \u0085"  # legal inside a JSON string, and line ends to a careless reader
DRAFT_BYTES = 0  # drafts are as light as pictures can be
TORN_OFF = 1000  # bytes at the end of a broken picture: it opens, has the right size, and cannot be read


@dataclass(slots=True)
class Answer:
    """What comes back for one row. Faults change it before its lines are laid out."""

    key: str | None
    asked: Asked | None = None
    error: tuple[int, str] | None = None
    reason: str = "STOP"
    message: str | None = None
    blocked: str | None = None
    says: str | None = None  # words instead of the ones the model would choose
    pictures: int = 1
    drafts: int = 0
    lines: int = 1
    flags: frozenset[str] = field(default_factory=frozenset)


def afflict(answer: Answer, kind: str, arguments: dict[str, Any]) -> None:
    """Let a row's fault happen to it. Those about other rows' keys happen where the lines are laid out."""
    words = answer.asked.words if answer.asked else ""
    match kind:
        case "text_only":
            answer.pictures, answer.says = 0, f"I cannot draw this, but I can describe it: {words}"
        case "no_image":
            answer.pictures, answer.says, answer.reason = 0, "", arguments["reason"]
        case "image_safety":
            answer.pictures, answer.says, answer.reason = 0, "", arguments["reason"]
            answer.message = (
                "Unable to show the generated image. It was filtered out because it violated our policy."
            )
        case "prompt_blocked":
            answer.blocked = arguments["reason"]
        case "max_tokens":
            answer.pictures, answer.reason, answer.says = 0, "MAX_TOKENS", f"Let me think about {words[:24]}"
        case "no_content":
            answer.pictures, answer.says = 0, ""
        case "row_error":
            answer.error = (arguments["code"], arguments["message"])
        case "missing_line":
            answer.lines = 0
        case "duplicate_line":
            answer.lines = arguments["lines"]
        case "interim_picture":
            answer.drafts = arguments["pictures"]
        case "two_pictures":
            answer.pictures = 2
        case "line_separator":
            answer.says = f"Here it is{TRAPS}there it goes: {words}"
        case _:
            answer.flags |= {kind}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the service counts them, and what they cost."""

    prompt: int
    shown: int  # of the prompt: tokens of references
    image: int
    words: int  # of the candidates: everything that is no picture, a little of which nobody can point at
    thoughts: int
    nanodollars: int

    def as_json(self, tier: dict[str, str]) -> dict[str, Any]:
        candidates = self.image + self.words
        counts = {
            "promptTokenCount": self.prompt,
            "candidatesTokenCount": candidates,
            "totalTokenCount": self.prompt + candidates + self.thoughts,
            "thoughtsTokenCount": self.thoughts,
        }
        prompt = (("TEXT", self.prompt - self.shown), ("IMAGE", self.shown))
        details = {"promptTokensDetails": prompt, "candidatesTokensDetails": (("IMAGE", self.image),)}
        usage: dict[str, Any] = {name: count for name, count in counts.items() if count}
        for name, parts in details.items():
            if any(count for _, count in parts):
                usage[name] = [{"modality": kind, "tokenCount": count} for kind, count in parts if count]
        return usage | tier


NOTHING = Usage(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the lines of one model's answers."""

    model: Model
    picture_bytes: int
    platform: Literal["developer", "vertex"] = "developer"
    online: bool = False  # answered at once, at twice the price of a batch
    marked: bool = False  # whether every picture carries a C2PA mark
    keys: bool = False  # whether a row's key is written into its pictures

    @property
    def tier(self) -> dict[str, str]:
        """How the service says in which class it has answered."""
        if self.platform == "vertex":
            return {"trafficType": "ON_DEMAND"}
        return {"serviceTier": "standard" if self.online else "SERVICE_TIER_STANDARD"}

    def usage(self, answer: Answer) -> Usage:
        asked = answer.asked
        if answer.error or asked is None:
            return NOTHING
        shown = len(asked.references) * self.model.reference_tokens
        prompt = asked.prompt_tokens + shown
        price = self.model.price
        times = 2 if self.online else 1
        if answer.blocked:
            return Usage(prompt, shown, 0, 0, 0, times * prompt * price.text_in)
        image = answer.pictures * self.model.tokens[asked.size]
        said = math.ceil(len(self.said(answer)) / 4)
        words = said + (5 + asked.seed[5] % 40 if image or said else 0)
        thoughts = self.thought_tokens(asked)
        cost = prompt * price.text_in + image * price.image_out + (words + thoughts) * price.text_out
        found = grounding(asked, said="")
        return Usage(prompt, shown, image, words, thoughts, times * cost + found.queries * QUERY)

    def thought_tokens(self, asked: Asked) -> int:
        if not asked.level:
            return 0
        least, further = self.model.thoughts[asked.level]
        return least + int.from_bytes(asked.seed[6:8], "big") % further

    def said(self, answer: Answer) -> str:
        """The words beside the picture; a model that may speak does so about every other time."""
        if answer.says is not None:
            return answer.says
        asked = answer.asked
        if asked is None or not asked.text or asked.seed[8] % 2:
            return ""
        return f"Here is the picture you asked for: {asked.words}"

    def length(self, answer: Answer, key: str | None, take: int) -> int:
        """How many bytes the line has, its end included."""
        texts, pictures = self.pieces(answer, key, take)
        return sum(map(len, texts)) + sum(
            base64_length(self.bytes_of(answer, picture)) for picture in pictures
        )

    def line(self, answer: Answer, key: str | None, take: int) -> bytes:
        return self.joined(answer, *self.pieces(answer, key, take))

    def filled(self, answer: Answer, value: dict[str, Any], pictures: list[Picture]) -> bytes:
        """Any JSON around what `value` made, with the pictures in it; a line of its own."""
        seed = answer.asked.seed if answer.asked else b""
        return self.joined(answer, split(value, seed, len(pictures)), pictures)

    def joined(self, answer: Answer, texts: list[bytes], pictures: list[Picture]) -> bytes:
        line = [texts[0]]
        for picture, text in zip(pictures, texts[1:], strict=True):
            data = render(picture)[: self.bytes_of(answer, picture)]
            line += (pybase64.b64encode(data), text)
        return b"".join(line)

    def bytes_of(self, answer: Answer, picture: Picture) -> int:
        return picture.length() - (TORN_OFF if "broken_picture" in answer.flags else 0)

    def pieces(self, answer: Answer, key: str | None, take: int) -> tuple[list[bytes], list[Picture]]:
        """The line as the bytes before, between and after its pictures."""
        if "garbage_line" in answer.flags:
            return [GARBAGE], []
        value, pictures = self.value(answer, take)
        named = {"key": key} if key is not None else {}
        line = named | value if "key_first" in answer.flags else value | named
        return split(line, answer.asked.seed if answer.asked else b"", len(pictures)), pictures

    def value(self, answer: Answer, take: int) -> tuple[dict[str, Any], list[Picture]]:
        """`{"response": …}` or `{"error": …}`; the pictures' data are left as placeholders."""
        if answer.error or answer.asked is None:
            code, message = answer.error or (13, "nothing was asked")
            return {"error": {"code": code, "message": message}}, []
        seed = salted(answer.asked.seed, f"take {take}" if take else "")
        response: dict[str, Any] = {}
        pictures: list[Picture] = []
        if answer.blocked:
            response["promptFeedback"] = {"blockReason": answer.blocked}
        else:
            parts = self.parts(answer, answer.asked, seed, pictures)
            candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}} if parts else {}
            candidate |= {"finishReason": answer.reason, "index": 0}
            if answer.message:
                candidate["finishMessage"] = answer.message
            if answer.asked.searches:  # found and paid for, whatever came of it
                found = self.found(answer, answer.asked)
                candidate["groundingMetadata"] = found.as_json()
            response["candidates"] = [candidate]
        response["usageMetadata"] = self.usage(answer).as_json(self.tier)
        response["modelVersion"] = self.model.name + ("@default" if self.platform == "vertex" else "")
        response["responseId"] = base64.urlsafe_b64encode(salted(seed, "response")[:15]).decode()
        return {"response": response}, pictures

    def found(self, answer: Answer, asked: Asked) -> Grounding:
        return grounding(asked, said=self.said(answer))

    def parts(
        self, answer: Answer, asked: Asked, seed: bytes, pictures: list[Picture]
    ) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []

        def picture(salt: str, **more: Any) -> None:
            made = self.picture(answer, asked, salted(seed, salt), draft="draft" in salt)
            declared = made.mime
            if "wrong_mime" in answer.flags:
                declared = "image/jpeg" if made.mime == "image/png" else "image/png"
            parts.append(
                {"inlineData": {"mimeType": declared, "data": placeholder(asked.seed, len(pictures))}} | more
            )
            pictures.append(made)

        if asked.thoughts:
            parts.append({"text": f"I compose the scene: {asked.words}", "thought": True})
        thinks = asked.thoughts and answer.pictures > 0
        for number in range(max(answer.drafts, asked.seed[10] % 2 if thinks else 0)):
            picture(f"draft {number}", thought=True)
        if thinks:  # of up to two pictures in its thoughts the last one is what it will answer with
            picture(f"picture {answer.pictures - 1}" if answer.pictures > 1 else "", thought=True)
        said = self.said(answer)
        if said:
            parts.append({"text": said} | self.signed(answer, for_words(said)))
        for number in range(answer.pictures):
            if number and asked.text:
                parts.append({"text": f"And another one, number {number + 1}:"})
            salt = f"picture {number}" if number else ""
            picture(salt, **self.signed(answer, for_picture(salted(seed, salt))))
        return parts

    def signed(self, answer: Answer, signature: str) -> dict[str, str]:
        """A thought signature, for the models that think."""
        if not self.model.levels or "no_signature" in answer.flags:
            return {}
        return {"thoughtSignature": signature}

    def picture(self, answer: Answer, asked: Asked, seed: bytes, *, draft: bool) -> Picture:
        width, height = self.model.size(asked.ratio, "1K" if draft else asked.size)
        if "wrong_size" in answer.flags:
            other = "1:1" if asked.ratio != "1:1" else "16:9"
            width, height = self.model.size(other, "1K")
        shown = tuple(reference.look for reference in asked.references)
        words = f"{answer.key}: {asked.words}" if self.keys and answer.key else asked.words
        weight = DRAFT_BYTES if draft else self.picture_bytes
        marked = self.marked or "c2pa" in answer.flags
        mime = asked.mime or self.model.mime
        return Picture(seed, width, height, mime, words, shown, weight, marked=marked)


def placeholder(seed: bytes, number: int) -> str:
    return f"<picture {number} of {seed.hex()}>"  # no prompt can contain the digest of itself


def split(line: dict[str, Any], seed: bytes, pictures: int) -> list[bytes]:
    """The line's JSON, cut where the data of each picture belong."""
    rest = msgspec.json.encode(line) + b"\n"
    texts = []
    for number in range(pictures):
        before, _, rest = rest.partition(placeholder(seed, number).encode())
        texts.append(before)
    return [*texts, rest]


def base64_length(count: int) -> int:
    return (count + 2) // 3 * 4
