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


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 5, 8), (1, 8, 5), (3, 16, 16)])
def test_orthogonal_matrices_keep_their_singular_vectors(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 100
    found = optimizers.orthogonal(matrices)
    lengths = torch.linalg.matrix_norm(matrices)[:, None]
    large = torch.linalg.svdvals(matrices) / lengths > 0.002
    assert large.float().mean() > 0.9
    values = torch.linalg.svdvals(found)
    assert values[large].min() > 0.68 and values.max() < 1.21
    # The nearest orthogonal matrix leaves a symmetric, positive one over.
    left, _, right = torch.linalg.svd(found, full_matrices=False)
    rest = matrices.mT @ (left @ right)
    torch.testing.assert_close(rest, rest.mT, rtol=1e-3, atol=0.01)
    assert torch.linalg.eigvalsh(rest).min() > -0.01
    assert not optimizers.orthogonal(torch.zeros(shape)).any()


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 5, 8)])
def test_orthogonal_matrices_of_16_bits_are_nearly_the_same(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = optimizers.orthogonal(matrices)
    with torch.autocast("cpu", torch.bfloat16):
        found = optimizers.orthogonal(matrices)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.03 * expected.norm()


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
        start = torch.cat([weight.detach(), bias.detach()[None]])
        for rate in (0.1, 0.01):
            optimizers.set_learning_rate(optimizer, rate)
            weight.grad, bias.grad = torch.randn(6, 6), torch.randn(6)
            optimizer.step()
        moved.append(torch.cat([weight.detach(), bias.detach()[None]]) - start)
        assert moved[-1].abs().min() > 0
        # Neither rate is lowered twice, though both are in one optimizer.
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
        plateau.step(1.0)
        plateau.step(2.0)
        assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([1e-3] * 2)
    torch.testing.assert_close(*moved)


def test_a_weight_without_a_gradient_stays():
    weights = [nn.Parameter(torch.ones(4, 4)) for _ in range(3)]
    others = optimizers.adamw([weights.pop()], weight_decay=0.1)
    optimizer = optimizers.Muon([(weight, 1) for weight in weights], others)
    optimizers.set_learning_rate(optimizer, 0.1)
    weights[1].grad = torch.randn(4, 4)
    optimizer.step()
    assert (weights[0] == 1).all() and (weights[1] != 1).all()


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


class Own(nn.Linear):
    """A network of one's own that tells of a hidden matrix."""

    def __init__(self, hidden):
        super().__init__(3, 4)
        self.hidden = hidden

    def hidden_matrices(self):
        return ((self.get_parameter(name), number) for name, number in self.hidden)


def test_a_network_of_one_s_own_tells_of_its_hidden_matrices():
    model = Own([("weight", 2)])
    optimizer = optimizers.build("muon", model, 0.01)
    assert list(optimizer.stacks) == [(2, 3)]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


@pytest.mark.parametrize(
    ("model", "refusal"),
    [
        (nn.Linear(3, 3), "a Linear does not tell which of its weights are hidden"),
        (Own([]), "this Own has no hidden matrices"),
        (Own([("weight", 3)]), r"a hidden weight \(4, 3\) is not made of 3 matrices"),
        (Own([("weight", 0)]), r"a hidden weight \(4, 3\) is not made of 0 matrices"),
        (Own([("bias", 1)]), r"a hidden weight \(4,\) is not made of 1 matrices"),
    ],
)
def test_networks_that_muon_cannot_train_are_refused(model, refusal):
    with pytest.raises(ValueError, match=refusal):
        optimizers.build("muon", model, 0.01)
