"""The shape of a `GenerateContentRequest`: which fields there are, and where one is not."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pipeline.emulator.problems import INVALID_ARGUMENT, RowProblem

ANY = object()  # anything at all: the user's own names, or things no image model reads
TEXT, NUMBER, FLAG = str, float, bool
Shape = Any  # one of the above, a mapping of fields, or a list with the shape of its elements

BLOB = {"mimeType": TEXT, "data": TEXT, "displayName": TEXT}
FILE = {"mimeType": TEXT, "fileUri": TEXT, "displayName": TEXT}
PART = {
    "text": TEXT,
    "inlineData": BLOB,
    "fileData": FILE,
    "thought": FLAG,
    "thoughtSignature": TEXT,
    "mediaResolution": ANY,
    "partMetadata": ANY,
    "videoMetadata": ANY,
    "functionCall": ANY,
    "functionResponse": ANY,
    "executableCode": ANY,
    "codeExecutionResult": ANY,
}
CONTENT = {"role": TEXT, "parts": [PART]}
SEARCH = {
    "searchTypes": {"webSearch": {}, "imageSearch": {}},
    "timeRangeFilter": {"startTime": TEXT, "endTime": TEXT},
}
TOOL = {
    "googleSearch": SEARCH,
    "googleSearchRetrieval": ANY,
    "functionDeclarations": ANY,
    "codeExecution": ANY,
    "urlContext": ANY,
    "googleMaps": ANY,
    "fileSearch": ANY,
}
IMAGE = {"aspectRatio": TEXT, "imageSize": TEXT}
THINKING = {"thinkingLevel": TEXT, "thinkingBudget": NUMBER, "includeThoughts": FLAG}
GENERATION = {
    "responseModalities": [TEXT],
    "imageConfig": IMAGE,
    "thinkingConfig": THINKING,
    "candidateCount": NUMBER,
    "maxOutputTokens": NUMBER,
    "temperature": NUMBER,
    "topP": NUMBER,
    "topK": NUMBER,
    "seed": NUMBER,
    "stopSequences": [TEXT],
    "mediaResolution": TEXT,
    "presencePenalty": NUMBER,
    "frequencyPenalty": NUMBER,
    "responseLogprobs": FLAG,
    "logprobs": NUMBER,
    "responseMimeType": TEXT,
    "responseSchema": ANY,
    "responseJsonSchema": ANY,
    "speechConfig": ANY,
    "enableEnhancedCivicAnswers": FLAG,
}
REQUEST = {
    "model": TEXT,
    "contents": [CONTENT],
    "systemInstruction": CONTENT,
    "safetySettings": [{"category": TEXT, "threshold": TEXT}],
    "tools": [TOOL],
    "toolConfig": ANY,
    "generationConfig": GENERATION,
    "cachedContent": TEXT,
    "labels": ANY,
    "serviceTier": TEXT,
    "store": FLAG,
}
LINE = {"key": TEXT, "request": REQUEST, "metadata": ANY}

# Vertex AI knows some fields more. What stands beside `request` in its lines it neither reads nor returns.
VERTEX_IMAGE = IMAGE | {
    "personGeneration": TEXT,
    "prominentPeople": TEXT,
    "imageOutputOptions": {"mimeType": TEXT, "compressionQuality": NUMBER},
}
VERTEX_TOOL = TOOL | {
    "googleSearch": SEARCH | {"excludeDomains": [TEXT], "blockingConfidence": TEXT},
    "retrieval": ANY,
    "enterpriseWebSearch": ANY,
}
VERTEX_REQUEST = REQUEST | {
    "safetySettings": [{"category": TEXT, "threshold": TEXT, "method": TEXT}],
    "tools": [VERTEX_TOOL],
    "generationConfig": GENERATION
    | {"imageConfig": VERTEX_IMAGE, "audioTimestamp": FLAG, "modelConfig": ANY, "routingConfig": ANY},
    "modelArmorConfig": ANY,
}
VERTEX_LINE = {"request": VERTEX_REQUEST}


@lru_cache(maxsize=4096)
def camel(name: str) -> str:
    """The one spelling of a field; both are accepted on the wire, mixed as one likes."""
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


def normal(value: Any, shape: Shape, *, where: str, lenient: bool = False) -> Any:
    """The value with camelCase names, checked against its shape; RowProblem names the field that does not
    belong.
    """
    if shape is ANY or value is None:
        return value
    if isinstance(shape, list):
        return normal_list(value, shape[0], where=where, lenient=lenient)
    if isinstance(shape, dict):
        return normal_object(value, shape, where=where, lenient=lenient)
    if not is_a(value, shape):
        raise RowProblem(INVALID_ARGUMENT, f"Invalid value at '{where}' ({shape.__name__}), {value!r:.60}")
    return value


def normal_list(value: Any, shape: Shape, *, where: str, lenient: bool) -> list[Any]:
    if not isinstance(value, list):
        raise RowProblem(INVALID_ARGUMENT, f"Invalid value at '{where}': not a list")
    return [
        normal(item, shape, where=f"{where}[{number}]", lenient=lenient) for number, item in enumerate(value)
    ]


def normal_object(value: Any, shape: Mapping[str, Shape], *, where: str, lenient: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowProblem(INVALID_ARGUMENT, f"Invalid value at '{where}': not an object")
    result: dict[str, Any] = {}
    for name, item in value.items():
        known = camel(name)
        if known not in shape:
            if lenient:
                continue
            raise RowProblem(INVALID_ARGUMENT, f"no such field: '{name}' at '{where or '/'}'")
        if known in result:
            raise RowProblem(INVALID_ARGUMENT, f"field '{name}' at '{where or '/'}' is given twice")
        inside = f"{where}.{known}" if where else known
        result[known] = normal(item, shape[known], where=inside, lenient=lenient)
    return result


def is_a(value: Any, shape: type) -> bool:
    if shape is FLAG:
        return isinstance(value, bool)
    if shape is NUMBER:  # int64 travels as a string
        return (isinstance(value, int | float) and not isinstance(value, bool)) or (
            isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
        )
    return isinstance(value, str)
