"""The nightshoot command: what it is made of, and what it says of errors.

Only this and the commands exit; they print through console.
"""

import shlex
import signal
import sys

import click

from pipeline.commands.choose import proof, rehearse, shots
from pipeline.commands.inside import doctor, index, orphans, status
from pipeline.commands.nightly import cancel, retry, tick, tidy
from pipeline.commands.pieces import collect, emulator, poll, submit
from pipeline.commands.review import review
from pipeline.commands.shoot import demo, expand, init, plan, run
from pipeline.errors import NightshootError
from pipeline.frugal import one_heap

BUG, INTERRUPTED, TERMINATED = 70, 130, 143

GROUPS = {
    "Shoot": (init, plan, expand, run, demo),
    "Choose": (proof, shots, rehearse),
    "Every night": (tick, tidy),
    "Look inside": (status, index, review, retry, cancel, doctor, orphans),
    "Pieces": (submit, poll, collect, emulator),
}
"""The commands as a person meets them."""


class Grouped(click.Group):
    """Help that fits one screen, by what people want to do."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(each.name or "", each.get_short_help_str(90)) for each in commands])


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    from pipeline import __version__

    click.echo(f"nightshoot {__version__} (google-genai {version('google-genai')})")
    context.exit()


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Say which."
)
def cli() -> None:
    """Shoots a catalog overnight: a manifest in, pictures and an index out.

    \b
      nightshoot demo                    a whole run, without a key
      nightshoot init products.csv       writes jobs/products.toml
      nightshoot run --max-usd 20        shoots it
    """


for _commands in GROUPS.values():
    for _command in _commands:
        cli.add_command(_command)


class _Terminated(BaseException):
    """Somebody sent SIGTERM: end like an interruption, with the same words."""


def main() -> None:
    """The command, with every error a person can cause said in two lines, and never a traceback for it."""
    signal.signal(signal.SIGTERM, _terminate)
    one_heap()
    try:
        code = cli(prog_name="nightshoot", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        code = _wrong_usage(error)
    except NightshootError as error:
        from pipeline.console import Console

        Console().error(error)
        code = error.exit_code
    except OSError as error:
        sys.stderr.write(
            f"error: {error.filename or 'this machine'}: {(error.strerror or str(error)).lower()}\n"
        )
        sys.stderr.write(
            "hint: nothing that was paid for is lost; mend that and run the same command again\n"
        )
        code = 5
    except (KeyboardInterrupt, click.Abort):
        code = _interrupted(INTERRUPTED)
    except _Terminated:
        code = _interrupted(TERMINATED)
    except Exception as error:  # noqa: BLE001 - a bug of ours: say where its traceback lies, then stop
        code = _bug(error)
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


_GOES_ON = ("run", "proof", "submit", "tick", "poll", "collect")


def _interrupted(code: int) -> int:
    sys.stderr.write("\ninterrupted")
    if sys.argv[1:2] and (sys.argv[1] in _GOES_ON or "--live" in sys.argv):
        # --new would begin once more, and pay once more.
        command = shlex.join(["nightshoot", *(a for a in sys.argv[1:] if a != "--new")])
        sys.stderr.write(f"; what was sent goes on at Google\nhint: go on from here with  {command}")
    sys.stderr.write("\n")
    return code


def _wrong_usage(error: click.ClickException) -> int:
    """Click's own errors, said as all others are."""
    message = error.format_message().rstrip(".")
    if message.startswith("Usage:"):  # commands of which none was named: what there is to say is the help
        sys.stderr.write(f"{message}\n")
        return 2
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "nightshoot"
    sys.stderr.write(f"error: {message[:1].lower()}{message[1:]}\nhint: {command} --help\n")
    return 2


def _bug(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="nightshoot-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    sys.stderr.write(f"error: a bug in nightshoot: {type(error).__name__}: {error}\n")
    sys.stderr.write(f"hint: its traceback is in {file.name}; what is on disk stays as it is\n")
    return BUG
