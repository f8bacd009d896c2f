"""Who edits whose picture: said by key, found in any order, and every way in which that can go wrong."""

import json
from pathlib import Path

import pytest

from pipeline.families import MOST_WAVES
from pipeline.job import Job, job_for
from pipeline.models import load_models
from pipeline.overview import expanded, plan_lines
from pipeline.prompt import Parent, Request, fingerprint
from pipeline.survey import Survey, requests_of, survey

MODELS = load_models()


def look(folder: Path, *rows: dict[str, object], **said: object) -> Survey:
    (folder / "edits.jsonl").write_text("".join(json.dumps({"prompt": "x", **row}) + "\n" for row in rows))
    return survey(job_for("edits.jsonl", **said), base=folder)


def request(found: Survey, key: str, shot: str = "main", variant: int = 0) -> Request:
    return next(r for r in requests_of(found) if (r.key, r.shot, r.variant) == (key, shot, variant))


def wrong(found: Survey) -> dict[str, tuple[str, str | None, str | None]]:
    return {r.key: (p.message, p.value, p.hint) for r in requests_of(found) for p in r.problems}


# Who is meant


def test_the_same_shot_and_variant_are_meant_where_nothing_else_is_said(tmp_path: Path) -> None:
    shots = {"hero": {"prompt": "a"}, "side": {"prompt": "b"}}
    rows = [{"id": "b", "from": "a"}, {"id": "a", "from": ""}, {"id": "c", "from": "a/side"}]
    found = look(tmp_path, *rows, shots=shots, variants=2)
    assert request(found, "b", "side", 1).parent == Parent("a", "side", 1, 0)
    assert request(found, "c", "hero", 1).parent == Parent("a", "side", 1, 0)
    assert request(found, "a", "hero").parent is None
    fewer = look(tmp_path, {"id": "b", "from": "a"}, {"id": "a", "from": "", "n": 1}, shots=shots, variants=2)
    assert request(fewer, "b", "hero", 1).parent == Parent("a", "hero", 0, 0), "variant 0 where there is no 1"


def test_a_key_with_a_slash_is_a_key_first(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        {"id": "a/main"},
        {"id": "a"},
        {"id": "b", "from": "a/main"},
        {"id": "c", "from": "a/main/main"},
    )
    assert request(found, "b").parent == request(found, "c").parent == Parent("a/main", "main", 0, 0)


def test_a_job_names_rows_by_a_template_and_a_cell_outranks_it(tmp_path: Path) -> None:
    rows = [{"id": "a", "base": "-"}, {"id": "b", "base": "a"}, {"id": "c", "base": "a", "from": "b"}]
    found = look(tmp_path, *rows, from_="{{ base }}", prompt="y")
    parents = [each.parent and each.parent.key for each in requests_of(found)]
    assert parents == [None, "a", "b"]
    bare = look(tmp_path, *rows, data=["from"])
    assert {each.parent for each in requests_of(bare)} == {None}


def test_the_shots_a_row_has_not_are_not_meant(tmp_path: Path) -> None:
    said = {"shots": {"hero": {"prompt": "a"}, "side": {"prompt": "b"}}}
    only = look(
        tmp_path, {"id": "a"}, {"id": "b", "from": "a"}, **said, exclude=[{"keys": ["a"], "shots": ["side"]}]
    )
    assert request(only, "b", "side").parent == Parent("a", "hero", 0, 0), "its only shot"
    many = {
        "shots": {**said["shots"], "top": {"prompt": "c"}},
        "exclude": [{"keys": ["a"], "shots": ["side"]}],
    }
    found = look(tmp_path, {"id": "a"}, {"id": "b", "from": "a"}, **many)
    assert wrong(found) == {
        "b": ("the row that it is made from has several shots", "a", "say which: a/hero or a/top"),
    }


def test_a_row_that_edits_needs_no_photo_of_its_own(tmp_path: Path) -> None:
    found = look(
        tmp_path, {"id": "a", "photo": "-"}, {"id": "b", "photo": "", "from": "a"}, references=["photo"]
    )
    assert not found.problems


# What is wrong


def test_every_row_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    rows = [
        {"id": "boot-1"},
        {"id": "typo", "from": "boot-l"},
        {"id": "gone", "from": "left"},
        {"id": "left", "where": "no"},
        {"id": "bad", "size": "9K"},
        {"id": "of-bad", "from": "bad"},
        {"id": "of-that", "from": "of-bad"},
        {"id": "shot", "from": "boot-1/hero"},
        {"id": "self", "from": "self"},
    ]
    found = look(tmp_path, *rows, where="row.get('where') != 'no'")
    said = wrong(found)
    assert said["typo"] == ("no such row", "boot-l", "did you mean 'boot-1'?")
    assert said["gone"][0] == "what it is made from is not in this run"
    assert "keys, where, limit or exclude" in str(said["gone"][2])
    assert said["of-bad"] == (
        "what it is made from is left out",
        "bad/main",
        "gemini-nano-banana-2.1 makes no such size 9K",
    )
    assert said["of-that"][:2] == ("what it is made from is left out", "of-bad/main")
    assert said["shot"] == ("no shot of that name", "boot-1/hero", "there are main")
    assert said["self"] == (
        "pictures made from each other",
        "self/main from self/main",
        "let one of them begin anew",
    )
    assert (found.bad_rows, found.chosen_rows, found.requests) == (7, 8, 1)
    country = look(tmp_path, {"id": "hat", "from": "Peru"})
    assert 'if it is a column of your own, add data = ["from"]' in str(wrong(country)["hat"][2])
    placed = next(group.example for group in found.problems if group.example.message == "no such row")
    assert (placed.where, placed.column, placed.row) == ("edits.jsonl", "from", 2)


