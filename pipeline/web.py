"""One file of the web, fetched with distrust: addresses come from other people's tables.

What it fears: an address inside our own network (also behind a redirect, or behind a name that changes its mind),
an answer without end, and a server that never finishes.
"""

import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pipeline import __version__

MOST_BYTES = 50_000_000
SECONDS = 60.0
"""For one file, redirects included."""

_SILENCE = 15.0  # seconds without a byte
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}


class NotFetched(Exception):
    """Why there is no file, in a person's words."""

    def __init__(self, message: str, *, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.passing = passing  # another try may go well


@dataclass(frozen=True, slots=True)
class Fetched:
    data: bytes | None  # None: still what the tag says
    tag: str | None  # the server's name for these bytes


def fetch(
    url: str,
    *,
    tag: str | None = None,
    allow_private: bool = False,
    most: int = MOST_BYTES,
    seconds: float = SECONDS,
) -> Fetched:
    """The file behind an address, whole, or nothing if it still is what the tag names. Raises NotFetched."""
    # A limit on our own patience, not a time of day: the machine's own stopwatch, whatever clock the run follows.
    deadline = time.monotonic() + seconds
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            parts = urlsplit(url)
            connection = _connected(parts, allow_private=allow_private, deadline=deadline)
            try:
                response = _asked(connection, parts, tag)
                location = response.getheader("Location")
                if response.status not in _REDIRECTS or location is None:
                    return _answer(response, most=most, deadline=deadline)
                url = urljoin(url, location)
            finally:
                connection.close()
        except (OSError, HTTPException, UnicodeError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise NotFetched(f"cannot be fetched ({why.lower()[:120]})", passing=True) from error
    raise NotFetched("leads on and on", hint=f"more than {_MOST_REDIRECTS} redirects")


def _connected(parts: SplitResult, *, allow_private: bool, deadline: float) -> HTTPConnection:
    """A connection to the very address that was checked: a name asked twice may answer twice."""
    host = parts.hostname
    if parts.scheme not in ("https", "http") or host is None or parts.username is not None:
        raise NotFetched("has an odd address", hint="write https://host/path, without a password")
    if parts.scheme == "http" and not allow_private:
        raise NotFetched("has an address without encryption", hint="write https://")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _address(host, port, allow_private=allow_private)
    connection = HTTPConnection(host, port, timeout=_left(deadline))
    plain = socket.create_connection((address, port), timeout=_left(deadline))
    try:
        secured = parts.scheme == "https"
        # A preset socket is used as it is; TLS still asks for the name and checks the certificate against it.
        connection.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secured else plain
        )
    except OSError:
        plain.close()
        raise
    return connection


def _address(host: str, port: int, *, allow_private: bool) -> str:
    addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in () if allow_private else addresses:
        if not _is_public(address):
            raise NotFetched(
                "has an address in a private network",
                hint="allow_private = true in the job lets it be fetched; do so only if you wrote the manifest",
            )
    return addresses[0]


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    return found.is_global and not found.is_multicast


def _asked(connection: HTTPConnection, parts: SplitResult, tag: str | None) -> HTTPResponse:
    path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*[]")
    query = "?" + quote(parts.query, safe="/%:=&~+!$,;'@()*[]?") if parts.query else ""
    headers = {
        "Host": parts.netloc,
        "User-Agent": f"nightshoot/{__version__}",
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
        **({"If-None-Match": tag} if tag else {}),
    }
    connection.request("GET", path + query, headers=headers)
    return connection.getresponse()


def _answer(response: HTTPResponse, *, most: int, deadline: float) -> Fetched:
    if response.status == 304:
        return Fetched(None, None)
    if response.status != 200:
        passing = response.status in (408, 425, 429) or response.status >= 500
        raise NotFetched(f"is not on the web (HTTP {response.status})", passing=passing)
    too_large = NotFetched(
        "is too large to fetch", hint=f"more than {most // 1_000_000} MB: scale it down first"
    )
    if (response.length or 0) > most:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    while piece := response.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise too_large
        _left(deadline)
    if response.length:  # of what was announced, this much never came
        raise NotFetched("came cut short", passing=True)
    return Fetched(b"".join(pieces), response.getheader("ETag"))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotFetched("takes too long to fetch", passing=True)
    return min(left, _SILENCE)
