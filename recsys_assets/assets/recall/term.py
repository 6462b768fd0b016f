"""Term recall: the terms (genres, tags) that each user liked recently, and the best items of each term."""

from dataclasses import asdict
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from recsys_assets.arrays import Ints, slices
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_unique
from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.funnel.channels import TERM_ITEMS, USER_TERMS
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset
from recsys_assets.retrieval import term
from recsys_assets.retrieval.interactions import Interactions, histories, queries, read
from recsys_assets.retrieval.lists import evaluate
from recsys_assets.retrieval.order import order_of
from recsys_assets.retrieval.scored_lists import keep_strongest, to_lists

USERS_AT_ONCE = 1 << 16  # 10^6 users at once took 1.9 GB
NO_TERMS = "the profile has no `features.terms`, so there are no terms to recall by: name a list column of the items"


class TermConfig(dg.Config):
    """How a user's terms are scored; window and decay that are not set are chosen on validation rows."""

    window: int | None = Field(
        default=None,
        ge=1,
        description="how many of the newest rows count (default: chosen, from the profile's on)",
    )
    decay: float = Field(default=0.8, gt=0, le=1, description="weight of a row relative to the next newer one")
    max_terms: int = Field(default=8, ge=1, description="terms per user, the highest scores first")


@lake_asset(
    backfill_policy=BY_MONTH,
    kinds={"scipy", "parquet"},
    code_version="3",
    checks=[
        Check("no_user_without_terms", "every user has a term"),
        Check("lists_are_sorted", "the scores of every list are in descending order"),
        Check("unique_keys", "one row per user or term in each file"),
    ],
)
def recall_term(
    output: Output,
    config: TermConfig,
    dataset: Dataset,
    recall_samples: Partition,
    users: Partition,
    items: Partition,
) -> None:
    """Terms that each user liked among their newest rows, and the best items of each term: an inverted index.

    A user who liked none recently has the terms of all their rows; one who never liked any has the terms that all users
    like most. `user_terms.parquet` is as of the last offline row; `term_items.parquet` uses no test rows.
    """
    profile = dataset.load()
    rule = profile.features.terms
    if rule is None:
        raise CannotBeBuilt(NO_TERMS)
    with connect() as connection:
        user_ids = np.sort(pq.read_table(users.path(ROWS), columns=["user_id"])["user_id"].to_numpy())
        rows = recall_samples.path(ROWS)
        events = read(rows)
        interactions = events.with_users(user_ids)
        carried = term.item_terms(pq.read_table(items.path(ROWS)), rule.column, interactions.item_ids)
        start, order = term.Taste(config.window or rule.window, config.decay, config.max_terms), order_of(rows)
        filter_seen, fixed = profile.recall.filter_seen, config.model_fields_set
        taste, chosen = term.choose_taste(interactions, carried, start, fixed, order, filter_seen)
        output.manifest.config = {"column": rule.column, **asdict(taste)}
        show.choice(output, order, chosen)
        _write_items(output, events, carried)
        _write_users(output, interactions, carried, taste)
        output.manifest.rows = len(user_ids)
        output.manifest.metrics |= _validation_metrics(profile, interactions, carried, taste)
        _check(output, connection, users)
        _show(output, connection)


def _write_items(output: Output, interactions: Interactions, carried: term.ItemTerms) -> None:
    """Write `term_items.parquet` (term, items), learned from the rows before the test rows."""
    scores = term.item_scores(interactions.before("test"), carried).T.tocsr()
    inverted = to_lists(keep_strongest(scores, scores.shape[1]), "item_id", interactions.item_ids)
    pq.write_table(pa.table({"term": carried.terms, "items": inverted}), output.path(TERM_ITEMS), compression="zstd")
    output.manifest.metrics["terms"] = float(len(carried.terms))


