"""The rows of one job, read as strictly as the service reads them, each with the misfortune ordered for it."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.emulator.answers import Answer, afflict
from pipeline.emulator.faults import Faults
from pipeline.emulator.fields import LINE, Shape
from pipeline.emulator.lines import Resolve, load, read
from pipeline.emulator.models import Model
from pipeline.emulator.problems import INVALID_ARGUMENT, RowProblem
from pipeline.emulator.settings import Settings


class Reader:
    """Reads what is asked of one model."""

    def __init__(
        self,
        settings: Settings,
        faults: Faults,
        *,
        model: Model,
        display_name: str | None,
        resolve: Resolve,
        lenient: bool = False,
        shape: Shape = LINE,
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._model = model
        self._display_name = display_name
        self._resolve = resolve
        self._lenient = lenient or settings.lenient
        self._shape = shape

    def keyed(self, lines: Iterable[bytes]) -> list[Answer]:
        """An answer for every line. RowProblem when the lines cannot be told apart, or there are none."""
        places: dict[str, int] = {}
        answers = []
        for number, value in self.loaded(lines):
            key = value.get("key")
            if key is not None and not isinstance(key, str):
                raise RowProblem(INVALID_ARGUMENT, f"line {number}: key {key!r} is not a string")
            if key is not None and (first := places.setdefault(key, number)) != number:
                raise RowProblem(
                    INVALID_ARGUMENT, f"line {number}: duplicate key {key!r}, first seen in line {first}"
                )
            answers.append(self.answer(value, number, key=key))
        return answers

    def loaded(self, lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every line's object with its number. RowProblem for one that is none, or when there are none."""
        number = 0
        for number, line in enumerate(lines, 1):
            yield number, load(line, where=f"line {number}")
        if not number:
            raise RowProblem(INVALID_ARGUMENT, "the input has no lines")

    def answer(
        self, value: dict[str, Any], number: int, *, key: str | None, where: str | None = None
    ) -> Answer:
        """What will come back for this row."""
        try:
            asked, prompt = read(
                value,
                where=f"line {number}" if where is None else where,
                model=self._model,
                resolve=self._resolve,
                salt=str(self._settings.seed).encode(),
                lenient=self._lenient,
                shape=self._shape,
            )
        except RowProblem as problem:
            return Answer(key, error=(problem.code, problem.message))
        answer = Answer(key, asked, pictures=asked.pictures)
        for kind, arguments in self._faults.of_row(
            asked.seed,
            key=key,
            prompt=prompt,
            number=number,
            display_name=self._display_name,
            model=self._model.name,
        ):
            afflict(answer, kind, arguments)
        return answer
