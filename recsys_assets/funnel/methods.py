"""The registry of recall methods: what each reads, and how its lists are made. A two-tower model needs no line here."""

from collections.abc import Callable
from dataclasses import dataclass

from recsys_assets.funnel import channels
from recsys_assets.funnel.by_vector import ByVector
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists


@dataclass(frozen=True)
class Method:
    """A recall method: `open(log, part, *partitions)` makes it ready; `reads` are the partitions' assets.

    `index` is the asset that a large catalogue is searched through, which then follows those partitions.
    """

    description: str
    open: Callable[..., channels.Recall]
    reads: tuple[str, ...] = ()
    index: str = ""
    cold: bool = False  # whether it lists items without events

    def lists(self, log: Interactions, asked: Queries, k: int, filter_seen: bool, *partitions: Partition) -> Lists:
        """The lists of queries about users of the log."""
        return self.open(log, asked.part, *partitions)(log, asked, k, filter_seen)


RECALL_METHODS = {
    "popularity": Method("The items with the most positives, for everyone.", channels.popularity),
    "popularity_week": Method(
        "The items with the most positives in the week before, for everyone.",
        channels.popularity_week,
        ("recall_samples",),
    ),
    "random": Method("Items drawn at random.", channels.random),
    "itemcf": Method("Items that the users of the newest items touched too.", channels.ByItem, ("i2i_itemcf",)),
    "swing": Method("Items that pairs of unlike users share with the newest items.", channels.ByItem, ("i2i_swing",)),
    "term": Method(
        "The best items of the terms that the user liked recently.", channels.ByTerm, ("recall_term", "items")
    ),
    **{
        name: Method(model.description, ByVector, (f"emb_{name}_user", f"emb_{name}_item"), f"index_{name}", model.cold)
        for name, model in TOWERS.items()
    },
}

BASELINES = ("popularity_week", "random")  # judged, but no channels of the funnel
CHANNELS = tuple(method for method in RECALL_METHODS if method not in BASELINES)
