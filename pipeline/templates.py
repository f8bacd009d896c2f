"""Templates: Jinja2 in its sandbox, strict about names; a row's values are data and never rendered."""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

_RESERVED = {
    "row",
    "self",
    "super",
    "loop",
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "true",
    "false",
    "none",
}
_ROW = "row"  # row["Image Src"] reaches a column by its own name


class BadTemplate(Exception):
    """A template that cannot be read, or cannot be filled with this row. The message is for people."""


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    # What differs between two runs of one job has no place in a prompt; range() could fill the memory.
    for name in ("range", "lipsum", "cycler", "joiner", "namespace"):
        environment.globals.pop(name)
    environment.filters.pop("random")
    return environment


_ENVIRONMENT = _environment()


@functools.lru_cache(maxsize=4096)
def name_of(column: str) -> str:
    """What a template calls a column: 'Image Src' is image_src, '2nd photo' is _2nd_photo."""
    plain = unicodedata.normalize("NFKC", column).lower()
    name = "".join(c if ("_" + c).isidentifier() else " " for c in plain).strip(" _")
    name = unicodedata.normalize("NFKC", re.sub(" +", "_", name))
    return name if name.isidentifier() and name not in _RESERVED else f"_{name}"


@functools.lru_cache(maxsize=256)
def names_of(columns: tuple[str, ...]) -> Mapping[str, str]:
    """Template names and the columns behind them. A column that is written like a name has that name too."""
    names: dict[str, str] = {}
    for column in columns:
        names.setdefault(name_of(column), column)
    return names | {column: column for column in columns if column.isidentifier() and column not in _RESERVED}


def context_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """All that a template may name for one row."""
    context: dict[str, Any] = {name: fields[column] for name, column in names_of(tuple(fields)).items()}
    context[_ROW] = fields
    return _ENVIRONMENT.globals | context


@functools.lru_cache(maxsize=256)
def template(text: str) -> Callable[[Mapping[str, Any]], str]:
    """A template, ready to be filled with a context. Raises BadTemplate, now or when filled."""
    try:
        compiled = _ENVIRONMENT.from_string(text)
    except TemplateSyntaxError as error:
        raise BadTemplate(f"line {error.lineno}: {_plain(error)}") from error
    fill, context_for = compiled.root_render_func, compiled.new_context

    def rendered(context: Mapping[str, Any]) -> str:
        # As render() does, without copying what a template may name: it cannot change that.
        return "".join(fill(context_for(cast("dict[str, Any]", context), shared=True)))

    pieces = _pieces(_ENVIRONMENT.parse(text))
    return _told(rendered if pieces is None else partial(_joined, pieces, rendered))


def _pieces(parsed: nodes.Template) -> list[tuple[str, str | None]] | None:
    """Words and the name behind them, if the template is nothing but words and names: most are."""
    pieces: list[tuple[str, str | None]] = []
    for output in parsed.body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                pieces.append((node.data, None))
            elif isinstance(node, nodes.Name):
                pieces.append(("", node.name))
            else:
                return None
    return pieces


def _joined(
    pieces: Sequence[tuple[str, str | None]],
    rendered: Callable[[Mapping[str, Any]], str],
    context: Mapping[str, Any],
) -> str:
    """The same as Jinja makes of it, in a tenth of the time. What is not a plain text is left to Jinja."""
    told = [words if name is None else context.get(name) for words, name in pieces]
    try:
        return "".join(told)  # type: ignore[arg-type]
    except TypeError:
        return rendered(context)


@functools.lru_cache(maxsize=64)
def expression(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """An expression such as colour == 'red', ready for a context. Raises BadTemplate, now or later."""
    try:
        compiled = _ENVIRONMENT.compile_expression(text, undefined_to_none=False)
    except TemplateSyntaxError as error:
        raise BadTemplate(_plain(error)) from error
    return _told(lambda context: compiled(context))


def unknown_names(text: str, columns: Iterable[str]) -> list[str]:
    """The names in a template that no column answers to, sorted. Raises BadTemplate."""
    try:
        parsed = _ENVIRONMENT.parse(text)
    except TemplateSyntaxError as error:
        raise BadTemplate(f"line {error.lineno}: {_plain(error)}") from error
    columns = tuple(columns)
    known = {*names_of(columns), _ROW, *_ENVIRONMENT.globals}
    own_names = {
        item.arg.value
        for item in parsed.find_all(nodes.Getitem)
        if isinstance(item.arg, nodes.Const) and isinstance(item.node, nodes.Name) and item.node.name == _ROW
    }
    return sorted((meta.find_undeclared_variables(parsed) - known) | (own_names - set(columns)))


def _told(fill: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    def filled(context: Mapping[str, Any]) -> Any:
        try:
            return fill(context)
        except UndefinedError as error:
            raise BadTemplate(_plain(error)) from error
        except SecurityError as error:
            raise BadTemplate(f"not allowed in a template: {_plain(error)}") from error
        # A filter on text that is no number, a division by zero: the row's trouble, not ours.
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise BadTemplate(_plain(error)) from error

    return filled


def _plain(error: Exception) -> str:
    """Jinja's own words, in lower case and without a full stop."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text[:1].lower() + text[1:]
