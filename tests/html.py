"""A page as a browser takes it apart: its elements, and what stands in their attributes."""

from html.parser import HTMLParser
from typing import NamedTuple


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str | None]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def elements(page: str) -> list[Element]:
    """Every element, in order. What stands in a frame is an attribute, and none of them."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.elements


def words(page: str) -> str:
    """What a person reads."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return "".join(reader.words)
