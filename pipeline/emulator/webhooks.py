"""Who wants to be told when a job ends, and the telling: signed, at least once, and only on this machine."""

import hashlib
import http.client
import ipaddress
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pipeline.emulator.batches import Job
from pipeline.emulator.clock import SECOND, VirtualClock, rfc3339
from pipeline.emulator.events import Events
from pipeline.emulator.problems import Problem
from pipeline.emulator.settings import HOUR, Settings
from pipeline.emulator.signatures import Signer, secret_of

PATIENCE = 5.0  # seconds of real time that a receiver has
GIVES_UP = 24 * HOUR  # of virtual time
FIRST_WAIT = 10.0
LATEST = 600.0  # a message that is to come after the next one does not wait longer for it
KNOWN = (
    "batch.succeeded",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "interaction.requires_action",
    "interaction.completed",
    "interaction.failed",
    "video.generated",
)


@dataclass(slots=True)
class Endpoint:
    """A registered address of one account."""

    number: int
    id: str
    account: str
    uri: str
    events: list[str]
    created: int
    updated: int
    name: str | None = None
    state: str = "enabled"
    secrets: list[tuple[str, int | None]] = field(default_factory=list)  # newest first, each with its end

    def valid(self, now: int) -> list[str]:
        return [secret for secret, until in self.secrets if until is None or now < until]

    def as_json(self, now: int) -> dict[str, Any]:
        shown = [
            {"truncated_secret": f"{secret[:10]}..."}
            | ({"expire_time": rfc3339(until)} if until is not None else {})
            for secret, until in self.secrets
            if until is None or now < until
        ]
        whole = {
            "id": self.id,
            "name": self.name,
            "uri": self.uri,
            "subscribed_events": self.events,
            "state": self.state,
            "signing_secrets": shown,
            "create_time": rfc3339(self.created),
            "update_time": rfc3339(self.updated),
        }
        return {name: value for name, value in whole.items() if value is not None}


@dataclass(slots=True)
class Notice:
    """One message to one address. It keeps its id and its bytes, however often it is sent."""

    id: str
    uri: str
    body: bytes
    job: str | None
    made: int
    due: int
    secrets: tuple[str, ...]  # none for an address that came with its job
    forged: bool = False
    copies: int = 1
    behind: bool = False  # waits for the next one to go first
    attempts: int = 0
    status: int | None = None
    over: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "uri": self.uri,
            "job": self.job,
            "type": json.loads(self.body)["type"],
            "attempts": self.attempts,
            "status": self.status,
            "delivered": self.status is not None and 200 <= self.status < 300,
            "over": self.over,
        }


