"""Result files: what their bytes are, and that they are the same from wherever one begins."""

import base64
import hashlib
import io
import json
from pathlib import Path

import httpx2
import pytest
from google import genai
from google.genai import errors
from PIL import Image

from pipeline.emulator import start
from pipeline.emulator.models import MODELS
from pipeline.emulator.pictures import Picture, look, render
from tests.emulator.test_emulator_service import begun

pytestmark = pytest.mark.filterwarnings("error")


def rows_of(row, count):
    return [row(f"row-{number}", f"mug number {number}") for number in range(count)]


def name_of(bench, job):
    return bench.sdk.batches.get(name=job.name).dest.file_name


def final(line):
    return [part for part in line["response"]["candidates"][0]["content"]["parts"] if "inlineData" in part][
        -1
    ]


def bytes_of(line):
    return base64.b64decode(final(line)["inlineData"]["data"])


def test_both_download_paths_and_the_sdk_give_the_same_bytes(bench, row, tmp_path):
    job = bench.submit(rows_of(row, 4))
    name = name_of(bench, job)
    whole = bench.sdk.files.download(file=name)
    bench.sdk.files.download(file=name, destination=str(tmp_path / "result"))
    assert (tmp_path / "result").read_bytes() == whole
    for path in (f"/v1/{name}", f"/v1beta/{name}", f"/download/v1beta/{name}"):
        assert bench.http("GET", f"{path}:download?alt=media").content == whole


