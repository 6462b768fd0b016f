"""Compares tastes in generated worlds with those in MovieLens 1M, by methods that take seconds.

    python benchmarks/sample_tastes.py --source FOLDER [--seeds 1 2 3] [--events 40000 160000] [--json]

Recall is recall@20 under two protocols. `profile` is the split of the bundled profile: one query for each user, for
what they liked in the test part, without seen items. `next` is the protocol of `recall_ml1m.py`: each liked one of a
user's last 3 events is a query, item-to-item methods know only the event before it, and lists may hold seen items,
which generated users touch again and MovieLens's never do. `factors` is a truncated SVD of who touched what.

AUCs are those of the profile's test rows: `popular` scores an item by its earlier events, `linear` is a logistic
regression on ids and on pairs of user and genre, `true` is the generator's own probability.
"""

import argparse
import datetime as dt
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from ml1m import Ratings, arguments, finish, read, show
from recall_ml1m import NEXT_ITEM, TOP, questions
from scipy.sparse import csr_array, diags_array, hstack
from scipy.sparse.linalg import svds
from sklearn.linear_model import LogisticRegression

from recsys_assets.arrays import Ints, Scores
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.profile_parts import Split
from recsys_assets.datasets.sample import day_of
from recsys_assets.datasets.splits import PARTS
from recsys_assets.datasets.world import World
from recsys_assets.funnel.channels import popularity
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.metrics import auc
from recsys_assets.retrieval import term
from recsys_assets.retrieval.interactions import Interactions, Queries, from_table, queries
from recsys_assets.retrieval.lists import Lists, evaluate, history, recommend

SINCE, FACTORS = dt.date(2026, 1, 1), 48
LEAST_LIKED = {"sample": 4, "movielens-1m": 3}  # ratings that are right answers of `next`; 3 as MetaSpore has it


def generated(world: World) -> Ratings:
    """The events of a world's days, ordered by user and time, and its users and items."""
    made: dict[str, list[pa.Table]] = {"interactions": [], "users": [], "items": []}
    for number in range(world.days):
        for name, table in day_of(world, SINCE, SINCE + dt.timedelta(days=number)):
            made[name].append(table)
    events, users, items = (pa.concat_tables(tables) for tables in made.values())
    order = np.lexsort((events["timestamp"].to_numpy(), events["user_id"].to_numpy()))
    return Ratings(events.take(pa.array(order)), _first_of(users, "user_id"), _first_of(items, "item_id"))


def _first_of(table: pa.Table, key: str) -> pa.Table:
    """The first row of each key: the columns that land never change."""
    return table.take(pa.array(np.unique(table[key].to_numpy(), return_index=True)[1]))


def by_profile(ratings: Ratings, rule: Split) -> Interactions:
    """The events in the parts of a profile's split; a rating above 3 is positive."""
    parts = (_by_day if rule.strategy == "by_day" else _by_tail)(ratings, rule)
    labels = (ratings.table["rating"].to_numpy() > 3).astype(np.int8)
    columns = {name: ratings.table[name] for name in ("user_id", "item_id")}
    return from_table(pa.table({**columns, "label": labels, "part": pa.array(np.array(PARTS)[parts])}))


def _by_day(ratings: Ratings, rule: Split) -> Ints:
    """(M,) the index of each event's part, by the age of its day."""
    day = ratings.table["timestamp"].to_numpy() // 86_400
    ends = np.cumsum([rule.online_days, rule.test_days, rule.validation_days])
    return np.sum([day.max() - day < end for end in ends], axis=0)


def _by_tail(ratings: Ratings, rule: Split) -> Ints:
    """(M,) the index of each event's part, by its place from the end of the user's events."""
    users = ratings.table["user_id"].to_numpy()
    _, place, counts = np.unique(users, return_inverse=True, return_counts=True)
    offline, position = counts[place] - rule.online_last_n, counts[place] - ratings.from_end
    train = np.ceil(offline * (1 - rule.test_ratio))
    starts = (train - np.floor(train * rule.validation_ratio), train, offline)
    return np.sum([position >= start for start in starts], axis=0)


