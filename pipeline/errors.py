"""What can go wrong with a run, one class for each thing the user can do about it."""


class NightshootError(Exception):
    """Anything a person can cause or mend. The message says what, where and which value; the hint says what to do."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # what a traceback shows, in a notebook


class BadInput(NightshootError):
    """The job, the manifest or an option is wrong: fix it and run again."""

    exit_code = 2


class Refused(NightshootError):
    """Allowed by nobody yet: a budget, a policy, or a no to a question. Decide and run again."""

    exit_code = 3


class Denied(NightshootError):
    """A key, a permission or a project is missing or wrong: fix the access."""

    exit_code = 4


class Unavailable(NightshootError):
    """Nobody answered, or somebody else moved on. Nothing is lost: run again later."""

    exit_code = 5


class Corrupt(NightshootError):
    """The run directory contradicts itself: stop and look."""

    exit_code = 7
