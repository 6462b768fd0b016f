import itertools

import pytest
import torch

from recsys_assets.features.schema import encode
from recsys_assets.models.deepfm import DeepFm, DeepFmConfig, pairs
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, ranking_schema


def test_pairs_are_the_inner_products_of_all_pairs() -> None:
    vectors = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    products = [vectors[:, a] * vectors[:, b] for a, b in itertools.combinations(range(5), 2)]
    assert torch.allclose(pairs(vectors), torch.stack(products).sum(0).sum(1), atol=1e-5)


@pytest.mark.parametrize(("side_embedding", "interact"), [(2, False), (16, True)])
def test_ids_and_side_fields_interact_where_their_widths_are_the_same(side_embedding: int, interact: bool) -> None:
    schema = ranking_schema()
    torch.manual_seed(0)
    model = DeepFm(schema, DeepFmConfig(side_embedding=side_embedding, deep_embeddings=False)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    rows = encode(schema, ranking_rows(1, 0)[0])
    indices, numeric = torch.from_numpy(rows.indices).repeat(4, 1), torch.from_numpy(rows.numeric).repeat(4, 1)
    indices[:, 0] = torch.tensor([2, 2, 3, 3])  # two users,
    indices[:, 1] = torch.tensor([53, 54, 53, 54])  # with both genders
    one, other, third, fourth = model(indices, numeric).tolist()
    assert (abs((one - other) - (third - fourth)) > 1e-2) == interact


def test_each_group_has_a_table_of_its_own_values() -> None:
    embeds = DeepFm(ranking_schema(), DeepFmConfig(embedding=16, side_embedding=2)).embed
    assert [tuple(weight.shape) for weight in embeds.parameters()] == [(1 + 51 + 41, 16), (1 + 3 + 4 + 3, 2)]
