"""Thought signatures: what a model that thinks signs its words and pictures with, and whose a signature is.

A signature says what it was given for: the seed of a picture, whose filling begins accordingly, or a digest of words.
So the service needs to remember nothing to know another picture's signature, or one that nobody gave.
"""

import base64
import binascii
import hashlib
from typing import Any

from pipeline.emulator.models import Model
from pipeline.emulator.pictures import noise
from pipeline.emulator.problems import INVALID_ARGUMENT, RowProblem

LENGTH, LONG = 120, 9000  # bytes; nobody says how long one is
SEEN = 64  # bytes of a picture's filling that tell whose it is
FIRST = 16_384  # characters of a picture's base64 that hold them


def for_picture(seed: bytes) -> str:
    """Every other one is long."""
    return given(b"picture", seed, LONG if seed[9] % 2 else LENGTH)


def for_words(text: str) -> str:
    return given(b"words", hashlib.sha256(text.encode()).digest(), LENGTH)


def given(kind: bytes, what: bytes, length: int) -> str:
    return base64.b64encode(what + hashlib.shake_128(kind + what).digest(length - len(what))).decode()


def check_turns(contents: list[dict[str, Any]], model: Model) -> None:
    """A thinking model wants back what it signed, with that signature: its pictures, and the words it began with."""
    if not model.levels:
        return
    for number, content in enumerate(contents, 1):
        if content.get("role") != "model":
            continue
        begins = True
        for place, part in enumerate(content["parts"], 1):
            if part.get("thought"):
                continue
            pictured = "inlineData" in part or "fileData" in part
            where = f"content position {number}, part position {place}"
            if (pictured or begins) and not part.get("thoughtSignature"):
                what = "Image" if pictured else "Text"
                raise RowProblem(INVALID_ARGUMENT, f"{what} part is missing a thought_signature in {where}")
            if part.get("thoughtSignature") and not fits(part):
                raise RowProblem(INVALID_ARGUMENT, f"Corrupted thought signature in {where}")
            begins = False


def fits(part: dict[str, Any]) -> bool:
    """Whether a part's signature was given, and for this very part."""
    signature = part["thoughtSignature"]
    if "text" in part:
        return bool(signature == for_words(part["text"]))
    try:
        seed = base64.b64decode(signature, validate=True)[:32]
        head = base64.b64decode((part.get("inlineData") or {}).get("data", "")[:FIRST], altchars=b"-_")
    except (binascii.Error, ValueError):
        return False
    # A JPEG's first comment begins four bytes into the filling.
    return signature == for_picture(seed) and ("fileData" in part or noise(seed, SEEN)[4:] in head)