@pytest.mark.parametrize("order", [1, -1])
def test_a_circle_is_named_and_so_is_what_leads_into_it(tmp_path: Path, order: int) -> None:
    rows = [{"id": key, "from": parent} for key, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"))]
    said = wrong(look(tmp_path, *rows[::order], {"id": "fine"}))
    assert set(said) == {"a", "b", "c", "d"}
    assert {message for message, _, _ in said.values()} == {"pictures made from each other"}
    circles = {tuple(sorted(set(str(value).split(" from ")))) for _, value, _ in said.values()}
    assert circles == {("a/main", "b/main", "c/main")}


@pytest.mark.parametrize("order", [1, -1])
def test_only_so_many_pictures_are_made_one_from_the_other(tmp_path: Path, order: int) -> None:
    """A chain of thousands is told so in either order, and at once."""
    rows = [{"id": f"r{n}", "from": f"r{n - 1}" if n else ""} for n in range(3000)]
    found = look(tmp_path, *rows[::order])
    assert found.requests == MOST_WAVES + 1
    assert found.waves == (1,) * (MOST_WAVES + 1)
    assert found.bad_rows == 3000 - found.requests
    (message,) = {message for message, _, _ in wrong(found).values()}
    assert message == f"more than {MOST_WAVES} pictures made one from the other"


def test_the_picture_that_is_edited_counts_among_the_references(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    full = ["a.png"] * 14
    found = look(tmp_path, {"id": "a", "refs": full}, {"id": "b", "refs": full, "from": "a"}, prompt="x")
    assert {key: message for key, (message, _, _) in wrong(found).items()} == {
        "b": "gemini-nano-banana-2.1 takes 14 references"
    }


def test_a_limit_leaves_parents_out_and_that_is_said(tmp_path: Path) -> None:
    found = look(tmp_path, {"id": "b", "from": "a"}, {"id": "a"}, limit=1)
    assert wrong(found)["b"][:2] == ("what it is made from is not in this run", "a")


# What it comes to


def test_an_edit_is_known_by_what_it_edits_and_is_no_turn_of_it(tmp_path: Path) -> None:
    def marks(first: str) -> tuple[str, str, str]:
        found = look(
            tmp_path,
            {"id": "a", "prompt": first, "turns": ["again"]},
            {"id": "b", "prompt": "closer", "from": "a"},
            {"id": "c", "prompt": "closer", "from": "b"},
        )
        return tuple(each.fingerprint for each in requests_of(found))

    one, other = marks("x"), marks("y")
    assert len({*one, *other}) == 6
    assert marks("x") == one
    found = look(
        tmp_path, {"id": "a", "turns": ["closer"]}, {"id": "b", "prompt": "closer", "from": "z"}, {"id": "z"}
    )
    (turn,) = request(found, "a").turns
    assert fingerprint(turn) != request(found, "b").fingerprint


def test_waves_prices_and_words_count_edits_as_what_comes_later(tmp_path: Path) -> None:
    rows = [{"id": f"e{n}", "from": "base", "turns": ["more"]} for n in range(3)]
    found = look(tmp_path, *rows, {"id": "base"}, {"id": "last", "from": "e0"})
    model = "gemini-nano-banana-2.1"
    assert found.lanes == {"later": 4, model: 1}
    assert (found.follow_ups, found.waves, found.models) == ({model: 7}, (1, 3, 3, 1), (model,))
    assert found.price.images == 8
    tokens = MODELS.find(model).reference_tokens[0]
    assert found.price.tokens_in >= 4 * tokens + 3 * 2 * tokens, "each edit reads a picture, its turns two"
    text = "\n".join(plan_lines(found))
    assert (
        "  in turn            4  1 picture at first, then 3, then 3, then 1: each goes on from one before"
        in text
    )


def test_what_is_expanded_edits_the_same(tmp_path: Path) -> None:
    shots = {"hero": {"prompt": "{{ prompt }}"}, "side": {"prompt": "side", "from": "/hero"}}
    found = look(tmp_path, {"id": "a"}, {"id": "b", "from": "a"}, shots=shots)
    lines = [expanded(each) for each in requests_of(found)]
    assert [line.get("from") for line in lines] == [None, "a-hero", "a-hero", "a-side"]
    (tmp_path / "flat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flat = survey(job_for("flat.jsonl"), base=tmp_path)
    assert [each.fingerprint for each in requests_of(flat)] == [line["fingerprint"] for line in lines]


def test_only_rows_that_others_name_are_remembered(tmp_path: Path) -> None:
    rows = [{"id": f"e{n}", "from": "base"} for n in range(200)]
    found = look(tmp_path, *rows, {"id": "base"}, {"id": "alone"})
    assert found.families is not None
    assert list(found.families._members) == ["base"]
    plain = look(tmp_path, {"id": "a"}, {"id": "b"})
    assert plain.families is None, "most manifests are read once less"


def test_a_job_of_either_way_is_read_back_as_it_was(tmp_path: Path) -> None:
    import msgspec

    job = job_for("a.csv", prompt="x", from_="{{ base }}", turns=["a", {"prompt": "b", "ratio": "1:1"}])
    text = msgspec.json.encode(job)
    assert b'"from":"{{ base }}"' in text
    assert msgspec.json.decode(text, type=Job) == job
    changed = job.with_settings({"from": "base"})
    assert (changed.settings.from_, changed.defaults.turns) == ("base", job.defaults.turns)
