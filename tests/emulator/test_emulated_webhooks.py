"""Being told that a job ended: registered by Google's SDK, received by a server of our own."""

import base64
import hashlib
import hmac
import json
import queue
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from google.genai import errors

EVENTS = ["batch.succeeded", "batch.failed", "batch.expired", "batch.cancelled"]


@dataclass
class Message:
    headers: dict
    body: bytes

    @property
    def said(self):
        return json.loads(self.body)


class Receiver:
    """A server that keeps what it is told, and answers as it is told to."""

    def __init__(self):
        self.messages = queue.Queue()
        self.answers = []
        self.held = threading.Event()  # while it is clear, nobody is answered
        self.held.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.held.wait(4)
                status = outer.answers.pop(0) if outer.answers else 204
                self.send_response(status)
                self.end_headers()
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.messages.put(Message(headers, body))

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/told"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def next(self):
        return self.messages.get(timeout=5)

    def nothing(self, bench):
        """Whether nothing comes, once everything that was to be sent has been."""
        until(bench, lambda notices: all(notice["over"] for notice in notices))
        return self.messages.empty()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def valid(message, secret):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = (
        f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    )
    good = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return good in message.headers["webhook-signature"].split()


def registered(bench, receiver):
    return bench.sdk.webhooks.create(uri=receiver.url, subscribed_events=EVENTS, name="ours")


def test_a_registered_address_is_told_of_a_jobs_end_with_a_signature(make_bench, row, receiver):
    bench = make_bench(queue=(60, 60), run=(60, 60))
    hook = registered(bench, receiver)
    job = bench.submit([row("a")])
    bench.service.advance(120)
    message = receiver.next()
    assert message.said == {
        "type": "batch.succeeded",
        "version": "v1",
        "timestamp": "2026-11-21T00:02:00.000000000Z",
        "data": {"id": job.name, "output_file_uri": bench.sdk.batches.get(name=job.name).dest.file_name},
    }
    assert valid(message, hook.new_signing_secret)
    assert not valid(message, "whsec_" + base64.b64encode(b"another").decode())
    assert receiver.nothing(bench)


def test_addresses_are_kept_shown_changed_and_removed_by_the_sdk(bench, receiver):
    hook = registered(bench, receiver)
    assert [found.id for found in bench.sdk.webhooks.list().webhooks] == [hook.id]
    shown = bench.sdk.webhooks.get(id=hook.id)
    assert (shown.name, shown.state, shown.new_signing_secret) == ("ours", "enabled", None)
    assert bench.sdk.webhooks.update(id=hook.id, state="disabled").state == "disabled"
    with pytest.raises(Exception, match="404"):
        bench.sdk_of("second-key").webhooks.get(id=hook.id)
    bench.sdk.webhooks.delete(id=hook.id)
    assert not bench.sdk.webhooks.list().webhooks


def test_an_address_can_be_tried_and_its_secret_changed(bench, receiver):
    hook = registered(bench, receiver)
    new = bench.sdk.webhooks.rotate_signing_secret(
        id=hook.id, revocation_behavior="revoke_previous_secrets_after_h24"
    ).secret
    bench.sdk.webhooks.ping(id=hook.id)
    message = receiver.next()
    assert message.said["type"] == "ping"
    assert valid(message, hook.new_signing_secret)
    assert valid(message, new)
    bench.service.advance(24 * 3600)
    bench.sdk.webhooks.ping(id=hook.id)
    message = receiver.next()
    assert not valid(message, hook.new_signing_secret)
    assert valid(message, new)


