"""Every file a spreadsheet, a script or a notebook leaves is a stream of rows, or a clear complaint."""

import contextlib
import csv
import gzip
import hashlib
import io
import json
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.manifest import duplicate_keys, frame_manifest, open_manifest

SHOES = "sku,title,colour\nS-1,Boot,NA\nS-2,Sandal,null\n"


@pytest.fixture
def written(tmp_path):
    def write(content: str | bytes, name: str = "shoes.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def cells(manifest):
    return [list(row.fields.values()) for row in manifest.rows()]


# Tables


def test_a_csv_is_rows_of_text_with_their_lines_and_keys(written):
    manifest = open_manifest(written(SHOES))
    first, second = manifest.rows()
    assert manifest.columns == ("sku", "title", "colour")
    assert (first.ordinal, first.line, first.key, first.trouble) == (0, 2, "S-1", None)
    assert first.fields == {"sku": "S-1", "title": "Boot", "colour": "NA"}
    assert (second.ordinal, second.line, second.fields["colour"]) == (1, 3, "null")


def test_the_digest_is_of_the_files_bytes(written):
    path = written(SHOES)
    assert open_manifest(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_whatever_a_spreadsheet_writes_is_read_as_it_is(written, delimiter, encoding, ending):
    text = ending.join(delimiter.join(line) for line in [["sku", "title"], ["S-1", "Größe 42"]])
    bom = {"utf-16-le-bom": b"\xff\xfe", "utf-16-be-bom": b"\xfe\xff"}.get(encoding, b"")
    manifest = open_manifest(written(bom + text.encode(encoding.removesuffix("-bom"))))
    assert manifest.columns == ("sku", "title")
    assert cells(manifest) == [["S-1", "Größe 42"]]
    assert manifest.warnings == ()


def test_windows_text_is_read_with_a_warning_that_names_the_line(written):
    path = written("sku,title\nS-1,Boot\nS-2,“Größe”\n".encode("cp1252"))
    manifest = open_manifest(path)
    assert cells(manifest)[1] == ["S-2", "“Größe”"]
    (warning,) = manifest.warnings
    assert warning.startswith(f"{path}:3: not UTF-8")


def test_gzip_is_undone(written):
    path = written(gzip.compress(SHOES.encode()), "shoes.csv.gz")
    assert [row.key for row in open_manifest(path).rows()] == ["S-1", "S-2"]


def test_commas_in_the_cells_do_not_decide_the_delimiter(written):
    manifest = open_manifest(written('"a, b, c";title\n1,2,3,4;x\n'))
    assert manifest.columns == ("a, b, c", "title")
    assert cells(manifest) == [["1,2,3,4", "x"]]


def test_a_row_over_several_lines_is_known_by_its_first(written):
    manifest = open_manifest(written('sku,title\nS-1,"a\nb\nc"\n\n,\nS-2,d\n'))
    assert [(row.line, row.key) for row in manifest.rows()] == [(2, "S-1"), (7, "S-2")]
    assert cells(manifest)[0] == ["S-1", "a\nb\nc"]


def test_a_short_row_is_filled_and_a_long_one_is_a_row_in_trouble(written):
    manifest = open_manifest(written("sku,title,colour\nS-1\nS-2,Boot,red, with a strap\nS-3,Clog,blue,,\n"))
    first, second, third = manifest.rows()
    assert first.fields == {"sku": "S-1", "title": "", "colour": ""}
    assert second.trouble == "4 cells under 3 columns: a comma without quotes?"
    assert second.key == "S-2"
    assert third.trouble is None


@given(rows=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2)))
@settings(max_examples=60)
def test_any_text_survives_a_csv(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["id", "text"], *[[f"r{n}", *row] for n, row in enumerate(rows)]])
    path.write_bytes(text.getvalue().encode() + b"last,x\n")
    read = cells_of_texts(path)
    assert read[-1] == "x"
    assert read[:-1] == [row[0] for row in rows]


def cells_of_texts(path):
    return [row.fields["text"] for row in open_manifest(path).rows()]


