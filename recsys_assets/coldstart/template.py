r"""Templates of samples: the JSON text that says which label a cold-start model learns, and from how many days.

The form is that of EasyRec's cold-start flow:

    {"cold_start_recall": {
        "model_name": "new_items", "model_type": "DropoutNet", "train_days": 14,
        "label": {"name": "is_click", "selection": "max(if(event=\"click\", 1, 0))", "type": "bigint"}}}

A selection is one aggregate expression in the SQL of that flow (MaxCompute, a dialect of Hive), in which double quotes
hold texts. It is parsed, checked against an allow-list and written again for DuckDB, which never sees the text itself.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, ValidationError, model_validator

from recsys_assets.datasets.expressions import SCALARS, ExpressionError, parse
from recsys_assets.datasets.label import SQL_TYPES
from recsys_assets.datasets.names import suggest
from recsys_assets.datasets.profile import Profile, profile_path
from recsys_assets.datasets.profile_parts import ColumnType, Part

if TYPE_CHECKING:
    from sqlglot.expressions import Expr as Tree

OUTER = "cold_start_recall"  # the key around a template
LABEL = "label"  # in a selection: the label of the profile's own rule, 0 or 1
EVENT = "event"  # in a selection: the kind of the event, if the profile has kinds and no column of this name
AGGREGATES = frozenset({"Max", "Min", "Sum", "Avg", "Count"})
TYPES = {"bigint": "BIGINT", "int": "INTEGER", "double": "DOUBLE", "float": "FLOAT", "boolean": "BOOLEAN"}
TAKEN = frozenset({"user_id", "item_id", "bizdate", "timestamp", "part", LABEL, EVENT})
MAX_BYTES = 65_536  # a template has a few hundred
_DIALECT = "hive"


class TemplateError(ValueError):
    """A template that cannot be used; the message names the file or the key, and says why."""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Label(Part):
    """The label of a template: the column's name, its selection, and its type."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
    selection: str = Field(min_length=1)
    type: Annotated[Literal["bigint", "int", "double", "float", "boolean"], BeforeValidator(_lower)]
    train_days: StrictInt | None = Field(default=None, ge=1, le=36_500)


class Template(Part):
    """One template.

    Attributes:
        model_name: what the model is called where it is deployed.
        model_type: the model that is trained.
        label: what it learns, for a user, an item and a bizdate.
        train_days: the days before the first evaluating day whose rows train; None for all of them. It may be written
            in `label` as well.
    """

    model_name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
    model_type: Annotated[Literal["dropoutnet"], BeforeValidator(_lower)] = "dropoutnet"
    label: Label
    train_days: StrictInt | None = Field(default=None, ge=1, le=36_500)

    @model_validator(mode="after")
    def _one_number_of_days(self) -> "Template":
        if self.train_days is not None and self.label.train_days is not None:
            raise ValueError("train_days is given twice, in the template and in its label: keep one of them")
        return self

    @property
    def days(self) -> int | None:
        """The days that train, wherever the template says it."""
        return self.train_days or self.label.train_days


# The label of the profile's own rule, and all days that there are.
DEFAULT = Template(
    model_name="cold_start", label=Label(name="is_positive", selection=f"max({LABEL})", type="bigint"), train_days=None
)


def template_of(profile: str, home: Path) -> Template:
    """The template next to a profile, `<profile>.cold_start.json`, or the default one if there is none.

    Raises:
        TemplateError: the file cannot be used.
    """
    path = profile_path(profile, home).with_suffix(".cold_start.json")
    if not path.is_file():
        return DEFAULT
    try:
        return read_template(path.read_bytes())
    except TemplateError as error:
        raise TemplateError(f"{path}: {error}") from None


