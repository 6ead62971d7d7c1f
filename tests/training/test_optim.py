"""One honest step: AdamW by hand, the rate of the step's number, and no step on a gradient that is no number."""

import math

import pytest
import torch
from torch import nn

from plaudit.errors import UserError
from plaudit.training import optim
from plaudit.training.options import OptimConfig
from tests.kills import kills


def parameter(*values: float, grad: tuple[float, ...]) -> nn.Parameter:
    p = nn.Parameter(torch.tensor(values))
    p.grad = torch.tensor(grad)
    return p


def take(p: nn.Parameter, config: OptimConfig, step: int = 0, total: int = 10) -> optim.StepStats:
    return optim.step(optim.adamw([p], config), config, step=step, total_steps=total, loss=0.0)


def test_epsilon_stands_beside_the_bias_corrected_moment():
    """First step: m̂ = g, v̂ = g². With g = ε the move is half the rate; ε before the correction: 1/33."""
    p = parameter(0.0, grad=(1e-5,))
    take(p, OptimConfig(learning_rate=0.1, schedule="constant", eps=1e-5))
    assert p.item() == pytest.approx(-0.05, rel=1e-4)


def test_the_norm_is_told_before_clipping_and_the_gradient_is_scaled_to_the_limit():
    p = parameter(0.0, 0.0, grad=(3.0, 4.0))
    config = OptimConfig(learning_rate=0.1, max_grad_norm=1.0)
    optimizer = optim.adamw([p], config)
    stats = optim.step(optimizer, config, step=0, total_steps=10, loss=0.0)
    assert stats.grad_norm == pytest.approx(5.0)
    assert optimizer.state[p]["exp_avg"].tolist() == pytest.approx([0.06, 0.08], rel=1e-5)  # (1 − β1) · g / 5


@pytest.mark.parametrize("limit", [0.0, 10.0])
def test_a_gradient_below_the_limit_is_left_alone(limit):
    p = parameter(0.0, 0.0, grad=(3.0, 4.0))
    config = OptimConfig(max_grad_norm=limit)
    optimizer = optim.adamw([p], config)
    optim.step(optimizer, config, step=0, total_steps=10, loss=0.0)
    assert optimizer.state[p]["exp_avg"].tolist() == pytest.approx([0.3, 0.4], rel=1e-5)


def test_gradients_are_forgotten():
    p = parameter(0.0, grad=(1.0,))
    take(p, OptimConfig())
    assert p.grad is None


@pytest.mark.parametrize(
    ("schedule", "warmup", "step", "rate"),
    [
        ("constant", 0.0, 9, 1.0),
        ("linear", 0.0, 0, 1.0),
        ("linear", 0.0, 9, 0.1),
        ("linear", 0.2, 0, 0.5),
        ("linear", 0.2, 6, 0.5),
        ("cosine", 0.0, 5, 0.5),
    ],
)
def test_the_rate_is_a_function_of_the_step_alone(schedule, warmup, step, rate):
    p = parameter(0.0, grad=(1.0,))
    config = OptimConfig(learning_rate=1.0, schedule=schedule, warmup_fraction=warmup, max_grad_norm=0)
    assert take(p, config, step=step).learning_rate == pytest.approx(rate)
    assert p.item() == pytest.approx(-rate, rel=1e-4)


def test_weight_decay_is_decoupled_and_spares_vectors():
    matrix, vector = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1))
    config = OptimConfig(learning_rate=0.1, schedule="constant", weight_decay=0.5)
    optimizer = optim.adamw([matrix, vector], config)
    matrix.grad, vector.grad = torch.zeros(1, 1), torch.zeros(1)
    optim.step(optimizer, config, step=0, total_steps=1, loss=0.0)
    assert matrix.item() == pytest.approx(0.95)  # 1 − rate · decay
    assert vector.item() == 1.0


def test_frozen_parameters_are_not_the_optimisers():
    trained, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = optim.adamw([trained, frozen], OptimConfig())
    assert [p for group in optimizer.param_groups for p in group["params"]] == [trained]


def test_a_parameter_without_gradient_stays():
    """A minibatch on which every judge abstained has no loss at all."""
    p = nn.Parameter(torch.ones(2))
    stats = take(p, OptimConfig(weight_decay=0.1))
    assert stats.grad_norm == 0.0
    assert p.tolist() == [1.0, 1.0]


@kills(
    "training/optim.py",
    old="if not not_finite and not math.isfinite(norm):",
    new="if not not_finite and math.isnan(norm):",
    why="an infinite gradient is stepped on",
)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_a_gradient_that_is_no_number_changes_nothing(bad, limit):
    p, other = parameter(1.0, 2.0, grad=(0.5, 0.5)), parameter(3.0, grad=(1.0,))
    config = OptimConfig(learning_rate=0.1, max_grad_norm=limit)
    optimizer = optim.adamw([p, other], config)
    optim.step(optimizer, config, step=0, total_steps=10, loss=0.0)
    weights = [p.detach().clone(), other.detach().clone()]
    moments = {key: value.clone() for key, value in optimizer.state[other].items()}
    p.grad, other.grad = torch.tensor([0.1, bad]), torch.ones(1)
    stats = optim.step(optimizer, config, step=6, total_steps=10, loss=0.0)
    assert stats.not_finite and not math.isfinite(stats.grad_norm)
    assert p.grad is None and other.grad is None
    assert torch.equal(p, weights[0]) and torch.equal(other, weights[1])
    assert all(torch.equal(optimizer.state[other][key], value) for key, value in moments.items())


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_changes_nothing_though_its_gradient_is_one(loss):
    p = parameter(1.0, grad=(1.0,))
    stats = optim.step(optim.adamw([p], OptimConfig()), OptimConfig(), step=0, total_steps=1, loss=loss)
    assert (stats.not_finite, p.item()) == (f"the loss is {loss}", 1.0)


def test_steps_that_are_not_taken_are_counted_and_too_many_in_a_row_are_an_error():
    config = OptimConfig(max_skipped=3)
    counts = optim.Skipped()
    for step, cause in enumerate(["", "x", "x", "", "x", "x"]):
        counts = counts.after(cause, config, step=step, total_steps=9)
    assert counts == optim.Skipped(total=4, in_a_row=2)
    with pytest.raises(UserError, match=r"step 7 of 9: the loss is nan, 3 time\(s\) in a row"):
        counts.after("the loss is nan", config, step=6, total_steps=9)


def test_the_parameter_whose_gradient_is_no_number_is_named():
    """The first of the broken ones, whatever clipping would have made of the others."""
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    for name, p in model.named_parameters():
        p.grad = torch.full_like(p, math.nan if name == "b.weight" else 1.0)
    optimizer, named = optim.adamw(model.parameters(), OptimConfig()), model.named_parameters()
    stats = optim.step(optimizer, OptimConfig(), step=0, total_steps=1, loss=1.0, named=named)
    assert stats.not_finite == "the gradient's norm is nan (b.weight)"


def test_no_patience_at_all_is_refused():
    with pytest.raises(ValueError, match="max_skipped"):
        OptimConfig(max_skipped=0)


@pytest.mark.parametrize("wrong", [{"learning_rate": -1.0}, {"warmup_fraction": 1.5}, {"warmup_fraction": -0.1}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="learning_rate"):
        OptimConfig(**wrong)
