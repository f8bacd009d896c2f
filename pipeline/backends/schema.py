"""What a line may hold, written down once: Google ignores, or takes amiss, what stands in the wrong place.

Written from Google's discovery document of GenerateContentRequest, as far as this program asks; every object is
closed. The values of sizes and ratios are the model's business and are checked with it.
"""

from typing import Annotated, Any, Literal

import msgspec

from pipeline.errors import Corrupt


class _Closed(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class _File(_Closed):
    fileUri: Annotated[str, msgspec.Meta(min_length=1)]  # noqa: N815 - Google's spelling, as all below
    mimeType: Literal["image/png", "image/jpeg", "image/webp", "image/heic"]  # noqa: N815


class _Part(_Closed):
    text: str | msgspec.UnsetType = msgspec.UNSET
    fileData: _File | msgspec.UnsetType = msgspec.UNSET  # noqa: N815

    def __post_init__(self) -> None:
        if (self.text is msgspec.UNSET) == (self.fileData is msgspec.UNSET):
            raise ValueError("a part is either text or a file")


class _Content(_Closed):
    parts: Annotated[tuple[_Part, ...], msgspec.Meta(min_length=1)]


class _Asked(_Content, tag_field="role", tag="user"):
    pass


class _Said(_Closed, tag_field="role", tag="model"):
    """What a model said before, in its own words: whatever it says may be told to it again."""

    parts: Annotated[tuple[dict[str, Any], ...], msgspec.Meta(min_length=1)]


class _Image(_Closed):
    aspectRatio: Annotated[str, msgspec.Meta(pattern=r"^\d+:\d+$")] | None = None  # noqa: N815
    imageSize: Literal["512", "1K", "2K", "4K"] | None = None  # noqa: N815


class _Thinking(_Closed):
    thinkingLevel: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"] | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    includeThoughts: bool = False  # noqa: N815


class _Generation(_Closed):
    responseModalities: tuple[Literal["TEXT", "IMAGE"], ...]  # noqa: N815
    imageConfig: _Image | None = None  # noqa: N815
    thinkingConfig: _Thinking | None = None  # noqa: N815
    seed: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    topP: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None  # noqa: N815
    topK: Annotated[int, msgspec.Meta(ge=1)] | None = None  # noqa: N815


class _Nothing(_Closed):
    pass


class _Searches(_Closed):
    webSearch: _Nothing | None = None  # noqa: N815
    imageSearch: _Nothing | None = None  # noqa: N815


class _Search(_Closed):
    searchTypes: _Searches  # noqa: N815


class _Tool(_Closed):
    googleSearch: _Search  # noqa: N815


class _Safety(_Closed):
    category: Literal[
        "HARM_CATEGORY_HARASSMENT",
        "HARM_CATEGORY_HATE_SPEECH",
        "HARM_CATEGORY_SEXUALLY_EXPLICIT",
        "HARM_CATEGORY_DANGEROUS_CONTENT",
        "HARM_CATEGORY_CIVIC_INTEGRITY",
    ]
    threshold: Literal[
        "BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"
    ]


class _Request(_Closed):
    contents: Annotated[tuple[_Asked | _Said, ...], msgspec.Meta(min_length=1)]
    generationConfig: _Generation  # noqa: N815
    systemInstruction: _Content | None = None  # noqa: N815
    safetySettings: tuple[_Safety, ...] = ()  # noqa: N815
    tools: tuple[_Tool, ...] = ()
    store: bool | None = None


class _Instance(_Closed):
    prompt: Annotated[str, msgspec.Meta(min_length=1)]


class _Output(_Closed):
    mimeType: Literal["image/png", "image/jpeg"]  # noqa: N815
    compressionQuality: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None  # noqa: N815


_Filter = Literal["BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE"]


class _Parameters(_Closed):
    sampleCount: Annotated[int, msgspec.Meta(ge=1, le=4)]  # noqa: N815
    includeRaiReason: Literal[True]  # noqa: N815
    aspectRatio: Annotated[str, msgspec.Meta(pattern=r"^\d+:\d+$")] | None = None  # noqa: N815
    sampleImageSize: Literal["1K", "2K"] | None = None  # noqa: N815
    negativePrompt: Annotated[str, msgspec.Meta(min_length=1)] | None = None  # noqa: N815
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    guidanceScale: Annotated[float, msgspec.Meta(gt=0)] | None = None  # noqa: N815
    safetySetting: _Filter | None = None  # noqa: N815
    personGeneration: Literal["DONT_ALLOW", "ALLOW_ADULT", "ALLOW_ALL"] | None = None  # noqa: N815
    language: str | None = None
    enhancePrompt: bool | None = None  # noqa: N815
    addWatermark: bool | None = None  # noqa: N815
    includeSafetyAttributes: bool | None = None  # noqa: N815
    outputOptions: _Output | None = None  # noqa: N815

    def __post_init__(self) -> None:
        if self.seed is not None and self.addWatermark is not False:
            raise ValueError("a seed beside a watermark")


class _Predict(_Closed):
    instances: tuple[_Instance]
    parameters: _Parameters


class _Line(_Closed):
    key: Annotated[str, msgspec.Meta(min_length=1)]
    request: _Request | msgspec.UnsetType = msgspec.UNSET
    predict: _Predict | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.request is msgspec.UNSET) == (self.predict is msgspec.UNSET):
            raise ValueError("a line is a request of Gemini or of Imagen")


_decode = msgspec.json.Decoder(_Line).decode


def check(line: bytes) -> None:
    """Raises Corrupt for a line that would be misread. It was made by us, so that is our fault or a table's."""
    try:
        _decode(line)
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"a request would be misread by Google: {error}",
            hint="nothing was sent; look at what your own table of models changes, or report this",
        ) from error
