"""A job file is read whole or refused whole, and a job survives the journal."""

import tomllib

import msgspec
import pytest

from pipeline.draft import write_job
from pipeline.errors import BadInput
from pipeline.job import Job, job_for, read_job
from pipeline.manifest import Row, open_manifest
from pipeline.templates import BadTemplate

SHOES = """\
#!/usr/bin/env -S nightshoot run
manifest = "../shoes.csv"
where = "colour != 'red'"
max_usd = 5

[defaults]
model = "gemini-nano-banana-2.1"
aspect_ratio = 16:09:00   # what TOML, like a spreadsheet, takes for a time
image_size = 1024
references = "photo"

[shots.hero]
prompt = "Packshot of {{ title }}"

[shots.lifestyle]
prompt = "{{ title }} on a table"
aspect_ratio = "4x5"
search = "web"
"""


@pytest.fixture
def job_file(tmp_path):
    def write(text: str):
        path = tmp_path / "shoes.toml"
        path.write_text(text)
        return path

    return write


def row(**fields: str) -> Row:
    return Row(0, 2, "k", fields)


def test_a_job_file_is_read_as_it_is_meant(job_file):
    job = read_job(job_file(SHOES))
    hero, lifestyle = job.shots
    assert (job.name, job.manifest, job.max_usd, job.backend, job.attempts) == (
        "shoes",
        "../shoes.csv",
        5,
        "developer",
        2,
    )
    assert (job.defaults.aspect_ratio, job.defaults.image_size, job.defaults.references) == (
        "16:9",
        "1K",
        ("photo",),
    )
    assert (hero.name, hero.prompt, hero.aspect_ratio) == ("hero", "Packshot of {{ title }}", None)
    assert (lifestyle.aspect_ratio, lifestyle.search) == ("4:5", ("web",))


def test_a_job_comes_back_from_the_journal_as_it_was(job_file):
    job = read_job(job_file(SHOES)).with_settings({"variants": 3})
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(job)), Job) == job
    assert msgspec.convert(msgspec.to_builtins(job), Job) == job


def test_everything_that_is_wrong_is_said_at_once_with_file_table_key_and_a_way_out(job_file):
    path = job_file(
        """\
        manifst = "shoes.csv"
        attempts = 0
        backend = "devloper"
        where = "colour = 'red'"
        [defaults]
        aspect_ration = "1:1"
        temperature = 7
        [batches]
        max_request = 5
        [shots.hero]
        promt = "x"
        [shots.life]
        prompt = "{{ title "
        references = [1]
        [shots."no/name"]
        prompt = "x"
        """
    )
    with pytest.raises(BadInput) as caught:
        read_job(path)
    first, *lines = caught.value.message.splitlines()
    assert first == "12 problems"
    said = "\n".join(lines)
    for line in (
        f"{path}: unknown key 'manifst' (did you mean 'manifest'?)",
        f"{path}: attempts: expected int >= 1 '0'",
        f"{path}: no manifest",
        f"{path}: backend: unknown backend 'devloper' (did you mean 'developer'?)",
        f"{path} [defaults]: unknown key 'aspect_ration' (did you mean 'aspect_ratio'?)",
        f"{path} [defaults]: temperature: expected float <= 2.0 '7'",
        f"{path} [batches]: unknown key 'max_request' (did you mean 'max_requests'?)",
        f"{path} [shots.hero]: unknown key 'promt' (did you mean 'prompt'?)",
        f"{path} [shots.life]: prompt: line 1: unexpected",
        f"{path} [shots.life]: references: expected str",
        f"{path} [shots.no/name]: not a name for a shot",
        f"{path}: where: ",
    ):
        assert line in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("manifest = ", "no TOML"),
        ('manifest = "a.csv"\nsettings = {}', "unknown key 'settings'"),
        ('manifest = "a.csv"\nshots = 3', "shots are tables"),
        ('manifest = "a.csv"\nshots.hero = 3', "this is a table"),
        ('manifest = "a.csv"\ndefaults = 3', "this is a table"),
        ('manifest = "a.csv"\nmax_usd = 0', "max_usd"),
    ],
)
def test_a_file_that_is_no_job_says_so(job_file, text, complaint):
    with pytest.raises(BadInput, match=complaint):
        read_job(job_file(text))


def test_a_missing_job_is_answered_with_the_one_that_was_meant(job_file, tmp_path):
    job_file(SHOES)
    with pytest.raises(BadInput, match="no such job") as caught:
        read_job(tmp_path / "shoe.toml")
    assert caught.value.hint == "did you mean 'shoes.toml'?"