# Keys


@pytest.mark.parametrize(
    ("columns", "named_by"),
    [
        ("title,ID,sku", "ID"),
        ("sku,custom_id", "custom_id"),
        ("Product ID,title", "Product ID"),
        ("Handle,SKU", "SKU"),
    ],
)
def test_rows_are_called_after_the_column_that_names_them(written, columns, named_by):
    manifest = open_manifest(written(f"{columns}\n" + ",".join(["x"] * len(columns.split(","))) + "\n"))
    assert manifest.key == named_by


def test_a_nameless_row_is_called_after_its_content_and_not_after_its_place(written):
    one = open_manifest(written("prompt\na cat\na dog\n"))
    two = open_manifest(written("mood,prompt\n,a bird\n,a dog\n", "two.csv"))
    dog = [row.key for row in one.rows()][1]
    assert [row.key for row in two.rows()][1] == dog
    assert dog.startswith("row-")


def test_the_job_may_name_the_column(written):
    assert [row.key for row in open_manifest(written(SHOES), key="title").rows()] == ["Boot", "Sandal"]
    with pytest.raises(BadInput, match="no column 'titel'") as caught:
        open_manifest(written(SHOES), key="titel")
    assert caught.value.hint == "did you mean 'title'?"


@pytest.mark.parametrize("padding", [0, 1500])
def test_every_repeated_key_is_found_with_the_row_that_has_it_first(written, padding):
    rows = ["A", "B", "A", "C", "B", "A", *[f"p{n}" for n in range(padding)]]
    problems = list(duplicate_keys(open_manifest(written("sku\n" + "\n".join(rows)))))
    assert [(p.row, p.value, p.hint) for p in problems] == [
        (4, "A", "row 2 has it too"),
        (6, "B", "row 3 has it too"),
        (7, "A", "row 2 has it too"),
    ]


def test_two_equal_rows_without_names_are_told_so(written):
    (problem,) = duplicate_keys(open_manifest(written("prompt\na cat\na cat\n")))
    assert problem.message == "the same row twice"
    assert "give them a column id" in problem.hint


# JSON Lines


def test_json_lines_have_all_columns_that_any_line_has(written):
    lines = [
        {"id": "a", "prompt": "x", "n": 2},
        {"id": "b", "reference_images": ["1.jpg", "2.jpg"], "n": None},
    ]
    manifest = open_manifest(written("\n".join(map(json.dumps, lines)), "p.jsonl"))
    assert manifest.columns == ("id", "prompt", "n", "reference_images")
    assert cells(manifest) == [["a", "x", "2", ""], ["b", "", "", "1.jpg|2.jpg"]]


def test_a_line_separator_inside_a_string_splits_nothing(written):
    text = "a\u2028b\u0085c"
    path = written(json.dumps({"id": "a", "prompt": text}, ensure_ascii=False) + "\n", "p.jsonl")
    assert cells(open_manifest(path)) == [["a", text]]


def test_a_line_that_is_no_object_is_a_row_in_trouble_with_a_name_of_its_own(written):
    manifest = open_manifest(written('{"id": "a"}\n{"id": broken}\n[1]\n\n{"id": "b"}\n', "p.jsonl"))
    rows = list(manifest.rows())
    assert [row.line for row in rows] == [1, 2, 3, 5]
    assert [row.trouble is None for row in rows] == [True, False, False, True]
    assert len({row.key for row in rows}) == 4


