"""Answers at once, by Google's SDK: generateContent on both platforms, and Imagen."""

import asyncio
import base64
import io

import pytest
from google.genai import errors, types
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error", "ignore:The generate_images method is deprecated")

MODEL = "gemini-3.1-flash-image"


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def picture(response):
    [part] = [part for part in response.candidates[0].content.parts if part.inline_data and not part.thought]
    return opened(part.inline_data.data)


@pytest.mark.parametrize("client", ["sdk", "vertex"])
def test_a_prompt_is_answered_at_once_with_a_picture_of_the_asked_size(bench, client):
    response = getattr(bench, client).models.generate_content(
        model=MODEL,
        contents="a red mug",
        config={"image_config": {"aspect_ratio": "16:9", "image_size": "2K"}},
    )
    assert picture(response).size == (2752, 1536)
    assert response.model_version.startswith(MODEL)


def test_the_asynchronous_client_is_answered_too(bench):
    async def ask(client):
        async with client.aio as aio:
            return await aio.models.generate_content(model=MODEL, contents="a red mug")

    assert picture(asyncio.run(ask(bench.sdk))).size == (1024, 1024)


def test_an_answer_at_once_costs_twice_what_it_costs_in_a_batch(bench, row):
    bench.run([row("a")], model=MODEL)
    bench.sdk.models.generate_content(model=MODEL, contents="a red mug")
    ledger = bench.service.ledger()
    [call] = ledger["calls"]
    assert call["nanodollars"] == 2 * ledger["jobs"][0]["nanodollars"]
    assert (call["call"], call["model"], call["pictures"]) == ("generate", MODEL, 1)
    assert ledger["total"]["nanodollars"] == 3 * ledger["jobs"][0]["nanodollars"]


def test_the_same_is_drawn_for_the_same_words_at_once_and_in_a_batch(bench, row):
    line = bench.run([row("a")], model=MODEL)["a"]
    parts = line["response"]["candidates"][0]["content"]["parts"]
    [batched] = [part["inlineData"]["data"] for part in parts if "inlineData" in part]
    content = types.Content(role="user", parts=[types.Part(text="a red mug")])
    response = bench.sdk.models.generate_content(model=MODEL, contents=[content])
    [part] = [part for part in response.candidates[0].content.parts if part.inline_data]
    assert opened(part.inline_data.data).tobytes() == opened(base64.b64decode(batched)).tobytes()


def test_usage_names_the_class_of_service_each_platform_has(bench):
    body = {"contents": [{"parts": [{"text": "a mug"}]}]}
    plain = bench.http("POST", f"/v1/models/{MODEL}:generateContent", json=body).json()
    assert plain["usageMetadata"]["serviceTier"] == "standard"
    path = f"/v1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent"
    vertex = bench.http("POST", path, json=body, headers={"authorization": "Bearer x"}).json()
    assert vertex["usageMetadata"]["trafficType"] == "ON_DEMAND"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"image_config": {"image_size": "8K"}}, "'8K' is not one of"),
        ({"response_modalities": ["VIDEO"]}, "VIDEO"),
    ],
)
def test_what_a_batch_would_refuse_is_refused_and_costs_nothing(bench, config, words):
    with pytest.raises(errors.ClientError, match=words):
        bench.sdk.models.generate_content(model=MODEL, contents="a mug", config=config)
    assert bench.service.ledger()["calls"] == []


def test_misfortune_meets_calls_as_it_meets_rows(bench):
    bench.service.fault("row_error", prompt="unlucky", code=8, message="slow down", times=1)
    with pytest.raises(errors.ClientError, match="429"):
        bench.sdk.models.generate_content(model=MODEL, contents="an unlucky mug")
    assert picture(bench.sdk.models.generate_content(model=MODEL, contents="an unlucky mug"))
    bench.service.fault("refused", method="generate", code=503)
    with pytest.raises(errors.ServerError, match="503"):
        bench.sdk.models.generate_content(model=MODEL, contents="a mug")
    bench.service.fault("image_safety")
    response = bench.sdk.models.generate_content(model=MODEL, contents="a mug")
    assert response.candidates[0].finish_reason == types.FinishReason.IMAGE_SAFETY


