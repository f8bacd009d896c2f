"""Google's SDK as both of its backends call it: answers as they came, and errors as what a person can do.

What it fears: the SDK drops what it does not know, fails on what is odd, and keeps quiet on what it did; so what is
read is read raw, and the one call that costs money goes through one place that repeats nothing.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import msgspec
from google import genai
from google.auth import exceptions as auth
from google.genai import errors as genai_errors

from pipeline.backends.base import Candidate, Ending, Found, Gone, MaybeBought, Missing, NotBought, Refusal
from pipeline.errors import BadInput, Denied, NightshootError, Unavailable

CONTROL_TIMEOUT = 60.0  # seconds, for calls that answer with a page of JSON
PAGE = 100
ENDINGS = {
    "SUCCEEDED": "succeeded",
    "PARTIALLY_SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
"""How a job ended, by the state it is in. Every other state, known or not, is no ending."""

AGAIN = "nothing is lost; run the same command again"
_SECRET = re.compile(r"AIza[\w-]{20,}|ya29\.[\w.-]+|(?<=api_key:)[\w.-]+|(?<=Bearer )\S+")
T = TypeVar("T")


class Calls:
    """An SDK client's calls. `denied` and `missing` are what to tell a person who hears a 403 or a 404.

    `gone` are the answers to a create call that mean, where they name its input file, that this is not there.
    """

    def __init__(
        self,
        client: genai.Client,
        *,
        denied: str,
        missing: str,
        gone: tuple[int, ...],
        key: str | None = None,
    ) -> None:
        self._client, self._denied, self._missing, self._gone = client, denied, missing, gone
        self._key = key

    def safe(self, words: str) -> str:
        """The service's words without a key or a token in them: its refusals repeat them."""
        return _SECRET.sub("...", words.replace(self._key, "...") if self._key else words)

    def read(self, path: str) -> tuple[dict[str, Any], dict[str, str]]:
        """An answer as it came. The one place that goes through the SDK's private door; its key and address apply."""

        def call() -> tuple[dict[str, Any], dict[str, str]]:
            answer = self._client._api_client.request("get", path, {})
            headers = {name.lower(): value for name, value in (answer.headers or {}).items()}
            body = msgspec.json.decode(answer.body or b"{}")
            return (body if isinstance(body, dict) else {}), headers

        return self.translated(call, f"read {path.partition('?')[0]}")

    def time(self, path: str) -> datetime | None:
        """The provider's own time, now, by the shortest page of this listing."""
        return _date(self.read(f"{path}?pageSize=1")[1])

    def listing(self, path: str, members: str, mine: Callable[[dict[str, Any]], Candidate | None]) -> Found:
        """Every page of a listing: what `mine` finds in it, and how far it can be trusted."""
        candidates: list[Candidate] = []
        seen: set[str] = set()
        at: datetime | None = None
        try:
            for body, headers in self._pages(path):
                at = at or _date(headers)
                for job in body.get(members) or []:
                    seen.add(job.get("name") or (job.get("metadata") or {}).get("name") or "")
                    if (candidate := mine(job)) is not None:
                        candidates.append(candidate)
        except Unavailable:
            return Found(tuple(candidates), frozenset(seen), at, complete=False)
        return Found(tuple(candidates), frozenset(seen), at, complete=True)

    def members(self, path: str, members: str) -> Iterator[dict[str, Any]]:
        """Everything of a listing. Raises where a page cannot be read."""
        for body, _ in self._pages(path):
            yield from body.get(members) or []

    def _pages(self, path: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
        token = ""
        while True:
            more = f"&pageToken={quote(token, safe='')}" if token else ""
            body, headers = self.read(f"{path}?pageSize={PAGE}{more}")
            yield body, headers
            token = body.get("nextPageToken") or ""
            if not token:
                return

    def create(self, call: Callable[[], genai.types.BatchJob], staged: str) -> str:
        """Make the one call that costs money, once, and say its ticket. Raises NotBought or MaybeBought."""
        try:
            job = call()
        except genai_errors.ClientError as error:
            raise self._refusal(error, staged) from error
        except httpx2.ConnectError as error:
            raise NotBought("no connection", wait=30.0) from error
        except auth.TransportError as error:  # no token was to be had, so nothing was sent
            raise NotBought(self.safe(str(error)), wait=30.0) from error
        except auth.GoogleAuthError as error:
            fatal = self.explain(error, "submit a batch")
            raise NotBought(self.safe(str(error)), wait=0.0, fatal=fatal) from error
        except (genai_errors.APIError, httpx2.HTTPError, ValueError, OSError) as error:
            # A 5xx, a cut or an unreadable answer: the job may be there all the same.
            raise MaybeBought(self.safe(f"{type(error).__name__}: {error}")[:200]) from error
        if not job.name:
            raise MaybeBought("the answer names no job")
        return str(job.name)

    def ask(self, path: str, request: dict[str, Any], *, timeout: timedelta) -> bytes:
        """Make one call that is answered at once and costs money, once: the answer as it came, on one line."""
        options = genai.types.HttpOptions(timeout=int(timeout.total_seconds() * 1000))
        try:
            answer = self._client._api_client.request("post", path, request, options)
        except genai_errors.ClientError as error:
            raise self._refusal_of_one(error) from error
        except httpx2.ConnectError as error:
            raise NotBought("no connection", wait=30.0) from error
        except auth.TransportError as error:
            raise NotBought(str(error), wait=30.0) from error
        except auth.GoogleAuthError as error:
            raise NotBought(str(error), wait=0.0, fatal=self.explain(error, "ask for a picture")) from error
        except (genai_errors.APIError, httpx2.HTTPError, ValueError, OSError) as error:
            # A 5xx, a cut or an unreadable answer: the picture may have been made all the same.
            raise MaybeBought(f"{type(error).__name__}: {error}"[:200]) from error
        return _on_one_line(answer.body or "")

    def _refusal_of_one(self, error: genai_errors.ClientError) -> NotBought | MaybeBought | Refusal:
        """What a 4xx to such a call means: about all of them, about this one, or nothing that can be told."""
        words = error.message or str(error.code)
        if error.code in (408, 409, 499):
            return MaybeBought(str(error.code))
        if error.code == 429:
            return NotBought(words, wait=max(1.0, _retry_after(error)))
        fatal = self.explain(error, "ask for a picture")
        if isinstance(fatal, Denied):
            return NotBought(words, wait=0.0, fatal=fatal)
        if error.code == 404:  # the model: waiting will not help, and all others would hear the same
            fatal = BadInput(fatal.message, hint="the service does not answer for this model at once")
            return NotBought(words, wait=0.0, fatal=fatal)
        return Refusal(error.code, error.status, words)

    def _refusal(self, error: genai_errors.ClientError, staged: str) -> NotBought | MaybeBought:
        """What a 4xx to a create call means. Where somebody gave up or got in the way nothing is told; else it is
        a no."""
        words = self.safe(error.message or str(error.code))
        if error.code in (408, 409, 499):
            return MaybeBought(str(error.code))
        if error.code == 429:
            return NotBought(
                self.safe(error.message or "too much at once"), wait=max(1.0, _retry_after(error))
            )
        if error.code in self._gone and staged.removeprefix("files/") in words:
            # The input file is gone: it died, or another driver takes the batch over. It is staged anew next time.
            return NotBought(words, wait=1.0)
        fatal = self.explain(error, "submit a batch")
        if isinstance(fatal, Unavailable):  # a 404 is about the model here: waiting will not help
            fatal = BadInput(fatal.message, hint="the service refused what was sent; its words are above")
        return NotBought(words, wait=0.0, fatal=fatal)

    def translated(self, call: Callable[[], T], what: str) -> T:
        """What the call returns; its errors as ours."""
        try:
            return call()
        except (
            genai_errors.APIError,
            httpx2.HTTPError,
            auth.GoogleAuthError,
            msgspec.DecodeError,
            ValueError,
            KeyError,
        ) as error:
            raise self.explain(error, what) from error

    def explain(self, error: Exception, what: str) -> NightshootError:
        """The SDK's errors, and its HTTP library's, as what the user can do about them."""
        match error:
            case genai_errors.APIError():
                return self.of_status(error.code, error.message or "", what)
            case httpx2.HTTPStatusError():
                return self.of_status(error.response.status_code, str(error), what)
            case httpx2.TimeoutException():
                return Unavailable(f"could not {what}: no answer in time", hint=AGAIN)
            case auth.GoogleAuthError() if not isinstance(error, auth.TransportError):
                return Denied(self.safe(f"could not {what}: {error}"), hint=self._denied)
        return Unavailable(self.safe(f"could not {what}: {error}"), hint=AGAIN)

    def of_status(self, status: int, message: str, what: str) -> NightshootError:
        """An answer that is none, as what the user can do about it."""
        said = self.safe(f"could not {what}: {status} {message}".rstrip())[:400]
        if status in (401, 403) or (status == 400 and "API key" in message):
            return Denied(said, hint=self._denied)
        if status == 404:
            return Missing(said, hint=self._missing)
        if status in (400, 409, 413, 416):
            return BadInput(said, hint="the service refused what was sent; its words are above")
        return Unavailable(said, hint=f"{AGAIN} later")


def _on_one_line(body: str) -> bytes:
    """A JSON object without line ends, which stand between its values only: inside a string they are escaped."""
    flat = body.encode(errors="replace").replace(b"\r", b" ").replace(b"\n", b" ")
    try:
        msgspec.json.decode(flat, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise MaybeBought(f"the answer is no JSON object: {error}"[:200]) from error
    return flat


def ending_of(state: object) -> str | None:
    """How a job in this state ended. None: it has not. Raw operations say BATCH_STATE_X, others JOB_STATE_X."""
    return ENDINGS.get(str(state or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_"))


def unreadable(ticket: str, ending: Ending) -> Gone:
    """A job that is over, and has or must have a result that cannot be read now."""
    why = f"{ticket} is said to be done, and its result cannot be read"
    return Gone(why, ending=replace(ending, error=ending.error or why))


def counters(value: object) -> dict[str, int]:
    """Counters: strings on the wire, and absent where zero."""
    if not isinstance(value, dict):
        return {}
    return {name: int(count) for name, count in value.items() if str(count).isdigit()}


def _date(headers: dict[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def _retry_after(error: genai_errors.APIError) -> float:
    headers = getattr(error.response, "headers", None) or {}
    value = headers.get("retry-after") or ""
    return float(value) if value.isdigit() else 60.0
