"""What people are told when many things are wrong."""

from pipeline.problems import Problem, did_you_mean, group, refusal


def missing(row: int, value: str) -> Problem:
    return Problem("reference not found", where="shoes.csv", row=row, column="photo", value=value)


def test_equal_problems_are_one_line_with_an_example():
    problems = [missing(row, f"refs/{row}.jpg") for row in range(12, 49)]
    assert [str(each) for each in group(problems)] == [
        "37 rows: reference not found, e.g. row 12 refs/12.jpg"
    ]


def test_a_row_that_fails_for_two_shots_is_one_row():
    (found,) = group([missing(2, "a.jpg"), missing(2, "a.jpg"), missing(3, "b.jpg")])
    assert found.count == 2


def test_most_frequent_first_and_what_has_no_row_stays_whole():
    job = [Problem(f"unknown column {name!r}", where="jobs/shoes.toml [shots.hero]") for name in ("a", "b")]
    found = [str(each) for each in group([*job, missing(2, "a.jpg"), missing(3, "b.jpg")])]
    assert found == [
        "2 rows: reference not found, e.g. row 2 a.jpg",
        "jobs/shoes.toml [shots.hero]: unknown column 'a'",
        "jobs/shoes.toml [shots.hero]: unknown column 'b'",
    ]


def test_one_problem_is_a_plain_error_and_many_have_a_line_each():
    one = Problem("unknown key 'promt'", where="jobs/shoes.toml", hint="did you mean 'prompt'?")
    assert refusal([one]).message == "jobs/shoes.toml: unknown key 'promt'"
    assert refusal([one]).hint == "did you mean 'prompt'?"
    assert refusal([one, missing(2, "a.jpg")]).message.splitlines() == [
        "2 problems",
        "  jobs/shoes.toml: unknown key 'promt' (did you mean 'prompt'?)",
        "  shoes.csv: row 2: photo: reference not found 'a.jpg'",
    ]


def test_a_long_value_does_not_flood_the_screen():
    assert len(str(Problem("too long", value="x" * 5000))) < 100


def test_a_hint_names_the_nearest_or_all_there_are():
    assert did_you_mean("titel", ["sku", "Title"]) == "did you mean 'Title'?"
    assert did_you_mean("xyz", ["sku", "title"]) == "there are sku, title"
    assert did_you_mean("xyz", []) == "there are none to choose from"
