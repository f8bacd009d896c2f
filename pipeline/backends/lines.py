"""The line that a prompt becomes, whoever is asked: Gemini, or Imagen. Pure."""

from pipeline.backends import imagen, wire
from pipeline.prompt import Prompt


def encode(wire_id: str, prompt: Prompt) -> bytes:
    """A line of requests/. The same prompt is always the same bytes."""
    return wire.encode(wire_id, prompt) if prompt.imagen is None else imagen.encode(wire_id, prompt)