def _write_users(output: Output, interactions: Interactions, carried: term.ItemTerms, taste: term.Taste) -> None:
    """Write `user_terms.parquet` (user_id, terms, level): for all users, even those without a row."""
    tastes = term.Tastes.learn(interactions.before("test"), carried, taste)
    counts = write_user_terms(interactions, tastes, output.path(USER_TERMS))
    share = counts / counts.sum()
    output.manifest.metrics |= {f"share_{level}": float(s) for level, s in zip(term.LEVELS, share, strict=True)}


def write_user_terms(interactions: Interactions, tastes: term.Tastes, path: Path) -> Ints:
    """Write the terms of all users, block by block; returns how many have theirs from each of `term.LEVELS`."""
    starts, ends = histories(interactions, "online")
    terms, counts = pa.array(tastes.carried.terms).type, np.zeros(len(term.LEVELS), np.int64)
    entry = pa.struct({"term": terms, "score": pa.float32()})
    schema = pa.schema(
        {"user_id": pa.array(interactions.user_ids[:1]).type, "terms": pa.list_(entry), "level": pa.string()}
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in slices(len(starts), USERS_AT_ONCE):
            scores, levels = tastes.scores(interactions, starts[rows], ends[rows])
            names = np.array(term.LEVELS, object)[levels]
            listed = to_lists(scores, "term", tastes.carried.terms)
            writer.write_table(pa.table([interactions.user_ids[rows], listed, names], schema=schema))
            counts += np.bincount(levels, minlength=len(counts))
    return counts


def _validation_metrics(
    profile: Profile, interactions: Interactions, carried: term.ItemTerms, taste: term.Taste
) -> dict[str, float]:
    """Recall on the validation rows, learned from the train rows; settings are chosen by it."""
    asked = queries(interactions, "validation", profile.recall.filter_seen)
    lists = term.recommend(interactions, asked, "validation", carried, taste, 50, profile.recall.filter_seen)
    return {"validation_recall@50": evaluate(lists.items, asked, (50,))["recall@50"]}


def _check(output: Output, connection: duckdb.DuckDBPyConnection, users: Partition) -> None:
    """The checks, on the files as they were written."""
    lists = " UNION ALL ".join(
        f"SELECT '{file}' AS file, {key}::VARCHAR AS key, list_transform({column}, lambda each: each.score) AS scores "
        f"FROM {scan([output.path(file)])}"
        for file, key, column in (
            (USER_TERMS, "user_id", "terms"),
            (TERM_ITEMS, "term", "items"),
        )
    )
    (found,) = connection.execute(f"""
        WITH lists AS ({lists}), expected AS (
            SELECT user_id::VARCHAR AS key, '{USER_TERMS}' AS file FROM {scan([users.path(ROWS)])}
        )
        SELECT (SELECT count(*) FROM lists WHERE scores <> list_reverse_sort(scores)),
            (SELECT count(*) FROM expected LEFT JOIN lists USING (file, key) WHERE len(coalesce(scores, [])) = 0)
    """).fetchall()
    output.check("lists_are_sorted", found[0] == 0, lists=found[0])
    output.check("no_user_without_terms", found[1] == 0, users=found[1])
    check_unique(output, connection, f"({lists})", ["file", "key"])


def _show(output: Output, connection: duckdb.DuckDBPyConnection) -> None:
    """Show a few users' terms, the terms' best items, and where the users' terms come from."""
    for title, file, key, column, field in (
        ("terms of users", USER_TERMS, "user_id", "terms", "term"),
        ("items of terms", TERM_ITEMS, "term", "items", "item_id"),
    ):
        best = f"list_transform({column}[:4], lambda each: each.{field} || ' ' || round(each.score, 2))"
        query = f"SELECT {key}, list_aggregate({best}, 'string_agg', ', ') AS best, len({column}) AS length"
        output.metadata[title] = show.preview(connection, f"{query} FROM {scan([output.path(file)])}")
    shares = [(level, output.manifest.metrics[f"share_{level}"]) for level in term.LEVELS]
    output.metadata["where users' terms come from"] = show.table(["rows", "share of users"], shares)
