"""The assets and the bizdate that a command is given, checked against the definitions.

This module imports Dagster and the definitions: import it only inside commands that need it.
"""

import re
import warnings
from collections.abc import Iterable, Sequence

import dagster as dg

from recsys_assets.datasets.names import suggest
from recsys_assets.jobs import ON_DEMAND


class SelectionError(ValueError):
    """A name, selection or bizdate that does not exist or cannot be read."""


def asset_names() -> list[str]:
    """Every asset, upstream first."""
    from recsys_assets.definitions import defs

    return [key.to_user_string() for key in defs.resolve_asset_graph().toposorted_asset_keys]


def check_asset(name: str) -> None:
    """Check that an asset exists.

    Raises:
        SelectionError: there is no such asset; the message suggests similar names.
    """
    if name not in (names := asset_names()):
        hint = suggest(name, names, most=3).strip() or "`dagster asset list` lists all assets"
        raise SelectionError(f"no asset '{name}': {hint}")


def select(expression: str) -> frozenset[dg.AssetKey]:
    """Assets of a selection in Dagster's syntax: `rank_widedeep`, `+rank_report`, `group:rank`, `*`.

    `+name` means all that the asset needs, as `+key:name` does in Dagster's present syntax; in Dagster's older syntax
    `+name` takes a single step. Assets that run only on demand must be named (`tune_widedeep`, `group:tuning`): `*`
    and `rank_samples+` leave them out.

    Raises:
        SelectionError: the selection cannot be read, names an unknown asset, or selects nothing.
    """
    from recsys_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    names, clauses = "|".join(asset_names()), expression.split(",")
    keyed = [re.sub(rf"(?<![\w:\"/])({names})(?![\w:\"/])", r'key:"\1"', clause) for clause in clauses]
    try:
        found = _parse(keyed, clauses).resolve(graph)
    except dg.DagsterInvalidSubsetError as error:
        for name in re.findall(r"'(\w+)'", str(error)):  # "AssetKey(s) ['x'] were selected, but …"
            check_asset(name)
        raise SelectionError(f"selection '{expression}': {error}") from error
    except dg.DagsterError as error:
        how = "write an asset, '+NAME' with all that it needs, 'NAME+', 'group:NAME' or '*'"
        raise SelectionError(f"selection '{expression}' cannot be read ({error}): {how}") from error
    if not re.search(rf"\b({ON_DEMAND}|tune_)", expression):
        found = {key for key in found if graph.get(key).group_name != ON_DEMAND}
    if not found:
        groups = ", ".join(sorted({node.group_name for node in graph.asset_nodes if node.group_name}))
        raise SelectionError(f"selection '{expression}' names no asset; the groups are {groups}: write group:NAME")
    return frozenset(found)


def ancestors(names: Iterable[str]) -> set[str]:
    """All assets that the named ones are built from, directly or indirectly."""
    from recsys_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    found = (graph.get_ancestor_asset_keys(dg.AssetKey(name)) for name in names)
    return {key.to_user_string() for keys in found for key in keys}


def descendants(names: Iterable[str]) -> set[str]:
    """All assets that are built from the named ones, directly or indirectly."""
    from recsys_assets.definitions import defs

    graph, keys = defs.resolve_asset_graph(), {dg.AssetKey(name) for name in names}
    found: set[dg.AssetKey] = set()
    while keys := {child for key in keys for child in graph.get(key).child_keys} - found:
        found |= keys
    return {key.to_user_string() for key in found}


def _parse(keyed: Sequence[str], plain: Sequence[str]) -> dg.AssetSelection:
    """The clauses read in the present syntax, or else in the older one (`*name`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's own parser of '*' issues one
        try:
            return dg.AssetSelection.from_coercible(keyed)
        except dg.DagsterError:
            return dg.AssetSelection.from_coercible(plain)


def check_bizdate(bizdate: str) -> None:
    """Check that the assets have such a partition.

    Raises:
        SelectionError: the day is outside the profile's days, or has not ended yet.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.partitions import daily_partitions

    profile = load_profile()
    partitions = daily_partitions(profile)
    if not partitions.has_partition_key(bizdate):
        first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
        over = profile.files.now().date().isoformat()
        why = f"is not over yet ({profile.files.timezone})" if bizdate >= over else "is not a bizdate of the profile"
        raise SelectionError(
            f"{bizdate} {why}: bizdates run from {first} to {last}, and `recsys bizdate` prints the latest landed one"
        )