@given(prompts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
@settings(max_examples=60)
def test_any_text_survives_json_lines(tmp_path_factory, prompts):
    path = tmp_path_factory.mktemp("jsonl") / "any.jsonl"
    path.write_text(
        "".join(json.dumps({"text": p}, ensure_ascii=False) + "\n" for p in prompts), "utf-8", newline=""
    )
    assert cells_of_texts(path) == prompts


# Parquet and frames

FRAME = pd.DataFrame(
    {
        "id": [1, 2, 3],
        "caption": ["a", None, "NA"],
        "n": [1.0, None, 3.0],
        "refs": [["x.jpg", "y.jpg"], [], None],
    }
)
TEXTS = [["1", "a", "1", "x.jpg|y.jpg"], ["2", "", "", ""], ["3", "NA", "3", ""]]


def test_parquet_and_a_frame_are_the_same_rows(tmp_path):
    path = tmp_path / "prompts.parquet"
    FRAME.to_parquet(path)
    assert cells(open_manifest(path)) == cells(frame_manifest(FRAME)) == TEXTS
    assert [(row.ordinal, row.line, row.key) for row in open_manifest(path).rows()] == [
        (0, 1, "1"),
        (1, 2, "2"),
        (2, 3, "3"),
    ]


def test_a_frames_digest_follows_its_content(tmp_path):
    same = FRAME.copy(deep=True)
    same.index = pd.Index([7, 8, 9])
    assert frame_manifest(FRAME).digest == frame_manifest(same).digest
    same.loc[8, "caption"] = "b"
    assert frame_manifest(FRAME).digest != frame_manifest(same).digest


def test_a_column_of_bytes_is_left_out_and_named(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": ["a"], "image": [b"\x89PNG"]}), path)
    manifest = open_manifest(path)
    assert manifest.columns == ("id",)
    assert "column 'image' holds bytes" in manifest.warnings[0]


def test_a_parquet_file_is_read_a_piece_at_a_time(tmp_path):
    path = tmp_path / "p.parquet"
    count = 20_000
    pq.write_table(pa.table({"id": [str(n) for n in range(count)], "text": ["x" * 500] * count}), path)
    rows = open_manifest(path).rows()
    next(rows)
    tracemalloc.start()
    assert sum(1 for _ in rows) == count - 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # all rows would be 10 MB and more


# Complaints


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("e.csv", b"", "an empty file"),
        ("e.csv", b"\n\n", "not even a header"),
        ("e.csv", b"sku,title\n", "no rows below the header"),
        ("e.csv", b"sku,title\n,\n\n", "no rows below the header"),
        ("e.csv", b"sku,sku\n1,2\n", "two columns are called 'sku'"),
        ("e.csv", b'sku,title\n1,"' + b"x" * 200_000, "cannot be read as a table"),
        ("e.csv.gz", gzip.compress(SHOES.encode() * 100, mtime=0)[:-20], "a broken gzip file"),
        ("e.csv", b"\xff\xfe\x00", "no text in utf-16"),
        ("e.xlsx", b"PK\x03\x04....", "cannot be read as a spreadsheet"),
        ("e.json", b'[{"id": 1}]', "a JSON array"),
        ("e.jsonl", b"{broken\n", "no line of it is a JSON object"),
        ("e.parquet", b"PAR1 and no more", "no readable Parquet file"),
    ],
)
def test_a_file_with_nothing_to_read_says_so(written, name, content, complaint):
    path = written(content, name)
    with pytest.raises(BadInput, match=complaint) as caught:
        list(open_manifest(path).rows())
    assert caught.value.message.startswith(str(path))


def test_a_missing_file_is_answered_with_the_one_that_was_meant(written, tmp_path):
    written(SHOES)
    with pytest.raises(BadInput, match="no such file") as caught:
        open_manifest(tmp_path / "shoe.csv")
    assert caught.value.hint == f"did you mean {tmp_path / 'shoes.csv'}?"
    with pytest.raises(BadInput, match="cannot be read"):
        open_manifest(tmp_path)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"{", b"PAR1", b"\x1f\x8b", b"\xff\xfe", b"id\n", b"PK\x03\x04"]),
)
@settings(max_examples=150)
def test_no_file_makes_a_traceback(tmp_path_factory, content, start):
    path = tmp_path_factory.mktemp("any") / "any"
    path.write_bytes(start + content)
    with contextlib.suppress(BadInput):
        manifest = open_manifest(path)
        assert len(list(manifest.rows())) == len(list(manifest.rows())) > 0
