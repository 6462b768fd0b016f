"""Conversion of landed lists: SQL for lists of texts, the prefixes of a category path, and vectors."""

import pyarrow as pa

from recsys_assets.datasets.arrow_types import is_text
from recsys_assets.datasets.duck import quote
from recsys_assets.datasets.profile_parts import Column

_JSON_TEXTS = r"\s*\[\s*(\".*\")?\s*\]\s*"


def texts(value: str, landed: pa.DataType, spec: Column) -> str:
    """SQL for a list of texts: the landed list, a JSON list of texts, or a text split at the separator."""
    parts = value
    if is_text(landed):
        json = f"TRY(from_json({value}, '[\"VARCHAR\"]'))"
        listed = f"CASE WHEN regexp_full_match({value}, {quote(_JSON_TEXTS)}) THEN {json} END"
        parts = f"coalesce({listed}, string_split({value}, {quote(spec.separator)}))"
    return f"list_filter({parts}, lambda part: part <> '')"


def prefixes(value: str, landed: pa.DataType, spec: Column) -> str:
    """SQL for the prefixes of a path, the shortest first; empty parts are left out."""
    steps = f"list_transform({texts(value, landed, spec)}, lambda part: trim(part))"
    steps = f"list_filter({steps}, lambda part: part <> '')"
    prefix = f"array_to_string(list_slice({steps}, 1, size), {quote(spec.separator)})"
    return f"list_transform(range(1, len({steps}) + 1), lambda size: {prefix})"


def vector(value: str, landed: pa.DataType, spec: Column) -> str:
    """SQL for a list of finite numbers, NULL if it does not have the width."""
    if is_text(landed):
        listed = f"'[' || replace({value}, {quote(spec.separator)}, ',') || ']'"
        value = f"CASE WHEN starts_with(ltrim({value}), '[') THEN {value} ELSE {listed} END"
    numbers = f"TRY_CAST({value} AS FLOAT[])"
    fits = f"len({numbers}) = {spec.width} AND len(list_filter({numbers}, lambda x: isfinite(x))) = {spec.width}"
    return f"CASE WHEN {fits} THEN {numbers} END"