def checked(bench, message):
    """The claims of a message's token, checked with the keys that the service shows."""
    [key] = bench.http("GET", "/.well-known/jwks.json").json()["keys"]
    head, claims, signature = message.headers["webhook-signature"].split(".")
    numbers = [int.from_bytes(unpacked(key[name]), "big") for name in ("e", "n")]
    public = RSAPublicNumbers(*numbers).public_key()
    public.verify(unpacked(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
    assert json.loads(unpacked(head)) == {"alg": "RS256", "typ": "JWT", "kid": key["kid"]}
    return json.loads(unpacked(claims))


def unpacked(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def submit_with(bench, row, receiver, name="job"):
    file = bench.upload(json.dumps(row("a")).encode())
    config = {"display_name": name, "webhook_config": {"uris": [receiver.url], "user_metadata": {"run": "7"}}}
    return bench.sdk.batches.create(model="gemini-2.5-flash-image", src=file.name, config=config)


def test_an_address_that_comes_with_a_job_is_told_instead_with_a_token(bench, row, receiver):
    registered(bench, receiver)
    job = submit_with(bench, row, receiver)
    bench.service.advance(0)
    message = receiver.next()
    assert (message.said["data"]["id"], message.said["user_metadata"]) == (job.name, {"run": "7"})
    claims = checked(bench, message)
    assert claims["jti"] == message.headers["webhook-id"]
    assert claims["body_sha256"] == hashlib.sha256(message.body).hexdigest()
    assert receiver.nothing(bench)


def test_who_does_not_answer_well_is_told_again_later_and_for_a_day(bench, row, receiver):
    registered(bench, receiver)
    receiver.answers = [500, 500]
    bench.submit([row("a")])
    bench.service.advance(0)
    ids = {receiver.next().headers["webhook-id"]}
    until(bench, lambda notices: notices[0]["attempts"] == 1)
    for number, seconds in enumerate((10, 20), 2):
        bench.service.advance(seconds)
        ids.add(receiver.next().headers["webhook-id"])
        until(bench, lambda notices, made=number: notices[0]["attempts"] == made)
    assert len(ids) == 1
    [notice] = bench.service._ask("GET", "/_webhooks")
    assert (notice["attempts"], notice["delivered"]) == (3, True)


def until(bench, said):
    """Wait until the messages are as said; the emulator sends them beside its answers."""
    patience = time.monotonic() + 20
    while not said(notices := bench.service._ask("GET", "/_webhooks")):
        assert time.monotonic() < patience, notices


def test_time_that_jumps_while_a_message_is_sent_leaves_the_next_one_due(bench, receiver):
    hook = registered(bench, receiver)
    receiver.held.clear()
    bench.sdk.webhooks.ping(id=hook.id)
    bench.service.advance(24 * 3600)
    bench.sdk.webhooks.ping(id=hook.id)
    receiver.held.set()
    assert receiver.next().headers["webhook-id"] != receiver.next().headers["webhook-id"]


def test_a_clock_that_runs_by_itself_tells_unasked(make_bench, row, receiver):
    bench = make_bench(queue=(60, 60), run=(60, 60))
    registered(bench, receiver)
    bench.submit([row("a")])
    bench.service.run_at(1000)
    assert receiver.next().said["type"] == "batch.succeeded"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("job_failed", "batch.failed"), ("job_cancelled", "batch.cancelled")],
)
def test_every_end_has_a_name(bench, row, receiver, fault, kind):
    registered(bench, receiver)
    bench.service.fault(fault)
    bench.submit([row("a")])
    bench.service.advance(0)
    said = receiver.next().said
    assert said["type"] == kind
    assert ("error_code" in said["data"]) == (kind == "batch.failed")


def test_a_message_can_be_dropped(bench, row, receiver):
    registered(bench, receiver)
    bench.service.fault("hook_dropped", times=1)
    bench.submit([row("a")], name="first")
    second = bench.submit([row("a")], name="second")
    bench.service.advance(0)
    assert receiver.next().said["data"]["id"] == second.name
    assert receiver.nothing(bench)


def test_a_message_can_come_twice_under_one_id(bench, row, receiver):
    registered(bench, receiver)
    bench.service.fault("hook_doubled")
    bench.submit([row("a")])
    bench.service.advance(0)
    assert receiver.next().headers["webhook-id"] == receiver.next().headers["webhook-id"]


def test_a_message_can_come_after_the_next_one(make_bench, row, receiver):
    bench = make_bench(queue=(60, 60), run=(60, 60))
    registered(bench, receiver)
    bench.service.fault("hook_reordered", display_name="first")
    jobs = [bench.submit([row("a")], name=name).name for name in ("first", "second")]
    bench.service.advance(120)
    assert [receiver.next().said["data"]["id"] for _ in jobs] == jobs[::-1]


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_signature_can_be_wrong(bench, row, receiver, dynamic):
    bench.service.fault("hook_bad_signature")
    if dynamic:
        submit_with(bench, row, receiver)
        bench.service.advance(0)
        with pytest.raises(InvalidSignature):
            checked(bench, receiver.next())
        return
    hook = registered(bench, receiver)
    bench.submit([row("a")])
    bench.service.advance(0)
    assert not valid(receiver.next(), hook.new_signing_secret)


@pytest.mark.parametrize(
    ("uri", "events"), [("https://hooks.example.com/x", EVENTS), ("http://127.0.0.1:1", ["batch.begun"])]
)
def test_nobody_but_this_machine_is_called_and_unknown_events_are_refused(bench, uri, events):
    with pytest.raises(Exception, match=r"400|nobody else|known are"):
        bench.sdk.webhooks.create(uri=uri, subscribed_events=events)
    with pytest.raises(errors.ClientError, match="calls nobody else"):
        bench.sdk.batches.create(
            model="gemini-2.5-flash-image",
            src=bench.upload(b"{}").name,
            config={"webhook_config": {"uris": ["https://hooks.example.com/x"]}},
        )
