"""References are told apart by what they are shown for: in columns, in jobs, in prompts, in the index."""

from pathlib import Path

import pytest

from pipeline import tables
from pipeline.errors import BadInput
from pipeline.index import read_index
from pipeline.job import job_for, read_job
from pipeline.overview import problem_lines
from pipeline.run import plan_file
from pipeline.survey import Survey, requests_of, survey
from tests.bench import Bench

PHOTOS = Path(__file__).parent.parent / "sample_manifests" / "photos"
PRO = "gemini-3-pro-image"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(1, 10):
        (tmp_path / f"{n}.jpg").write_bytes((PHOTOS / f"ns-100{n}.jpg").read_bytes())
    return tmp_path


def look(folder: Path, table: str, **said: object) -> Survey:
    (folder / "m.csv").write_text(table)
    return survey(job_for("m.csv", **{"model": PRO} | said), base=folder)


def shown(found: Survey) -> list[list[tuple[str, str | None]]]:
    return [
        [(one.source, one.role) for one in request.prompt.references]
        for request in requests_of(found)
        if request.prompt is not None
    ]


def test_a_column_is_called_after_the_role_of_what_it_names(folder: Path) -> None:
    found = look(
        folder,
        "id,prompt,image,ref_person,Ref object 1,ref_style\n"
        "a,together,1.jpg,2.jpg | 3.jpg,4.jpg,\n"
        "b,alone,,,,5.jpg\n",
    )
    assert shown(found) == [
        [("1.jpg", None), ("2.jpg", "person"), ("3.jpg", "person"), ("4.jpg", "object")],
        [("5.jpg", "style")],
    ]


def test_a_job_says_roles_of_columns_and_files(folder: Path) -> None:
    (folder / "m.csv").write_text("sku,title,Front view,ref_person\na,Boot,1.jpg,2.jpg\n")
    (folder / "job.toml").write_text(
        f'manifest = "m.csv"\n[defaults]\nmodel = "{PRO}"\nprompt = "{{{{ title }}}}"\n'
        'references = ["front_view", "ref_person", "./3.jpg"]\n'
        'roles = { front_view = "object", "./3.jpg" = "background", ref_person = "style" }\n'
    )
    found = survey(read_job(folder / "job.toml"), base=folder)
    assert shown(found) == [[("./3.jpg", "background"), ("1.jpg", "object"), ("2.jpg", "style")]]


def test_a_prompt_calls_its_pictures_by_their_roles(folder: Path) -> None:
    prompt = (
        "Put the shoe of picture {{ shown.object }} on the people of pictures {{ shown.person }}"
        "{% if shown.style %}, as picture {{ shown.style }} is drawn{% endif %}"
    )
    table = "id,ref_object,ref_person,ref_style\na,1.jpg,2.jpg | 3.jpg,\nb,1.jpg,2.jpg,4.jpg\n"
    found = look(folder, table, prompt=prompt)
    assert [request.prompt.text for request in requests_of(found) if request.prompt] == [
        "Put the shoe of picture 1 on the people of pictures 2, 3",
        "Put the shoe of picture 1 on the people of pictures 2, as picture 3 is drawn",
    ]


def test_a_column_of_ones_own_that_is_called_shown_stays_so(folder: Path) -> None:
    found = look(folder, "id,shown,ref_person\na,from behind,1.jpg\n", prompt="A boot, {{ shown }}")
    assert [request.prompt.text for request in requests_of(found) if request.prompt] == [
        "A boot, from behind"
    ]


def test_rows_with_too_many_of_a_kind_are_named_with_how_many_of_what(folder: Path) -> None:
    six = " | ".join(f"{n}.jpg" for n in range(1, 7))
    seven = f"{six} | 7.jpg"
    found = look(
        folder, f"id,prompt,ref_person,ref_object\na,x,1.jpg,{seven}\nb,x,{six},{six}\nc,x,1.jpg,{six}\n"
    )
    assert found.bad_rows == 2
    said = "\n".join(problem_lines(found))
    assert "1 row: gemini-3-pro-image takes 6 objects among its references, e.g. row 2 7 objects" in said
    assert "1 row: gemini-3-pro-image takes 5 people among its references, e.g. row 3 6 people" in said


def test_a_role_changes_nothing_that_the_model_sees(folder: Path) -> None:
    with_role = look(folder, "id,prompt,ref_person\na,x,1.jpg\n")
    without = look(folder, "id,prompt,image\na,x,1.jpg\n")
    marks = [[request.fingerprint for request in requests_of(found)] for found in (with_role, without)]
    assert marks[0] == marks[1]


@pytest.mark.parametrize(
    ("said", "complaint", "hint"),
    [
        ({"roles": {"photo": "person"}}, "no reference 'photo'", "add it to references"),
        ({"roles": {"ref_person": "human"}}, "none of object, person, style, background", ""),
        ({"prompt": "{{ shown.persons }}"}, "no attribute 'persons'", ""),
    ],
)
def test_roles_that_cannot_be_are_said(
    folder: Path, said: dict[str, object], complaint: str, hint: str
) -> None:
    table = "id,prompt,ref_person,photo\na,x,1.jpg,2.jpg\n"
    try:
        told = "\n".join(problem_lines(look(folder, table, **said)))
    except BadInput as error:
        told = f"{error.message} {error.hint}"
    assert complaint in told
    assert hint in told


def test_the_plan_and_the_index_keep_them(bench: Bench) -> None:
    for n in (1, 2):
        (bench.folder / f"{n}.jpg").write_bytes((PHOTOS / f"ns-100{n}.jpg").read_bytes())
    (bench.folder / "m.csv").write_text("id,prompt,ref_person,ref_object\na,together,1.jpg,2.jpg\n")
    bench.job = job_for("m.csv", model=PRO)
    driver = bench.begin()
    driver.to_the_end()
    planned = tables.from_parquet(driver.run.storage.read(plan_file(0))).to_pylist()
    index = read_index(driver.run)
    assert [one["role"] for one in planned[0]["references"]] == ["person", "object"]
    assert [one["role"] for one in index["references"][0]] == ["person", "object"]
