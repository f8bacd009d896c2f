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
    ],
)
def test_imagen_refuses_what_it_cannot_do(bench, parameters, words):
    body = {"instances": [{"prompt": "a mug"}], "parameters": parameters}
    path = "/v1/projects/p/locations/l/publishers/google/models/imagen-4.0-generate-001:predict"
    reply = bench.http("POST", path, json=body, headers={"authorization": "Bearer x"})
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


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