def read_template(content: bytes) -> Template:
    """The template in the content of a JSON file.

    Raises:
        TemplateError: it is not JSON of the form, or has a value that is not allowed.
    """
    if len(content) > MAX_BYTES:
        raise TemplateError(f"it has {len(content):,} bytes: a template has at most {MAX_BYTES:,}")
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TemplateError(f"it is not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise TemplateError("it is nested too deeply") from None
    if not isinstance(found, dict) or list(found) != [OUTER]:
        raise TemplateError(f'it must be one object with the single key "{OUTER}"')
    if not isinstance(found[OUTER], dict):
        raise TemplateError(f"{OUTER} must be an object with model_name, model_type, label and train_days")
    try:
        return Template.model_validate(found[OUTER])
    except ValidationError as error:
        raise TemplateError("; ".join(map(_fault, error.errors()))) from None


def selection_sql(template: Template, profile: Profile) -> str:
    """SQL of the label, an aggregate over the rows of a user, an item and a bizdate, cast to the label's type.

    It reads the columns of `interactions`, and `label` and `event` as the constants above explain.

    Raises:
        TemplateError: the selection is not one aggregate over these columns, or the label's name is taken.
    """
    label, columns = template.label, columns_of(profile)
    if label.name.lower() in TAKEN | {name.lower() for name in columns}:
        raise TemplateError(f"label.name: {label.name} is the name of another column: choose a new one")
    try:
        found = parse(label.selection, columns, SCALARS | AGGREGATES | {"Star"}, _DIALECT)
        _refuse_rows(found.sql)
        _refuse_types(found.sql, columns)
    except ExpressionError as error:
        raise TemplateError(f"label.selection: {error}") from None
    return f"CAST({found.sql} AS {TYPES[label.type]})"


def columns_of(profile: Profile) -> dict[str, ColumnType]:
    """The columns that a selection may read, with their types; texts are not among them."""
    own = {name: spec.type for name, spec in profile.tables["interactions"].items() if spec.type != "text"}
    kinds: dict[str, ColumnType] = {EVENT: "string"} if profile.events and EVENT not in own else {}
    return {**own, **kinds, LABEL: "int64"}


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different; of two values, one would silently be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if [each for each, _ in pairs].count(key) > 1)
        raise TemplateError(f"the key {twice!r} occurs twice in one object: keep one of them")
    return found


def _refuse_constant(name: str) -> Any:
    raise TemplateError(f"{name} is not a number of JSON")


def _fault(error: Any) -> str:
    """One fault that pydantic found: the key, and what to do."""
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = Label.model_fields if error["loc"][0] == LABEL else Template.model_fields
        return f"{place} does not exist: {suggest(place.split('.')[-1], known)}there are {', '.join(known)}"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def _refuse_rows(sql: str) -> None:
    """Refuse an expression that is not one value for a group of rows.

    Raises:
        ExpressionError: it has no aggregate, one within another, or a column outside of them.
    """
    from sqlglot import parse_one
    from sqlglot.expressions import Column

    found = [node for node in parse_one(sql, read="duckdb").walk() if type(node).__name__ in AGGREGATES]
    if not found:
        raise ExpressionError("it is not an aggregate: write max(…), min(…), sum(…), avg(…) or count(…)")
    if any(_within(node) for node in found):
        raise ExpressionError("it has an aggregate within an aggregate: keep one of them")
    bare = [each for each in parse_one(sql, read="duckdb").find_all(Column) if not _within(each)]
    if bare:
        raise ExpressionError(f"a column is outside of the aggregate: {bare[0].name}; put it inside, as in max(…)")


def _within(node: "Tree") -> bool:
    """Whether a node is inside an aggregate."""
    parent = node.parent
    while parent is not None:
        if type(parent).__name__ in AGGREGATES:
            return True
        parent = parent.parent
    return False


def _refuse_types(sql: str, columns: dict[str, ColumnType]) -> None:
    """Refuse SQL that DuckDB cannot compute from such columns, or that gives no number.

    Raises:
        ExpressionError: says what does not fit.
    """
    import duckdb

    from recsys_assets.datasets.duck import connect, quote_name

    nulls = ", ".join(f"NULL::{SQL_TYPES[kind]} AS {quote_name(column)}" for column, kind in columns.items())
    with connect() as connection:
        try:
            kind = str(connection.sql(f"SELECT {sql} FROM (SELECT {nulls})").types[0])
            connection.sql(f"SELECT {sql} FROM (SELECT {nulls})").fetchall()
        except duckdb.Error as error:
            raise ExpressionError(f"its values do not fit together: {str(error).splitlines()[0]}") from None
    if not kind.startswith(("BOOLEAN", "TINYINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")):
        raise ExpressionError(f"it gives {kind}, not a number: write a figure that is 0 for a negative")
