"""How a failed command ends: with one line, and for an unexpected error with the traceback in a file."""

import contextlib
import datetime as dt
import errno
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator

import click

LOG = "recsys.log"
_ADVICE_OF_ERRNO = {  # `writing_to` reports a full disk
    errno.EACCES: "correct the permissions, then run it again",
    errno.EROFS: "that disk is read-only: set RECSYS_DATA to a different one",
}


class Interrupted(click.ClickException):
    """Ctrl-C, with the exit status that shells use for it."""

    exit_code = 130


@contextlib.contextmanager
def plain_errors(doing: Callable[[], str]) -> Iterator[None]:
    """End with one line when something goes wrong in the block.

    The package's own errors say what to do. For other errors the line says what was being done, and which file holds
    the traceback.
    """
    from recsys_assets.datasets.disk import history, writing_to
    from recsys_assets.uris import without_secrets

    try:
        with writing_to(history()):  # Dagster's history is read and written by almost every command
            yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"{doing()} was interrupted: run it again to continue") from None
    except Exception as error:
        own = type(error).__module__.partition(".")[0] == "recsys_assets"
        raise click.ClickException(without_secrets(str(error)) if own else _unexpected_error(error, doing())) from error


def _unexpected_error(error: Exception, doing: str) -> str:
    """One line on an error of Python or of a library; its traceback is saved."""
    from recsys_assets.uris import safe_message

    advice = _ADVICE_OF_ERRNO.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    parts = [f"{doing} failed: {safe_message(error)}", advice, _save_traceback(error, doing)]
    return "; ".join(part for part in parts if part)


def _save_traceback(error: Exception, doing: str) -> str:
    """Save the traceback to the log in the data folder, or else to a temporary file, and say which file it is."""
    from recsys_assets.uris import without_secrets

    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    text = f"{now} {doing}\n{without_secrets(''.join(traceback.format_exception(error)))}\n"
    for open_log in (_open_in_data, _open_elsewhere):
        try:
            handle, place = open_log()
            with os.fdopen(handle, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            continue
        return f"the traceback is at the end of {place}"
    return "the traceback could not be written to any file"


def _open_in_data() -> tuple[int, str]:
    from recsys_assets.settings import settings

    place = str(settings().data / LOG)
    return os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), place


def _open_elsewhere() -> tuple[int, str]:
    return tempfile.mkstemp(prefix="recsys-", suffix=".log")
