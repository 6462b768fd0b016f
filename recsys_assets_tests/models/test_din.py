import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_assets.features.schema import Feature, FeatureSchema, SchemaError, encode
from recsys_assets.metrics import auc
from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.din import Attention, Din, DinConfig
from recsys_assets.training import rankers
from recsys_assets_tests.helpers.ranking_rows import messy_rows, ranking_schema, sequence_schema

ITEMS = Feature("item_id", "categorical", "item", "int64", "id", list(range(20)))
TRAINING = TrainingConfig(batch=200, epochs=4, learning_rate=0.02)


def test_a_sequence_has_the_rows_of_the_items_it_holds_in_their_order() -> None:
    schema = sequence_schema()
    found = encode(schema, messy_rows()).indices[:, schema.columns["recent"]]
    first, unknown = schema.first_row["item_id"] + 1, schema.first_row["item_id"]
    assert found[0].tolist() == [first, first + 39, 0]
    assert found[1:3].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert found[3].tolist() == [first + 20, unknown, first], "an unknown one keeps its place; what is too long is cut"


def test_sequences_take_no_rows_of_their_own_and_leave_the_other_features_as_they_are() -> None:
    assert sequence_schema().index_rows == ranking_schema().index_rows
    assert sequence_schema().without_sequences().fingerprint == ranking_schema().fingerprint
    plain = ranking_schema()
    wide = encode(sequence_schema(), messy_rows()).indices
    assert np.array_equal(wide[:, : plain.index_columns], encode(plain, messy_rows()).indices)


def test_a_sequence_of_no_feature_is_refused() -> None:
    with pytest.raises(SchemaError, match="recent"):
        FeatureSchema([ITEMS, Feature("recent", "sequence", "user", "int64", length=3, values_of="genres")])


def test_attention_is_the_mean_by_closeness_and_nothing_where_there_is_nothing() -> None:
    torch.manual_seed(0)
    attention, query, vectors = Attention(4), torch.randn(2, 4), torch.randn(2, 3, 4)
    there = torch.tensor([[True, True, False], [False, False, False]])
    found = attention(query, vectors, there)
    scores = [(attention.closeness(query[:1]) @ vectors[0, place]).item() for place in (0, 1)]
    weights = np.exp([*scores, attention.nothing.item()])
    weights /= weights.sum()
    mean = weights[0] * vectors[0, 0] + weights[1] * vectors[0, 1]
    torch.testing.assert_close(found[0], torch.cat([mean, mean * query[0]]), check_dtype=False)
    assert found[1].tolist() == [0.0] * 8


def test_only_a_sequence_tells_whether_the_candidate_was_in_it() -> None:
    """The label says whether the candidate is among the liked items: no single feature carries information."""
    rng = np.random.default_rng(0)
    liked = np.stack([rng.permutation(20)[:4] for _ in range(6000)])
    among = rng.integers(0, 2, 6000)
    item = np.where(among == 1, liked[:, 0], (liked.max(axis=1) + 1) % 20)
    label = (liked == item[:, None]).any(axis=1).astype(np.int8)
    table = pa.table({"item_id": item, "liked": liked.tolist(), "label": label})
    schema = FeatureSchema([ITEMS, Feature("liked", "sequence", "user", "int64", length=4, values_of="item_id")])
    found = rankers.fit("din", schema, table[:5000], table[5000:], DinConfig(id_dropout=0.0), TRAINING)
    plain = rankers.fit("widedeep", schema, table[:5000], table[5000:], None, TRAINING)
    assert found.fitted.best["validation_auc"] > plain.fitted.best["validation_auc"] + 0.1
    rows = encode(schema, table[5000:])
    assert auc(label[5000:], found.predict(rows)) > 0.9


def test_without_sequences_it_is_wide_and_deep() -> None:
    schema = ranking_schema()
    rows = encode(schema, messy_rows())
    model = Din(schema, DinConfig()).eval()
    assert len(model.attend) == 0
    assert model(torch.from_numpy(rows.indices), torch.from_numpy(rows.numeric)).isfinite().all()
