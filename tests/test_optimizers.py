"""Muon: orthogonal steps for matrices, AdamW for the rest, and a state that a checkpoint can hold."""

import pytest
import torch
from torch import Tensor, nn

from genbench import Muon, adamw
from genbench.metering.flops import FlopCounter
from genbench.optimizers import inverse_root, is_matrix
from genbench.training.optimizer_state import optimizer_tensors, restore_optimizers


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 16, 3), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32, 40))


def give_gradients(module: nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)


def orthogonal(x: Tensor) -> Tensor:
    """One matrix, brought near an orthogonal one as published: the iteration on the matrix itself, in float64."""
    x = x.double() / (x.double().norm() + 1e-7)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


@pytest.mark.parametrize("shape", [(3, 24, 60), (1, 32, 32)])
def test_a_step_turns_no_direction_and_has_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = inverse_root(matrices @ matrices.mT) @ matrices
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ found @ right.mT  # diagonal in the matrix's own singular vectors
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


@pytest.mark.parametrize("values", [torch.ones(32), torch.logspace(0, -9, 32), (torch.arange(32) < 2) * 1e4])
def test_the_iteration_is_the_published_one_also_for_matrices_near_singular(values: Tensor) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(32, 80), full_matrices=False)
    x = left * values @ right
    found = inverse_root((x @ x.T)[None])[0] @ x
    torch.testing.assert_close(found.double(), orthogonal(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", ["contiguous", "channels_last", "bfloat16"])
def test_two_steps_are_those_of_one_matrix_at_a_time(form: str) -> None:
    module = network()
    if form == "channels_last":
        module.to(memory_format=torch.channels_last)
    elif form == "bfloat16":
        module.bfloat16()
    weights = [p for p in module.parameters() if is_matrix(p)]
    expected, momenta = [p.detach().double() for p in weights], [torch.zeros(p.shape) for p in weights]
    optimizer = Muon(module, 1e-3, matrix_learning_rate=0.1, weight_decay=0.5)
    for seed in (1, 2):
        give_gradients(module, seed)
        for place, p in enumerate(weights):
            momenta[place] = 0.95 * momenta[place] + 0.05 * p.grad.float()
            x = (0.05 * p.grad.float() + 0.95 * momenta[place]).flatten(1)
            step = orthogonal(x) if len(x) <= x.shape[1] else orthogonal(x.T).T
            step *= max(1, len(x) / x.shape[1]) ** 0.5
            expected[place] = (1 - 0.1 * 0.5) * expected[place] - 0.1 * step.view_as(p)
        optimizer.step()
    for p, other in zip(weights, expected):
        torch.testing.assert_close(p.double(), other, rtol=0, atol=1e-5 if form != "bfloat16" else 5e-3)


def test_the_size_of_the_gradient_does_not_matter_to_a_matrix() -> None:
    steps = []
    for factor in (1.0, 1e-3):
        module = network()
        before = module[1].weight.detach().clone()
        give_gradients(module)
        module[1].weight.grad *= factor
        Muon(module, 1e-3).step()
        steps.append(module[1].weight.detach() - before)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-5)
    assert torch.linalg.matrix_norm(steps[0].flatten(1), 2) == pytest.approx(0.01, rel=0.3)


def test_what_is_no_matrix_moves_as_by_adamw() -> None:
    ours, theirs = network(), network()
    give_gradients(ours)
    give_gradients(theirs)
    Muon(ours, 1e-2, betas=(0.9, 0.99)).step()
    adamw(theirs, 1e-2, betas=(0.9, 0.99)).step()
    assert [is_matrix(p) for p in ours.parameters()] == [True, False, True, False, True, False]
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(mine, other) != is_matrix(mine)


def test_adamw_moves_the_matrices_that_it_is_given() -> None:
    ours, theirs = network(), network()
    give_gradients(ours)
    give_gradients(theirs)
    Muon(ours, 1e-2, others=[ours[3].weight]).step()
    adamw(theirs, 1e-2).step()
    assert torch.equal(ours[3].weight, theirs[3].weight) and not torch.equal(ours[1].weight, theirs[1].weight)


def test_a_restored_optimizer_goes_on_exactly() -> None:
    going, stopped = network(), network()
    first, second = Muon(going, 1e-2), Muon(stopped, 1e-2)
    for seed in (1, 2):
        give_gradients(going, seed)
        first.step()
    give_gradients(stopped, 1)
    second.step()
    tensors = optimizer_tensors({"train": second})
    third = Muon(stopped, 1e-2)
    restore_optimizers({"train": third}, tensors)
    give_gradients(stopped, 2)
    third.step()
    assert all(torch.equal(mine, other) for mine, other in zip(going.parameters(), stopped.parameters()))


def test_weight_decay_shrinks_a_matrix_whose_gradient_is_nothing() -> None:
    module = network()
    before = module[1].weight.detach().clone()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Muon(module, 1e-3, matrix_learning_rate=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(module[1].weight.detach(), 0.95 * before)


def test_the_products_of_a_step_can_be_counted() -> None:
    weight = nn.Parameter(torch.randn(16, 40))
    weight.grad = torch.randn(16, 40)
    optimizer = Muon([weight], 1e-3)
    with FlopCounter() as counter:
        optimizer.step()
    assert counter.flops == 2 * (2 * 16 * 16 * 40) + 17 * 2 * 16**3  # in and out; 5 squares, 4 turns twice, 4 products
