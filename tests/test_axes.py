"""A short table becomes a dataset: rows times axes, and a sample of that which grows without changing."""

from collections import Counter

import pytest

from pipeline.errors import BadInput
from pipeline.job import job_for, read_job
from pipeline.manifest import duplicate_keys, open_manifest
from pipeline.survey import requests_of, survey


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


def test_a_sample_of_rows_needs_no_axes(things):
    manifest = open_manifest(things / "things.csv").times({}, sample=20, seed=1)
    assert len(list(manifest.rows())) == 20
    assert manifest.digest == open_manifest(things / "things.csv").digest