def test_a_result_continues_at_any_byte(bench, row):
    name = name_of(bench, bench.submit(rows_of(row, 40)))  # some megabytes: more than one block
    path = f"/v1/{name}:download?alt=media"
    whole = bench.http("GET", path).content
    assert len(whole) > 2 * 1024**2
    for start_at in (0, 1, 1000, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        for length in (1, 70_000, len(whole)):
            stop = min(start_at + length, len(whole))
            reply = bench.http("GET", path, headers={"range": f"bytes={start_at}-{stop - 1}"})
            assert reply.status_code == 206
            assert reply.headers["content-range"] == f"bytes {start_at}-{stop - 1}/{len(whole)}"
            assert reply.content == whole[start_at:stop]
    assert bench.http("GET", path, headers={"range": "bytes=-100"}).content == whole[-100:]
    assert bench.http("GET", path, headers={"range": f"bytes={len(whole) - 5}-"}).content == whole[-5:]


def test_a_range_beyond_the_end_is_refused_with_the_size(bench, row):
    path = f"/v1/{name_of(bench, bench.submit(rows_of(row, 1)))}:download?alt=media"
    size = int(bench.http("HEAD", path).headers["content-length"])
    reply = bench.http("GET", path, headers={"range": f"bytes={size}-"})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == f"bytes */{size}"


def test_a_service_without_ranges_sends_everything(make_bench, row):
    bench = make_bench(ranges=False)
    path = f"/v1/{name_of(bench, bench.submit(rows_of(row, 1)))}:download?alt=media"
    reply = bench.http("GET", path, headers={"range": "bytes=10-"})
    assert reply.status_code == 200
    assert "accept-ranges" not in reply.headers
    assert json.loads(reply.content)["key"] == "row-0"


def test_equal_content_gives_equal_bytes_whatever_things_are_called(bench, row):
    """Two uploads of one photo, two jobs, two keys: one picture."""
    first = bench.picture((200, 30, 40))
    second = bench.picture((200, 30, 40))
    one = bench.run([row("a", "a mug", first)], name="monday")["a"]
    two = bench.run([row("b", "a mug", second)], name="tuesday")["b"]
    other = bench.run([row("a", "a mug", bench.picture((30, 200, 40)))])["a"]
    assert first.name != second.name
    assert one["response"] == two["response"]
    assert bytes_of(one) != bytes_of(other)


def test_a_picture_shows_whose_reference_went_in(bench, row):
    references = [bench.picture((200, 30, 40)), bench.picture((30, 40, 200))]
    line = bench.run([row("a", "a mug", *references)])["a"]
    image = Image.open(io.BytesIO(bytes_of(line)))
    near = image.width // 4, image.height - 10
    assert image.getpixel(near) == (200, 30, 40)
    assert image.getpixel((3 * image.width // 4, image.height - 10)) == (30, 40, 200)


def halves(left, right, size=(60, 40)):
    """A reference of two colours, so that it is more than its mean."""
    image = Image.new("RGB", size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def shown(picture, number):
    """The copy of a 60 x 40 reference in a square picture, 40 x 27 of its 128 dots, as small as that."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    dot = image.width // 128
    left, bottom = 2 + number * 42, 128 - 128 // 12 - 2
    area = [dot * edge for edge in (left, bottom - 27, left + 40, bottom)]
    return image.crop(area).resize((40, 27), Image.Resampling.BOX)


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3.1-flash-image"])
def test_a_reference_can_be_recognised_in_the_picture(bench, row, model):
    """Small copies of the first three stand side by side, in the file formats of both kinds of model."""
    red, green, blue, white = (200, 30, 40), (30, 200, 40), (30, 40, 200), (250, 250, 250)
    pairs = [(red, blue), (blue, red), (green, white)]
    files = [bench.upload(halves(*pair), "image/png") for pair in pairs]
    picture = bytes_of(
        bench.run([row("a", "a mug", *files, image_config={"aspect_ratio": "1:1"})], model=model)["a"]
    )
    for number, pair in enumerate(pairs):
        copy = shown(picture, number)
        for at, colour in zip((8, 32), pair, strict=True):
            assert copy.getpixel((at, 13)) == pytest.approx(colour, abs=6)


def test_references_of_one_mean_colour_are_told_apart(bench, row):
    """Red beside blue and blue beside red have one ground, and are two pictures."""
    red, blue = (200, 30, 40), (30, 40, 200)
    copies = []
    for pair in ((red, blue), (blue, red)):
        file = bench.upload(halves(*pair), "image/png")
        line = bench.run([row("a", "a mug", file, image_config={"aspect_ratio": "1:1"})])["a"]
        copies.append(shown(bytes_of(line), 0).getpixel((8, 13)))
    assert copies == [red, blue]


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg"])
@pytest.mark.parametrize(
    "size", [(1024, 1024), (384, 3072), (3072, 384), (4096, 4096), (1408, 768), (512, 512)]
)
def test_the_busiest_references_fit_into_the_lightest_file(mime, size):
    """Nobody compresses noise: then the picture does with less, and keeps its size in pixels and bytes."""
    noise = Image.frombytes("RGB", (90, 70), hashlib.shake_128(b"noise").digest(90 * 70 * 3))
    file = io.BytesIO()
    noise.save(file, "PNG")
    picture = Picture(bytes(range(32)), *size, mime, "a mug " * 16, (look(file.getvalue()),) * 5, weight=0)
    data = render(picture)
    assert len(data) == picture.length()
    assert Image.open(io.BytesIO(data)).size == size


def test_keys_are_written_into_pictures_on_request_only(make_bench, row):
    """Otherwise equal content has equal bytes; with them, a picture says whose it is, whatever key it comes under."""
    rows = [row("shoe-1", "a mug"), row("shoe-2", "a mug")]
    plain, told = make_bench(), make_bench(show_keys=True)
    lines, keyed = plain.run(rows), told.run(rows)
    assert bytes_of(lines["shoe-1"]) == bytes_of(lines["shoe-2"])
    assert bytes_of(keyed["shoe-1"]) != bytes_of(keyed["shoe-2"])
    told.service.fault("swapped_keys", key="shoe-1")
    swapped = told.run(rows)
    assert bytes_of(swapped["shoe-2"]) == bytes_of(keyed["shoe-1"])


def test_without_a_ratio_the_picture_follows_the_first_reference(bench, row):
    wide = bench.picture((1, 2, 3), (320, 180))
    image = Image.open(io.BytesIO(bytes_of(bench.run([row("a", "a mug", wide)])["a"])))
    assert image.size == (1344, 768)


def test_rows_come_back_in_another_order_and_always_the_same_one(bench, row):
    rows = rows_of(row, 20)
    outputs = [bench.output(bench.submit(rows)) for _ in range(2)]
    keys = [json.loads(line)["key"] for line in outputs[0].splitlines()]
    assert outputs[0] == outputs[1]
    assert keys != [row["key"] for row in rows]
    assert sorted(keys) == sorted(row["key"] for row in rows)


def test_the_key_comes_last_as_it_was_seen(bench, row):
    assert bench.output(bench.submit(rows_of(row, 1))).endswith(b'"key":"row-0"}\n')


def test_usage_adds_up_only_for_who_reads_it_right(bench, row):
    """Thoughts are apart, candidates exceed their details a little, the total is the sum of the three."""
    line = bench.run([row("a", "x" * 41, bench.picture((9, 9, 9)))], model="gemini-3-pro-image")["a"]
    usage = line["response"]["usageMetadata"]
    assert usage["promptTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 11},
        {"modality": "IMAGE", "tokenCount": 560},
    ]
    assert usage["promptTokenCount"] == 571
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 1120}]
    assert 1120 < usage["candidatesTokenCount"] < 1220
    parts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    assert usage["totalTokenCount"] == sum(usage[part] for part in parts)


def test_the_ledger_prices_every_row_from_its_usage(bench, row):
    line = bench.run([row("a")], model="gemini-3-pro-image")["a"]
    usage = line["response"]["usageMetadata"]
    words = usage["candidatesTokenCount"] - 1120 + usage["thoughtsTokenCount"]
    price = usage["promptTokenCount"] * 1000 + 1120 * 60_000 + words * 6000
    [entry] = bench.service.ledger()["jobs"]
    assert entry["billed"] == [{"key": "a", "nanodollars": price}]
    assert entry["nanodollars"] == price
    assert entry["usd"] == pytest.approx(price / 1e9)
    assert 0.067 <= entry["usd"] <= 0.080


def test_thinking_shows_thoughts_and_drafts_before_the_final_picture(bench, row):
    asked = row("a", thinkingConfig={"includeThoughts": True, "thinkingLevel": "high"})
    parts = bench.run([asked], model="gemini-3-pro-image")["a"]["response"]["candidates"][0]["content"][
        "parts"
    ]
    pictures = [part for part in parts if "inlineData" in part]
    *thoughts, answer = pictures
    assert 1 <= len(thoughts) <= 2
    assert all(part["thought"] and "thoughtSignature" not in part for part in thoughts)
    assert thoughts[-1]["inlineData"] == answer["inlineData"], "the last of its thoughts is what it answers"
    assert answer["thoughtSignature"]
    assert "thought" not in answer
    assert parts[0]["thought"] is True


def test_models_that_do_not_think_sign_nothing(bench, row):
    assert "thoughtSignature" not in final(bench.run([row("a")])["a"])


def test_image_alone_comes_without_words(bench, row):
    rows = [row(f"{n}", f"mug {n}", responseModalities=["IMAGE"]) for n in range(8)]
    for line in bench.run(rows).values():
        assert [*line["response"]["candidates"][0]["content"]["parts"][0]] == ["inlineData"]


def test_a_result_is_kept_six_weeks(bench, row):
    name = name_of(bench, bench.submit(rows_of(row, 1)))
    bench.service.advance(42 * 24 * 3600 - 1)
    assert bench.sdk.files.download(file=name)
    bench.service.advance(1)
    with pytest.raises(errors.ClientError, match="404"):
        bench.sdk.files.download(file=name)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's peak is read from /proc")
def test_a_large_result_takes_no_more_memory_than_a_small_one(row):
    """It is made while it is read. `make bench` does the same with two gigabytes."""
    options = ("--speed", "0", "--queue", "0", "0", "--run", "0", "0", "--picture-bytes", "1500000")
    process, said = begun(*options)
    with process:
        url = said["GOOGLE_GEMINI_BASE_URL"]
        client = genai.Client(api_key="k", http_options={"base_url": url})
        peaks, sizes = [], []
        for count in (10, 80):
            data = b"".join(json.dumps(line).encode() + b"\n" for line in rows_of(row, count))
            file = client.files.upload(file=io.BytesIO(data), config={"mime_type": "application/jsonl"})
            job = client.batches.create(model="gemini-3-pro-image", src=file.name)
            name = client.batches.get(name=job.name).dest.file_name
            address, key = f"{url}/v1/{name}:download?alt=media", {"x-goog-api-key": "k"}
            with httpx2.stream("GET", address, headers=key, trust_env=False, timeout=30) as reply:
                sizes.append(sum(len(piece) for piece in reply.iter_raw(1 << 20)))
            status = Path(f"/proc/{process.pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]) * 1024)
        client.close()
        process.terminate()
        process.wait(10)
    assert sizes[1] - sizes[0] > 100_000_000
    assert peaks[1] - peaks[0] < 30_000_000


def test_two_identical_sequences_leave_identical_traces(row):
    """Bytes, ledger and events: nothing in them knows the hour or the machine, and only links the port."""

    def night():
        with start(queue=(5, 9), run=(10, 20), seed=4) as service:
            headers = {"x-goog-api-key": "k"}
            client = httpx2.Client(base_url=service.url, headers=headers, trust_env=False)
            service.fault("no_image", every=3, times=1)
            service.fault("refused", method="create", code=429)
            data = b"".join(json.dumps(line).encode() + b"\n" for line in rows_of(row, 7))
            begun = client.post(
                "/upload/v1/files",
                json={"file": {"name": "files/input"}},
                headers={
                    "x-goog-upload-protocol": "resumable",
                    "x-goog-upload-command": "start",
                    "x-goog-upload-header-content-length": str(len(data)),
                },
            )
            headers = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0"}
            client.post(begun.headers["x-goog-upload-url"], content=data, headers=headers)
            create = "/v1/models/gemini-3-pro-image:batchGenerateContent"
            body = {"batch": {"inputConfig": {"fileName": "files/input"}}}
            assert client.post(create, json=body).status_code == 429
            job = client.post(create, json=body).json()["name"]
            service.advance(100)
            done = client.get(f"/v1/{job}").json()
            gcs_and_vertex = vertex_night(client, service)
            result = client.get(f"/v1/{done['response']['responsesFile']}:download?alt=media").content
            client.close()
            traces = (done, gcs_and_vertex, service.ledger(), service.events())
            return hashlib.sha256(result).hexdigest(), json.dumps(traces).replace(service.url, "")

    assert night() == night()


def vertex_night(client, service):
    """The same on Vertex AI: the job, and the metadata of what it wrote."""
    headers = {"authorization": "Bearer x"}
    lines = b"".join(b'{"request":{"contents":[{"parts":[{"text":"mug %d"}]}]}}\n' % n for n in range(5))
    client.post("/storage/v1/b", json={"name": "shoes"})
    client.post("/upload/storage/v1/b/shoes/o?uploadType=media&name=in.jsonl", content=lines)
    body = {
        "model": "publishers/google/models/gemini-3-pro-image",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://shoes/in.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://shoes/out"},
        },
    }
    place = "/v1/projects/p/locations/global/batchPredictionJobs"
    name = client.post(place, json=body, headers=headers).json()["name"]
    service.advance(100)
    written = client.get("/storage/v1/b/shoes/o?prefix=out/").json()
    assert len(written["items"]) == 2
    return client.get(f"/v1/{name}", headers=headers).json(), written


SAMPLE = [
    (model, ratio, size)
    for model in MODELS.values()
    if model.until is None
    for number, ratio in enumerate(model.pixels)
    for size in model.tokens
    if size in ("512", "1K") or (size == "2K" and number == 1) or (size == "4K" and ratio == "1:8")
]


@pytest.mark.parametrize(("model", "ratio", "size"), SAMPLE, ids=lambda value: getattr(value, "name", value))
def test_a_picture_has_exactly_the_size_of_the_tables_and_the_length_foretold(model, ratio, size):
    width, height = model.size(ratio, size)
    seed = hashlib.sha256(f"{model.name} {ratio}".encode()).digest()
    mug = look(halves((200, 30, 40), (190, 180, 170)))
    made = Picture(seed, width, height, model.mime, "A red mug on a table, soft light " * 3, (mug,))
    data = render(made)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (width, height)
    assert Image.MIME[image.format] == model.mime
    assert len(data) == made.length()


@pytest.mark.parametrize(
    ("model", "ratio", "size", "pixels"),
    [
        ("gemini-2.5-flash-image", "3:4", "1K", (864, 1184)),
        ("gemini-3-pro-image", "21:9", "4K", (6336, 2688)),
        ("gemini-3.1-flash-image", "2:3", "512", (424, 632)),
        ("gemini-3.1-flash-image", "1:8", "2K", (768, 6144)),
        ("gemini-nano-banana-2.1", "9:16", "1K", (768, 1376)),
        ("gemini-3.1-flash-lite-image", "5:4", "1K", (1152, 928)),
    ],
)
def test_sizes_are_the_ones_google_prints(model, ratio, size, pixels):
    assert MODELS[model].size(ratio, size) == pixels


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg"])
@pytest.mark.parametrize("extra", range(12))
def test_padding_works_out_to_the_last_byte(mime, extra):
    """Comments hold at most 65,533 bytes and at least none: every remainder must come out."""
    made = Picture(bytes([extra * 20]) * 32, 1024, 1024, mime, weight=65_000 + extra * 3000)
    data = render(made)
    assert len(data) == made.length()
    Image.open(io.BytesIO(data)).load()


def test_a_weighty_picture_is_as_big_as_a_real_one_and_cannot_be_squeezed():
    import zlib

    data = render(Picture(b"w" * 32, 1024, 1024, "image/jpeg", weight=1_500_000))
    assert 1_300_000 < len(data) < 1_700_000
    assert len(zlib.compress(data, 1)) > 0.95 * len(data)


def test_a_look_is_the_mean_colour_and_the_shape():
    file = io.BytesIO()
    image = Image.new("RGB", (40, 20), (0, 0, 0))
    image.paste((200, 100, 50), (0, 0, 20, 20))
    image.save(file, "PNG")
    assert look(file.getvalue()).colour == (100, 50, 25)
    assert (look(file.getvalue()).width, look(file.getvalue()).height) == (40, 20)