def recalls(events: Interactions, ratings: Ratings, asked: Queries, *, following: bool) -> dict[str, float]:
    """Recall@20 of each method; `following` is the protocol `next`."""
    known, unseen = events.before("test"), not following

    def judge(lists: Lists) -> float:
        return evaluate(lists.items, asked, [TOP])[f"recall@{TOP}"]

    def alike(found: Neighbours) -> float:
        scores = trigger_scores(found.lists, events, asked, triggers=1 if following else 50)
        return judge(recommend(scores, events, asked, TOP, unseen))

    carried = term.item_terms(ratings.items, "genres", events.item_ids)
    return {
        "popularity": judge(popularity(events, asked.part)(events, asked, TOP, unseen)),
        "itemcf": alike(itemcf(known, NEXT_ITEM if following else ItemCF())),
        "swing": alike(swing(known, Swing())),
        "term": judge(term.recommend(events, asked, "test", carried, term.Taste(), TOP, unseen)),
        "factors": judge(recommend(factors(known, events, asked), events, asked, TOP, unseen)),
    }


def factors(known: Interactions, events: Interactions, asked: Queries) -> Callable[[slice], Scores]:
    """Scores by the leading directions of the matrix of who touched what, with popular items damped."""
    shape = (len(known.user_ids), len(known.item_ids))
    touched = csr_array((np.ones(len(known)), (known.users, known.items)), shape=shape)
    touched.data[:] = 1
    damp = diags_array(np.maximum(known.item_counts, 1) ** -0.25)
    _, _, directions = svds(touched @ damp, FACTORS, rng=np.random.default_rng(0))

    def score(block: slice) -> Scores:
        row, item = history(events, asked, block)
        told = csr_array((np.ones(len(row)), (row, item)), shape=(block.stop - block.start, shape[1])) @ damp
        scores: Scores = (told @ directions.T @ directions).astype(np.float32)
        return scores

    return score


def aucs(events: Interactions, ratings: Ratings) -> dict[str, float]:
    """The AUC of simple scores on the test rows; the linear model learns from all rows before them."""
    train, test = (np.flatnonzero(chosen) for chosen in (events.parts < 2, events.parts == PARTS.index("test")))
    known, labels = events.before("test").item_counts, events.labels
    rows = one_hot(events, term.item_terms(ratings.items, "genres", events.item_ids).weights)
    model = LogisticRegression(C=0.3, max_iter=60, tol=1e-3).fit(rows[train], labels[train])
    found = {
        "popular AUC": auc(labels[test], known[events.items[test]]),
        "linear AUC": auc(labels[test], model.decision_function(rows[test])),
    }
    if "true_probability" in ratings.table.column_names:
        found["true AUC"] = auc(labels[test], ratings.table["true_probability"].to_numpy()[test])
    return found


def one_hot(events: Interactions, genres: csr_array) -> csr_array:
    """(M, columns) the user, the item, and the user with each genre of the item, weighted by `genres` (I, T)."""
    row, of_row = np.arange(len(events) + 1), genres[events.items].tocsr()
    ones, width = np.ones(len(events)), genres.shape[1]
    users = csr_array((ones, events.users, row), shape=(len(events), len(events.user_ids)))
    items = csr_array((ones, events.items, row), shape=(len(events), len(events.item_ids)))
    pairs = np.repeat(events.users, np.diff(of_row.indptr)) * width + of_row.indices
    crossed = csr_array((of_row.data, pairs, of_row.indptr), shape=(len(events), width * len(events.user_ids)))
    return hstack([users, items, crossed]).tocsr().astype(np.float32)


def tables(ratings: Ratings, name: str) -> dict[str, dict[str, float]]:
    """The figures of a data set under both protocols."""
    profile = load_profile(name)
    events = by_profile(ratings, profile.split)
    asked = queries(events, "test", profile.recall.filter_seen)
    found = {"profile": recalls(events, ratings, asked, following=False) | aucs(events, ratings)}
    events = ratings.samples(validation=0, test=3, least_rating=LEAST_LIKED[name])
    found["next"] = recalls(events, ratings, questions(events), following=True)
    return found


def _data_sets(given: argparse.Namespace) -> Iterator[tuple[str, str, Ratings]]:
    """The title, the profile and the events of each data set."""
    yield "MovieLens 1M", "movielens-1m", read(given.source)
    for events in given.events:
        for seed in given.seeds:
            yield f"{events:,} events (seed {seed})", "sample", generated(World.of({"events": events, "seed": seed}))


def main() -> None:
    """Print a row for each data set and protocol."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--events", nargs="+", type=int, default=[World.events, 4 * World.events])
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for title, name, ratings in _data_sets(given):
        found = {f"{title}, {protocol}": row for protocol, row in tables(ratings, name).items()}
        show(title, found)
        figures |= found
    show("recall@20 by data set and protocol", dict(sorted(figures.items(), key=lambda each: each[0].endswith("next"))))
    finish(figures, as_json=given.json)


if __name__ == "__main__":
    main()
