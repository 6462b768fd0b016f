"""Large embedding tables, updated only in the rows that a batch touched."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from recsys_assets.models import layers
from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.layers import Table
from recsys_assets.training import loop, optimiser, trainer
from recsys_assets.training.average import Average
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, ranking_schema

QUICK = TrainingConfig(batch=256, epochs=4, learning_rate=3e-3, recency=2.0, l2=1e-3)


def table(rows: int, *width: int) -> Table:
    made = Table(rows, *width, std=1.0)
    made.by_rows = True
    return made.train()


def step(part: nn.Module, adam: torch.optim.Optimizer, loss: Tensor, largest: float = 1e9) -> None:
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.coalesce(part.parameters())
    optimiser.clip(part.parameters(), largest)
    adam.step()


@pytest.mark.parametrize("width", [(), (3,)])
def test_touched_rows_move_and_no_others(width: tuple[int, ...]) -> None:
    rows = table(10, *width)
    before = rows.weight.detach().clone()
    step(rows, optimiser.optimiser(rows, QUICK), rows(torch.tensor([[3, 7], [3, 0]])).square().sum())
    moved = (rows.weight != before).view(10, -1).all(1)
    assert moved.nonzero().flatten().tolist() == [0, 3, 7], "padding has no gradient, but L2 as any other row"


def test_without_l2_the_first_step_is_that_of_adam() -> None:
    rows, dense, training = table(10, 3), Table(10, 3), replace(QUICK, l2=0.0)
    dense.load_state_dict(rows.state_dict())
    for part in (rows, dense):
        step(part, optimiser.optimiser(part, training), part(torch.tensor([1, 2, 2])).square().sum())
    assert torch.allclose(rows.weight, dense.weight, atol=1e-6)


def test_gradients_of_both_kinds_are_clipped_by_one_norm() -> None:
    weights = [table(10, 3), Table(10, 3)]
    sum((part(torch.tensor([1, 2, 2])).sum() for part in weights), torch.zeros(())).backward()
    optimiser.coalesce(part.weight for part in weights)
    optimiser.clip([part.weight for part in weights], 1.0)
    sparse, dense = weights[0].weight.grad, weights[1].weight.grad
    assert sparse is not None
    assert dense is not None
    assert torch.equal(sparse.to_dense(), dense)
    assert dense.square().sum() * 2 == pytest.approx(1.0)


def test_a_long_gap_brings_a_weight_under_l2_near_zero_and_not_beyond() -> None:
    rows = table(10, 3)
    adam, start = optimiser.optimiser(rows, QUICK), rows.weight[5].detach().clone()
    for index in [5, *[1] * 2000, 5]:
        step(rows, adam, rows(torch.tensor([index])).sum() * 1e-4)
    assert (rows.weight[5].abs() < 0.2 * start.abs() + 0.1).all()
    assert rows.weight.isfinite().all()


def test_the_average_brought_up_to_date_by_rows_is_the_average_over_all_steps() -> None:
    torch.manual_seed(1)
    rows = table(50, 3)
    adam, average, expected = optimiser.optimiser(rows, QUICK), Average(rows, 2.0), torch.zeros(50, 3)

    def losses(steps: int) -> loop.Losses:
        for _ in range(steps):
            yield rows(torch.randint(0, 50, (4,))).square().sum(), 4
            taken.append(rows.weight.detach().clone())

    for first, last in ((1, 8), (9, 40)):  # the steps of two epochs
        taken: list[Tensor] = []
        loop.train_epoch(rows, adam, losses(last + 1 - first), QUICK, iter(range(first, last + 1)), average)
        for number, weight in enumerate(taken, first):
            expected.lerp_(weight, 3 / (number + 2))
        assert torch.allclose(next(average.averaged_model().parameters()), expected, atol=1e-5)


def test_it_learns_as_well_as_with_all_rows_in_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, train, validation = ranking_schema(), ranking_rows(10_000, 1)[0], ranking_rows(4_000, 2)[0]
    best = []
    for large in (layers.LARGE, 1):
        monkeypatch.setattr(layers, "LARGE", large)
        training = replace(QUICK, l2=3e-5, epochs=6)
        best.append(trainer.fit("widedeep", schema, train, validation, training=training).best["validation_auc"])
    assert best[1] == pytest.approx(best[0], abs=0.004)
