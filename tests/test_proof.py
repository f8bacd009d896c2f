"""`nightshoot proof`: a few rows at once, on one page, and bought once."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline import emulator
from tests.bench import write_rows
from tests.shell import Shell

PAID = ("--yes", "--max-usd", "5")
JOB = """
manifest = "../shoes.csv"
[defaults]
model = "gemini-2.5-flash-image"
aspect_ratio = "1:1"
references = ["photo"]
[shots.hero]
prompt = "Photo of {{ title }}"
"""


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    """A shell in a folder with a job over twenty shoes, each with a photo."""
    write_rows(tmp_path / "shoes.csv", 20, photo=lambda n: "red.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "shoes.toml").write_text(JOB)
    return Shell(tmp_path, service.environment())


def calls(service: emulator.Service) -> int:
    return len(service.ledger()["calls"])


def rows_billed(service: emulator.Service) -> int:
    return sum(job["billedRows"] for job in service.ledger()["jobs"])


def run_of(shell: Shell, name: str) -> Path:
    return next(path for path in (shell.folder / "runs").iterdir() if path.name.startswith(name))


def test_a_proof_says_its_price_shoots_at_once_and_writes_one_page(
    shell: Shell, service: emulator.Service
) -> None:
    said = shell("proof", *PAID)
    assert said.code == 0, said.all
    assert re.search(
        r"6 rows, hero: 6 pictures at once at full price: about \$0\.2\d, at most \$0\.\d\d", said.err
    )
    assert re.search(r"6 of 6 pictures in .*\. They count: the run will not buy them again", said.out)
    assert "Wrote proofs/shoes-1.html" in said.out
    assert said.err.rstrip().endswith("Next: change the prompt and prove again, or  nightshoot run")
    page = (shell.folder / "proofs" / "shoes-1.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 12  # six photos beside six pictures
    assert not re.search(r'src="(?!data:)', page)
    assert len(re.findall(r"Photo of Shoe \d+", page)) == 6
    assert keys(shell) != {f"sku-{n}" for n in range(6)}, "a spread is not the beginning"
    assert calls(service) == 6
    assert service.ledger()["jobs"] == []


def test_the_run_that_follows_does_not_buy_the_proofs_pictures_again(
    shell: Shell, service: emulator.Service
) -> None:
    """Twenty rows, six of them proved: plan and run know it, and the ledger has fourteen rows more."""
    shell("proof", *PAID)
    planned = shell("plan")
    assert re.search(r"pictures\s+14\s+of 20 rows; 6 proved already", planned.out), planned.out
    assert "  new " not in planned.out
    done = shell("run", *PAID)
    assert done.code == 0, done.all
    assert (rows_billed(service), calls(service)) == (14, 6)
    index = pd.read_parquet(run_of(shell, "shoes-2") / "index")
    assert index["outcome"].value_counts().to_dict() == {"ok": 14, "reused": 6}
    head, *rows = shell("index", run_of(shell, "shoes-2").name, "--rows", "0").out.splitlines()
    assert head.split()[-2:] == ["path", "made_in"]
    assert sum("shoes-proof-" in row.split()[-1] for row in rows) == 6
    again = shell("run", *PAID)
    assert ", finished, " in again.err
    assert (rows_billed(service), calls(service)) == (14, 6)


def test_after_a_proof_the_run_that_is_under_way_is_the_one_that_is_meant(
    shell: Shell, service: emulator.Service
) -> None:
    shell("proof", *PAID)
    assert shell("submit", *PAID).code == 0
    assert shell("status", "--exit-code").code == 6
    assert shell("proof", "--rows", "7", *PAID).code == 0
    service.advance(3600)
    said = shell("collect")
    assert said.err.startswith("shoes-2"), said.err
    assert "14 of 14 on disk" in said.out


def test_the_same_rows_are_proved_whatever_is_added_and_another_prompt_is_bought_anew(
    shell: Shell, service: emulator.Service
) -> None:
    """Three rounds of wording: the second with nothing changed is free, the third pays for six more pictures."""
    shell("proof", *PAID)
    first = keys(shell)
    again = shell("proof", *PAID)
    assert "6 rows, hero: 6 proved already, nothing to pay" in again.err
    assert "6 of 6 pictures in" in again.out
    assert again.out.count("shoes-2.html") == 1
    assert (shell.folder / "proofs" / "shoes-2.html").read_text().count("data:image/jpeg") == 12
    assert calls(service) == 6
    job = shell.folder / "jobs" / "shoes.toml"
    job.write_text(job.read_text().replace("Photo of", "Painting of"))
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write("sku-new,Shoe new,red,red.png\n")
    assert shell("proof", *PAID).code == 0
    assert len(keys(shell) & first) >= 5
    assert calls(service) == 12


def keys(shell: Shell) -> set[str]:
    """What the newest sheet shows."""
    newest = max((shell.folder / "proofs").glob("*.html"), key=lambda path: path.stem)
    return set(re.findall(r"<h2>(.*?)</h2>", newest.read_text()))


def test_rows_can_be_named_and_chosen(shell: Shell, service: emulator.Service) -> None:
    assert shell("proof", *PAID, "--key", "sku-3", "--key", "sku-4").code == 0
    assert keys(shell) == {"sku-3", "sku-4"}
    assert shell("proof", *PAID, "--rows", "2", "--where", "colour == 'blue'").code == 0
    assert len(keys(shell)) == 2
    assert keys(shell) <= {f"sku-{n}" for n in range(2, 20, 5)}
    assert calls(service) == 4


def test_rows_are_counted_or_named_and_not_both(shell: Shell, service: emulator.Service) -> None:
    said = shell("proof", *PAID, "--rows", "1", "--key", "sku-3", "--key", "sku-4")
    assert said.code == 2
    assert "error: --rows 1: the rows are named already: sku-3, sku-4" in said.err
    assert "hint: leave out --rows to prove those that are named, or --key to have some chosen" in said.err
    assert calls(service) == 0


def test_why_no_row_can_be_chosen_is_said_as_the_plan_says_it(
    shell: Shell, service: emulator.Service
) -> None:
    """A misspelled column, and a comparison that no row's values allow; where they allow it, nobody is chosen."""
    for where in ("colr == 'red'", "colour == 'red' or colr == 'red'"):
        said = shell("proof", *PAID, "--where", where)
        assert said.code == 2
        assert said.err == shell("plan", "--where", where).err
        assert said.err == "error: shoes: where: unknown column 'colr'\nhint: did you mean 'colour'?\n"
    said = shell("proof", *PAID, "--where", "title > 3")
    assert "error: ../shoes.csv: 20 rows: where: '>' not supported between" in said.err
    assert "20 rows: where: '>' not supported between" in shell("plan", "--where", "title > 3").err
    said = shell("proof", *PAID, "--where", "colour == 'pink'")
    assert said.err == "error: ../shoes.csv: no row is chosen\nhint: loosen --where\n"
    assert calls(service) == 0


