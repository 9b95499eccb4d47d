"""AdamW is PyTorch's; Muon is what its authors describe, on all matrices of a shape at once."""

import pytest
import torch
from torch import nn

from cicy_utils import optimizers


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
