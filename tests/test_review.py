"""A person's decisions, read from a table: applied whole, or not at all and with every reason."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import emulator, tables
from pipeline.clock import MachineClock
from pipeline.decisions import standing
from pipeline.errors import BadInput
from pipeline.index import read_index
from pipeline.review import Applied, apply
from pipeline.run import Run, open_run
from pipeline.storage import open_storage
from tests.bench import Bench
from tests.faulty import Dying, PowerCut


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of three rows and two shots that somebody stopped looking at half-way: sku-2 is not home."""
    folder = tmp_path_factory.mktemp("shoes")
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=500) as service:
        bench = Bench(service, folder)
        service.fault("image_safety", prompt="Shoe 1 in snow")
        shots = {
            "hero": {"prompt": "{{ title }}", "turns": ["by night"]},
            "snow": {"prompt": "{{ title }} in snow"},
        }
        # One batch after the other, so that the second is not even sent when the first is home.
        batches = {"max_requests": 4, "in_flight": 1}
        bench.make_job(rows=3, batches=batches, model="gemini-3.1-flash-image", shots=shots, prompt=None)
        driver = bench.begin()
        for _ in range(500):
            driver.step()
            if driver.run.state.batches[0].collected is not None:
                break
            bench.clock.sleep(1)
    assert set(read_index(driver.run)["key"]) == {"sku-0", "sku-1"}
    return folder / "runs" / "run"


@pytest.fixture
def run(there: Path, tmp_path: Path) -> Run:
    """A copy of it, to be written into."""
    shutil.copytree(there, tmp_path / "run")
    return open_run(open_storage(str(tmp_path / "run")), MachineClock())


def table(run: Run, text: str, name: str = "decisions.csv") -> Path:
    path = Path(run.storage.url).parent / name
    path.write_text(text, encoding="utf-8")
    return path


def files(run: Run) -> list[str]:
    return sorted(run.storage.list(""))


