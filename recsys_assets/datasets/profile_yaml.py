"""Reading of a profile's YAML: plain values, and the line of each, so that a fault can name its line.

A profile is a short text that people write. What no person would write is refused before it costs time or memory:
files of megabytes, deep nesting, aliases that multiply, tags.
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from recsys_assets.settings import STORE_VARIABLE

Place = tuple[str | int, ...]  # the keys and list indices that lead to a value
MAX_BYTES, MAX_LEVELS, MAX_VALUES = 1_000_000, 12, 20_000  # bytes, levels, values including those of aliases
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^${}]*))?\}")
_SECRET = re.compile(rf"{STORE_VARIABLE.pattern}|MLFLOW_TRACKING_URI")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a tenth of the time
_TEXT = "tag:yaml.org,2002:str"
_UNPRINTABLE = ("Cc", "Cs", "Cn")  # Unicode's categories of control characters, surrogates and unassigned codes


class Fault(ValueError):
    """Something in a profile that cannot be used: where it is, and what is wrong."""

    def __init__(self, place: Place, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.place, self.line = place, line


@dataclass
class Content:
    """The content of a profile.

    Attributes:
        values: the values, with variables filled in.
        lines: line numbers by place, counted from 1.
        written: texts that hold variables, by place, as they are in the file.
        filled: the values of the variables that were used, by the text that they replace.
    """

    values: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    written: dict[Place, str] = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)

    def line(self, place: Place) -> tuple[Place, int | None]:
        """The longest leading part of a place that is in the file, and its line."""
        while place and place not in self.lines:
            place = place[:-1]
        return place, self.lines.get(place)

    def mask(self, message: str) -> str:
        """A message with variables as they are written, not their values (except values of one or two characters)."""
        for written, value in sorted(self.filled.items(), key=lambda each: -len(each[1])):
            message = message.replace(value, written) if len(value) > 2 else message
        return message


def read(path: Path, variables: Mapping[str, str]) -> Content:
    """Read a profile.

    Raises:
        Fault: it is not a YAML mapping, or holds something that no profile may hold.
    """
    text = _text(path)
    try:
        _refuse_events(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Fault((), f"is not valid YAML: {error.problem}", mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise Fault((), f"is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(node, yaml.MappingNode):
        raise Fault((), "is not a mapping of keys to values: see the bundled profiles for the form")
    content = Content({})
    content.values = _Values(content, variables).of(node, ())
    return content


def _text(path: Path) -> str:
    """The content of a text file.

    Raises:
        Fault: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Fault((), f"cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        what = f"has more than {MAX_BYTES:,} bytes: a profile is a short text, data belongs into landing files"
        raise Fault((), what)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"is not valid YAML: byte {data[error.start]:#x} is not UTF-8: save it as UTF-8"
        raise Fault((), what, line) from None
    if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text[: bad.start()].count("\n") + 1
        raise Fault((), "is not valid YAML: it holds a control character: is it a text file?", line)
    return text


def _refuse_events(text: str) -> None:
    """Refuse tags, too many values, and nesting so deep that the parser would recurse; the events come one by one."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        line = event.start_mark.line + 1 if event.start_mark else None
        if number > 2 * MAX_VALUES:  # a key and its value are an event each
            raise Fault((), f"holds more than {MAX_VALUES:,} values: a profile is a short text", line)
        if (tag := getattr(event, "tag", None)) is not None:
            raise Fault((), f"the tag {tag} is not allowed in a profile: write the plain value", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_LEVELS:
            raise Fault((), f"nests more than {MAX_LEVELS} levels deep", line)


class _Values:
    """Turns YAML nodes into values, and notes the lines of their places."""

    def __init__(self, content: Content, variables: Mapping[str, str]) -> None:
        self.content, self.variables = content, variables
        self.plain = yaml.constructor.SafeConstructor()

    def of(self, node: yaml.Node, place: Place) -> Any:
        """The value of a node at a place."""
        line = node.start_mark.line + 1
        self.content.lines.setdefault(place, line)
        if len(place) > MAX_LEVELS:
            raise Fault(place[:3], f"nests more than {MAX_LEVELS} levels deep, by its aliases", line)
        if len(self.content.lines) > MAX_VALUES:
            raise Fault(place[:1], f"its aliases multiply to more than {MAX_VALUES:,} values", line)
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self.of(each, (*place, number)) for number, each in enumerate(node.value)]
        return self._scalar(cast(yaml.ScalarNode, node), place)

    def _entries(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        """The keys and values of a mapping, each key once."""
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = self._key(key, place, line)
            if name in first:
                where = f"lines {first[name]} and {line}"
                raise Fault((*place, name), f"occurs twice, on {where}: keep one", line)
            first[name] = line
            self.content.lines[(*place, name)] = line
            yield name, self.of(value, (*place, name))

    def _key(self, key: yaml.Node, place: Place, line: int) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise Fault(place, "a key is a list or a mapping: write a plain word", line)
        if key.tag != _TEXT:
            raise Fault(place, f"the key {quote_text(key.value)} is not text to YAML: put it in quotes", line)
        return self._clean(str(key.value), place, line)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        line = node.start_mark.line + 1
        if node.tag != _TEXT:
            try:
                return self.plain.construct_object(node)
            except (ValueError, yaml.YAMLError):
                what = f"{quote_text(node.value)} is not a date, nor a number that can be held"
                raise Fault(place, what, line) from None
        return self._fill(self._clean(str(node.value), place, line), place, line)

    def _clean(self, text: str, place: Place, line: int) -> str:
        """The text itself, after a check: an escape in quotes can hold any code."""
        bad = next((sign for sign in text if unicodedata.category(sign) in _UNPRINTABLE and sign not in "\n\t"), "")
        if bad:
            raise Fault(place, f"holds the code {ord(bad):#06x}, which is not a letter or sign: take it out", line)
        return text

    def _fill(self, text: str, place: Place, line: int) -> str:
        """The text with `${VAR}` and `${VAR:-default}` replaced."""
        if "${" not in text:
            return text
        self.content.written[place] = text
        if "${" in _VARIABLE.sub("", text):
            raise Fault(place, "holds a ${ that does not begin ${VAR} or ${VAR:-default}", line)
        return self._clean(_VARIABLE.sub(lambda found: self._value(found, place, line), text), place, line)

    def _value(self, found: re.Match[str], place: Place, line: int) -> str:
        """The value of a variable; never that of a store, which may hold a password."""
        name, default = found.groups()
        value = self.variables.get(name)
        if not value and default is not None:
            value = default
        used = f"uses ${{{name}}}, which is"
        if value is None:
            raise Fault(place, f"{used} not set in the environment: set it, or write ${{{name}:-default}}", line)
        if _SECRET.fullmatch(name) or "://" in value:
            raise Fault(place, f"{used} a URI and may hold a password: nothing in a profile needs one", line)
        self.content.filled[found[0]] = value
        return value


def form_faults(content: Content, error: ValidationError, owners: str) -> list[Fault]:
    """The faults that pydantic found in the content of such files (`owners`).

    There is at most one per place, without the value, which may be a secret.
    """
    found: dict[Place, Fault] = {}
    for each in error.errors(include_input=False, include_url=False):
        place, _ = content.line(each["loc"])
        what = each["msg"].removeprefix("Value error, ")
        if each["type"] == "missing":
            place = each["loc"]
        if each["type"] == "extra_forbidden":
            what = f"is not a key that {owners} have here: correct its name, or remove it"
        found.setdefault(place, Fault(place, what))
    return list(found.values())


def fault_text(place: Place, what: str, line: int | None) -> str:
    """A fault with its line and key, to be put after the file's name."""
    where = f", line {line}:" if line else ""
    key = f" {'.'.join(quote_text(part)[1:-1] for part in place)}:" if place else ""
    return f"{where}{key} {what}"


def quote_text(name: object) -> str:
    """A text of the profile as messages quote it: in printable characters, and not too long."""
    text = str(name)
    safe = text if text.isprintable() else ascii(text)[1:-1]
    return f"'{safe[:60]}…'" if len(safe) > 60 else f"'{safe}'"


def environment(landing: Path) -> dict[str, str]:
    """The variables that a profile may name: those of the environment, and the landing folder's default."""
    return {"RECSYS_LANDING": str(landing), **os.environ}