def test_a_row_that_where_has_no_answer_for_is_left_out(shell: Shell, service: emulator.Service) -> None:
    """Of twenty rows one has a number for a title; the others cannot be compared with one."""
    with (shell.folder / "shoes.csv").open("a") as file:
        file.write("sku-new,4,red,red.png\n")
    assert shell("proof", *PAID, "--where", "6 / (title | int) > 1").code == 0
    assert keys(shell) == {"sku-new"}
    assert calls(service) == 1


def test_rows_with_problems_are_passed_over(shell: Shell) -> None:
    """Half of the photos are not there: the six are of the other half."""
    write_rows(shell.folder / "shoes.csv", 20, photo=lambda n: ("red.png", "gone.png")[n % 2])
    assert shell("proof", *PAID).code == 0
    assert {int(key.removeprefix("sku-")) % 2 for key in keys(shell)} == {0}


def test_nothing_is_shot_before_somebody_has_heard_the_price(shell: Shell, service: emulator.Service) -> None:
    """Without a terminal it needs --yes and a cap; at one a person is asked, and may say no."""
    assert shell("proof").code == 3
    assert shell("proof", "--yes").code == 3
    code, seen = shell.on_a_terminal("proof", answer="n\n")
    assert code == 3
    assert "6 rows, hero: 6 pictures at once at full price: about $0." in seen
    assert not (shell.folder / "runs").exists()
    assert calls(service) == 0


def test_nothing_is_asked_where_the_disk_has_no_room_for_it(shell: Shell, service: emulator.Service) -> None:
    """Pictures of a petabyte each."""
    draw_pictures_of(shell, 10**15)
    said = shell("proof", *PAID, "--models", "models.toml")
    assert said.code == 2
    assert "6 rows, hero: 6 pictures at once" in said.err
    assert re.search(r"error: runs: [\d.]+ TB are needed beside 1\.0 GB that are to stay free", said.err)
    assert "prove fewer rows" in said.err
    assert not (shell.folder / "runs").exists()
    assert calls(service) == 0


def draw_pictures_of(shell: Shell, size: int) -> None:
    """A table of models with pictures of so many bytes."""
    table = f'[models."gemini-2.5-flash-image"]\npicture_bytes = {{ "1K" = {size} }}\n'
    (shell.folder / "models.toml").write_text(table)


