"""The contract of recall methods, kept by those that need no training."""

import pyarrow as pa

from recsys_assets.retrieval import candidates, term
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets_tests.recall_contract import ListContract, RecallContract


class TestPopularity(ListContract):
    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        return candidates.popularity(interactions, queries, k, filter_seen)


class TestRandom(ListContract):
    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        return candidates.random(interactions, queries, k, filter_seen)


class TestTerm(RecallContract):
    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        colours = [["even"], ["odd"]] * (len(interactions.item_ids) // 2)
        items = pa.table({"item_id": interactions.item_ids, "colour": colours})
        carried = term.carried(items, "colour", interactions.item_ids)
        return term.recommend(interactions, queries, "test", carried, term.Taste(), k, filter_seen)
