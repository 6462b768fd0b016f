import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_assets.features.schema import Feature, FeatureSchema, SchemaError, encode
from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.layers import Crosses, Normalise, OwnTerms
from recsys_assets.models.widedeep import WideDeep, WideDeepConfig
from recsys_assets.training import trainer
from recsys_assets_tests.helpers.ranking_rows import messy_rows, ranking_rows, ranking_schema

NUMBER = Feature("number", "numeric", "user", "float32", mean=[0.0], std=[1.0])
PAIR = [*(Feature(name, "categorical", "user", "int64", "side", [0, 1]) for name in ("one", "other")), NUMBER]


def encoded(schema: FeatureSchema, table: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
    rows = encode(schema, table)
    return torch.from_numpy(rows.indices), torch.from_numpy(rows.numeric)


def test_indices_are_rows_of_one_shared_space() -> None:
    indices, _ = encoded(ranking_schema(), messy_rows())
    assert indices[:, 0].tolist() == [2, 1, 1, 51, 1], "user_id takes rows 1 to 51, 1 is unknown"
    assert indices[:, 1].tolist() == [53, 52, 52, 52, 54], "gender starts at 52"
    assert indices[:, 3:6].tolist() == [[99, 0, 0], [0, 0, 0], [0, 0, 0], [96, 97, 98], [0, 0, 98]]
    assert ranking_schema().index_rows == 1 + 51 + 3 + 41 + 4 + 3


def test_a_missing_or_unusable_column_is_named() -> None:
    table = ranking_rows(4, 0)[0]
    with pytest.raises(SchemaError, match="activity"):
        encode(ranking_schema(), table.drop_columns(["activity"]))
    with pytest.raises(SchemaError, match="taste"):
        encode(ranking_schema(), table.set_column(6, "taste", [[[1.0], [1.0], [1.0], [1.0]]]))


def test_a_missing_number_is_the_train_mean() -> None:
    schema = ranking_schema()
    normal = Normalise(schema)(torch.tensor([[float("nan"), 1.0, 2.0, -90.0, 0.0], [2.5, 0.0, 0.0, 0.0, 0.0]]))
    assert normal[:, :4].tolist() == [[0.0, 1.0, 2.0, -5.0], [1.0, 0.0, 0.0, 0.0]]


def test_own_terms_are_the_mean_over_the_rows_own_values() -> None:
    schema = ranking_schema()
    table = messy_rows().take([0, 1, 4])
    numeric = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]] * 3)
    own = OwnTerms(schema)(encoded(schema, table)[0], numeric)
    assert own[:, 0].tolist() == [4.0, 0.0, 3.0], "War; no genre; Drama with an unknown and a null"


def test_a_cross_that_fits_gives_each_pair_of_values_its_own_row() -> None:
    schema = FeatureSchema(PAIR, [["one", "other"]])
    pairs = pa.table({"one": np.repeat([0, 1, 2], 3), "other": np.tile([0, 1, 2], 3), "number": np.zeros(9)})
    crosses = Crosses(schema, buckets=64)
    assert crosses.rows == 1 + 9
    assert sorted(crosses(encoded(schema, pairs)[0])[:, 0].tolist()) == list(range(1, 10))


def test_a_large_cross_is_hashed_evenly_into_its_buckets() -> None:
    many = [Feature(n, "categorical", "user", "int64", "id", list(range(1000))) for n in ("one", "other")]
    schema = FeatureSchema([*many, NUMBER], [["one", "other"]])
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 1000, (2, 4096))
    pairs = pa.table({"one": one, "other": other, "number": np.zeros(4096)})
    rows = Crosses(schema, buckets=4096)(encoded(schema, pairs)[0])[:, 0].numpy()
    assert rows.min() >= 1
    assert rows.max() <= 4096
    assert len(np.unique(rows)) == pytest.approx(4096 * (1 - np.exp(-1)), rel=0.05), "as many as chance fills"


def test_padding_takes_no_part_in_a_cross() -> None:
    schema = ranking_schema((("gender", "genres"),))
    rows = Crosses(schema, 64)(encoded(schema, messy_rows())[0])
    assert (rows > 0).sum(1).tolist() == [1, 0, 0, 3, 1]


def test_a_schema_that_no_model_can_use_is_refused() -> None:
    with pytest.raises(SchemaError, match="one categorical"):
        FeatureSchema([NUMBER])
    with pytest.raises(SchemaError, match="placeholder of missing values"):
        FeatureSchema([Feature("name", "categorical", "user", "string", "side", ["", "a"]), NUMBER])
    with pytest.raises(SchemaError, match="not one per value"):
        FeatureSchema([*PAIR, Feature("bias", "numeric", "user", "float32", length=3, terms_of="one")])
    with pytest.raises(SchemaError, match="colour"):
        FeatureSchema(PAIR, [["one", "colour"]])


def test_only_a_cross_tells_what_neither_value_does() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    table = pa.table({"one": one, "other": other, "number": np.zeros(4000), "label": (one ^ other).astype(np.int8)})
    linear = WideDeepConfig(hidden=())
    settings = TrainingConfig(batch=200, epochs=5, learning_rate=0.05)
    alone = trainer.fit("widedeep", FeatureSchema(PAIR), table, table, linear, settings)
    crossed = trainer.fit("widedeep", FeatureSchema(PAIR, [["one", "other"]]), table, table, linear, settings)
    assert alone.best["validation_auc"] < 0.8
    assert crossed.best["validation_auc"] == 1.0


def test_ids_are_dropped_in_training_only() -> None:
    schema = ranking_schema()
    model = WideDeep(schema, WideDeepConfig(id_dropout=0.5))
    torch.nn.init.normal_(model.wide_values.weight)
    rows = encoded(schema, ranking_rows(64, 0)[0])
    assert not torch.equal(model.train()(*rows), model(*rows))
    assert torch.equal(model.eval()(*rows), model(*rows))