def test_a_proof_goes_on_only_where_there_still_is_room(shell: Shell, service: emulator.Service) -> None:
    draw_pictures_of(shell, 10**6)
    service.fault("refused", method="generate", code=403, times=None)
    assert shell("proof", *PAID, "--models", "models.toml").code == 4
    service.clear_faults()
    draw_pictures_of(shell, 10**15)
    assert shell("proof", *PAID, "--models", "models.toml").code == 2
    assert calls(service) == 0
    draw_pictures_of(shell, 10**6)
    assert shell("proof", *PAID, "--models", "models.toml").code == 0
    assert calls(service) == 6


def test_what_has_no_picture_hangs_there_with_its_reason(shell: Shell, service: emulator.Service) -> None:
    shell("proof", *PAID, "--rows", "1")
    key = keys(shell).pop()
    service.fault("image_safety", prompt=f"Painting of Shoe {key.removeprefix('sku-')}")
    job = shell.folder / "jobs" / "shoes.toml"
    job.write_text(job.read_text().replace("Photo of", "Painting of"))
    said = shell("proof", *PAID, "--rows", "2")
    assert said.code == 1
    assert "1 of 2 pictures in" in said.out
    assert "1 blocked for safety" in said.out
    assert "no picture: blocked for safety" in (shell.folder / "proofs" / "shoes-2.html").read_text()


def test_what_a_cap_leaves_room_for_hangs_there_beside_what_it_does_not(
    shell: Shell, service: emulator.Service
) -> None:
    """Five cents for two pictures of four each: one is bought, and shown; with a higher cap the same proof goes on."""
    said = shell("proof", "--yes", "--max-usd", "0.05", "--rows", "2")
    assert said.code == 3
    assert "1 of 2 pictures in" in said.out
    assert "1 missing; the page shows which" in said.out
    assert "error: the cap of $0.05 has no room for more" in said.err
    assert "Next: change the prompt" not in said.err
    page = (shell.folder / "proofs" / "shoes-1.html").read_text()
    assert page.count("1024 x 1024") == 1
    assert "1 missing: the cap of" in page
    assert page.count("no picture: not asked yet") == 1
    assert len(keys(shell)) == 2
    assert shell("proof", "--yes", "--max-usd", "0.20", "--rows", "2").code == 0
    assert (shell.folder / "proofs" / "shoes-2.html").read_text().count("1024 x 1024") == 2
    assert calls(service) == 2


def test_what_cannot_be_asked_any_more_is_shown_with_what_it_came_to(
    shell: Shell, service: emulator.Service
) -> None:
    """One comes back with words only, then the key may not ask. Its follow-up hangs there too."""
    (shell.folder / "cars.csv").write_text("id,prompt,prompt_2\nbus,A bus,by night\ncar,A car,by night\n")
    service.fault("text_only", prompt="A bus", times=None)
    service.fault("refused", method="generate", code=403, every=3, times=None)
    said = shell("proof", "cars.csv", *PAID)
    assert said.code == 4, said.all
    page = (shell.folder / "proofs" / "cars-1.html").read_text()
    assert page.count("no picture: came back with words only, and not asked again yet") == 1
    assert page.count("no picture: not asked yet") == 2
    assert page.count("1024 x 1024") == 1
    assert page.count("<section>") == 4


def test_an_interrupted_proof_goes_on_and_buys_nothing_twice(shell: Shell, service: emulator.Service) -> None:
    """The key may not ask; when it may, the same command goes on with the same proof."""
    service.fault("refused", method="generate", code=403, times=None)
    assert shell("proof", *PAID).code == 4
    service.clear_faults()
    said = shell("proof", *PAID)
    assert said.code == 0, said.all
    assert ", continued, " in said.err
    assert calls(service) == 6
    assert len(list((shell.folder / "runs").iterdir())) == 1


