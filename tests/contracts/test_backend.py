"""What every Backend must keep. Parametrised by how one is made, so that the next one has its suite already."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx2
import pytest
from PIL import Image

from pipeline import emulator
from pipeline.backends.base import Attached, Backend, Ending, Gone, MaybeBought, NotBought, Outcome
from pipeline.backends.developer import Developer
from pipeline.backends.vertex import Vertex
from pipeline.clock import EmulatorClock
from pipeline.errors import BadInput, Denied, NightshootError, Unavailable
from pipeline.prompt import Prompt
from pipeline.references import Reference
from pipeline.results import lines

MODEL = "gemini-2.5-flash-image"
Make = Callable[[str], Backend]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=["developer", "vertex"])
def surface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(service: emulator.Service, surface: str) -> Make:
    """A backend for an account: a key of the Developer API, a project of Vertex AI."""
    if surface == "vertex":
        where = {"location": "global", "service": service.url, "staging": "gs://shoes/runs/one"}
        return lambda account: Vertex(project=account, **where)
    clock = EmulatorClock(service.url)
    return lambda account: Developer(key=account, service=service.url, clock=clock)


@pytest.fixture
def backend(make: Make) -> Backend:
    return make("first-key-of-the-suite")


def line(backend: Backend, place: int, *references: Reference) -> bytes:
    return backend.encode(
        f"b00000-{place:04}", Prompt(model=MODEL, text=f"shoe {place}", references=references)
    )


def sent(backend: Backend, label: str = "one", places: int = 3) -> str:
    return backend.submit(label, MODEL, backend.stage(label, [line(backend, n) for n in range(places)]))


def ended(backend: Backend, service: emulator.Service, ticket: str) -> Ending:
    service.advance(50 * 3600)  # whatever may become of it has
    ending = backend.ending(ticket)
    assert ending is not None
    return ending


def answers(backend: Backend, ticket: str, ending: Ending) -> dict[str | None, Outcome]:
    """Every line of a result, by who it is."""
    found = {}
    for file in ending.files:
        with backend.open(ticket, file.name, start=0, end=None) as stream:
            for one in lines(stream, start=0, end=None):
                found[backend.line_id(one, ticket=ticket)] = backend.outcome(one)
    return found


def cut_a_download(service: emulator.Service, surface: str, after: int) -> None:
    """The next download breaks after so many bytes."""
    if surface == "developer":
        service.fault("cut", method="download", bytes=after, times=1)
    else:
        storage_fault(service, {"on": "get", "fault": "cut", "after": after})


def storage_fault(service: emulator.Service, order: dict[str, object]) -> None:
    httpx2.post(f"{service.url}/_gcs/faults", content=json.dumps(order), trust_env=False).raise_for_status()


def photo(colour: str) -> tuple[bytes, Reference]:
    file = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(file, "PNG")
    data = file.getvalue()
    return data, Reference("p.png", hashlib.sha256(data).hexdigest(), "image/png", len(data), 60, 40)


def test_what_is_sent_comes_back_under_its_own_id(backend: Backend, service: emulator.Service) -> None:
    ticket = sent(backend)
    ending = ended(backend, service, ticket)
    assert ending.how == "succeeded"
    assert ending.at is not None
    found = answers(backend, ticket, ending)
    assert set(found) == {"b00000-0000", "b00000-0001", "b00000-0002"}
    for outcome in found.values():
        assert outcome.kind == "ok"
        assert outcome.usage is not None
        assert Image.open(io.BytesIO(outcome.drawings[-1].data)).size == (1024, 1024)


def test_encoding_is_the_same_every_time(backend: Backend) -> None:
    assert line(backend, 1) == line(backend, 1)
    assert b"\n" not in line(backend, 1)


def test_a_batch_that_is_still_at_it_has_no_ending(backend: Backend) -> None:
    assert backend.ending(sent(backend)) is None


def test_a_reference_reaches_the_model(backend: Backend, service: emulator.Service) -> None:
    """Two batches that differ in their photo alone come back with other pictures."""
    from pipeline.backends import wire

    drawn = []
    for colour in ("red", "blue"):
        data, shown = photo(colour)
        attached = attach(backend, data, shown)
        placed = wire.put_in_place(line(backend, 0, shown), lambda sha256, mime, uri=attached.uri: uri)
        ticket = backend.submit(colour, MODEL, backend.stage(colour, [placed]))
        ending = ended(backend, service, ticket)
        (outcome,) = answers(backend, ticket, ending).values()
        drawn.append(outcome.drawings[-1].data)
    assert drawn[0] != drawn[1]


def attach(backend: Backend, data: bytes, shown: Reference) -> Attached:
    return backend.attach(shown.sha256, lambda: io.BytesIO(data), mime=shown.mime)


def test_a_reference_says_how_long_it_lives(backend: Backend, service: emulator.Service) -> None:
    """Shown again it is as good: for two days at least, or for ever."""
    data, shown = photo("red")
    for _ in range(2):
        found = attach(backend, data, shown)
        assert found.expires is None or found.expires - service.clock() > timedelta(hours=47)


def test_all_that_was_uploaded_can_be_listed_and_removed(backend: Backend) -> None:
    """Twice is no error, and what is gone is not listed."""
    label = "nightshoot-0a1b2c3d-00000-0123456789ab"
    staged = backend.stage(label, [line(backend, 0)])
    attached = attach(backend, *photo("red"))
    found = {remote.name: remote for remote in backend.remote()}
    assert set(found) == {staged, attached.name}
    assert found[staged].label == label
    assert all(remote.size > 0 for remote in found.values())
    for name in (staged, attached.name, staged):
        backend.unstage(name)
    assert list(backend.remote()) == []


def test_what_was_sent_is_found_by_its_label_alone(backend: Backend) -> None:
    tickets = {label: sent(backend, label) for label in ("one", "two")}
    found = backend.find("two")
    assert [candidate.ticket for candidate in found.candidates] == [tickets["two"]]
    assert found.complete
    assert found.seen == set(tickets.values())
    assert backend.find("three").candidates == ()


def test_a_listing_tells_the_provider_s_time(backend: Backend, service: emulator.Service) -> None:
    at = backend.find("one").at
    assert at is not None
    assert abs((at - service.clock()).total_seconds()) <= 1


def test_the_provider_s_time_is_its_own(backend: Backend, service: emulator.Service) -> None:
    service.advance(12345)
    at = backend.time()
    assert at is not None
    assert abs((at - service.clock()).total_seconds()) <= 1


def test_a_listing_of_many_pages_is_read_to_its_end(backend: Backend, service: emulator.Service) -> None:
    staged = backend.stage("many", [line(backend, 0)])
    tickets = {backend.submit(f"job {n}", MODEL, staged) for n in range(60)}
    service.advance(3600)  # a hundred at once is all the service allows
    tickets |= {backend.submit(f"job {n}", MODEL, staged) for n in range(60, 120)}
    found = backend.find("job 0")
    assert found.complete
    assert found.seen == tickets
    assert len(found.candidates) == 1


def test_a_listing_that_fails_is_no_evidence(backend: Backend, service: emulator.Service) -> None:
    service.fault("refused", method="list", code=503)
    assert not backend.find("one").complete


@pytest.mark.parametrize("fault", ["lost", "unsent", "done_but_error"])
def test_a_create_call_without_a_clear_answer_may_have_bought(
    backend: Backend, service: emulator.Service, fault: str
) -> None:
    staged = backend.stage("one", [line(backend, 0)])
    service.fault(fault, method="create")
    with pytest.raises(MaybeBought):
        backend.submit("one", MODEL, staged)
    creates = [event for event in service.events() if event["what"] == "create"]
    assert len(creates) == 1, "a create call is never repeated"


def test_too_much_at_once_is_a_no_that_may_be_asked_again(
    backend: Backend, service: emulator.Service
) -> None:
    staged = backend.stage("one", [line(backend, 0)])
    service.fault("refused", method="create", code=429, retry_after=90)
    with pytest.raises(NotBought) as refusal:
        backend.submit("one", MODEL, staged)
    assert (refusal.value.wait, refusal.value.fatal) == (90, None)


def test_a_model_that_is_not_there_is_a_no_for_good(backend: Backend) -> None:
    staged = backend.stage("one", [line(backend, 0)])
    with pytest.raises(NotBought) as refusal:
        backend.submit("one", "gemini-none", staged)
    assert isinstance(refusal.value.fatal, NightshootError)


def test_after_unstaging_a_create_call_buys_nothing(
    backend: Backend, service: emulator.Service, surface: str
) -> None:
    staged = backend.stage("one", [line(backend, 0)])
    backend.unstage(staged)
    backend.unstage(staged)  # gone already: that is what was wanted
    if surface == "vertex":  # taken, and found to be without input when it begins
        assert ended(backend, service, backend.submit("one", MODEL, staged)).how == "failed"
    else:
        with pytest.raises(NotBought) as refusal:
            backend.submit("one", MODEL, staged)
        assert refusal.value.fatal is None, "another driver may have removed it: the batch is staged anew"
        assert refusal.value.wait > 0
    assert service.ledger()["total"]["nanodollars"] == 0


def test_another_account_s_batch_is_unknown_and_not_failed(
    make: Make, service: emulator.Service, surface: str
) -> None:
    ticket = sent(make("first-key-of-the-suite"))
    service.advance(3600)
    other = make("second-key-of-the-suite")
    assert other.find("one").seen == frozenset()
    if surface == "developer":  # on Vertex AI a ticket names its project
        with pytest.raises(Gone):
            other.ending(ticket)


def test_accounts_are_told_apart_without_the_key(make: Make, surface: str) -> None:
    one, two = make("first-key-of-the-suite"), make("second-key-of-the-suite")
    assert one.account == make("first-key-of-the-suite").account != two.account
    assert surface == "vertex" or "first-key" not in one.account


def test_a_key_that_is_refused_is_denied(make: Make, service: emulator.Service) -> None:
    backend = make("first-key-of-the-suite")
    staged = backend.stage("one", [line(backend, 0)])
    service.fault("refused", method="create", code=403)
    with pytest.raises(NotBought) as refusal:
        backend.submit("one", MODEL, staged)
    assert isinstance(refusal.value.fatal, Denied)


def test_cancelling_ends_a_batch_and_may_be_said_twice(backend: Backend, service: emulator.Service) -> None:
    ticket = sent(backend)
    backend.cancel(ticket)
    assert ended(backend, service, ticket).how == "cancelled"
    backend.cancel(ticket)


@pytest.mark.parametrize(
    ("fault", "how"), [("job_failed", "failed"), ("job_expired", "expired"), ("job_cancelled", "cancelled")]
)
def test_every_way_to_end_is_told_apart(
    backend: Backend, service: emulator.Service, surface: str, fault: str, how: str
) -> None:
    """On Vertex AI what was done by then has been written all the same, unless the job failed."""
    service.fault(fault)
    ticket = sent(backend)
    ending = ended(backend, service, ticket)
    assert ending.how == how
    assert bool(ending.files) == (surface == "vertex" and how != "failed")
    assert all(outcome.kind == "ok" for outcome in answers(backend, ticket, ending).values())
    assert how != "failed" or ending.error


def test_done_without_its_result_is_not_done(backend: Backend, service: emulator.Service) -> None:
    service.fault("late_output", seconds=7200)
    ticket = sent(backend)
    service.advance(3600)
    with pytest.raises(Gone):
        backend.ending(ticket)
    service.advance(7200)
    assert backend.ending(ticket) is not None


def test_an_unknown_state_is_never_an_ending(backend: Backend, service: emulator.Service) -> None:
    ticket = sent(backend)
    service.advance(3600)
    service.fault("unknown_state", value="BATCH_STATE_DREAMING", times=1)
    assert backend.ending(ticket) is None
    assert backend.ending(ticket) is not None


@pytest.mark.parametrize("shape", ["absent", "zero"])
def test_odd_counters_do_no_harm(backend: Backend, service: emulator.Service, shape: str) -> None:
    service.fault("stats_odd", shape=shape)
    assert ended(backend, service, sent(backend)).how == "succeeded"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_result_is_read_from_any_byte_on_and_through_cuts(
    backend: Backend, service: emulator.Service, surface: str, ranges: bool
) -> None:
    ticket = sent(backend)
    file = ended(backend, service, ticket).files[0]
    if not ranges:
        if surface == "vertex":
            pytest.skip("Cloud Storage always knows ranges")
        service.fault("no_range")
    with backend.open(ticket, file.name, start=0, end=None) as stream:
        whole = stream.read()
    assert len(whole) == file.size
    for start in (1, 100, len(whole) // 2, len(whole) - 1, len(whole)):
        cut_a_download(service, surface, start // 3)
        with backend.open(ticket, file.name, start=start, end=None) as stream:
            assert stream.read() == whole[start:]


def test_a_download_that_never_works_ends_with_a_clear_error(
    backend: Backend, service: emulator.Service, surface: str
) -> None:
    ticket = sent(backend)
    file = ended(backend, service, ticket).files[0]
    if surface == "vertex":
        storage_fault(service, {"on": "get", "fault": "403", "times": 100})
    else:
        service.fault("refused", method="download", code=503, times=100)
    with (
        pytest.raises(NightshootError) as error,
        backend.open(ticket, file.name, start=0, end=None) as stream,
    ):
        stream.read()
    assert error.value.hint
    assert not isinstance(error.value, BadInput)


# --- for whoever looks, and shoots nothing -------------------------------------------------------------------------


def test_every_job_of_the_account_is_listed_with_its_label_and_age(
    make: Make, backend: Backend, service: emulator.Service
) -> None:
    """Ours, whatever became of them, over as many pages as there are; and nobody else's."""
    staged = backend.stage("many", [line(backend, 0), line(backend, 1)])
    tickets = {backend.submit(f"job {n}", MODEL, staged): f"job {n}" for n in range(60)}
    at = service.clock()
    service.advance(3600)
    tickets |= {backend.submit(f"job {n}", MODEL, staged): f"job {n}" for n in range(60, 120)}
    listed = list(backend.jobs())
    assert {job.ticket: job.label for job in listed} == tickets
    first = next(job for job in listed if job.label == "job 0")
    assert (first.model, first.requests) == (MODEL, 2)
    assert first.at is not None
    assert abs((first.at - at).total_seconds()) <= 1
    assert first.state.endswith("_SUCCEEDED")
    assert list(make("second-key-of-the-suite").jobs()) == []


