"""What stores export is read as they export it: each variant is a row, with its own pictures and plain words."""

import datetime
import gzip
import subprocess
import sys

import openpyxl
import pytest

from pipeline.draft import write_job
from pipeline.errors import BadInput
from pipeline.job import job_for, of_a_store, read_job
from pipeline.manifest import open_manifest
from pipeline.models import load_models
from pipeline.prompt import requests
from tests.shell import Shell

OLD = """Handle,Title,Body (HTML),Vendor,Option1 Name,Option1 Value,Option2 Name,Option2 Value,Variant SKU,Variant Price,Image Src,Image Position,Variant Image,Status
boot,Boot,"<p>Warm &amp; <b>dry</b></p><style>p{}</style><ul><li>wool</li></ul>",North,Color,Red,Size,41,B-R,90,https://c/2.jpg?v=1,2,https://c/red.jpg?v=7,active
boot,,,,,Black,,41,B-B,90,https://c/1.jpg,1,https://c/black.jpg,
boot,,,,,,,,,,https://c/red.jpg,3,,
boot,,,,,,,,,,https://c/black.jpg?v=2,4,,
mug,Mug,Plain,South,Title,Default Title,,,,9,https://c/mug.jpg,1,,draft
"""  # noqa: E501
NEW = (
    OLD.replace("Handle,", "URL handle,", 1)
    .replace("Body (HTML)", "Description", 1)
    .replace("Variant SKU", "SKU", 1)
    .replace("Variant Price", "Price", 1)
    .replace("Image Src", "Product image URL", 1)
    .replace("Image Position", "Image position", 1)
    .replace("Variant Image", "Variant image URL", 1)
    .replace("Option1 Name,Option1 Value", "Option1 name,Option1 value", 1)
    .replace("Option2 Name,Option2 Value", "Option2 name,Option2 value", 1)
)
MERCHANT = """id\ttitle\tdescription\timage link\tadditional_image_link\tbrand\tcolor\tsize\titem_group_id
1\tBoot\tWarm\thttps://c/a.jpg\thttps://c/b.jpg,https://c/c%2Cd.jpg\tNorth\tNA\t41\tboots
2\tMug\tBlue\thttps://c/m.jpg\t\t\t\t\t
"""
XML = """<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>1</g:id><title>Boot &amp; Co</title><g:image_link>https://c/a.jpg</g:image_link>
<g:additional_image_link>https://c/b.jpg</g:additional_image_link>
<g:additional_image_link>https://c/c.jpg</g:additional_image_link><g:shipping><g:country>DE</g:country></g:shipping></item>
<item><g:id>2</g:id><title><![CDATA[Mug <blue>]]></title><g:image_link>https://c/m.jpg</g:image_link></item>
</channel></rss>
"""
WOO = """ID,Type,SKU,Name,Description,Brands,Parent,Images,Attribute 1 name,Attribute 1 value(s)
7,variable,TEE,Tee,<p>Soft</p>,North,,"https://c/t1.jpg, https://c/t2.jpg",Colour,"Red, Blue"
8,variation,TEE-R,Tee - Red,,,TEE,https://c/red.jpg,Colour,Red
9,variation,,Tee - Blue,,,id:7,,Colour,Blue
10,simple,MUG,Mug,,,,https://c/mug.jpg,,
"""


