"""URIs without their secrets: all code that shows a URI, or quotes a library that was given one, uses this module.

A URI may hold a password, a token or a signature, and a malformed one may hold it anywhere. So only what looks like
scheme, host and path is shown, and if these cannot be separated, everything after the scheme is hidden.
"""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

HIDDEN = "***"
_LEFT_OUT = "this text is left out, because it shows a hidden part of an address"
_MAX_MESSAGE = 300  # characters of a library's message: some quote a whole row that was sent
# The variables that name places; other variables in profiles are paths.
_PLACES = re.compile(
    r"MONGO_URI|RECSYS_\w+_URI|RECSYS_(LANDING|LAKE|SOURCE|ENGINE|ALERT_WEBHOOK|ALERT_SMTP)|MLFLOW_TRACKING_URI|DAGSTER_PG_URL"
)

_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:/+")
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^@/?#\s:,;&=\[\]]+)(:\d+)?"
_REST = re.compile(
    rf"(?P<user>[^@/?#\s]*@)?({_HOST}(,{_HOST})*)?(?P<path>/[^@?#;&]*)?(?P<query>\?[^@#]*)?(?P<fragment>#[^@]*)?"
)
# Parts that a path may not have: an address within it, `user:password@`, or options.
_NO_FOLDER = re.compile(r"(^|/)[A-Za-z][\w+.-]*:/|:[^/]*@|[?;&].*=")
_OPTIONS = r"pass|pwd|secret|token|sig|key|cred|auth|user|uid|login|session"
_NAMED_SECRET = re.compile(rf"({_OPTIONS})[\w.-]*=", re.IGNORECASE)


class NotAFolder(ValueError):
    """A setting for a folder on this machine holds an address; the message names the setting."""


def safe_uri(uri: str) -> str:
    """The URI or path without user, password and options; if it is malformed, everything after the scheme is hidden."""
    scheme, rest = _split_scheme(uri)
    if _is_path(scheme, rest):
        return scheme + rest
    parts = _REST.fullmatch(rest)
    if parts is None or _NAMED_SECRET.search(parts["path"] or ""):
        return scheme + HIDDEN
    start, end = parts.span("user") if parts["user"] else (0, 0)
    options = min((parts.start(part) for part in ("query", "fragment") if parts[part]), default=len(rest))
    after = rest[options : options + 1] + HIDDEN if options < len(rest) else ""
    return f"{scheme}{HIDDEN + '@' if end > start else ''}{rest[end:options]}{after}"


def is_malformed(uri: str) -> bool:
    """Whether user and password cannot be separated from the rest, or have no scheme before them.

    A library may take such a URI for a path, and create a folder of that name.
    """
    seen = safe_uri(uri)
    return seen.endswith(HIDDEN) and not re.search(r"[?#]\*+$", seen) or ("://" not in uri and seen != uri)


def safe_message(said: object, *uris: str) -> str:
    """The message of a library, on one line, unless it may show a piece of user, password or options.

    The URIs are those that the library was given; those of the environment are always checked too.
    """
    kind = f"{type(said).__name__}: " if isinstance(said, BaseException) else ""
    text = " ".join(str(said).split())
    folded = f"{text}\n{unquote(text)}".casefold()
    pieces = frozenset[str]().union(*(_words(uri) for uri in _places(uris)))
    whole = not pieces.isdisjoint(re.findall(r"\w+", folded))
    hides = whole or any(len(piece) > 3 and piece in folded for piece in pieces)
    return kind + (_LEFT_OUT if hides else text[:_MAX_MESSAGE])


def reveals(text: str, *uris: str) -> bool:
    """Whether a word of a text is part of a password, token or signature of these URIs, or of the environment's.

    Names of users and parts of words do not count: `recsys` and `test` are all over our own texts.
    """
    words = frozenset[str]().union(*(_words(uri, names=False) for uri in _places(uris)))
    return bool(words) and not words.isdisjoint(re.findall(r"\w+", f"{text}\n{unquote(text)}".casefold()))


def without_secrets(text: str, *uris: str) -> str:
    """A text without the lines that reveal a secret (`reveals`)."""
    if not reveals(text, *uris):
        return text
    return "\n".join(_LEFT_OUT if reveals(line, *uris) else line for line in text.split("\n"))


def is_folder(value: str) -> bool:
    """Whether a setting is the path of a folder, which may be shown, and not an address."""
    return not _SCHEME.match(value) and safe_uri(value) == value.strip()


def check_folder(name: str, value: str) -> None:
    """Check that a setting is the path of a folder, which may be shown, and not an address.

    Raises:
        NotAFolder: it is an address.
    """
    if not is_folder(value):
        raise NotAFolder(f"{name} is {safe_uri(value)}, an address: give the path of a folder of this machine")


@contextlib.contextmanager
def name_errors(kind: type[Exception], what: str, *uris: str) -> Iterator[None]:
    """Turn errors of other libraries in the block into errors of this kind, which name what failed without secrets."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("recsys_assets."):
            raise
        raise kind(f"{what}: {safe_message(error, *uris)}") from None


def guard_logs() -> None:
    """From now on, keep the secrets of the environment's places out of everything that this process logs."""
    make = logging.getLogRecordFactory()
    if getattr(make, "guards", False):
        return

    @functools.wraps(make)
    def make_guarded(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if reveals(f"{record.msg} {record.args}"):
            record.msg, record.args = _LEFT_OUT, ()
        if record.exc_info and reveals(logging.Formatter().formatException(record.exc_info)):
            record.exc_info, record.exc_text = None, _LEFT_OUT
        return record

    make_guarded.guards = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_guarded)


def _split_scheme(uri: str) -> tuple[str, str]:
    """The scheme with its slashes, and the rest."""
    text = uri.strip()
    scheme = _SCHEME.match(text)
    return (scheme[0], text[scheme.end() :]) if scheme else ("", text)


def _is_path(scheme: str, rest: str) -> bool:
    """Whether this is the path of a file or folder without secrets; `file:///…` and `sqlite:///…` count as paths."""
    if scheme and not re.fullmatch(r"(file|sqlite|unix):///+", scheme):
        return False
    if not re.search(r"[@:?#;&=]", rest):
        return True
    absolute = scheme or rest.startswith(("/", ".", "~"))
    return bool(absolute) and not _NO_FOLDER.search(rest) and not _NAMED_SECRET.search(rest)


def _places(uris: tuple[str, ...]) -> list[str]:
    return [*uris, *(value for name, value in os.environ.items() if _PLACES.fullmatch(name))]


@functools.lru_cache
def _words(uri: str, names: bool = True) -> frozenset[str]:
    """The words that `safe_uri` hides, both as written and without %-escapes, in lower case.

    In a malformed URI these are all words, except those after its last `@`, which can only be the host. If a user has
    a password, the user's name is left out unless `names` is set.
    """
    scheme, rest = _split_scheme(uri)
    if safe_uri(uri) == scheme + rest:
        return frozenset()
    parts = _REST.fullmatch(rest)
    if parts is None or _NAMED_SECRET.search(parts["path"] or ""):
        hidden = rest if _NAMED_SECRET.search(rest) else rest.rpartition("@")[0] or rest
    else:
        options = re.split(r"[?&;#]", (parts["query"] or "") + (parts["fragment"] or ""))
        values = [each.rpartition("=")[2] for each in options if _NAMED_SECRET.search(each) or "=" not in each]
        user, _, word = (parts["user"] or "").partition(":")
        hidden = " ".join([user if names or not word else "", word, *values])
    return frozenset(re.findall(r"\w+", f"{hidden} {unquote(hidden)}".casefold()))
