"""AdamW is PyTorch's; Muon is what its authors describe, on all matrices of a shape at once."""

import pytest
import torch
from torch import nn

from cicy_utils import optimizers
from cicy_utils.models import build_model


def test_adamw_takes_the_steps_of_pytorchs():
    torch.manual_seed(0)
    own, other = nn.Linear(5, 4), nn.Linear(5, 4)
    other.load_state_dict(own.state_dict())
    optimizer = optimizers.build("adamw", own, 0.1)
    assert all(not moment.any() for moment in optimizers.moments(optimizer))
    optimizers.set_learning_rate(optimizer, 0.02)
    expected = torch.optim.AdamW(other.parameters(), lr=0.02, weight_decay=0.1)
    for batch in torch.rand(3, 7, 5):
        for model, chosen in ((own, optimizer), (other, expected)):
            chosen.zero_grad()
            model(batch).square().mean().backward()
            chosen.step()
    for weight, same in zip(own.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight, same)


def test_muon_takes_the_steps_of_pytorchs():
    """Which rounds to 16 bits: it moves each matrix nearly as far, nearly in that direction."""
    torch.manual_seed(0)
    shapes = [(12, 12, 3), (12, 12, 1), (5, 8, 2), (8, 5, 1)]  # the third number: how many
    hidden = [(nn.Parameter(torch.randn(n * rows, columns)), n) for rows, columns, n in shapes]
    bias = nn.Parameter(torch.randn(7))
    optimizer = optimizers.Muon(hidden, optimizers.adamw([bias], weight_decay=0.1))
    optimizers.set_learning_rate(optimizer, 0.01)
    matrices = [nn.Parameter(m.clone()) for w, n in hidden for m in w.detach().chunk(n)]
    same_bias = nn.Parameter(bias.detach().clone())
    theirs = (
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([same_bias], lr=0.01, weight_decay=0.1),
    )

    before = [matrix.detach().clone() for matrix in matrices]
    for _ in range(5):
        for weight in (*(w for w, _ in hidden), bias):
            weight.grad = torch.randn_like(weight)
        same_bias.grad = bias.grad.clone()
        gradients = [g for w, n in hidden for g in w.grad.chunk(n)]
        for matrix, gradient in zip(matrices, gradients, strict=True):
            matrix.grad = gradient.clone()
        for one in (optimizer, *theirs):
            one.step()

    torch.testing.assert_close(bias, same_bias)
    ours = [matrix for weight, n in hidden for matrix in weight.detach().chunk(n)]
    for one, other, start in zip(ours, matrices, before, strict=True):
        moved = (other - start).norm()
        assert moved > 0.05
        assert (one - other).norm() < 0.03 * moved


@pytest.mark.parametrize("shape", [(64, 64), (5, 8), (8, 5), (3, 16, 16)])
def test_orthogonal_matrices_keep_their_singular_vectors(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 100
    left, values, right = torch.linalg.svd(optimizers.orthogonal(matrices), full_matrices=False)
    largest = values.numel() - values.numel() // 20  # a random matrix has some near zero, too
    assert values.flatten().sort(descending=True).values[:largest].min() > 0.6
    assert values.max() < 1.25
    # A matrix that is turned into nearly orthogonal ones is symmetric and positive but for that.
    turned = left @ right
    symmetric = turned.mT @ matrices
    torch.testing.assert_close(symmetric, symmetric.mT, rtol=1e-3, atol=0.2)
    assert not optimizers.orthogonal(torch.zeros(shape)).any()


def test_a_learning_rate_in_a_tensor_is_the_same():
    """As on a GPU, where a recorded graph reads it."""
    moved = []
    for in_a_tensor in (False, True):
        torch.manual_seed(0)
        weight, bias = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6))
        others = optimizers.adamw([bias], weight_decay=0.1)
        if in_a_tensor:
            others.param_groups[0]["lr"] = torch.zeros(())
        optimizer = optimizers.Muon([(weight, 1)], others)
        assert len({id(group["lr"]) for group in optimizer.param_groups}) == 1 + in_a_tensor
        for rate in (0.1, 0.01):
            optimizers.set_learning_rate(optimizer, rate)
            weight.grad, bias.grad = torch.randn(6, 6), torch.randn(6)
            optimizer.step()
        moved.append((weight.detach(), bias.detach()))
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("LSTM-448", {}, [(1792, 448, 4)] * 3),
        ("CNN-GRU-384", {"num_layers": 1}, [(1152, 384, 3)]),
        (
            "ResNet-GRU-256",
            {"bidirectional": True},
            [*[(768, 256, 3)] * 2, *[(768, 512, 3), (768, 256, 3)] * 2],
        ),
        ("Graph-64", {}, [(64, 64, 1)] * 60),
    ],
)
def test_hidden_matrices_lead_from_hidden_layer_to_hidden_layer(name, shape, expected):
    model = build_model(name, **shape)
    assert [(*weight.shape, number) for weight, number in model.hidden_matrices()] == expected
    moments = optimizers.moments(optimizers.build("muon", model, 0.01))
    weights = sum(weight.numel() for weight, _ in model.hidden_matrices())
    others = sum(weight.numel() for weight in model.parameters()) - weights
    assert sum(moment.numel() for moment in moments if moment.ndim) == weights + 2 * others
    assert not any(moment.any() for moment in moments)


def test_what_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match=r"^optimizer must be one of "):
        optimizers.build("sgd", build_model("Graph-64"), 0.01)
    with pytest.raises(ValueError, match=r"^a Linear does not tell which of its weights"):
        optimizers.build("muon", nn.Linear(3, 3), 0.01)
