"""The reference pages of the site, made from the code: one function per page.

Run by Sphinx, or alone: `python docs/reference.py FOLDER`.
"""

import ast
import builtins
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

PACKAGE = Path(__file__).resolve().parents[1] / "recsys_assets"


def write(folder: Path) -> None:
    """Write all pages; one that has not changed is left alone, so that Sphinx does not read it again."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        text, file = "\n".join(page()) + "\n", folder / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def profile() -> Iterator[str]:
    """Every key of a profile, with its type, its default and what it means."""
    from recsys_assets.datasets.profile import Profile

    yield "# Every key of a profile\n"
    yield from _section(Profile, "At the top", set())


def commands() -> Iterator[str]:
    """The help of each command."""
    from recsys_assets.cli import main

    yield "# The commands of `recsys`\n"
    yield "Each also takes `--help`. `recsys --profile NAME …` picks the profile of one command.\n"
    yield from _commands(main, "recsys")


def http() -> Iterator[str]:
    """The paths of the service, from its OpenAPI document."""
    from recsys_assets.serving.app import create_app

    document = create_app(Any).openapi()  # type: ignore[arg-type] -- no request is answered
    yield "# The HTTP interface of `recsys serve`\n"
    yield "The service has the same as `/openapi.json`, and as a page on which you can try it at `/docs`.\n"
    for path, methods in sorted(document["paths"].items()):
        for method, said in methods.items():
            yield f"## `{method.upper()} {path}`\n"
            yield f"{said.get('description', said.get('summary', ''))}\n"
            yield from _table(("parameter", "in", "meaning"), _parameters(said))
            yield from _table(("field of the body", "type", "meaning"), _body(said, document))


def assets() -> Iterator[str]:
    """Assets by group, with what they are made from and their checks; then what starts runs."""
    from recsys_assets.definitions import build_defs

    defs = build_defs()
    graph = defs.resolve_asset_graph()
    yield "# Assets, checks, jobs, schedules and sensors\n"
    yield "Those of the profile `sample`. Stores, Feast and Triton add theirs when they are configured.\n"
    groups: dict[str, list[Any]] = {}
    for key in sorted(graph.materializable_asset_keys):
        groups.setdefault(graph.get(key).group_name or "default", []).append(graph.get(key))
    for group, nodes in groups.items():
        yield f"## {group}\n"
        rows = [(f"`{n.key.to_user_string()}`", n.description, _names(n.parent_keys)) for n in nodes]
        yield from _table(("asset", "contents", "made from"), rows)
    yield "## Checks\n"
    checks = {key.name: graph.get(key).description or "" for key in sorted(graph.asset_check_keys)}
    yield from _table(("check", "what holds"), [(f"`{name}`", text) for name, text in sorted(checks.items())])
    yield "## What starts runs\n"
    starters = [*(defs.schedules or []), *(defs.sensors or [])]
    rows = [(f"`{each.name}`", each.description) for each in starters if hasattr(each, "description")]
    yield from _table(("schedule or sensor", "what it does"), rows)
    jobs = [(f"`{job.name}`", getattr(job, "description", "")) for job in defs.jobs or []]
    yield from _table(("job", "what it does"), jobs)


def errors() -> Iterator[str]:
    """Every error class, with its docstring."""
    yield "# Every error, and what it means\n"
    yield "Messages name the file, the row or the setting, and say what to do. The last line of a failed command\n"
    yield "or step begins with one of these names, or is the message alone.\n"
    rows = [(f"`{name}`", text, f"`{place}`") for name, text, place in sorted(_error_classes())]
    yield from _table(("error", "meaning", "raised by"), rows)


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "profile": profile,
    "commands": commands,
    "http": http,
    "assets": assets,
    "errors": errors,
}


def _section(model: type[BaseModel], title: str, done: set[type]) -> Iterator[str]:
    """The keys of a section of a profile, and then those of the sections in it."""
    done.add(model)
    yield f"## {title}\n"
    yield f"{inspect.getdoc(model)}\n"
    rows, inner = [], []
    for name, field in model.model_fields.items():
        parts = list(_models(field.annotation))
        inner += [(f"`{name}`", part) for part in parts]
        meaning = field.description or (_first_paragraph(parts[0]) if parts else "")
        rows.append((f"`{name}`", _type(field.annotation), _default(field), meaning))
    yield from _table(("key", "type", "default", "meaning"), rows)
    for name, part in inner:
        if part not in done:
            yield from _section(part, f"{name}: {part.__name__}", done)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def _type(annotation: Any) -> str:
    """A type in words that a reader of YAML knows."""
    if annotation is None or annotation is type(None):
        return "null"
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind in {Union, UnionType}:
        return " or ".join(_type(each) for each in inner)
    if kind in {list, tuple, dict}:
        return f"{ {dict: 'mapping'}.get(kind, 'list') } of {_type(inner[-1] if inner[-1] is not ... else inner[0])}"
    if kind is not None and inner:
        literal = all(isinstance(each, str | int | bool) for each in inner)
        return " / ".join(f"`{each}`" for each in inner) if literal else _type(inner[0])
    words = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true / false",
        "date": "day",
        "Path": "folder",
    }
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(name, "section" if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else name)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return "" if value in (None, "", [], {}) else f"`{json.dumps(value, default=str)}`"


def _commands(group: click.Group, above: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        full = f"{above} {name}"
        if isinstance(command, click.Group):
            yield from _commands(command, full)
            continue
        text = command.get_help(click.Context(command, info_name=full))
        yield f"## `{full}`\n\n```text\n{text}\n```\n"


def _parameters(said: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (f"`{each['name']}`", each["in"], each.get("description", each.get("schema", {}).get("description", "")))
        for each in said.get("parameters", [])
    ]


def _body(said: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The fields of the body of a request, if it has one."""
    for content in said.get("requestBody", {}).get("content", {}).values():
        schema = content.get("schema", {})
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return [
            (f"`{name}`", _json_type(each), each.get("description", ""))
            for name, each in schema.get("properties", {}).items()
        ]
    return []


def _json_type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_json_type(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    return str(schema.get("type", "any"))


def _error_classes() -> Iterator[tuple[str, str, str]]:
    """Name, meaning and module of each public error class in the package, read without importing it."""
    classes = [(file, node) for file in sorted(PACKAGE.rglob("*.py")) for node in _classes(file)]
    errors = {name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, Exception)}
    while more := {node.name for _, node in classes if _bases(node) & errors} - errors:
        errors |= more
    for file, node in classes:
        if node.name in errors and not node.name.startswith("_"):
            place = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
            yield node.name, " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()), place


def _classes(file: Path) -> list[ast.ClassDef]:
    return [each for each in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(each, ast.ClassDef)]


def _bases(node: ast.ClassDef) -> set[str]:
    return {each.id for each in node.bases if isinstance(each, ast.Name)}


def _first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _names(keys: Any) -> str:
    return ", ".join(f"`{key.to_user_string()}`" for key in sorted(keys))


def _table(columns: tuple[str, ...], rows: Any) -> Iterator[str]:
    """A table in Markdown; nothing if there are no rows."""
    found = [tuple(" ".join(str(each or "").split()).replace("|", "\\|") for each in row) for row in rows]
    if not found:
        return
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(row)} |" for row in found)
    yield ""


if __name__ == "__main__":
    write(Path(sys.argv[1]))
