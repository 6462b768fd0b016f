from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from recsys_assets.features.schema import encode
from recsys_assets.models.config import ConfigError
from recsys_assets.models.final import Branch, Final, FinalConfig, Gate, Interaction
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, ranking_schema

SCHEMA = ranking_schema()
FUXICTR_SCALE = (1 + 1e-5) ** -0.5  # scale of a batch normalisation that has seen no batch


@pytest.mark.parametrize(
    ("settings", "maps", "formula"),
    [
        ({"residual": "concat"}, 1, lambda a, b: torch.cat([a, a * b], 1) * FUXICTR_SCALE),
        ({"residual": "sum"}, 2, lambda a, b: (a + a * b) * FUXICTR_SCALE),
        ({"residual": "sum", "relu": True}, 2, lambda a, b: torch.relu(a + a * b) * FUXICTR_SCALE),
        ({"definition": "paper"}, 2, lambda a, b: a + a * torch.sigmoid(b)),
        ({"definition": "mindspore"}, 3, lambda a, b, c: a * (1 + b.tanh()) + a * (1 + b.tanh()) * c.tanh()),
    ],
)
def test_a_layer_is_the_formula_of_its_definition(settings: dict[str, Any], maps: int, formula: Any) -> None:
    layer = Interaction(5, 8, FinalConfig(**settings), dropout=0.0).eval()
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert layer.linear.weight.shape == (8 * maps, 5)
    assert torch.allclose(layer(x), formula(*layer.linear(x).chunk(max(maps, 2), 1)), atol=1e-6)


def test_the_branches_learn_the_labels_together_and_the_mean_each() -> None:
    model = Final(SCHEMA, FinalConfig())
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.4], [-0.7, 0.0]], requires_grad=True)
    labels = torch.tensor([1.0, 1.0, 0.0])
    together = torch.sigmoid(logits.mean(1))
    teacher = together.detach()
    branches = [binary_cross_entropy(torch.sigmoid(logits[:, branch]), teacher) for branch in (0, 1)]
    expected = binary_cross_entropy(together, labels) + branches[0] + branches[1]
    (wanted,) = torch.autograd.grad(expected, logits)
    (found,) = torch.autograd.grad(model.loss(logits, labels), logits)
    assert torch.allclose(model.loss(logits, labels), expected)
    assert torch.allclose(found, wanted, atol=1e-7)


def test_the_logit_is_the_mean_of_the_branches() -> None:
    rows = encode(SCHEMA, ranking_rows(64, 0)[0])
    inputs = torch.from_numpy(rows.indices), torch.from_numpy(rows.numeric)
    two, one = Final(SCHEMA, FinalConfig()), Final(SCHEMA, FinalConfig(branch2=()))
    assert (two(*inputs).shape, one(*inputs).shape) == ((64, 2), (64,)), "in training each branch has its own"
    given: list[torch.Tensor] = []
    for branch in two.branches:
        branch.register_forward_hook(lambda *call: given.append(call[2]))
    assert torch.equal(two.eval()(*inputs), torch.cat(given, 1).mean(1))


def test_only_the_first_branch_is_gated_by_gates_that_start_at_one() -> None:
    plain, gated = (Final(SCHEMA, FinalConfig(gating=gating)) for gating in (False, True))
    names = [f"branches.{branch}.layers.0.linear.weight" for branch in (0, 1)]
    widths = [model.state_dict()[name].shape[1] for model in (plain, gated) for name in names]
    assert widths == [widths[0], widths[0], widths[0] + 5 * 16, widths[0]]
    embedded = torch.randn(3, 5 * 16)
    assert torch.equal(Gate(5)(embedded), embedded)


def test_dropout_stands_after_the_layer_it_is_named_for() -> None:
    torch.manual_seed(0)
    config = FinalConfig(branch1=(16, 8), dropout1=(0.0, 0.5))
    branch = Branch(5, config.branch1, config.dropout1, config)
    given: list[torch.Tensor] = []
    for layer in branch.layers:
        layer.register_forward_hook(lambda *call: given.append(call[2]))
    branch(torch.randn(1000, 5))
    assert [(x == 0).float().mean().item() for x in given] == [0.0, pytest.approx(0.5, abs=0.05)]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"definition": "papr"}, "no 'papr'"),
        ({"residual": "hadamard"}, "'hadamard'"),
        ({"dropout2": (0.1,)}, "one share for each"),
        ({"branch1": (64, 3)}, "even"),
    ],
)
def test_settings_that_no_definition_has_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FinalConfig(**settings)
