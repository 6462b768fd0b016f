import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_assets.models import losses, towers
from recsys_assets.models.catalogue import TOWERS, build_towers
from recsys_assets.models.fm import Fm, FmConfig
from recsys_assets.models.layers import Dropout
from recsys_assets.models.sasrec import SasRec
from recsys_assets.models.simplex import Simplex
from recsys_assets.training import recall
from recsys_assets.training.loop import Fitted
from recsys_assets.training.tower_data import TowerData, load
from recsys_assets_tests.helpers.recall_world import schema, source

SMALL = {
    "sasrec": {"width": 16, "history": 12},
    "dssm": {"history": 12},
    "simplex": {"history": 12},
    "dropoutnet": {"history": 12},
}


def made(name: str, seed: int = 0) -> tuple[towers.TwoTower, TowerData]:
    torch.manual_seed(seed)
    model = build_towers(name, schema(), TOWERS[name].config(**SMALL.get(name, {}))).eval()
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    given = source()
    return model, load(model, given.interactions, given.users, given.items)


def some_users(data: TowerData, width: int, ends: list[int]) -> Tensor:
    starts = np.zeros(len(ends), np.int64)
    return data.user_indices(np.zeros(len(ends), np.int64), starts, np.array(ends), width)


@pytest.fixture(params=TOWERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_token_is_the_place_in_the_vocabulary_and_0_an_unknown_item(name: str) -> None:
    model, data = made(name)
    assert model.token(data.catalogue).tolist() == list(range(1, 40))
    tokens = model.token(data.items)
    assert tokens[5] == 0, "item 105"
    assert tokens[6] == 6, "item 106"
    past = model.past(some_users(data, model.history, [3]))
    assert past.tolist() == [data.tokens[max(0, 3 - model.history) : 3].tolist()]


def test_padding_changes_no_vector(name: str) -> None:
    model, data = made(name)
    alone = model.user(some_users(data, 12, [5]))
    beside_a_longer_one = model.user(some_users(data, 12, [5, 11]))
    assert torch.allclose(alone[0], beside_a_longer_one[0], atol=1e-6)


def test_a_user_without_a_history_and_an_unknown_item_have_finite_vectors(name: str) -> None:
    model, data = made(name)
    assert torch.isfinite(model.user(some_users(data, 12, [0, 3]))).all()
    assert torch.isfinite(model.item(data.items)).all()


def test_towers_take_the_features_of_their_side_that_are_no_numbers(name: str) -> None:
    model, _ = made(name)
    assert [feature.name for feature in model.user_schema.features] == ["user_id", "gender", "history"]
    assert [feature.name for feature in model.item_schema.features] == ["item_id", "genres"]


@pytest.mark.parametrize("name", ["simplex", "dssm", "dropoutnet"], indirect=True)
def test_vectors_of_cosine_models_have_length_1(name: str) -> None:
    model, data = made(name)
    for vectors in (model.user(some_users(data, 12, [4, 9])), model.item(data.catalogue)):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)


def test_the_product_of_fm_vectors_is_the_whole_factorisation_machine() -> None:
    torch.manual_seed(0)
    model = Fm(schema(), FmConfig(width=6))
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    given = source()
    data = load(model, given.interactions, given.users, given.items)
    users, items = some_users(data, 1, [3, 4]), data.catalogue[[7, 8]]
    logits = (model.user(users) * model.item(items)).sum(1)
    assert torch.allclose(logits, by_pairs(model, users[:, :2], items), atol=1e-4)


def by_pairs(model: Fm, users: Tensor, items: Tensor) -> Tensor:
    """Weights and the inner products of all pairs of vectors, computed one by one."""
    logits = []
    for user, item in zip(users, items, strict=True):
        vectors = [model.user_factors(user[place : place + 1])[0] for place in range(len(user))]
        vectors += [model.item_factors(item[place : place + 1])[0] for place in range(len(item))]
        weights = model.user_weights(user).sum() + model.item_weights(item).sum() + model.bias[0]
        pairs = [one @ other for place, one in enumerate(vectors) for other in vectors[place + 1 :]]
        logits.append(weights + torch.stack(pairs).sum())
    return torch.stack(logits)


def test_no_place_of_a_transformer_sees_a_later_one() -> None:
    model, _ = made("sasrec")
    assert isinstance(model, SasRec)
    past = torch.tensor([[3, 7, 1, 9, 2]])
    changed = past.clone()
    changed[0, 3] = 30
    before, after = model.read(past), model.read(changed)
    assert torch.allclose(before[0, :3], after[0, :3], atol=1e-6)
    assert not torch.allclose(before[0, 3], after[0, 3], atol=1e-3)