def test_imagen_draws_several_pictures_of_one_prompt(bench):
    response = bench.vertex.models.generate_images(
        model="imagen-4.0-generate-001",
        prompt="a red mug",
        config={"number_of_images": 2, "aspect_ratio": "16:9", "image_size": "2K"},
    )
    pictures = [made.image.image_bytes for made in response.generated_images]
    assert [opened(data).size for data in pictures] == [(2816, 1536), (2816, 1536)]
    assert pictures[0] != pictures[1]
    [call] = bench.service.ledger()["calls"]
    assert (call["call"], call["usd"]) == ("predict", 0.08)


def test_imagen_gives_a_reason_instead_of_a_picture_when_it_is_asked_to(bench):
    bench.service.fault("image_safety")
    asked = {"number_of_images": 1, "include_rai_reason": True}
    [made] = bench.vertex.models.generate_images(
        model="imagen-4.0-generate-001", prompt="a mug", config=asked
    ).generated_images
    assert made.image.image_bytes is None
    assert "filtered out" in made.rai_filtered_reason
    assert bench.service.ledger()["total"]["nanodollars"] == 0


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sampleCount": 5}, "sampleCount 5"),
        ({"aspectRatio": "2:1"}, "aspectRatio '2:1'"),
        ({"sampleImageSize": "4K"}, "sampleImageSize '4K'"),
        ({"personGeneration": "everybody"}, "personGeneration"),
        ({"style": "watercolour"}, "style"),
        ({"safetySetting": "block_everything"}, "safetySetting"),
        ({"language": "xx"}, "language"),
        ({"seed": 7}, "watermark"),
        ({"seed": 7, "addWatermark": True}, "watermark"),
        ({"outputOptions": {"mimeType": "image/webp"}}, "image/webp"),
        ({"outputOptions": {"compressionQuality": 80}}, "image/jpeg only"),
        ({"outputOptions": {"mimeType": "image/jpeg", "compressionQuality": 101}}, "0 to 100"),
        ({"guidanceScale": -1}, "guidanceScale"),
        ({"storageUri": "gs://shoes/out"}, "bytes only"),
    ],
)
def test_imagen_refuses_what_it_cannot_do(bench, parameters, words):
    body = {"instances": [{"prompt": "a mug"}], "parameters": parameters}
    path = "/v1/projects/p/locations/l/publishers/google/models/imagen-4.0-generate-001:predict"
    reply = bench.http("POST", path, json=body, headers={"authorization": "Bearer x"})
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("imagen-4.0-fast-generate-001", {"sampleImageSize": "2K"}),
        ("imagen-3.0-generate-002", {"sampleImageSize": "2K"}),
        ("imagen-4.0-ultra-generate-001", {"sampleCount": 2}),
    ],
)
def test_each_imagen_refuses_what_only_others_can(bench, model, parameters):
    body = {"instances": [{"prompt": "a mug"}], "parameters": parameters}
    path = f"/v1/projects/p/locations/l/publishers/google/models/{model}:predict"
    assert bench.http("POST", path, json=body, headers={"authorization": "Bearer x"}).status_code == 400
    assert bench.service.ledger()["calls"] == []


def imagen(bench, prompt="a mug", **config):
    made = bench.vertex.models.generate_images(
        model="imagen-4.0-generate-001", prompt=prompt, config={"include_rai_reason": True} | config
    )
    return made.generated_images, made.positive_prompt_safety_attributes


def test_imagen_keeps_the_pictures_that_may_be_shown_and_bills_those(bench):
    bench.service.fault("image_safety", pictures=1)
    made, _ = imagen(bench, number_of_images=3)
    assert [bool(one.image.image_bytes) for one in made] == [True, True, False]
    assert "Some images were filtered out" in made[2].rai_filtered_reason
    assert bench.service.ledger()["total"]["usd"] == 0.08