@pytest.fixture
def feed(tmp_path):
    def write(content, name="feed"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_manifest(path)

    return write


def column(manifest, name):
    return [row.fields[name] for row in manifest.rows()]


# Shopify


@pytest.mark.parametrize(("export", "generation"), [(OLD, "old"), (NEW, "new")])
def test_both_generations_of_a_shopify_export_become_the_same_rows(feed, export, generation):
    manifest = feed(export)
    assert manifest.feed.name == f"Shopify export ({generation} headers)"
    assert [row.key for row in manifest.rows()] == ["B-R", "B-B", "mug"]
    assert [row.line for row in manifest.rows()] == [2, 3, 6]
    assert column(manifest, "title") == ["Boot", "Boot", "Mug"]
    assert column(manifest, "description") == ["Warm & dry wool", "Warm & dry wool", "Plain"]
    assert column(manifest, "brand") == ["North", "North", "South"]
    assert column(manifest, "color") == ["Red", "Black", ""]
    assert column(manifest, "variant") == ["Red / 41", "Black / 41", ""]
    assert column(manifest, "group") == ["boot", "boot", "mug"]
    assert column(manifest, "Status") == ["active", "active", "draft"]


def test_a_variant_shows_its_own_picture_first_and_never_another_variants(feed):
    assert column(feed(OLD), "reference_images") == [
        "https://c/red.jpg?v=7|https://c/1.jpg|https://c/2.jpg?v=1",
        "https://c/black.jpg|https://c/1.jpg|https://c/2.jpg?v=1",
        "https://c/mug.jpg",
    ]


def test_the_mapping_is_told_and_says_where_every_column_of_ours_is_from(feed):
    told = str(feed(NEW).feed)
    assert told.startswith("Shopify export (new headers): title <- Title; sku <- SKU")
    assert "reference_images <- Product image URL" in told


# Google Merchant Center


def test_a_merchant_feed_separates_pictures_by_commas_alone(feed):
    manifest = feed(MERCHANT)
    assert manifest.feed.name == "Google Merchant Center feed (TSV)"
    assert column(manifest, "reference_images")[0] == "https://c/a.jpg|https://c/b.jpg|https://c/c%2Cd.jpg"
    assert column(manifest, "color") == ["NA", ""]
    assert column(manifest, "group") == ["boots", "2"]
    assert column(manifest, "variant") == ["NA / 41", ""]


@pytest.mark.parametrize(
    "pack", [str.encode, lambda text: gzip.compress(text.encode()), lambda text: text.encode("utf-16")]
)
def test_a_merchant_feed_in_xml_is_read_like_its_table(feed, pack):
    manifest = feed(pack(XML.replace('<?xml version="1.0"?>', "<?xml version='1.0'?>")))
    assert manifest.feed.name == "Google Merchant Center feed (XML)"
    assert [row.key for row in manifest.rows()] == ["1", "2"]
    assert column(manifest, "title") == ["Boot & Co", "Mug <blue>"]
    assert column(manifest, "reference_images")[0] == "https://c/a.jpg|https://c/b.jpg|https://c/c.jpg"
    assert [row.line for row in manifest.rows()] == [3, 6]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss>&b;</rss>', "declares a document type"),
        ('<!DOCTYPE r SYSTEM "file:///etc/passwd"><rss/>', "declares a document type"),
        ("<!doctype html><html><body>Sign in</body></html>", "broken XML|declares a document type"),
        ("<rss><channel><item><id>1</id>", "broken XML"),
        ("<rss><channel></channel></rss>", "XML without products"),
        ("<a>" * 100, "nested deeper"),
    ],
)
def test_dangerous_or_broken_xml_is_refused_in_plain_words(feed, content, complaint):
    with pytest.raises(BadInput, match=complaint):
        feed(content)


# WooCommerce


def test_variations_have_what_their_parent_says_for_all(feed):
    manifest = feed(WOO)
    assert manifest.feed.name == "WooCommerce export"
    assert [row.key for row in manifest.rows()] == ["TEE", "TEE-R", "id-9", "MUG"]
    assert column(manifest, "group") == ["TEE", "TEE", "TEE", "MUG"]
    assert column(manifest, "variant") == ["", "Red", "Blue", ""]
    assert column(manifest, "description") == ["Soft", "Soft", "Soft", ""]
    assert column(manifest, "reference_images") == [
        "https://c/t1.jpg|https://c/t2.jpg",
        "https://c/red.jpg",
        "https://c/t1.jpg|https://c/t2.jpg",
        "https://c/mug.jpg",
    ]


# All of them


@pytest.mark.parametrize("content", [OLD, NEW, MERCHANT, XML, WOO])
def test_init_writes_a_job_for_every_feed_that_only_lacks_the_pictures(feed, tmp_path, content):
    manifest = feed(content.replace("https://c/", "https://127.0.0.1/"))
    path = tmp_path / "first.toml"
    path.write_text(write_job(path, manifest), encoding="utf-8")
    job = of_a_store(read_job(path), manifest)
    made = list(requests(job, manifest.rows(), models=load_models(), base=tmp_path))
    assert len(made) == len(list(manifest.rows()))
    assert {p.message for r in made for p in r.problems} == {"reference has an address in a private network"}


