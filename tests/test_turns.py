"""What a job or a row asks for after its picture: said in several ways, looked over, priced and known again."""

import json
from pathlib import Path

import pytest

from pipeline.errors import BadInput
from pipeline.job import MOST_TURNS, Job, job_for, read_job
from pipeline.manifest import Row
from pipeline.models import load_models
from pipeline.money import estimate
from pipeline.overview import expanded, plan_document, plan_lines
from pipeline.prompt import Prompt, Request, fingerprint, problems_of_templates, requests
from pipeline.survey import requests_of, survey

MODELS = load_models()


def asked(job: Job, base: Path = Path(), **cells: str) -> list[Request]:
    row = Row(0, 2, "S-0", {"title": "Boot", **cells})
    return list(requests(job, [row], models=MODELS, base=base))


def turns(job: Job, **cells: str) -> list[str]:
    (request,) = asked(job, **cells)
    assert request.refusal is None
    return [turn.text for turn in request.turns]


def problems(job: Job, **cells: str) -> list[tuple[str | None, str]]:
    (request,) = asked(job, **cells)
    assert request.prompt is None
    return [(problem.column, problem.message) for problem in request.problems]


# Who says them


def test_a_job_says_turns_as_texts_or_with_settings_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        """
        manifest = "a.csv"
        [defaults]
        aspect_ratio = "1:1"
        seed = 7
        turns = ["{{ title }} at night", { prompt = "in Spanish", ratio = "16x9", size = "2k", seed = 8 }]
        [shots.plain]
        prompt = "{{ title }}"
        [shots.own]
        prompt = "{{ title }}"
        turns = ["from above"]
        [shots.none]
        prompt = "{{ title }}"
        turns = "-"
        """
    )
    plain, own, none = asked(read_job(path))
    night, spanish = plain.turns
    assert (night.text, night.aspect_ratio, night.image_size, night.seed) == ("Boot at night", "1:1", None, 7)
    assert (spanish.text, spanish.aspect_ratio, spanish.image_size) == ("in Spanish", "16:9", "2K")
    assert (spanish.seed, spanish.model) == (8, plain.prompt.model)
    assert [[turn.text for turn in shot.turns] for shot in (own, none)] == [["from above"], []]


def test_a_row_says_them_in_numbered_columns_or_in_a_list_and_its_words_are_not_rendered() -> None:
    job = job_for("a.csv", prompt="x", turns=["of the job"])
    assert turns(job) == ["of the job"]
    assert turns(job, prompt_2="", prompt_3="") == ["of the job"]
    assert turns(job, prompt_3="then {{ title }}", prompt_2="first, this") == [
        "first, this",
        "then {{ title }}",
    ]
    assert turns(job, turns="one, two|three") == ["one, two", "three"]
    assert turns(job, turns='["one|two", {"prompt": "three", "ratio": "4:5"}]') == ["one|two", "three"]
    assert turns(job, turns="-") == turns(job, prompt_2="-") == []


def test_a_list_in_a_line_of_json_arrives_as_it_is(tmp_path: Path) -> None:
    said = ["one, and a half", {"prompt": "two|three", "aspect_ratio": "16:9"}, "four"]
    lines = [{"id": n, "prompt": "x", "turns": value} for n, value in enumerate((said, said[1:2], "a, b"))]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = survey(job_for("a.jsonl"), base=tmp_path)
    read = [[(turn.text, turn.aspect_ratio) for turn in request.turns] for request in requests_of(found)]
    wide = ("two|three", "16:9")
    assert read == [[("one, and a half", None), wide, ("four", None)], [wide], [("a, b", None)]]


def test_columns_that_the_words_of_the_job_name_are_their_data() -> None:
    job = job_for("a.csv", prompt="x", turns=["now {{ prompt_2 }}"])
    assert turns(job, prompt_2="red") == ["now red"]
    assert turns(job_for("a.csv", prompt="x", data=["turns"]), turns="3") == []


def test_set_outranks_the_rows_and_what_a_turn_says_outranks_what_the_row_says_of_the_first() -> None:
    job = job_for("a.csv", prompt="x", turns=[{"prompt": "wide", "ratio": "16:9"}, "again"])
    (request,) = asked(job, ratio="4:5")
    assert [request.prompt.aspect_ratio, *(turn.aspect_ratio for turn in request.turns)] == [
        "4:5",
        "16:9",
        "4:5",
    ]
    (request,) = asked(job.with_settings({"ratio": "1:1"}), ratio="4:5")
    assert {turn.aspect_ratio for turn in request.turns} == {"1:1"}
    assert turns(job.with_settings({"turns": "only this, and no more"}), prompt_2="b") == [
        "only this, and no more"
    ]
    assert turns(job.with_settings({"turns": "-"}), prompt_2="b") == []