def test_decisions_are_kept_in_a_file_and_told_by_the_index(run: Run) -> None:
    path = table(run, "key,shot,decision,reason\nsku-1,hero,Rejected,two soles\nsku-0,hero,approved,\n")
    assert apply(run, path) == Applied(1, 1, 0, "review/0000.parquet")
    (review,) = run.state.reviews
    data = run.storage.read("review/0000.parquet")
    assert (review.file.size, review.file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (review.approved, review.rejected, review.decided) == (1, 1, {})
    rows = tables.from_parquet(data).to_pylist()
    index = read_index(run).set_index(["key", "shot"])
    assert [(row["key"], row["decision"], row["reason"]) for row in rows] == [
        ("sku-0", "approved", None),
        ("sku-1", "rejected", "two soles"),
    ]
    assert [row["sha256"] for row in rows] == [index.loc[(row["key"], "hero"), "sha256"] for row in rows]
    said = index["decision"].dropna().to_dict()
    assert said == {("sku-0", "hero"): "approved", ("sku-1", "hero"): "rejected"}
    assert index.loc[("sku-1", "hero"), "decision_reason"] == "two soles"
    narrow = read_index(run, columns=["decision"], where="decision == 'rejected'")
    assert narrow["decision"].tolist() == ["rejected"]


def test_applied_twice_it_is_applied_once(run: Run) -> None:
    """In another order, too. What others decided since is not taken back by a table that says nothing of it."""
    first = table(run, "key,shot,decision\nsku-0,hero,approved\nsku-1,hero,rejected\n")
    second = table(run, "decision,shot,key\nrejected,hero,sku-1\napproved,hero,sku-0\n", "again.csv")
    apply(run, first)
    before = files(run)
    assert apply(run, second) == apply(run, first) == Applied(1, 1, 0, None)
    assert files(run) == before


def test_an_earlier_table_counts_again_when_it_is_applied_again(run: Run) -> None:
    first = table(run, "key,shot,decision\nsku-0,hero,approved\n")
    second = table(run, "key,shot,decision\nsku-0,hero,rejected\n", "other.csv")
    assert [apply(run, path).file for path in (first, second, first, first)] == [
        "review/0000.parquet",
        "review/0001.parquet",
        "review/0002.parquet",
        None,
    ]
    assert [said.word for said in standing(run).values()] == ["approved"]


def test_tables_of_other_kinds_are_read_too(run: Run) -> None:
    """And what a spreadsheet makes of a CSV: a byte order mark, its own ends of lines, numbers with a point."""
    for_excel = "\ufeffkey;shot;turn;decision\r\nsku-0;hero;0.0;rejected\r\n"
    assert apply(run, table(run, for_excel)).rejected == 1
    lines = '{"key": "sku-0", "shot": "hero", "turn": 0, "decision": "approved"}\n'
    assert apply(run, table(run, lines, "decisions.jsonl")).approved == 1
    path = Path(run.storage.url).parent / "decisions.parquet"
    pq.write_table(
        pa.table({"key": ["sku-1"], "shot": ["hero"], "turn": [0.0], "decision": ["rejected"]}), path
    )
    assert apply(run, path).rejected == 1


def test_the_index_itself_is_a_table_to_fill_in(run: Run) -> None:
    """Its own `reason` is the model's, and no person's; a row without a decision decides nothing."""
    frame = read_index(run)
    frame["decision"] = ["approved" if row.shot == "hero" else None for row in frame.itertuples()]
    path = Path(run.storage.url).parent / "index.csv"
    frame.to_csv(path, index=False)
    done = apply(run, path)
    assert (done.approved, done.rejected, done.undecided) == (2, 0, 2)
    assert {said.reason for said in standing(run).values()} == {None}


BAD = {
    "sku-00,hero,0,,approved": "row 2: key: no such row in the run 'sku-00' (did you mean 'sku-0'?)",
    "sku-2,hero,0,,approved": "row 2: key: not collected yet 'sku-2'",
    "sku-0,hero,1,,approved": "row 2: key: not collected yet 'sku-0'",
    "sku-0,hero,2,,approved": "row 2: turn: no such turn '2' (there are 0, 1)",
    "sku-0,side,0,,approved": "row 2: shot: no such shot 'side' (there are hero, snow)",
    "sku-0,hero,0,2,approved": "row 2: take: no such take '2' (there is 1)",
    "sku-0,,0,,approved": "row 2: key: several pictures 'sku-0' (say in a column shot which: hero, snow)",
    "sku-1,snow,0,,rejected": "row 2: key: no picture to judge, it is blocked: 'sku-1'",
    "sku-0,hero,0,,aproved": "row 2: decision: no such decision 'aproved' (did you mean 'approved'?)",
    "sku-0,hero,first,,approved": "row 2: turn: no number 'first'",
    ",hero,0,,approved": "row 2: key: a decision about no picture",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_decision_is_named_with_its_row_and_nothing_is_applied(run: Run, line: str) -> None:
    """The good one beside it is not applied either."""
    before = files(run)
    path = table(run, f"key,shot,turn,take,decision\n{line}\nsku-1,hero,0,1,approved\n")
    with pytest.raises(BadInput) as error:
        apply(run, path)
    said = error.value.message + (f" ({error.value.hint})" if error.value.hint else "")
    assert BAD[line] in said
    assert (files(run), run.state.reviews) == (before, [])


def test_everything_that_is_wrong_is_said_at_once(run: Run) -> None:
    path = table(run, "key,shot,turn,take,decision\n" + "\n".join(BAD) + "\n")
    with pytest.raises(BadInput) as error:
        apply(run, path)
    first, *lines = error.value.message.splitlines()
    assert first == f"{len(BAD)} problems"
    assert [line.split(": row ")[1].split(":")[0] for line in lines] == [str(n + 2) for n in range(len(BAD))]


def test_two_decisions_about_one_picture_are_one_too_many(run: Run) -> None:
    path = table(run, "key,shot,take,decision\nsku-0,hero,,approved\nsku-0,hero,1,rejected\n")
    with pytest.raises(BadInput, match="row 3: decision: another decision about the same picture") as error:
        apply(run, path)
    assert error.value.hint == "row 2 says approved"
    assert apply(run, table(run, "key,shot,decision\n" + "sku-0,hero,approved\n" * 2)).approved == 1


def test_very_many_problems_are_not_all_said(run: Run) -> None:
    path = table(run, "key,decision\n" + "".join(f"hat-{n},approved\n" for n in range(200)))
    with pytest.raises(BadInput, match="and 150 more") as error:
        apply(run, path)
    assert len(error.value.message.splitlines()) == 52


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sku,decision\nsku-0,approved\n", "no column 'key'"),
        ("key,decison\nsku-0,approved\n", "no column 'decision'"),
        ("key,decision\nsku-0,\n", "no decision in it"),
        ("key,decision\n", "no rows below the header"),
        ("", "an empty file"),
    ],
)
def test_a_table_that_decides_nothing_is_refused(run: Run, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        apply(run, table(run, text))


def killed_between_file_and_record(run: Run, path: Path) -> None:
    dying = open_run(Dying(run.storage, at=1, when="after"), MachineClock())
    with pytest.raises(PowerCut):
        apply(dying, path)
    assert run.storage.read("review/0000.parquet")


def test_the_same_table_takes_up_the_file_that_nobody_came_to_record(run: Run) -> None:
    first = table(run, "key,shot,decision\nsku-0,hero,approved\n")
    killed_between_file_and_record(run, first)
    assert apply(run, first).file == "review/0000.parquet"
    assert list(run.storage.list("review/")) == ["review/0000.parquet"]


def test_a_file_that_nobody_came_to_record_keeps_nobody_from_deciding(run: Run) -> None:
    """It does not exist, and another table has the number after it."""
    first = table(run, "key,shot,decision\nsku-0,hero,approved\n")
    other = table(run, "key,shot,decision\nsku-1,hero,rejected\n", "other.csv")
    killed_between_file_and_record(run, first)
    assert apply(run, other).file == "review/0001.parquet"
    assert len(standing(run)) == 1
    assert apply(run, first).file == "review/0002.parquet"
    assert len(standing(run)) == 2
    assert len(standing(open_run(run.storage, MachineClock()))) == 2


def test_two_people_at_once_lose_nothing(run: Run) -> None:
    """One is overtaken between her file and her record: both tables are applied, one after the other."""
    first = table(run, "key,shot,decision\nsku-0,hero,approved\n")
    other = table(run, "key,shot,decision\nsku-0,hero,rejected\nsku-1,hero,rejected\n", "other.csv")

    class Overtaken:
        """A storage on which somebody else applies theirs before her record."""

        def __init__(self) -> None:
            self.once = True

        def __getattr__(self, name: str) -> object:
            return getattr(run.storage, name)

        def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
            if name.startswith("journal/") and self.once:
                self.once = False
                apply(open_run(run.storage, MachineClock()), other)
            run.storage.put_if_absent(name, data, content_type=content_type)

    apply(open_run(Overtaken(), MachineClock()), first)  # type: ignore[arg-type]
    run.catch_up()
    assert [review.number for review in run.state.reviews] == [1, 2]
    assert sorted(said.word for said in standing(run).values()) == ["approved", "rejected"]