def test_a_users_vector_is_that_of_the_newest_place() -> None:
    model, _ = made("sasrec")
    assert isinstance(model, SasRec)
    past = torch.tensor([[3, 7, 1, 9, 2], [4, 5, 0, 0, 0], [0, 0, 0, 0, 0]])
    everywhere = model.eval().read(past)
    model.past = lambda indices: indices  # type: ignore[method-assign]
    assert torch.allclose(model.user(past), everywhere[[0, 1, 2], [4, 1, 0]], atol=1e-6)


def test_dropout_keeps_the_mean_and_nothing_in_evaluation() -> None:
    torch.manual_seed(0)
    drop = Dropout(0.25)
    x = torch.ones(401, 501)
    found = drop(x)
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert found.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("fast", [False, True])
def test_the_softmax_in_chunks_is_the_plain_one(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "bfloat16_is_fast", lambda device: fast)  # noqa: ARG005
    torch.manual_seed(0)
    vectors, items = torch.randn(1100, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets = torch.randint(1, 31, (1100,))
    batch = towers.Batch(torch.empty(0), targets, torch.empty(0), torch.empty(0))
    found = losses.softmax_loss(vectors, targets, batch, lambda _: items, temperature=0.5)
    expected = torch.nn.functional.cross_entropy(vectors @ items.T / 0.5, targets - 1)
    relative, absolute = (0.05, 2e-4) if fast else (1e-4, 1e-6)
    assert torch.allclose(found, expected, relative, absolute)
    ours = torch.autograd.grad(found, (vectors, items))
    plain = torch.autograd.grad(expected, (vectors, items))
    for one, other in zip(ours, plain, strict=True):
        assert torch.allclose(one, other, relative, absolute)


def test_the_margin_in_chunks_is_the_plain_one() -> None:
    torch.manual_seed(0)
    vectors, negatives = torch.randn(1100, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    own = torch.rand(1100, 30) < 0.1
    found = losses.margin_loss(vectors, negatives, own, 0.4)
    expected = (vectors @ negatives.T - 0.4).clamp(min=0).masked_fill(own, 0).mean()
    assert torch.allclose(found, expected)
    ours = torch.autograd.grad(3 * found, (vectors, negatives))
    plain = torch.autograd.grad(3 * expected, (vectors, negatives))
    for one, other in zip(ours, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_a_sample_corrected_for_its_draws_has_the_gradient_of_the_whole_softmax() -> None:
    """Over many draws, the mean gradient of the scores is close to that of the softmax over all items."""
    torch.manual_seed(0)
    scores = torch.randn(1, 30, requires_grad=True)
    shares = torch.rand(30) + 0.1
    shares /= shares.sum()
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores, torch.tensor([4])), scores)
    tokens = torch.multinomial(shares, 200_000, replacement=True) + 1
    negatives = towers.Negatives(tokens, torch.log(torch.cat([torch.ones(1), shares])) + np.log(len(tokens)))
    loss = losses.sampled_softmax(scores[:, 4], scores[:, tokens - 1], torch.tensor([5]), negatives)
    (found,) = torch.autograd.grad(loss, scores)
    # The target counts once, whatever its share; the gradients of the others are their shares.
    weights = scores.detach().exp()[0]
    corrected = weights / (weights.sum() - weights[4] + weights[4] / (shares[4] * len(tokens)))
    others = [item for item in range(30) if item != 4]
    assert torch.allclose(found[0, others], corrected[others], rtol=0.05)
    assert (expected[0, others] > 0).all()


def test_a_drawn_item_that_is_the_rows_own_target_is_no_negative() -> None:
    negatives = towers.Negatives(torch.tensor([2, 3]), torch.zeros(4))
    others = torch.tensor([[9.0, 1.0], [9.0, 1.0]])
    loss = losses.sampled_softmax(torch.tensor([1.0, 1.0]), others, torch.tensor([2, 1]), negatives)
    expected = (np.log(2) + np.log(1 + np.exp(0) + np.exp(8))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_cosine_contrastive_loss_is_its_formula() -> None:
    model, data = made("simplex")
    assert isinstance(model, Simplex)
    users = some_users(data, 12, [4, 9])
    negatives = towers.Negatives(torch.tensor([3, 8, 8]), torch.zeros(40))
    batch = towers.Batch(users, torch.tensor([3, 5]), torch.ones(2), data.catalogue, negatives)
    cosine = (model.user(users) @ model.item(data.catalogue).T).detach().numpy()
    above = np.maximum(cosine[:, [2, 7, 7]] - model.config.margin, 0)
    above[0, 0] = 0  # the row's own item
    expected = np.mean([1 - cosine[0, 2], 1 - cosine[1, 4]]) + model.config.negative_weight * above.mean()
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-4)


def test_the_catalogue_refuses_other_names() -> None:
    with pytest.raises(KeyError, match="no model 'widedeep'.*sasrec"):
        build_towers("widedeep", schema(), None)
    with pytest.raises(TypeError, match="not a two-tower"):
        recall.two_tower(Fitted("widedeep", torch.nn.Linear(1, 1), None, schema(), TOWERS["fm"].training))
