"""Events to tell stories with: whole and plausible, each with whatever the story is about."""

from datetime import UTC, datetime, timedelta

from pipeline.events import (
    Collected,
    Created,
    Drawn,
    Ended,
    File,
    Held,
    Limits,
    Piece,
    Planned,
    PutBack,
    Rejected,
    Retries,
    Reviewed,
    Rows,
    Submitted,
    Submitting,
    Tokens,
    Turns,
)

NOW = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
MODEL = "gemini-2.5-flash-image"
LIMITS = Limits(
    requests=10, input_bytes=10**9, output_bytes=10**9, tokens=10**9, in_flight=100, part_bytes=10**8
)


def created(
    *,
    rows: int = 20,
    refused: int = 0,
    later: int = 0,
    cap: int | None = None,
    asks: str = "always",
) -> Created:
    return Created(
        format=1,
        run="0badcafe",
        name="shoes-2026-11-21",
        job={"name": "shoes", "follow_ups": asks},
        models={},
        prices_as_of="2026-11-21",
        manifest="shoes.csv",
        manifest_sha256="0" * 64,
        columns=("sku", "title"),
        rows=rows,
        photos="0" * 64,
        lanes={MODEL: rows - later, "final": refused, "later": later},
        backend="developer",
        service="http://127.0.0.1:1",
        limits=LIMITS,
        attempts=2,
        cap=cap,
        version="0",
    )


def drawn(batch: int, start: int, stop: int, *, lane: str = MODEL) -> Drawn:
    return Drawn(batch=batch, source=Rows(start, stop, lane))


def retries(batch: int, *batches: int) -> Drawn:
    return Drawn(batch=batch, source=Retries(batches))


def planned(
    batch: int, *, requests: int = 10, high: int = 100, model: str = MODEL, sends: bool = True
) -> Planned:
    return Planned(
        batch=batch,
        model=model if sends else "",
        requests=requests,
        tokens=0,
        low=min(50, high),
        likely=min(80, high),
        high=high,
        digest="d" * 64,
        plan=File(f"plan/{batch:05}.parquet", 1, "0" * 64),
        lines=File(f"requests/{batch:05}.jsonl", 1, "d" * 64) if sends else None,
    )


def submitting(
    batch: int,
    *,
    account: str = "developer:aa:",
    staged: str = "files/1",
    until: datetime = NOW + timedelta(seconds=60),
    replaces: int | None = None,
    seen: datetime | None = None,
) -> Submitting:
    return Submitting(
        batch=batch,
        account=account,
        label=f"nightshoot-{batch}",
        input=staged,
        until=until,
        replaces=replaces,
        seen=seen,
    )


def submitted(batch: int, intent: int, *, ticket: str = "batches/1", adopted: bool = False) -> Submitted:
    return Submitted(batch=batch, intent=intent, ticket=ticket, adopted=adopted)


def put_back(batch: int, intent: int) -> PutBack:
    return PutBack(batch=batch, intent=intent, why="429", not_before=NOW)


def held(batch: int, intent: int) -> Held:
    return Held(batch=batch, intent=intent, why="nobody knows")


def ended(batch: int, *, how: str = "succeeded") -> Ended:
    return Ended(batch=batch, how=how, at=NOW)


def collected(
    batch: int,
    *,
    indexed: int = 10,
    retry: int = 0,
    spent: int = 80,
    unconfirmed: int = 0,
    turns: dict[str, int] | None = None,
    released: int = 0,
    again: dict[str, int] | None = None,
    surplus: int = 0,
    surplus_spent: int = 0,
) -> Collected:
    return Collected(
        batch=batch,
        indexed=indexed,
        retry=retry,
        surplus=surplus,
        outcomes={"ok": indexed} if indexed else {},
        again=again or ({"error": retry} if retry else {}),
        pictures=indexed,
        picture_bytes=indexed * 1000,
        tokens=Tokens(),
        spent=spent,
        surplus_spent=surplus_spent,
        unconfirmed=unconfirmed,
        turns=turns or {},
        released=released,
        turns_file=File("turns/00000.parquet", 1, "00") if turns else None,
    )


def follow_ups(number: int, *pieces: tuple[int, int, int], lane: str = MODEL, reviewed: int = 0) -> Drawn:
    return Drawn(batch=number, source=Turns(lane, tuple(Piece(*piece) for piece in pieces), reviewed))


def reviewed(number: int, *, after: int = 0, decided: dict[str, tuple[int, ...]] | None = None) -> Reviewed:
    return Reviewed(
        number=number,
        file=File(f"review/{number:04}.parquet", 1, "00"),
        reviewed=after,
        approved=1,
        rejected=1,
        decided=decided or {},
    )


def rejected(number: int, *places: int, of: int = 0, lane: str = MODEL, reviewed: int = 1) -> Drawn:
    return Drawn(batch=number, source=Rejected(of, lane, places, reviewed))
