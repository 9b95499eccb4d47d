"""How weights follow their gradients: AdamW, as in the paper, or Muon for the hidden matrices."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cicy_utils.config import OPTIMIZERS

MOMENTUM = 0.95  # of Muon, per step
USUAL_STEP = 0.2  # root mean square of what AdamW moves a weight by, in learning rates
# Of a polynomial a x + b x^3 + c x^5 that takes every x of (0, 1] towards 1, small ones fast.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5  # in which it takes what is above 0.003 to between 0.7 and 1.2
TINY = 1e-7  # keeps a gradient of zeros from being divided by its length


class Muon(torch.optim.Optimizer):
    """Muon for the matrices between hidden layers, AdamW for all other weights.

    Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) averages the gradients of a
    matrix and moves it by the orthogonal matrix nearest to that average, so that all its singular
    directions are learned alike, and not only those that most gradients point to. The step is
    scaled to the size of AdamW's (Liu et al., arXiv 2502.16982), so that one learning rate and one
    weight decay hold for all weights.

    ``torch.optim.Muon`` computes the same up to rounding, matrix by matrix, and fetches the
    learning rate. Here matrices of one shape are one batch, in their own precision, and nothing is
    fetched, so that a CUDA graph can hold it.

    Args:
        hidden: weights, float32 (m R, C), and how many matrices (m, at least 1) each is made of,
            one above the other, as those of the gates of an LSTM are.
        others: an optimizer of all other weights; its settings hold for both.
    """

    def __init__(self, hidden: Iterable[tuple[nn.Parameter, int]], others: torch.optim.AdamW):
        hidden = list(hidden)
        (settings,) = others.param_groups
        learning_rate = settings["lr"]
        own = learning_rate.clone() if isinstance(learning_rate, Tensor) else learning_rate
        super().__init__(
            [weight for weight, _ in hidden],
            {"lr": own, "weight_decay": settings["weight_decay"]},
        )
        for weight, _ in hidden:
            self.state[weight]["momentum"] = torch.zeros_like(weight)
        self.stacks: dict[tuple[int, int], list[tuple[nn.Parameter, int]]] = {}
        for weight, matrices in hidden:
            shape = (len(weight) // matrices, weight.shape[1])
            self.stacks.setdefault(shape, []).append((weight, matrices))
        # One list of groups and one state for both, so that this is an optimizer of all weights.
        self.others = others
        self.param_groups.append(settings)
        self.state.update(others.state)
        others.state = self.state

    @torch.no_grad()
    def step(self) -> None:
        """One step of both."""
        self.others.step()
        group = self.param_groups[0]
        for (rows, columns), stack in self.stacks.items():
            weights = [weight for weight, _ in stack]
            gradients = [weight.grad for weight in weights]
            averages = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, averages, MOMENTUM)  # as Nesterov looks ahead
            matrices = torch.cat([one.view(-1, rows, columns) for one in ahead])
            moves = orthogonal(matrices) * (USUAL_STEP * math.sqrt(max(rows, columns)))
            moves = (moves * group["lr"]).split([number for _, number in stack])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(weights, [move.flatten(0, 1) for move in moves])


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices with orthonormal rows or columns, float32 (..., R, C).

    Newton and Schulz's iteration with the coefficients of Muon. It stops early: singular values end
    between 0.7 and 1.2, which is near enough. Zero stays zero.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    a, b, c = QUINTIC
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + TINY)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


def build(name: str, model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """An optimizer for a model on its device, its state made and zero, its learning rate not set.

    On a GPU the learning rate is a tensor there, which a recorded graph reads when it runs.

    Args:
        name: one of ``config.OPTIMIZERS``.
        model: for "muon" one with a method ``hidden_matrices``, see ``models.HodgeNetwork``.
        weight_decay: per step and unit of the learning rate.

    Raises:
        ValueError: there is no such optimizer, or not for this model.
    """
    require_for(name, model)
    hidden = model.hidden_matrices() if name == "muon" else []
    taken = {id(weight) for weight, _ in hidden}
    others = adamw([w for w in model.parameters() if id(w) not in taken], weight_decay)
    return Muon(hidden, others) if hidden else others


def require_for(name: str, model: nn.Module) -> None:
    """Refuse an optimizer that there is not, or not for this model: a ValueError."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {list(OPTIMIZERS)}, not {name!r}")
    if name == "muon" and not hasattr(model, "hidden_matrices"):
        raise ValueError(
            f"a {type(model).__name__} does not tell which of its weights are hidden matrices, as "
            "muon needs to know; give it a method hidden_matrices as models.HodgeNetwork has, or "
            'use optimizer="adamw"'
        )


def adamw(weights: Iterable[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW, fused, with its state made and zero; as of ``build``."""
    weights = list(weights)
    device = weights[0].device
    on_gpu = device.type == "cuda"
    made = torch.optim.AdamW(
        weights,
        lr=torch.zeros((), device=device) if on_gpu else 0.0,
        weight_decay=weight_decay,
        fused=True,
        capturable=on_gpu,
    )
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    with warnings.catch_warnings():
        # Once, an optimizer made for a graph tells that a step of it is not recorded.
        warnings.filterwarnings("ignore", message=".*constructed with capturable=True")
        made.step()  # with a learning rate of zero
    made.zero_grad()
    for moment in moments(made):
        moment.zero_()
    return made


def moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every tensor of an optimizer's state, in a fixed order."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [optimizer.state[w][key] for w in weights for key in sorted(optimizer.state[w])]


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate; where it is a tensor, in place, so that a graph sees it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
