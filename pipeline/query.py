"""Rows that a person's words choose, as pandas reads them. Whatever it cannot make of them is said as theirs to mend.

What it fears: words that are no question about each row, and choose other rows than were meant without a word.
"""

import re
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadInput
from pipeline.problems import did_you_mean, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd

_PIECES = re.compile(r"`[^`]*`|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|\w+|[=!<>]=|\S")
_COMPARES = frozenset({"==", "!=", "<", "<=", ">", ">="})

_HINT = "write it as in \"outcome != 'ok'\", names with dots in backticks"


def chosen(frame: "pd.DataFrame", where: str) -> "pd.DataFrame":
    """The rows for which it holds, as they are in the frame. Raises BadInput, whatever the words are.

    A number that is missing equals none and differs from all. What times are compared with is read as UTC.
    """
    answers = _answers(frame, where)
    if answers is None:
        raise _unreadable(where, "says neither yes nor no of each row", _HINT)
    return frame[answers.isin([True]).to_numpy(dtype=bool)]


def _answers(frame: "pd.DataFrame", where: str) -> "pd.Series[Any] | None":
    """A yes or no for each row, missing where there is none to give; None: the words are about something else."""
    import pandas as pd

    found = _evaluated(frame, where)
    if pd.api.types.is_list_like(found) and not isinstance(found, pd.Series | pd.DataFrame):
        found = pd.Series(found) if len(found) == len(frame) else None
    if not isinstance(found, pd.Series) or not found.index.equals(frame.index):
        return None
    said = found.dropna().infer_objects()
    return found if pd.api.types.is_bool_dtype(said) or (said.empty and said.dtype == object) else None


def _evaluated(frame: "pd.DataFrame", where: str) -> Any:
    """What the words come to. They know the columns, and no name of this program."""
    import pandas as pd

    times = [str(name) for name, kind in frame.dtypes.items() if isinstance(kind, pd.DatetimeTZDtype)]
    words, moments = _with_moments(where, times)
    try:
        # Not frame.query: that takes numbers and texts for labels of rows.
        return _with_floats(frame).eval(
            words, target=None, engine="python", local_dict=moments, global_dict={}
        )
    except NameError as error:
        raise _unknown(frame, where, error) from error
    except Exception as error:  # pandas raises what it likes, and all of it is about these words
        why = shortened(str(error), length=200) or type(error).__name__
        compared = next((name for name in times if name in where), None)
        raise _unreadable(where, why, _HINT if compared is None else _hint_of(compared)) from error


def _unreadable(where: str, why: str, hint: str) -> BadInput:
    return BadInput(f"--where {shortened(where, length=200)}: {why}", hint=hint)


def _unknown(frame: "pd.DataFrame", where: str, error: NameError) -> BadInput:
    columns = [str(name) for name in frame]
    named = re.search(r"'(.*)'", str(error))
    name = named[1] if named else where
    if "BACKTICK" in name:  # pandas spells such a name its own way
        name = next((each for each in re.findall("`([^`]*)`", where) if each not in columns), name)
    hint = f"{did_you_mean(name, columns)} (names with dots in backticks)"
    return _unreadable(where, f"no column {name!r}", hint)


def _with_floats(frame: "pd.DataFrame") -> "pd.DataFrame":
    """With NaN for whole numbers that are missing: of pandas' own NA nothing holds, not even that it differs."""
    from pandas.api.types import is_extension_array_dtype, is_integer_dtype

    whole = [
        n for n, kind in frame.dtypes.items() if is_extension_array_dtype(kind) and is_integer_dtype(kind)
    ]
    floats = {
        str(name): frame[name].to_numpy(dtype="float64", na_value=float("nan"))
        for name in whole
        if frame[name].hasnans
    }
    return frame.assign(**floats)


def _with_moments(where: str, times: "Collection[str]") -> "tuple[str, dict[str, pd.Timestamp]]":
    """The words, with names for the texts that one of these columns is compared with, and what those mean.

    pandas compares such a column with a text that says its zone only, and for equality with none.
    """
    pieces = list(_PIECES.finditer(where))
    texts = ["", "", *(piece[0].strip("`") for piece in pieces), "", "", ""]
    moments: dict[str, pd.Timestamp] = {}
    words, done = "", 0
    for place, piece in enumerate(pieces, 2):
        if texts[place] in times and "in" in (texts[place + 1], texts[place + 2]):  # which would find none
            raise _unreadable(where, f"{texts[place]!r} is in no list", _hint_of(texts[place]))
        name = _compared_with(texts, place, times)
        if name is None or piece[0][0] not in "'\"":
            continue
        moment = f"moment_{len(moments)}"
        moments[moment] = _moment(piece[0][1:-1], name, where)
        words += f"{where[done : piece.start()]}@{moment}"
        done = piece.end()
    return words + where[done:], moments


def _compared_with(texts: "Sequence[str]", place: int, times: "Collection[str]") -> str | None:
    """The one of these columns that stands beside this piece, a sign of comparison between them."""
    if texts[place - 1] in _COMPARES and texts[place - 2] in times:
        return texts[place - 2]
    if texts[place + 1] in _COMPARES and texts[place + 2] in times and texts[place + 3] != ".":
        return texts[place + 2]
    return None


def _moment(text: str, name: str, where: str) -> "pd.Timestamp":
    import pandas as pd

    moment = pd.to_datetime(text, utc=True, errors="coerce")
    if pd.isna(moment):
        raise _unreadable(where, f"{text!r} is neither a date nor a time", _hint_of(name))
    return moment


def _hint_of(time: str) -> str:
    return f"write a date, or a time in UTC: {time} > '2026-11-21 06:00'"