def test_a_page_shows_any_text_as_text(shell: Shell) -> None:
    job = shell.folder / "jobs" / "shoes.toml"
    job.write_text(job.read_text().replace("Photo of", "<script>alert(1)</script> &"))
    assert shell("proof", *PAID, "--rows", "1").code == 0
    page = (shell.folder / "proofs" / "shoes-1.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in page
    assert "<script" not in page


def test_a_month_s_cap_counts_proofs_too(shell: Shell, service: emulator.Service) -> None:
    """Six at about four cents leave little of twenty-six for the run."""
    job = shell.folder / "jobs" / "shoes.toml"
    job.write_text("max_usd_month = 0.26\n" + job.read_text())
    assert shell("proof", *PAID).code == 0
    shell("run", *PAID)
    assert service.ledger()["total"]["nanodollars"] <= 260_000_000


def test_programs_get_the_same(shell: Shell) -> None:
    document = json.loads(shell("proof", *PAID, "--json").out)
    assert (document["pictures"], document["sheet"]) == (6, "proofs/shoes-1.html")
    assert document["emulator"] is True
    assert json.loads(shell("plan", "--json").out)["proved"] == 6


def test_a_rehearsal_does_not_take_over_what_was_proved(shell: Shell) -> None:
    shell("proof", *PAID)
    said = shell("rehearse", "--max-usd", "5", "--json")
    assert json.loads(said.out)["as_before"] == 0


@pytest.mark.parametrize("rows", [6])
def test_a_proof_on_vertex(shell: Shell, rows: int, tmp_path: Path) -> None:
    with emulator.start(buckets=("shoes",)) as service:
        shell.environment.update(service.environment())
        job = shell.folder / "jobs" / "shoes.toml"
        job.write_text('backend = "vertex"\nbucket = "gs://shoes/night"\n' + job.read_text())
        said = shell("proof", *PAID, "--rows", str(rows))
        assert said.code == 0, said.all
        assert f"{rows} of {rows} pictures" in said.out
        assert calls(service) == rows
        assert shell("run", *PAID).code == 0
        assert rows_billed(service) == 20 - rows


def test_a_proof_takes_rows_that_need_no_other_and_asks_all_of_their_turns(
    shell: Shell, service: emulator.Service
) -> None:
    """Eighteen rows edit the pictures of two; each of these has a follow-up, and a second shot that edits the first."""
    lines = ["sku,title,from,turns"]
    lines += [f"sku-{n},Shoe {n},{'' if n < 2 else f'sku-{n % 2}'},by night" for n in range(20)]
    (shell.folder / "edits.csv").write_text("\n".join(lines))
    job = JOB.replace("shoes.csv", "edits.csv").replace('references = ["photo"]\n', "")
    job += '[shots.wide]\nprompt = "wider"\naspect_ratio = "16:9"\nfrom = "/hero"\n'
    (shell.folder / "jobs" / "shoes.toml").write_text(job)
    # Nor does it wait for anybody's approval, whatever the run is to do.
    (shell.folder / "jobs" / "shoes.toml").write_text(f'follow_ups = "approved"\n{job}')
    said = shell("proof", *PAID, "--rows", "6")
    assert said.code == 0, said.all
    assert "2 rows, hero, wide: 8 pictures at once at full price" in said.err
    assert keys(shell) == {"sku-0", "sku-1"}
    assert calls(service) == 8
    index = pd.read_parquet(run_of(shell, "shoes-proof") / "index")
    assert sorted(index["turn"]) == [0] * 4 + [1] * 4
    assert set(index["outcome"]) == {"ok"}
    said = shell("proof", *PAID, "--key", "sku-7")
    assert said.code == 2
    assert "what it is made from is not in this run" in said.err


def test_each_turn_hangs_beside_its_own_picture(shell: Shell) -> None:
    """Three asked one after the other, of a row whose key they share: three pictures, none of them twice."""
    (shell.folder / "cars.csv").write_text("id,prompt,prompt_2,prompt_3\ncar,A car,a convertible,in yellow\n")
    assert shell("proof", "cars.csv", *PAID).code == 0
    page = (shell.folder / "proofs" / "cars-1.html").read_text()
    assert len(set(re.findall(r'<img src="([^"]*)', page))) == 3
    told = re.findall(r"<p class=small>(main[^;]*);.*?<pre>(.*?)</pre>", page, flags=re.DOTALL)
    assert told == [("main", "A car"), ("main, turn 1", "a convertible"), ("main, turn 2", "in yellow")]
    assert page.count("no photo") == 1
    assert page.count("it goes on from the one above") == 2


def test_what_was_proved_is_expanded_whole(shell: Shell) -> None:
    """A conversation is one line of a manifest, answered or not."""
    (shell.folder / "cars.csv").write_text("id,prompt,prompt_2\ncar,A car,a convertible\n")
    before = shell("expand", "cars.csv").out
    assert shell("proof", "cars.csv", *PAID).code == 0
    assert shell("expand", "cars.csv").out == before
    assert len(before.splitlines()) == 1


def test_all_pictures_of_an_answer_hang_there(shell: Shell) -> None:
    """An illustrated recipe has several, and whoever decides wants to see them all."""
    (shell.folder / "bread.csv").write_text("id,prompt\nbread,An illustrated recipe for soda bread\n")
    said = shell("proof", "bread.csv", *PAID)
    assert said.code == 0
    assert "note: how many pictures an answer has" in said.err, "they cost more than the price that is said"
    assert "1 of 1 requests have pictures, " in said.out
    there = list(run_of(shell, "bread-proof").rglob("pictures/*/*"))
    page = (shell.folder / "proofs" / "bread-1.html").read_text()
    assert len(there) > 1
    assert page.count("<img ") == page.count("1024 x 1024") == len(there)
    assert shell("proof", "bread.csv", *PAID).code == 0
    again = (shell.folder / "proofs" / "bread-2.html").read_text()
    assert again.count("<img ") == len(there), "what was proved before is shown whole, too"