@pytest.mark.parametrize(
    ("prompt", "people", "code"),
    [
        ("a crowd in the rain", "DONT_ALLOW", "39322892"),
        ("a crowd in the rain", "ALLOW_ADULT", None),
        ("a child with a kite", "ALLOW_ADULT", "17301594"),
        ("a child with a kite", "ALLOW_ALL", None),
        ("a kite", "DONT_ALLOW", None),
    ],
)
def test_imagen_draws_only_people_that_are_allowed(bench, prompt, people, code):
    [made], _ = imagen(bench, prompt, number_of_images=1, person_generation=people)
    assert bool(made.image.image_bytes) == (code is None)
    assert code is None or f"Support codes: {code}" in made.rai_filtered_reason


def test_imagen_says_what_it_made_of_the_prompt_and_how_safe_it_is(bench):
    made, of_prompt = imagen(bench, number_of_images=2, include_safety_attributes=True)
    assert [one.enhanced_prompt for one in made] == ["a mug, in soft light"] * 2
    assert all(0 <= score <= 0.1 for score in made[0].safety_attributes.scores)
    assert of_prompt.content_type == "Positive Prompt"
    plain, of_prompt = imagen(bench, number_of_images=1, enhance_prompt=False)
    assert (plain[0].enhanced_prompt, plain[0].safety_attributes.scores, of_prompt) == (None, None, None)


def test_imagen_refuses_a_prompt_with_the_words_of_a_policy(bench):
    bench.service.fault("prompt_blocked")
    with pytest.raises(errors.ClientError, match=r"Responsible AI practices.*Support codes: 61493863"):
        imagen(bench)
    assert bench.service.ledger()["calls"] == []


def test_the_same_seed_without_a_watermark_draws_the_same(bench):
    [one], [other] = (imagen(bench, number_of_images=1, seed=7, add_watermark=False)[0] for _ in range(2))
    assert one.image.image_bytes == other.image.image_bytes
    [jpeg], _ = imagen(
        bench, number_of_images=1, output_mime_type="image/jpeg", output_compression_quality=80
    )
    assert jpeg.image.image_bytes[:3] == b"\xff\xd8\xff"


def test_everything_that_google_s_sdk_knows_to_ask_is_taken(bench):
    [made], _ = imagen(
        bench,
        number_of_images=1,
        aspect_ratio="3:4",
        image_size="1K",
        negative_prompt="rain",
        guidance_scale=7.5,
        seed=7,
        safety_filter_level="BLOCK_ONLY_HIGH",
        person_generation="ALLOW_ALL",
        include_safety_attributes=True,
        language="ja",
        output_mime_type="image/jpeg",
        output_compression_quality=80,
        add_watermark=False,
        enhance_prompt=True,
        labels={"team": "shoes"},
    )
    assert opened(made.image.image_bytes).size == (896, 1280)


@pytest.mark.parametrize(
    ("kind", "declared", "whole"), [("broken_picture", "png", False), ("wrong_mime", "jpeg", True)]
)
def test_misfortune_spoils_one_picture_of_a_call(bench, kind, declared, whole):
    bench.service.fault(kind)
    made, _ = imagen(bench, number_of_images=2)
    assert made[0].image.mime_type == f"image/{declared}"
    assert made[1].image.mime_type == "image/png"
    assert (len(made[0].image.image_bytes) > 3000) == whole


def test_the_developer_api_had_imagen_until_it_had_not(make_bench):
    body = {"instances": [{"prompt": "a mug"}], "parameters": {"sampleCount": 1}}
    path = "/v1beta/models/imagen-3.0-generate-002:predict"
    then = make_bench(start="2026-06-01T00:00:00Z")
    [made] = then.http("POST", path, json=body).json()["predictions"]
    assert opened(base64.b64decode(made["bytesBase64Encoded"])).size == (1024, 1024)
    assert make_bench().http("POST", path, json=body).status_code == 404


