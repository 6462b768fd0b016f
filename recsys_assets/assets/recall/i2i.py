"""Item to item: the most similar items to each item, one asset per method.

A new method is a file in `i2i/` with its settings, its search space and its function, and a line in `I2I_METHODS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Ids, find
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.model_asset import with_tuned_settings
from recsys_assets.assets.refit import find_kept
from recsys_assets.assets.reports import show
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.i2i import itemcf, neighbours, swing
from recsys_assets.i2i.choice import Search, choose
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.interactions import Interactions, read
from recsys_assets.retrieval.lists import Lists
from recsys_assets.retrieval.order import order_of

COVERAGE = 0.5  # on MovieLens 1M ItemCF reaches 1, Swing 0.96
ITEMS_SHOWN, NEIGHBOURS_SHOWN = 8, 4


class ItemCFConfig(itemcf.ItemCF, dg.Config):
    """Settings of `i2i_itemcf`; those in `STEPS` of `i2i/itemcf.py` that are not set are chosen on validation rows."""


class SwingConfig(swing.Swing, dg.Config):
    """Settings of `i2i_swing`; those in `STEPS` of `i2i/swing.py` that are not set are chosen on validation rows."""


@dataclass(frozen=True)
class Method:
    """A way to find neighbours.

    Attributes:
        description: a sentence.
        find: `find(interactions, config)`.
        config: the class of its settings.
        space: where `tune_<method>` searches for better ones.
        search: the settings that are chosen by every run on validation rows.
    """

    description: str
    find: Callable[..., Neighbours]
    config: type[Any]
    space: Mapping[str, Any]
    search: Search


I2I_METHODS = {
    "itemcf": Method(
        "ItemCF: items that the same users touched, one soon after the other.",
        itemcf.itemcf,
        ItemCFConfig,
        itemcf.SPACE,
        Search(itemcf.STEPS, events=150_000),
    ),
    "swing": Method(
        "Swing: items shared by users who share little else.",
        swing.swing,
        SwingConfig,
        swing.SPACE,
        Search(swing.STEPS, events=40_000),
    ),
}


def item_to_item(name: str, method: Method) -> LakeAsset:
    """The asset of one method."""

    @lake_asset(
        name=f"i2i_{name}",
        description=(
            f"{method.description} One row per item that has neighbours: `item_id` and `neighbours`, a list of "
            "{item_id, score}, best first, ties by item_id. Learned from the rows before the test rows. Settings that "
            "are not set explicitly are chosen on validation rows, and recorded with the manifest's config."
        ),
        code_version="3",
        kinds={"scipy", "parquet"},
        pool="training",
        checks=[
            Check("lists_are_sorted", "the scores of every list are in descending order, ties in ascending item_id"),
            Check("no_own_neighbour", "no item is in its own list"),
            Check("scores_are_positive", "every score is finite and above 0"),
            Check(
                "items_have_neighbours",
                f"at least {COVERAGE:.0%} of the items with an event have neighbours",
                blocking=False,
            ),
        ],
    )
    def i2i(
        output: Output,
        config: method.config,  # type: ignore[name-defined]  # Dagster builds the UI's form from it
        lake: LakeStore,
        dataset: Dataset,
        recall_samples: Partition,
        items: Partition,
    ) -> None:
        profile = dataset.load()
        given = with_tuned_settings(output, lake, profile, name, config)
        events, order = read(recall_samples.path(ROWS)), order_of(recall_samples.path(ROWS))
        if kept := find_kept(output, lake.lake, profile, given.model_dump(exclude_unset=True)):
            given = type(given)(**kept.manifest.config)
        settings, chosen = choose(method.find, given, method.search, events, order, profile.recall.filter_seen)
        output.manifest.config = settings.model_dump()
        known = events.before("test")
        found = method.find(known, settings)
        output.manifest.rows = neighbours.write(output.path(ROWS), known.item_ids, found.lists)
        lists = neighbours.read(output.path(ROWS), known.item_ids)
        _measure(output, known, lists, found.cuts)
        show.choice(output, order, chosen)
        _show(output, known, lists, items)

    return i2i


def _measure(output: Output, known: Interactions, lists: Lists, cuts: dict[str, int]) -> None:
    """Metrics and checks of the lists as they were written."""
    sizes = (lists.items >= 0).sum(axis=1)
    counts = {"items": (known.item_counts > 0).sum(), "items_with_neighbours": (sizes > 0).sum(), **cuts}
    output.manifest.metrics = {name: float(count) for name, count in counts.items()}
    output.manifest.metrics["mean_list_length"] = float(sizes.sum() / max((sizes > 0).sum(), 1))
    faults = neighbours.faults(lists)
    for check, count in faults.items():
        output.check(check, count == 0, pairs=count)
    coverage = float((sizes > 0).sum() / max(counts["items"], 1))
    output.check("items_have_neighbours", coverage >= COVERAGE, share=coverage)


def _show(output: Output, known: Interactions, lists: Lists, items: Partition) -> None:
    """Show the first neighbours of the items with the most events, by title if the profile has titles."""
    popular = np.argsort(-known.item_counts, kind="stable")[:ITEMS_SHOWN]
    first, scores = lists.items[popular, :NEIGHBOURS_SHOWN], lists.scores[popular, :NEIGHBOURS_SHOWN]
    title = _titles(items, known.item_ids)
    rows = [
        [title(item), *(f"{score:.3g} {title(other)}" for other, score in zip(others, of, strict=True) if other >= 0)]
        for item, others, of in zip(popular, first, scores, strict=True)
    ]
    columns = ["item", *(str(place + 1) for place in range(first.shape[1]))]
    output.metadata["neighbours"] = show.table(columns, [row + [""] * (len(columns) - len(row)) for row in rows])


def _titles(items: Partition, item_ids: Ids) -> Callable[[int], str]:
    """A function from an item's number to its title, or to its id if it has no title."""
    table = pq.read_table(items.path(ROWS))
    order = np.argsort(table["item_id"].to_numpy())
    ids = table["item_id"].to_numpy()[order]
    titles = table["title"] if "title" in table.column_names else table["item_id"]

    def title(item: int) -> str:
        (place,) = find(ids, item_ids[[item]])
        return str(titles[int(order[place])].as_py() if place >= 0 else item_ids[item])

    return title


i2i_assets = [item_to_item(name, method) for name, method in I2I_METHODS.items()]
