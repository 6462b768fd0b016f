"""The contract of recall methods, for the methods that need no training."""

import pyarrow as pa

from recsys_assets.funnel import channels
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.retrieval import term
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists, recommend
from recsys_assets_tests.helpers.recall_contract import ListContract, RecallContract


class TestPopularity(ListContract):
    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        return channels.popularity(interactions, "test")(interactions, queries, k, filter_seen)


class TestRandom(ListContract):
    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        return channels.random(interactions, "test")(interactions, queries, k, filter_seen)


class TestTerm(RecallContract):
    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        colours = [["even"], ["odd"]] * (len(interactions.item_ids) // 2)
        items = pa.table({"item_id": interactions.item_ids, "colour": colours})
        carried = term.item_terms(items, "colour", interactions.item_ids)
        return term.recommend(interactions, queries, "test", carried, term.Taste(), k, filter_seen)


class ItemContract(RecallContract):
    """A method that finds the neighbours of items."""

    def neighbours(self, known: Interactions) -> Neighbours:
        """The method under test."""
        raise NotImplementedError

    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        found = self.neighbours(interactions.before("test")).lists
        return recommend(trigger_scores(found, interactions, queries), interactions, queries, k, filter_seen)


class TestItemCF(ItemContract):
    def neighbours(self, known: Interactions) -> Neighbours:
        return itemcf(known, ItemCF())


class TestItemCFWithoutWindow(ItemContract):
    def neighbours(self, known: Interactions) -> Neighbours:
        return itemcf(known, ItemCF(window=0))


class TestSwing(ItemContract):
    def neighbours(self, known: Interactions) -> Neighbours:
        return swing(known, Swing())
