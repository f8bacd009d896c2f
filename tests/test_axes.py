"""A short table becomes a dataset: rows times axes, and a sample of that which grows without changing."""

from collections import Counter

import pytest

from pipeline.errors import BadInput
from pipeline.job import job_for, read_job
from pipeline.manifest import duplicate_keys, open_manifest
from pipeline.survey import begin, is_of, planner_for, requests_of, survey
from tests.fakes import FakeClock, MemoryStorage


@pytest.fixture
def things(tmp_path):
    (tmp_path / "things.csv").write_text("id,thing\n" + "".join(f"t{n},thing {n}\n" for n in range(200)))
    return tmp_path


def look(folder, **said):
    return survey(job_for("things.csv", **{"prompt": "{{ thing }}, {{ style }}"} | said), base=folder)


def keys(found):
    return [request.key for request in requests_of(found)]


def test_each_row_is_shot_once_for_each_combination(things):
    found = look(things, axes={"style": ["ink", "oil"], "light": {"dawn": 1, "noon": 3}})
    assert found.requests == 800
    assert keys(found)[:4] == ["t0-ink-dawn", "t0-ink-noon", "t0-oil-dawn", "t0-oil-noon"]
    assert next(requests_of(found)).prompt.text == "thing 0, ink"
    assert list(duplicate_keys(found.manifest)) == []


def test_a_larger_sample_holds_the_smaller_one_and_another_seed_is_another(things):
    axes = {"style": ["ink", "oil"]}
    small, large = (keys(look(things, axes=axes, sample=count)) for count in (50, 90))
    assert (len(small), len(large)) == (50, 90)
    assert set(small) < set(large)
    assert large == sorted(large, key=lambda key: int(key[1:].partition("-")[0])), "in the order of the file"
    other = job_for("things.csv", prompt="x", axes=axes, sample=50)
    assert set(keys(survey(read_again(other, seed=7), base=things))) != set(small)


def read_again(job, **changes):
    import msgspec

    return msgspec.structs.replace(job, **changes)


def test_a_weight_makes_a_value_as_much_more_frequent(things):
    found = look(things, axes={"style": {"ink": 9, "oil": 1}}, sample=100)
    counts = Counter(key.rpartition("-")[2] for key in keys(found))
    assert 80 <= counts["ink"] <= 98


def test_a_row_that_is_added_changes_at_most_one_of_the_sample(things):
    before = set(keys(look(things, axes={"style": ["ink"]}, sample=50)))
    path = things / "things.csv"
    path.write_text(path.read_text().replace("id,thing\n", "id,thing\nnew,new thing\n"))
    assert len(before - set(keys(look(things, axes={"style": ["ink"]}, sample=50)))) <= 1


def test_axes_are_written_in_the_job_as_lists_or_with_weights(things):
    path = things / "job.toml"
    path.write_text(
        'manifest = "things.csv"\nsample = 10\nseed = 3\n[axes]\nstyle = ["ink", "oil"]\n'
        'light = { dawn = 1, noon = 2.5 }\n[shots.main]\nprompt = "{{ thing }} {{ style }} {{ light }}"\n'
    )
    assert survey(read_job(path), base=things).requests == 10


@pytest.mark.parametrize(
    ("axes", "complaint"),
    [
        ({"thing": ["a"]}, "is a column of the manifest"),
        ({"style": {"ink": 0}}, "axes"),
        ({f"a{n}": [str(i) for i in range(10)] for n in range(6)}, "combinations"),
    ],
)
def test_axes_that_cannot_be_are_refused(things, axes, complaint):
    with pytest.raises(BadInput, match=complaint):
        look(things, axes=axes)


AXES = {
    "styles.csv": "style,share\nink,3\noil,1\nink,2\n",
    "styles.tsv": "name\tshare\nink\t5\noil\t1\n",
    "styles.jsonl": '{"style": "ink", "share": 5}\n{"style": "oil", "share": 1}\n',
    "styles.txt": "\ufeffink\noil\n\n  ink\n",
}


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ('"styles.csv"', {"ink": 2, "oil": 1}),
        ('{ file = "styles.csv", weight = "share" }', {"ink": 5, "oil": 1}),
        ('{ file = "styles.tsv", column = "name", weight = "share" }', {"ink": 5, "oil": 1}),
        ('{ file = "styles.jsonl" }', {"ink": 1, "oil": 1}),
        ('{ file = "styles.parquet", column = "style", weight = "share" }', {"ink": 5, "oil": 1}),
        ('"styles.txt"', {"ink": 2, "oil": 1}),
        ("{ file = 2, oil = 1 }", {"file": 2, "oil": 1}),
    ],
)
def test_an_axis_may_be_a_file_beside_the_job(things, said, values):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, text in AXES.items():
        (things / name).write_text(text)
    pq.write_table(pa.table({"style": ["ink", "oil"], "share": [5.0, 1.0]}), things / "styles.parquet")
    assert axes_of(things, said) == {"style": values}


def axes_of(folder, said):
    path = folder / "job.toml"
    path.write_text(
        f'manifest = "things.csv"\n[axes]\nstyle = {said}\n[shots.main]\nprompt = "{{{{ style }}}}"\n'
    )
    return read_job(path).axes


def test_a_run_holds_the_values_it_was_drawn_from_and_a_changed_file_is_another_job(things):
    (things / "styles.txt").write_text("ink\noil\n")
    axes_of(things, '"styles.txt"')
    job = read_job(things / "job.toml")
    found = survey(job, base=things)
    place = MemoryStorage()
    run = begin(found, name="r", storage=place, service="http://x", clock=FakeClock(), cap=None)
    assert found.requests == 400
    (things / "styles.txt").unlink()
    assert planner_for(run, base=things) is not None, "nobody reads the file again"
    (things / "styles.txt").write_text("ink\noil\ngouache\n")
    assert not is_of(run, survey(read_job(things / "job.toml"), base=things))


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ('"nosuch.csv"', "nosuch.csv: no such file"),
        ('"nosuch.txt"', "nosuch.txt: cannot be read"),
        ('{ file = "two.csv" }', "no column 'style' for the axis 'style'"),
        ('{ file = "two.csv", colunm = "a" }', "unknown key 'colunm'"),
        ('{ file = "two.csv", column = "a", weight = "b" }', "row 2: weight 'many' is no number above 0"),
        ('"empty.txt"', "no values for the axis"),
        ('"long.txt"', "10,001 values for the axis 'style', of 10,000 at most"),
    ],
)
def test_a_file_that_holds_no_axis_is_said(things, said, complaint):
    (things / "two.csv").write_text("a,b\nx,many\n")
    (things / "empty.txt").write_text("\n")
    (things / "long.txt").write_text("".join(f"{n}\n" for n in range(10_001)))
    with pytest.raises(BadInput) as caught:
        axes_of(things, said)
    assert complaint in caught.value.message


def test_a_sample_of_rows_needs_no_axes(things):
    manifest = open_manifest(things / "things.csv").times({}, sample=20, seed=1)
    assert len(list(manifest.rows())) == 20
    assert manifest.digest == open_manifest(things / "things.csv").digest