def test_where_chooses_rows(job_file):
    job = read_job(job_file(SHOES))
    assert job.chooses(row(colour="blue"))
    assert not job.chooses(row(colour="red"))
    with pytest.raises(BadTemplate):
        job.chooses(row(color="red"))


def test_a_job_without_shots_has_one(job_file):
    (shot,) = read_job(job_file('manifest = "a.csv"')).shots
    assert (shot.name, shot.prompt) == ("main", None)


def test_a_manifest_alone_makes_a_job():
    job = job_for(
        "data/prompts.parquet", prompt="{{ caption }}", model="gemini-3-pro-image", n=2, key="id", seed=None
    )
    assert (job.name, job.manifest, job.key) == ("prompts", "data/prompts.parquet", "id")
    assert (job.defaults.prompt, job.defaults.model, job.defaults.variants) == (
        "{{ caption }}",
        "gemini-3-pro-image",
        2,
    )
    shots = {"hero": {"prompt": "x"}, "side": {"prompt": "y", "size": "2K"}}
    with pytest.raises(BadInput, match="unknown key 'size'"):
        job_for("a.csv", shots=shots)


def test_set_changes_a_setting_a_shot_or_the_job(job_file):
    job = read_job(job_file(SHOES)).with_settings(
        {
            "ratio": "9x16",
            "n": "2",
            "max_usd": "7.5",
            "shots.hero.prompt": "New {{ title }}",
            "batches.max_requests": "10",
            "modalities": "image",
        }
    )
    assert (job.settings.aspect_ratio, job.settings.variants, job.settings.modalities) == (
        "9:16",
        2,
        ("IMAGE",),
    )
    assert (job.max_usd, job.batches.max_requests) == (7.5, 10)
    assert [shot.prompt for shot in job.shots] == ["New {{ title }}", "{{ title }} on a table"]
    assert job.with_settings({"seed": 4}).settings.variants == 2


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("modell", "x", "unknown key 'modell'"),
        ("shots.hero.promt", "x", "unknown key 'promt'"),
        ("max_usd.x", "1", "max_usd is no table"),
        ("variants", "two", "expected int"),
        ("name", "spring/shoes", "not a name for a job"),
        ("name", "..", "not a name for a job"),
    ],
)
def test_set_refuses_what_it_does_not_know(job_file, name, value, complaint):
    with pytest.raises(BadInput) as caught:
        read_job(job_file(SHOES)).with_settings({name: value})
    assert complaint in f"{caught.value.message} {caught.value.hint}"


def test_a_first_job_fits_the_manifest_it_was_written_for(tmp_path):
    (tmp_path / "jobs").mkdir()
    manifest = tmp_path / "products.csv"
    manifest.write_text('SKU,Title,Size,"Main ""Photo"""\nS-1,Boot,42,boot.jpg\n')
    path = tmp_path / "jobs" / "products.toml"
    text = write_job(path, open_manifest(manifest))
    path.write_text(text)
    job = read_job(path)
    assert text.startswith("#!/usr/bin/env -S nightshoot run\n")
    assert job.manifest_path(path.parent).resolve() == manifest.resolve()
    assert (job.key, job.data, job.defaults.references) == ("SKU", ("Size",), ('Main "Photo"',))
    assert "{{ title }}" in job.shots[0].prompt


def test_a_first_job_for_prompts_shoots_the_prompts(tmp_path):
    manifest = tmp_path / "p.jsonl"
    manifest.write_text('{"caption": "a cat", "size": "2k"}\n')
    document = tomllib.loads(write_job(tmp_path / "p.toml", open_manifest(manifest)))
    assert document["shots"]["hero"]["prompt"] == "{{ caption }}"
    assert "data" not in document
    assert "key" not in document


def test_a_first_job_tells_rows_made_from_rows_from_a_table_that_says_where_things_are_from(tmp_path):
    (tmp_path / "edits.csv").write_text("id,prompt,from\na,x,\nb,y,a/main\n")
    (tmp_path / "shoes.csv").write_text("sku,title,from,turns\na,Boot,Italy,3\nb,Clog,,5\n")
    own = {}
    for name in ("edits", "shoes"):
        path = tmp_path / f"{name}.toml"
        path.write_text(write_job(path, open_manifest(tmp_path / f"{name}.csv")))
        own[name] = read_job(path).data
    assert own == {"edits": (), "shoes": ("from", "turns")}
