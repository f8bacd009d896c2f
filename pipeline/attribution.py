"""What Google wants shown wherever a picture is shown that rests on a search, as a piece of a page.

The chip is to be seen just as it was given, and every source to be one click away. What it fears: the chip is HTML that
somebody else wrote. It gets a document of its own which runs no script and knows nothing of the page around it.
"""

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import urlsplit

SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
"""All that a chip may do: open what is clicked in a window of its own. No script, no form, not the page around it."""

_STYLE = "width:100%;height:5rem;border:0"  # as wide as the answer; what is higher scrolls
_DOCUMENT = '<!doctype html><meta charset="utf-8"><base target="_blank">'


def rests_on_a_search(row: Mapping[str, Any]) -> bool:
    return bool(row["search_chip"] or any(source["uri"] for source in row["sources"] or ()))


def credits_of(row: Mapping[str, Any]) -> str:
    """The chip and the sources of a row of the index, as HTML; '' where there are none."""
    if not rests_on_a_search(row):
        return ""
    links = "".join(f"<li>{_link(source)}</li>" for source in row["sources"] or () if source["uri"])
    return frame(row["search_chip"]) + (f"<p>Sources</p><ul>{links}</ul>" if links else "")


def frame(chip: str | None) -> str:
    """The chip in a document of its own, on one line: in Markdown a blank line would end it."""
    if not chip:
        return ""
    document = escape(_DOCUMENT + chip).replace("\r", "&#13;").replace("\n", "&#10;")
    return (
        f'<iframe title="Google Search suggestions" sandbox="{SANDBOX}" style="{_STYLE}" srcdoc="{document}">'
        "</iframe>"
    )


def address(uri: str | None) -> str | None:
    """A URI that may be clicked; None for what is no web address: a script is none."""
    try:
        parts = urlsplit(uri or "")
    except ValueError:
        return None
    return uri if parts.scheme in ("http", "https") and parts.netloc else None


def named(source: Mapping[str, Any]) -> str:
    """What a source is called, with whose it is."""
    title, domain = source["title"], source["domain"]
    name = title or domain or source["uri"] or ""
    return f"{name} ({domain})" if domain and domain != name else name


def _link(source: Mapping[str, Any]) -> str:
    # To the page, and never to the picture on it: Google asks for the page that contains it.
    target = address(source["uri"])
    if target is None:
        return escape(f"{named(source)} {source['uri']}")
    return f'<a href="{escape(target)}" target="_blank" rel="noopener noreferrer">{escape(named(source))}</a>'
