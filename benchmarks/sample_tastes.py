"""Compares how strong tastes are in generated worlds and in MovieLens 1M, with methods that take seconds.

    python benchmarks/sample_tastes.py --source FOLDER [--seeds 1 2 3] [--events 40000 160000] [--json]

Two protocols. `profile` is the data set's own split: one query per user, for their liked items of the test part,
without seen ones. `next` is that of `recall_ml1m.py`: the last 3 events of each user test, each liked one is a query of
its own, item-to-item methods have the event before it as the only trigger, and lists may hold seen items. All figures
of recall are recall@20. `factors` is a truncated SVD of who touched what, which knows no order.

Under the split of the profile, AUC is of the test rows: `popularity` scores an item by its train events, `linear` is a
logistic regression on ids and on pairs of user and genre, `truth` the generator's own probability.
"""

import datetime as dt
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from ml1m import Ratings
from recall_ml1m import NEXT_ITEM, questions
from scipy.sparse import csr_array, diags_array, hstack
from scipy.sparse.linalg import svds
from sklearn.linear_model import LogisticRegression

from recsys_assets.arrays import Scores
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.sample import day_of
from recsys_assets.datasets.world import World
from recsys_assets.funnel.channels import popularity
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.metrics import auc
from recsys_assets.retrieval import term
from recsys_assets.retrieval.interactions import Interactions, Queries, from_table, queries
from recsys_assets.retrieval.lists import Lists, evaluate, history, recommend

TOP, FACTORS = 20, 48
SINCE = dt.date(2026, 1, 1)


def generated(world: World) -> Ratings:
    """The events of a world's days, ordered by user and time, and its users and items."""
    days = [SINCE + dt.timedelta(days=number) for number in range(world.days)]
    found: dict[str, list[pa.Table]] = {"interactions": [], "users": [], "items": []}
    for day in days:
        for name, table in day_of(world, SINCE, day):
            found[name].append(table)
    tables = {name: pa.concat_tables(parts) for name, parts in found.items()}
    events = tables["interactions"]
    order = np.lexsort((events["timestamp"].to_numpy(), events["user_id"].to_numpy()))
    unique = {name: tables[name].take(pa.array(_first(tables[name][f"{name[:-1]}_id"]))) for name in ("users", "items")}
    return Ratings(events.take(pa.array(order)), unique["users"], unique["items"])


def _first(ids: pa.ChunkedArray) -> np.ndarray:
    return np.unique(ids.to_numpy(), return_index=True)[1]


def by_profile(ratings: Ratings, name: str) -> Interactions:
    """The events in the parts of the bundled profile's split."""
    rule = load_profile(name).split
    if rule.strategy == "by_day":
        times = ratings.table["timestamp"].to_numpy()
        age = (times.max() // 86_400) - times // 86_400
        days = rule.test_days
        parts = np.where(age < days, "test", np.where(age < days + rule.validation_days, "validation", "train"))
    else:
        users = ratings.table["user_id"].to_numpy()
        _, place, count = np.unique(users, return_inverse=True, return_counts=True)
        offline = count[place] - rule.online_last_n
        position = count[place] - ratings.from_end
        train = np.ceil(offline * (1 - rule.test_ratio))
        held = train - np.floor(train * rule.validation_ratio)
        parts = np.select(
            [position >= offline, position >= train, position >= held], ["online", "test", "validation"], "train"
        )
    labels = (ratings.table["rating"].to_numpy() > 3).astype(np.int8)
    columns = {name: ratings.table[name] for name in ("user_id", "item_id")}
    return from_table(pa.table({**columns, "label": labels, "part": pa.array(parts)}))


def factors(known: Interactions, events: Interactions, asked: Queries) -> Callable[[slice], Scores]:
    """Scores by the leading directions of the matrix of who touched what, its popular items damped."""
    shape = (len(known.user_ids), len(known.item_ids))
    seen = csr_array((np.ones(len(known), np.float32), (known.users, known.items)), shape=shape)
    seen.data[:] = 1
    scale = diags_array(np.maximum(known.item_counts, 1) ** -0.25)
    _, _, directions = svds((seen @ scale).astype(np.float64), FACTORS, random_state=0)

    def score(block: slice) -> Scores:
        row, item = history(events, asked, block)
        told = csr_array((np.ones(len(row)), (row, item)), shape=(block.stop - block.start, shape[1])) @ scale
        scores: Scores = ((told @ directions.T) @ directions).astype(np.float32)
        return scores @ scale if False else scores

    return score


def recalls(events: Interactions, ratings: Ratings, next_item: bool) -> dict[str, float]:
    """Recall@20 of each method."""
    asked = questions(events) if next_item else queries(events, "test", filter_seen=True)
    known, filtered = events.before("test"), not next_item

    def judge(found: Lists) -> float:
        return evaluate(found.items, asked, [TOP])[f"recall@{TOP}"]

    def alike(found: Lists) -> float:
        return judge(
            recommend(trigger_scores(found, events, asked, 1 if next_item else 50), events, asked, TOP, filtered)
        )

    carried = term.item_terms(ratings.items, "genres", events.item_ids)
    return {
        "popularity": judge(popularity(events, asked, TOP, filtered)),
        "itemcf": alike(itemcf(known, NEXT_ITEM if next_item else ItemCF()).lists),
        "swing": alike(swing(known, Swing()).lists),
        "term": judge(term.recommend(events, asked, "test", carried, term.Taste(), TOP, filtered)),
        "factors": judge(recommend(factors(known, events, asked), events, asked, TOP, filtered)),
    }


def aucs(events: Interactions, ratings: Ratings) -> dict[str, float]:
    """AUC of the test rows."""
    train, test = (np.isin(events.parts, parts) for parts in ([0, 1], [2]))
    labels = events.labels
    found = {
        "AUC popularity": auc(
            labels[test], np.bincount(events.items[train], minlength=len(events.item_ids))[events.items[test]]
        )
    }
    row = np.arange(len(events))
    one = np.ones(len(events), np.float32)
    users = csr_array((one, (row, events.users)))
    items = csr_array((one, (row, events.items)), shape=(len(events), len(events.item_ids)))
    weights = term.item_terms(ratings.items, "genres", events.item_ids).weights
    of_row = weights[events.items].tocsr()
    width = of_row.shape[1]
    repeated = np.repeat(events.users, np.diff(of_row.indptr))
    cross = csr_array(
        (of_row.data, repeated * width + of_row.indices, of_row.indptr),
        shape=(len(events), width * len(events.user_ids)),
    )
    x = hstack([users, items, cross]).tocsr().astype(np.float32)
    model = LogisticRegression(C=0.3, max_iter=60, tol=1e-3).fit(x[train], labels[train])
    found["AUC linear"] = auc(labels[test], model.decision_function(x[test]))
    if "true_probability" in ratings.table.column_names:
        found["AUC truth"] = auc(labels[test], ratings.table["true_probability"].to_numpy()[test])
    return found