def test_the_instruction_of_the_first_prompt_holds_for_all_that_say_nothing_of_it() -> None:
    said = ["a", {"prompt": "b", "system": "be {{ title }}"}, {"prompt": "c", "system": "-"}]
    (request,) = asked(job_for("a.csv", prompt="x", system="be brief", turns=said))
    assert [turn.system for turn in request.turns] == ["be brief", "be Boot", None]


def test_a_turn_shows_what_it_names_and_nothing_that_was_shown_before(photos: Path) -> None:
    shown = {"prompt": "in the pose of the picture", "references": ["{{ pose }}"]}
    job = job_for("a.csv", prompt="x", references=["photo"], turns=["night", shown])
    (request,) = asked(job, base=photos, photo="boot.png", pose="pose.png")
    names = [
        [reference.source for reference in prompt.references] for prompt in (request.prompt, *request.turns)
    ]
    assert names == [["boot.png"], [], ["pose.png"]]
    (request,) = asked(job, base=photos, photo="boot.png", pose="gone.png")
    assert [(each.column, each.message) for each in request.problems] == [
        ("turns", "turn 2: reference not found")
    ]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    for name, colour in {"boot.png": "red", "pose.png": "blue"}.items():
        Image.new("RGB", (8, 6), colour).save(tmp_path / name)
    return tmp_path


# What is wrong with them


def test_every_turn_is_looked_over_as_a_first_prompt_is() -> None:
    job = job_for("a.csv", prompt="x", turns=["{{ mood }}", {"prompt": "b", "ratio": "7:5", "size": "9K"}])
    assert problems(job, ratio="3:1", mood=" ") == [
        ("ratio", "gemini-nano-banana-2.1 makes no such ratio"),
        ("turns", "turn 1: the prompt is empty"),
        ("turns", "turn 2: gemini-nano-banana-2.1 makes no such size"),
        ("turns", "turn 2: gemini-nano-banana-2.1 makes no such ratio"),
    ]


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ({"prompt_2": "", "prompt_3": "b"}, "prompt_3", "prompt_3 without a prompt_2"),
        ({"prompt_2": "a", "prompt_4": "b"}, "prompt_4", "prompt_4 without a prompt_3"),
        ({"prompt_2": "-", "prompt_3": "b"}, "prompt_3", "prompt_3 without a prompt_2"),
        ({"prompt_2": "a", "turns": "b"}, "prompt_2", "follow-ups are said twice"),
        ({"turns": '[{"prompt": "a", "modle": "b"}]'}, "turns", "turn 1: unknown key 'modle'"),
        (
            {"turns": '["a", {"prompt": "b", "model": "c"}]'},
            "turns",
            "turn 2: a turn has no model of its own",
        ),
        ({"turns": '["a", {"size": "1K"}]'}, "turns", "turn 2: a turn without a prompt"),
        ({"turns": '[{"prompt": "a", "seed": -1}]'}, "turns", "turn 1: expected int >= 0"),
        ({"turns": '[{"prompt": "a"'}, "turns", "turns are a list"),
        ({"turns": "|".join("abcdefghijklmnopqrstu")}, "turns", "21 turns, of 20 at most"),
    ],
)
def test_what_a_row_says_wrong_is_named_where_it_says_it(cells, column, message) -> None:
    assert problems(job_for("a.csv", prompt="x"), **cells) == [(column, message)]


def test_what_a_job_says_wrong_is_said_at_once() -> None:
    said = [{"prompt": "{{ a", "model": "m"}, {"ratio": "1:1"}, {"prompt": "c", "seeed": 1}]
    with pytest.raises(BadInput) as error:
        job_for("a.csv", prompt="x", turns=said)
    text = error.value.message
    assert "turn 1: a turn has no model of its own (a conversation stays with the model of its shot)" in text
    assert "turn 1: prompt: line 1: unexpected end of template" in text
    assert "turn 2: a turn without a prompt" in text
    assert "turn 3: unknown key 'seeed' (did you mean 'seed'?)" in text
    with pytest.raises(BadInput, match=r"turns are a list"):
        job_for("a.csv", prompt="x", turns=3)
    with pytest.raises(BadInput, match=rf"of {MOST_TURNS} at most"):
        job_for("a.csv", prompt="x", turns=["a"] * (MOST_TURNS + 1))


def test_a_column_that_only_a_turn_names_must_be_there_too() -> None:
    job = job_for("a.csv", prompt="{{ title }}", turns=["a", "{{ colour }}"])
    (problem,) = problems_of_templates(job, ["title", "color"])
    assert (problem.message, problem.hint) == ("turn 2: unknown column 'colour'", "did you mean 'color'?")


def test_a_model_that_takes_one_prompt_takes_no_follow_ups(tmp_path: Path) -> None:
    own = tmp_path / "models.toml"
    own.write_text('[models."gemini-2.5-flash-image"]\nconverses = false\n')
    turns = ["y", {"prompt": "z", "aspect_ratio": "7:3"}]
    job = job_for("a.csv", prompt="x", model="gemini-2.5-flash-image", turns=turns)
    row = Row(0, 2, "S-0", {"title": "Boot"})
    (request,) = requests(job, [row], models=load_models(own), base=tmp_path)
    (problem,) = request.problems
    assert (problem.column, problem.message) == (
        "turns",
        "gemini-2.5-flash-image takes one prompt and no follow-ups",
    )