def test_a_listing_that_breaks_off_says_so(backend: Backend, service: emulator.Service) -> None:
    sent(backend)
    service.fault("refused", method="list", code=503)
    with pytest.raises(Unavailable):
        list(backend.jobs())


def test_a_model_can_be_asked_about_for_nothing(backend: Backend, service: emulator.Service) -> None:
    there = backend.offer(MODEL)
    assert there is not None
    assert there.batches in (True, None)
    assert backend.offer("gemini-none") is None
    service.fault("refused", method="models.get", code=403)
    with pytest.raises(Denied):
        backend.offer(MODEL)
    assert service.ledger()["jobs"] == []


def test_a_job_can_be_seen_as_the_provider_shows_it(backend: Backend, service: emulator.Service) -> None:
    ticket = sent(backend)
    ended(backend, service, ticket)
    assert backend.raw(ticket)["name"] == ticket
    with pytest.raises(Gone):
        backend.raw(ticket[:-4] + "none")


def test_whether_a_result_can_be_read_in_ranges_is_found_out(
    backend: Backend, service: emulator.Service
) -> None:
    ticket = sent(backend)
    file = ended(backend, service, ticket).files[0].name
    assert backend.takes_ranges(ticket, file)
    if isinstance(backend, Vertex):
        return  # its results lie in Cloud Storage, which knows ranges
    service.fault("no_range")
    assert not backend.takes_ranges(ticket, file)
