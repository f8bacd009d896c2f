"""JSON text written by hand: every legal way to say a thing, and some that are not legal."""

import base64
import random

SPACES = ("", "", "", " ", "  ", "\t", " \r")
NAMES = (
    *("predictions", "bytesBase64Encoded", "predicted"),
    *("response", "candidates", "content", "parts", "inlineData", "inline_data", "data", "data", "mimeType"),
    *(
        "mime_type",
        "text",
        "thought",
        "key",
        "request",
        "error",
        "usageMetadata",
        "",
        "\x7f0",
        "d\\",
        '"data"',
    ),
)
ODD = (
    *(
        "\\",
        '"',
        "/",
        "\n",
        "\t",
        "\x00",
        "\x1f",
        "\x7f",
        "\x7f0",
        "\x7f1",
        "\\u007f0",
        "é",
        "\u2028",
        "\u0085",
    ),
    *(
        "\ud83d",
        "\ude00",
        "😀",
        '","data":"',
        '{"inlineData":{"data":"',
        "iVBORw0KGgo",
        "=",
        "+",
        "-_",
        "\\u0041",
    ),
)
SHORT = {
    '"': '\\"',
    "\\": "\\\\",
    "/": "\\/",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
NUMBERS = ("0", "-0", "1", "-17", "3.5", "1e3", "1E-7", "0.0", "1e999", "12345678901234567890123", "9" * 5000)
WRONG = (
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    "\\",
    "nul",
    "01",
    "1.",
    "+1",
    "'a'",
    '"\\x"',
    '"\\u12"',
    "\x00",
    "\x7f",
)


HEAVY = 1 / 2000
"""Of so many handfuls of lines one has large payloads: they take as long as thousands of others."""


class Writer:
    """A line, chosen by chance. The same seed writes the same line."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.is_heavy = self.chance.random() < HEAVY
        self._large = 2 if self.is_heavy else 0  # payloads to come

    def line(self) -> bytes:
        """What a server could send; one in eight is damaged."""
        answer = self.chance.choice((self.answer, self.answer, self.prediction))
        text = answer() if self.chance.random() < 0.5 else self.object(self.chance.randint(0, 5))
        data = (self.space() + text + self.space()).encode("utf-8", "surrogatepass")
        data = data.replace(b"\n", b" ")
        return self.damaged(data) if self.chance.random() < 0.125 else data

    def answer(self) -> str:
        """The members of an answer in any order, some twice, and a payload or several among them."""
        part = [self.picture() for _ in range(self.chance.choice((1, 1, 2, 3)))]
        part += [self.members([("text", self.text())]) for _ in range(self.chance.randint(0, 2))]
        self.chance.shuffle(part)
        content = self.members([("parts", self.list(part)), ("role", self.string("model"))])
        candidate = self.members([("content", content), ("finishReason", self.string("STOP"))])
        members = [
            (
                "response",
                self.members([("candidates", self.list([candidate])), ("modelVersion", self.text())]),
            ),
            ("key", self.string("b00000-0001")),
        ]
        if self.chance.random() < 0.3:
            members.append(("request", self.members([("contents", self.list([self.picture()]))])))
        return self.members(members + self.some_members(2))

    def prediction(self) -> str:
        """An answer of Imagen's: pictures, reasons and whatever else in one list."""
        items = [
            self.members([("bytesBase64Encoded", self.payload()), ("mimeType", self.string("image/png"))])
            for _ in range(self.chance.choice((0, 1, 4)))
        ]
        items += [self.members([("raiFilteredReason", self.text())]), self.value(2)]
        self.chance.shuffle(items)
        found = self.members([("predictions", self.list(items)), *self.some_members(1)])
        return self.members([("predicted", found), ("key", self.string("b00000-0001"))])

    def picture(self) -> str:
        inner = [("data", self.payload()), ("mimeType", self.string("image/png"))]
        if self.chance.random() < 0.1:
            inner.append(("data", self.payload()))
        return self.members([(self.chance.choice(("inlineData", "inline_data")), self.members(inner))])

    def payload(self) -> str:
        """Base64 in either alphabet, padded or not, as it is or with some of it escaped."""
        if self._large and self.chance.random() < 0.3:
            self._large -= 1
            return self.large()
        size = self.chance.choice((0, 1, 2, 3, 10, 50, 200, 3000))
        data = base64.b64encode(self.chance.randbytes(size)).decode()
        if self.chance.random() < 0.3:
            data = data.replace("+", "-").replace("/", "_")
        if self.chance.random() < 0.3:
            data = data.rstrip("=")
        if self.chance.random() < 0.1:
            data = data[: size // 2] + self.chance.choice(ODD) + data[size // 2 :]
        if self.chance.random() < 0.3:
            slash, plus = self.chance.choice((("\\/", "\\u002b"), ("\\u002F", "\\u002B"), ("/", "+")))
            return '"' + data.replace("/", slash).replace("+", plus).replace("=", "\\u003d") + '"'
        return f'"{data}"' if data.isascii() and data.isalnum() else self.string(data, rare=0.001)

    def large(self) -> str:
        """A payload of 3 KB to 60 MB: small ones as often as large ones, for it is their edges that differ."""
        data = base64.b64encode(self.chance.randbytes(int(3000 * 15_000 ** self.chance.random()))).decode()
        if self.chance.random() < 0.3:
            data = data.replace("+", "-").replace("/", "_").rstrip("=")
        if self.chance.random() < 0.2:
            at = self.chance.randint(0, len(data))
            data = data[:at] + self.string(self.chance.choice(ODD))[1:-1] + data[at:]
        return f'"{data}"'

    def object(self, depth: int) -> str:
        return self.members(self.some_members(depth))

    def some_members(self, depth: int) -> list[tuple[str, str]]:
        return [(self.chance.choice(NAMES), self.value(depth)) for _ in range(self.chance.randint(0, 4))]

    def value(self, depth: int) -> str:
        kind = self.chance.randint(0, 7 if depth else 4)
        if kind == 0:
            return self.chance.choice(NUMBERS)
        if kind == 1:
            return self.chance.choice(("true", "false", "null"))
        if kind == 2:
            return self.payload()
        if kind <= 4:
            return self.string(self.chance.choice(NAMES)) if self.chance.random() < 0.3 else self.text()
        if kind == 5 and self.chance.random() < 0.1:
            return self.deep()
        if kind <= 6:
            return self.object(depth - 1)
        return self.list([self.value(depth - 1) for _ in range(self.chance.randint(0, 3))])

    def deep(self) -> str:
        levels = self.chance.choice((10, 100, 600))
        return "[" * levels + self.payload() + "]" * levels

    def text(self) -> str:
        pieces = self.chance.choices(
            (*ODD, "word", "A" * 40, "picture of a shoe "), k=self.chance.randint(0, 5)
        )
        return self.string("".join(pieces))

    def members(self, members: list[tuple[str, str]]) -> str:
        self.chance.shuffle(members)
        said = (
            self.string(name, rare=0.02) + self.space() + ":" + self.space() + value
            for name, value in members
        )
        return "{" + self.space() + f"{self.space()},{self.space()}".join(said) + self.space() + "}"

    def list(self, values: list[str]) -> str:
        return "[" + self.space() + ",".join(values) + self.space() + "]"

    def string(self, text: str, *, rare: float = 0.05) -> str:
        return '"' + "".join(self.character(each, rare) for each in text) + '"'

    def character(self, each: str, rare: float) -> str:
        must = each in '"\\' or each < " "
        if not must and self.chance.random() >= rare:
            return each
        if each in SHORT and self.chance.random() < 0.5:
            return SHORT[each]
        pair = each.encode("utf-16-be", "surrogatepass")
        digits = [pair[at : at + 2].hex() for at in range(0, len(pair), 2)]
        return "".join("\\u" + (one.upper() if self.chance.random() < 0.5 else one) for one in digits)

    def space(self) -> str:
        return self.chance.choice(SPACES)

    def damaged(self, data: bytes) -> bytes:
        """One thing is wrong with it somewhere, or nothing after all."""
        at = self.chance.randint(0, len(data))
        kind = self.chance.randint(0, 3)
        if kind == 0:
            return data[:at]
        if kind == 1:
            return data[:at] + data[at + 1 :]
        wrong = self.chance.choice(WRONG).encode() if kind == 2 else bytes([self.chance.randint(128, 255)])
        return data[:at] + wrong + data[at:]