# What they are known by, and what they cost


def test_a_turn_is_known_by_its_words_and_by_all_that_came_before() -> None:
    def marks(first: str, *said: str) -> list[str]:
        (request,) = asked(job_for("a.csv", prompt=first, turns=[*said]))
        return [request.fingerprint, *(fingerprint(turn) for turn in request.turns)]

    chain = marks("x", "a", "b")
    assert len(set(chain)) == 3
    assert marks("x", "a", "c")[:2] == chain[:2]
    assert marks("x", "a", "b", "c")[:3] == chain
    assert not set(marks("y", "a", "b")) & set(chain)
    (alone,) = asked(job_for("a.csv", prompt="x"))
    assert alone.fingerprint == chain[0], "what comes after a picture changes nothing about it"


def test_each_variant_goes_on_from_its_own_picture() -> None:
    job = job_for("a.csv", prompt="x", turns=["a"], variants=2)
    first, second = asked(job)
    assert (first.turns[0].after, second.turns[0].after) == (first.fingerprint, second.fingerprint)
    assert first.turns[0].after != second.turns[0].after
    seeded = asked(job.with_settings({"seed": 5}))
    assert [request.turns[0].seed for request in seeded] == [5, 6]


def test_a_turn_is_priced_with_the_conversation_before_it() -> None:
    (request,) = asked(job_for("a.csv", prompt="x" * 400, model="gemini-2.5-flash-image", turns=["y"] * 3))
    model = MODELS.find("gemini-2.5-flash-image")
    # A hundred tokens of words, a picture and what was said beside it; then a token and the same.
    assert [turn.context for turn in request.turns] == [408, 408 + 309, 408 + 2 * 309]
    prices = [estimate(turn, model) for turn in request.turns]
    alone = estimate(Prompt(model.name, "y"), model)
    assert [price.tokens_in - alone.tokens_in for price in prices] == [408, 717, 1026]
    assert [price.likely - alone.likely for price in prices] == [408 * 150, 717 * 150, 1026 * 150]
    worst = [price.high - alone.high for price in prices]
    assert worst[0] >= 150 * (400 + 1290 + 500), "a token for every byte, and the dearest answer"


def shoes(folder: Path, rows: int = 4) -> Path:
    lines = [f"sku-{n},Shoe {n},{'make it night' if n % 2 else ''}" for n in range(rows)]
    (folder / "shoes.csv").write_text("\n".join(["sku,title,prompt_2", *lines]))
    return folder


def test_the_plan_counts_prices_and_tells_the_waves(tmp_path: Path) -> None:
    job = job_for("shoes.csv", prompt="{{ title }}", image_size="1K", turns=["by day", "from above"])
    found = survey(job, base=shoes(tmp_path))
    assert (found.waves, found.requests) == ((4, 4, 2), 10)
    assert (found.lanes, found.follow_ups) == ({"gemini-nano-banana-2.1": 4}, {"gemini-nano-banana-2.1": 6})
    assert found.price.images == 10
    everything = [p for request in requests_of(found) for p in (request.prompt, *request.turns)]
    model = MODELS.find("gemini-nano-banana-2.1")
    assert found.price.likely - found.price.retrying == sum(estimate(p, model).likely for p in everything)
    assert found.input_bytes > 4 * 2_000_000 + 2 * 4_000_000, "the pictures before a turn are sent with it"
    text = "\n".join(plan_lines(found))
    assert "  in turn            3  4 pictures at first, then 4, then 2: each goes on from one before" in text
    assert "at worst in 48 h; 3 times, one after the other" in text
    assert "words and earlier turns $0.00" in text
    document = plan_document(found)
    assert (document["in_turn"], document["follow_ups"]) == ([4, 4, 2], {"gemini-nano-banana-2.1": 6})


def test_what_is_expanded_asks_for_the_same_turns(tmp_path: Path) -> None:
    said = ["by {{ title }}, at night", {"prompt": "wide", "ratio": "16:9", "thinking": "-"}]
    job = job_for(
        "shoes.csv", prompt="{{ title }}", ratio="1:1", thinking="high", turns=said, data=["prompt_2"]
    )
    found = survey(job, base=shoes(tmp_path, 2))
    lines = [expanded(request) for request in requests_of(found)]
    assert lines[0]["turns"] == [
        {"prompt": "by Shoe 0, at night"},
        {"prompt": "wide", "aspect_ratio": "16:9", "thinking": "-"},
    ]
    (tmp_path / "flat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flat = survey(job_for("flat.jsonl"), base=tmp_path)
    pairs = zip(requests_of(found), requests_of(flat), strict=True)
    assert all(each.turns == same.turns and each.fingerprint == same.fingerprint for each, same in pairs)
