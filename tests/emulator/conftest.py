"""A service of its own for every test, Google's own SDK to talk to it, and a few words for what is wanted."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2.credentials import Credentials
from PIL import Image

from pipeline import emulator


class Bench:
    """One emulator, one client of Google's SDK per key."""

    def __init__(self, **settings: Any) -> None:
        self.service = emulator.start(**{"queue": (0, 0), "run": (0, 0)} | settings)
        self._clients: dict[str, genai.Client] = {}
        self._storage: storage.Client | None = None

    @property
    def sdk(self) -> genai.Client:
        return self.sdk_of("first-key")

    def sdk_of(self, key: str) -> genai.Client:
        if key not in self._clients:
            self._clients[key] = genai.Client(api_key=key, http_options={"base_url": self.service.url})
        return self._clients[key]

    @property
    def vertex(self) -> genai.Client:
        """The same SDK, told to use Vertex AI, in project `catalog`."""
        if "vertex" not in self._clients:
            self._clients["vertex"] = genai.Client(
                vertexai=True,
                project="catalog",
                location="global",
                credentials=Credentials(token="a-token"),
                http_options={"base_url": self.service.url},
            )
        return self._clients["vertex"]

    @property
    def storage(self) -> storage.Client:
        """Google's client for Cloud Storage."""
        if self._storage is None:
            self._storage = storage.Client(
                project="catalog",
                credentials=AnonymousCredentials(),
                client_options={"api_endpoint": self.service.url},
            )
        return self._storage

    def put(self, name: str, data: bytes, bucket: str = "shoes") -> str:
        """An object, and its gs:// name."""
        self.storage.bucket(bucket).blob(name).upload_from_string(data)
        return f"gs://{bucket}/{name}"

    def predict(self, requests: list[dict[str, Any]], **more: Any) -> Any:
        """A Vertex AI job over these requests, from gs://shoes/in.jsonl into gs://shoes/out."""
        lines = b"".join(json.dumps({"request": request}).encode() + b"\n" for request in requests)
        source = self.put("in.jsonl", lines)
        model = more.pop("model", "gemini-3.1-flash-image")
        config = {"dest": "gs://shoes/out", "display_name": "night"} | more
        return self.vertex.batches.create(model=model, src=source, config=config)

    def written(self, job: Any) -> list[dict[str, Any]]:
        """Every line of a Vertex AI job's result, in the order of its files."""
        directory = self.vertex.batches.get(name=job.name).output_info.gcs_output_directory
        bucket, _, prefix = directory.removeprefix("gs://").partition("/")
        blobs = self.storage.list_blobs(bucket, prefix=f"{prefix}/predictions")
        data = b"".join(blob.download_as_bytes() for blob in blobs)
        return [json.loads(line) for line in data.split(b"\n") if line]

    def http(self, verb: str, path: str, **more: Any) -> httpx2.Response:
        """One request by hand, with the first key."""
        headers = {"x-goog-api-key": "first-key"} | more.pop("headers", {})
        url = path if path.startswith("http") else self.service.url + path
        return httpx2.request(verb, url, headers=headers, trust_env=False, timeout=30, **more)

    def raw(self, name: str) -> dict[str, Any]:
        """A resource as it is on the wire."""
        whole: dict[str, Any] = self.http("GET", f"/v1/{name}").json()
        return whole

    def upload(self, data: bytes, mime: str = "application/jsonl", **config: Any) -> Any:
        return self.sdk.files.upload(file=io.BytesIO(data), config={"mime_type": mime} | config)

    def picture(self, colour: tuple[int, int, int], size: tuple[int, int] = (60, 40)) -> Any:
        """An uploaded reference of one colour."""
        file = io.BytesIO()
        Image.new("RGB", size, colour).save(file, "PNG")
        return self.upload(file.getvalue(), "image/png")

    def submit(
        self, rows: list[dict[str, Any]], model: str = "gemini-2.5-flash-image", name: str = "job"
    ) -> Any:
        data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        file = self.upload(data)
        return self.sdk.batches.create(model=model, src=file.name, config={"display_name": name})

    def output(self, job: Any) -> bytes:
        done = self.sdk.batches.get(name=job.name)
        return self.sdk.files.download(file=done.dest.file_name)

    def run(self, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The result's lines by key, of a job that nothing delays."""
        lines = self.output(self.submit(rows, **more)).split(b"\n")
        return {line.get("key"): line for line in map(json.loads, filter(None, lines))}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        if self._storage is not None:
            self._storage.close()
        self.service.stop()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Emulators set up as a test wants them."""
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """One line of input, as the documentation writes it: snake_case outside, camelCase inside."""

    def make(key: str, prompt: str = "a red mug", *references: Any, **settings: Any) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": prompt}]
        for file in references:
            parts.append({"file_data": {"mime_type": file.mime_type, "file_uri": file.uri}})
        request: dict[str, Any] = {"contents": [{"role": "user", "parts": parts}]}
        if settings:
            request["generation_config"] = settings
        return {"key": key, "request": request}

    return make