class Webhooks:
    """All accounts' addresses, and what is on its way to them."""

    def __init__(self, settings: Settings, clock: VirtualClock, events: Events) -> None:
        self._settings = settings
        self._clock = clock
        self._events = events
        self._signer = Signer()
        self.endpoints: dict[str, Endpoint] = {}
        self.notices: list[Notice] = []
        self.told: set[str] = set()  # jobs whose end has been noticed
        self._made = 0

    def state(self) -> tuple[Any, ...]:
        return self.endpoints, self.notices, self.told, self._made, self._signer.state()

    def take_up(self, state: tuple[Any, ...]) -> None:
        self.endpoints, self.notices, self.told, self._made, key = state
        self._signer.take_up(key)

    @property
    def keys(self) -> dict[str, Any]:
        """The public keys that messages to a job's own addresses can be checked with."""
        return self._signer.keys()

    def register(self, account: str, *, uri: str, events: list[str], name: str | None) -> Endpoint:
        self._check(uri, events)
        self._made += 1
        now = self._clock.now()
        endpoint = Endpoint(self._made, self._id("endpoint", 20), account, uri, events, now, now, name=name)
        endpoint.secrets.append((secret_of(f"{self._settings.seed} {endpoint.id} 0"), None))
        self.endpoints[endpoint.id] = endpoint
        return endpoint

    def get(self, account: str, endpoint_id: str) -> Endpoint:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None or endpoint.account != account:
            raise Problem(404, f"Webhook {endpoint_id} was not found.")
        return endpoint

    def of(self, account: str) -> list[Endpoint]:
        """Newest first."""
        return [each for each in reversed(self.endpoints.values()) if each.account == account]

    def change(self, endpoint: Endpoint, changes: dict[str, Any]) -> None:
        self._check(changes.get("uri", endpoint.uri), changes.get("subscribed_events", endpoint.events))
        endpoint.uri = changes.get("uri", endpoint.uri)
        endpoint.events = changes.get("subscribed_events", endpoint.events)
        endpoint.name = changes.get("name", endpoint.name)
        endpoint.state = changes.get("state", endpoint.state)
        endpoint.updated = self._clock.now()

    def rotate(self, endpoint: Endpoint, *, at_once: bool) -> str:
        """A new secret, shown this once. The old ones go on for a day unless they are to end now."""
        now = self._clock.now()
        until = now if at_once else now + round(24 * HOUR * SECOND)
        old = [(secret, until if end is None else min(end, until)) for secret, end in endpoint.secrets]
        new = secret_of(f"{self._settings.seed} {endpoint.id} {len(endpoint.secrets)}")
        endpoint.secrets = [(new, None), *old]
        endpoint.updated = now
        return new

    def ping(self, endpoint: Endpoint) -> None:
        now = self._clock.now()
        self._add(endpoint.uri, {"type": "ping", "data": {}}, None, endpoint.valid(now), now)

    def notice(self, jobs: Iterable[Job]) -> None:
        """Make a message of every end that nobody has been told of, oldest first."""
        now = self._clock.now()
        ended = [(job, *job.state(now)) for job in jobs if job.id not in self.told]
        for job, state, since in sorted(
            (each for each in ended if each[1] not in ("PENDING", "RUNNING")),
            key=lambda each: (each[2], each[0].number),
        ):
            self.told.add(job.id)
            if "hook_dropped" not in job.faults:
                self._tell(job, f"batch.{state.lower()}", since)

    def _tell(self, job: Job, kind: str, since: int) -> None:
        data: dict[str, Any] = {"id": job.name}
        if kind == "batch.succeeded":
            data["output_file_uri"] = job.output
        elif kind == "batch.failed":
            code, message = job.error or tuple(job.faults["job_failed"].values())
            data |= {"error_code": code, "error_message": message}
        body = {"type": kind, "data": data}
        if job.webhook is not None:
            if metadata := job.webhook.get("userMetadata"):
                body["user_metadata"] = metadata
            for uri in job.webhook.get("uris") or ():
                self._add(uri, body, job, (), since)
            return
        for endpoint in self.of(job.account):
            if endpoint.state == "enabled" and kind in endpoint.events:
                self._add(endpoint.uri, body, job, endpoint.valid(self._clock.now()), since)

    def _add(self, uri: str, body: dict[str, Any], job: Job | None, secrets: Iterable[str], at: int) -> None:
        self._made += 1
        faults = job.faults if job is not None else {}
        whole = {"type": body["type"], "version": "v1", "timestamp": rfc3339(at)} | body
        notice = Notice(
            id=f"msg_{self._id('message', 24)}",
            uri=uri,
            body=json.dumps(whole, separators=(",", ":")).encode(),
            job=job.name if job is not None else None,
            made=at,
            due=at,
            secrets=tuple(secrets),
            forged="hook_bad_signature" in faults,
            copies=2 if "hook_doubled" in faults else 1,
            behind="hook_reordered" in faults,
        )
        self.notices.append(notice)
        self._events.record("webhook", type=body["type"], job=notice.job)

    def due(self) -> Iterator[Notice]:
        """What is to be sent now, in order; one that is to come late waits for the one behind it.

        The clock is asked again after each: time may jump, and a message be added, while another is sent.
        """
        while ready := self._ready(now := self._clock.now()):
            late = now - round(LATEST * SECOND)
            first = next((each for each in ready if not each.behind or each.due <= late), None)
            if first is None:
                return
            yield first
            for each in ready:
                each.behind = False

    def _ready(self, now: int) -> list[Notice]:
        return [each for each in self.notices if not each.over and each.due <= now]

    def waits(self, jobs: Iterable[Job]) -> bool:
        """Whether the passing of time alone can lead to a message."""
        if any(not each.over for each in self.notices):
            return True
        wanted = bool(self.endpoints)
        return any((wanted or job.webhook is not None) and job.id not in self.told for job in jobs)

    def send(self, notice: Notice) -> None:
        """One attempt, which may take some seconds: call it from a thread."""
        now = self._clock.now()
        for _ in range(notice.copies):
            notice.status = self._post(notice, now)
        if notice.status is not None and 200 <= notice.status < 300:
            notice.over = True
        else:
            notice.due = now + round(FIRST_WAIT * 2**notice.attempts * SECOND)
            notice.over = notice.due > notice.made + round(GIVES_UP * SECOND)
        notice.attempts += 1  # last: whoever counts attempts finds the rest of this one there

    def _post(self, notice: Notice, now: int) -> int | None:
        address = urlsplit(notice.uri)
        headers = self._signer.headers(
            notice.id, notice.body, now=now, secrets=notice.secrets, forged=notice.forged
        )
        connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=PATIENCE)
        try:
            path = (address.path or "/") + (f"?{address.query}" if address.query else "")
            connection.request("POST", path, notice.body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _check(self, uri: Any, events: Any) -> None:
        check_address(uri)
        unknown = set(events or ()) - set(KNOWN)
        if not events or unknown:
            raise Problem(
                400, f"subscribed_events: {sorted(unknown) or 'none'}; known are {', '.join(KNOWN)}."
            )

    def _id(self, kind: str, length: int) -> str:
        whole = hashlib.sha256(f"{self._settings.seed} {kind} {self._made}".encode()).hexdigest()
        return whole[:length]


def check_address(uri: Any) -> None:
    """Refuse what is not on this machine: an emulator sends nothing to anybody else."""
    address = urlsplit(str(uri))
    try:
        address.port  # noqa: B018 - raises when it is none
        near = address.hostname == "localhost" or ipaddress.ip_address(address.hostname or "").is_loopback
    except ValueError:
        near = False
    if address.scheme != "http" or not near:
        raise Problem(400, f"{uri!r} is not http://127.0.0.1 or the like; this emulator calls nobody else.")