def test_what_a_store_calls_size_or_images_is_no_setting_of_ours(feed, tmp_path):
    manifest = feed(MERCHANT)
    job = of_a_store(job_for("feed", prompt="{{ title }} in size {{ size }}", references=["-"]), manifest)
    first = next(requests(job, manifest.rows(), models=load_models(), base=tmp_path))
    assert (first.refusal, first.prompt.text) == (None, "Boot in size 41")


def test_a_table_of_ones_own_is_no_feed(feed):
    assert feed("sku,title,photo\n1,Boot,a.jpg\n").feed is None
    assert feed("id,prompt,image_link\n1,Boot,a.jpg\n").feed is None


# Spreadsheets


@pytest.fixture
def workbook(tmp_path):
    book = openpyxl.Workbook()
    spring = book.active
    spring.title = "Spring"
    for row in [
        [],
        ["sku", "title", "ratio", "wide", "price", "on"],
        [123, "Boot", datetime.time(16, 9), datetime.timedelta(hours=21, minutes=9), 1.5, True],
        [None, None, None],
        ["S-2", "NA", "4:5", None, 7, None],
    ]:
        spring.append(row)
    book.create_sheet("Summer").append(["prompt"])
    book["Summer"].append(["a beach"])
    path = tmp_path / "shoes.xlsx"
    book.save(path)
    return path


def test_a_spreadsheet_is_text_with_whole_numbers_and_times_that_are_ratios(workbook, tmp_path):
    manifest = open_manifest(workbook)
    assert [(row.line, row.key) for row in manifest.rows()] == [(3, "123"), (5, "S-2")]
    assert list(next(manifest.rows()).fields.values()) == [
        "123",
        "Boot",
        "16:09:00",
        "21:09:00",
        "1.5",
        "true",
    ]
    job = job_for(str(workbook), prompt="{{ title }}", data=["wide"])
    made = [
        r.prompt.aspect_ratio for r in requests(job, manifest.rows(), models=load_models(), base=tmp_path)
    ]
    assert made == ["16:9", "4:5"]
    assert "zeros in front" in manifest.warnings[0]


def test_one_sheet_of_several_is_named_behind_a_hash(workbook):
    assert column(open_manifest(workbook.with_name("shoes.xlsx#Summer")), "prompt") == ["a beach"]
    with pytest.raises(BadInput, match="no sheet 'Sumer'") as caught:
        open_manifest(workbook.with_name("shoes.xlsx#Sumer"))
    assert caught.value.hint == "did you mean 'Summer'?"
    csv = workbook.with_name("a.csv")
    csv.write_text("a\n1\n")
    with pytest.raises(BadInput, match="no spreadsheet"):
        open_manifest(workbook.with_name("a.csv#Summer"))


def test_where_nothing_reads_spreadsheets_the_hint_says_what_to_install(workbook, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)  # how Python says that there is none
    with pytest.raises(BadInput) as caught:
        open_manifest(workbook)
    assert "nightshoot[xlsx]" in caught.value.hint


# Standard input


def test_a_manifest_may_come_from_a_pipe(tmp_path):
    shell = Shell(tmp_path, {})

    def piped(text):
        command = shell.command("plan", "-", "--prompt", "{{ title }}")
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=shell.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )

    said = piped("sku,title\n1,Boot\n2,Clog\n")
    assert said.returncode == 0, said.stderr
    assert "of 2 rows" in said.stdout
    nothing = piped("")
    assert (nothing.returncode, "an empty file" in nothing.stderr) == (2, True)


def test_plan_says_which_feed_it_found(tmp_path):
    (tmp_path / "feed.tsv").write_text(MERCHANT)
    said = Shell(tmp_path, {})("plan", "feed.tsv", "--prompt", "{{ title }}", "--set", "references=-")
    assert said.code == 0, said.all
    assert "Google Merchant Center feed (TSV): title <- title; sku <- id" in said.err