def test_a_search_says_what_it_looked_up_and_every_query_is_paid_for(bench):
    search = types.GoogleSearch(search_types={"web_search": {}, "image_search": {}})
    plain = bench.sdk.models.generate_content(model=MODEL, contents="the newest red mug")
    response = bench.sdk.models.generate_content(
        model=MODEL,
        contents="the newest red mug",
        config=types.GenerateContentConfig(tools=[types.Tool(google_search=search)]),
    )
    found = response.candidates[0].grounding_metadata
    assert all("red mug" in query for query in (*found.web_search_queries, *found.image_search_queries))
    assert "the newest red mug" in found.search_entry_point.rendered_content
    assert [chunk.web.domain for chunk in found.grounding_chunks if chunk.web] == [
        "example.com",
        "example.org",
        "example.net",
    ]
    assert [chunk.image.title for chunk in found.grounding_chunks if chunk.image] == ["Photo 1", "Photo 2"]
    queries = len(found.web_search_queries) + len(found.image_search_queries)
    usage = [answer.usage_metadata for answer in (plain, response)]
    _, call = bench.service.ledger()["calls"]
    words = usage[1].candidates_token_count - 1120 + usage[1].thoughts_token_count
    tokens = 2 * (usage[1].prompt_token_count * 250 + 1120 * 30_000 + words * 1500)
    assert call["nanodollars"] == tokens + queries * 14_000_000


@pytest.mark.parametrize(
    ("model", "search", "fits"),
    [
        ("gemini-3-pro-image", {}, True),
        ("gemini-3-pro-image", {"search_types": {"image_search": {}}}, False),
        ("gemini-2.5-flash-image", {}, False),
    ],
)
def test_only_models_that_can_search_do(bench, model, search, fits):
    config = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch(**search))])
    ask = lambda: bench.sdk.models.generate_content(model=model, contents="a mug", config=config)  # noqa: E731
    if fits:
        assert ask().candidates[0].grounding_metadata.image_search_queries is None
        return
    with pytest.raises(errors.ClientError, match="search as a tool is not enabled"):
        ask()


@pytest.mark.parametrize(
    ("prompt", "pictures"),
    [
        ("Three different photos of a mug", 3),
        ("Draw 4 variations of this mug", 4),
        ("An illustrated recipe for a paella", 3),
        ("a mug for two", 1),
        ("a shelf with 12 mugs", 1),
    ],
)
def test_a_prompt_that_asks_for_several_gets_pictures_with_words_between(bench, prompt, pictures):
    response = bench.sdk.models.generate_content(model=MODEL, contents=prompt)
    kinds = ["picture" if part.inline_data else "words" for part in response.candidates[0].content.parts]
    assert kinds.count("picture") == pictures
    between = kinds[kinds.index("picture") :]
    assert between == ["picture", *(["words", "picture"] * (pictures - 1))]
    assert bench.service.ledger()["calls"][0]["pictures"] == pictures


def test_a_model_says_how_it_can_be_asked_for_as_long_as_it_is_there(bench):
    said = bench.sdk.models.get(model=MODEL)
    assert said.name == f"models/{MODEL}"
    assert "batchGenerateContent" in said.supported_actions
    assert bench.vertex.models.get(model=MODEL).name == f"publishers/google/models/{MODEL}"
    for client in (bench.sdk, bench.vertex):
        with pytest.raises(errors.ClientError, match="404"):
            client.models.get(model="gemini-none")
    bench.service.fault("model_retired", model=MODEL)
    for client in (bench.sdk, bench.vertex):
        with pytest.raises(errors.ClientError, match="404"):
            client.models.get(model=MODEL)
    assert bench.service.ledger()["calls"] == []


def test_imagen_can_be_asked_about_where_it_is(make_bench):
    bench = make_bench(start="2026-09-01T00:00:00Z")
    assert bench.sdk.models.get(model="imagen-4.0-generate-001").supported_actions == ["predict"]
    bench.service.advance(30 * 24 * 3600)
    with pytest.raises(errors.ClientError, match="404"):
        bench.sdk.models.get(model="imagen-4.0-generate-001")
    assert bench.vertex.models.get(model="imagen-4.0-generate-001").name


def test_who_shows_no_key_is_told_of_no_model(bench):
    assert bench.http("GET", f"/v1/models/{MODEL}", headers={"x-goog-api-key": ""}).status_code == 403
    assert bench.http("GET", f"/v1/publishers/google/models/{MODEL}").status_code == 401
