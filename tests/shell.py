"""A person at a shell: commands in, exit codes and words out."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli import main

HOUSE = Path(__file__).parent.parent


def _hears_signals() -> None:
    """Who runs the tests in the background may have them ignore Ctrl-C, and so all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


class Shell:
    """Runs the real command in a folder, with an environment of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        kept = {
            name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")
        }
        self.environment = {**kept, "PYTHONPATH": str(HOUSE), **environment}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipeline", *arguments]

    def __call__(self, *arguments: str) -> Said:
        """The command's own entry, called in this process: it saves the second that Google's SDK takes to load."""
        out, err = io.StringIO(), io.StringIO()
        before = (Path.cwd(), dict(os.environ), sys.argv, sys.stdin, signal.getsignal(signal.SIGTERM))
        try:
            os.chdir(self.folder)
            os.environ.clear()
            os.environ.update(self.environment)
            sys.argv, sys.stdin = ["nightshoot", *arguments], io.StringIO()
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
                main()
        finally:
            os.chdir(before[0])
            os.environ.clear()
            os.environ.update(before[1])
            sys.argv, sys.stdin = before[2], before[3]
            signal.signal(signal.SIGTERM, before[4])
        code = end.value.code
        return Said(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())

    def process(self, *arguments: str) -> Said:
        """The same in a process of its own."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hears_signals,
        )

    def on_a_terminal(self, *arguments: str, answer: str, after: str = "[y/N]") -> tuple[int, str]:
        """The same at a terminal, where a person answers when asked. What they see comes back."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.environment, "TERM": "xterm", "COLUMNS": "120"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            close_fds=True,
        )
        os.close(theirs)
        seen, answered = "", False
        while True:
            ready, _, _ = select.select([ours], [], [], 60)
            if not ready:
                process.kill()
                raise TimeoutError(seen)
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is gone: how Linux ends a terminal
                break
            if not piece:
                break
            seen += piece.decode(errors="replace")
            if not answered and after in seen:
                os.write(ours, answer.encode())
                answered = True
        os.close(ours)
        return process.wait(), seen
