"""A picture made smaller, or into a format that models read, by a rule that is written down beside it."""

import io
import warnings
from dataclasses import dataclass

from pipeline.pictures import Broken, header_size, sniff

READ_BY_MODELS = ("PNG", "JPEG", "WEBP", "HEIC")
QUALITY = 92


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done to a reference before it is sent. Nothing, unless the job says so."""

    max_side: int | None = None  # pixels of its longer side
    convert: str | None = None  # 'PNG' or 'JPEG': what no model reads is sent as that


def applied(data: bytes, rule: Rule) -> tuple[bytes, str] | Broken | None:
    """The picture by the rule, and what was done; None: it is sent as it is.

    The same bytes, the same rule and the same Pillow give the same bytes.
    """
    found = sniff(data)
    size = header_size(data)
    odd = found not in READ_BY_MODELS and rule.convert is not None
    large = size is not None and rule.max_side is not None and max(size) > rule.max_side
    if found == "HEIC" or size is None or not (odd or large):  # nothing here decodes HEIC; models do
        return None
    # A graphic that becomes a JPEG grows noise; a photograph that becomes a PNG grows fat.
    target = rule.convert if odd and rule.convert else "JPEG" if found == "JPEG" else "PNG"
    made = _made(data, target, rule.max_side if large else None)
    if isinstance(made, Broken):
        return made
    said = [f"max_side={rule.max_side}"] if large else []
    return made, " ".join([*said, target + (f" quality={QUALITY}" if target == "JPEG" else "")])


def _made(data: bytes, target: str, max_side: int | None) -> bytes | Broken:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as opened:
            profile = opened.info.get("icc_profile")
            # Cameras write how they were held; what is saved anew has to stand upright by itself.
            image: Image.Image = ImageOps.exif_transpose(opened)
            image = _in_colours(image, target)
            if max_side is not None:
                image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
            stream = io.BytesIO()
            options = {"quality": QUALITY} if target == "JPEG" else {}
            kept = profile if image.mode in ("RGB", "RGBA") and opened.mode in ("RGB", "RGBA") else None
            image.save(stream, target, icc_profile=kept, **options)
            return stream.getvalue()
    except Image.DecompressionBombError:
        return Broken("claims more pixels than any picture has")
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError) as error:
        return Broken(f"cannot be decoded: {str(error).lower() or type(error).__name__}")


def _in_colours(image: "Image.Image", target: str) -> "Image.Image":  # type: ignore[name-defined]  # noqa: F821
    """As the target can hold it: a JPEG has no transparency, which becomes white."""
    from PIL import Image

    clear = "A" in image.getbands() or "transparency" in image.info
    if not clear:
        return image if image.mode in ("RGB", "L") else image.convert("RGB")
    image = image.convert("RGBA")
    if target == "PNG":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
