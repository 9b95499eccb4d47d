"""How weights follow their gradients: AdamW, as in the paper, or Muon for the hidden matrices."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

MOMENTUM = 0.95  # of Muon, per step
USUAL_STEP = 0.2  # by how many learning rates AdamW moves a weight, root mean square: Liu et al.
# Of an odd polynomial a x + b x^3 + c x^5 with a steep slope at zero that keeps (0, 1] below 1.21.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5  # in which it takes whatever is above 0.002 to between 0.68 and 1.21
# Beside the length of a gradient. One that is next to nothing, as those of layers that begin as the
# identity are in the first steps, so moves a matrix little.
TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon for the matrices between hidden features, AdamW for all other weights.

    Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) averages the gradients of a
    matrix and moves it along the orthogonal matrix nearest to that average, so that all its
    singular directions are learned alike, and not only those that most gradients point to. The step
    is scaled to the size of AdamW's (Liu et al., arXiv 2502.16982), so that one learning rate and
    one weight decay hold for all weights.

    ``torch.optim.Muon`` does the same matrix by matrix, with products in bfloat16, and takes the
    learning rate as a number. Here matrices of one shape are one batch, products are in the
    precision of the training (bfloat16 within an autocast, which ``steps.TrainStep`` opens), and a
    CUDA graph follows a learning rate in a tensor.

    Its state is restored through ``moments``, not by ``load_state_dict``.

    Args:
        hidden: weights, float32 (m R, C), and of how many matrices (m) each is made, one above the
            other, as those of the gates of an LSTM (4) or a GRU (3) are.
        others: an optimizer of all other weights; its settings hold for both.

    Raises:
        ValueError: a weight is not made of so many matrices.
    """

    def __init__(
        self, hidden: Sequence[tuple[nn.Parameter, int]], others: torch.optim.AdamW
    ) -> None:
        (settings,) = others.param_groups
        learning_rate = settings["lr"]
        if isinstance(learning_rate, Tensor):  # or a schedule would lower one tensor twice
            learning_rate = learning_rate.clone()
        super().__init__(
            [weight for weight, _ in hidden],
            {"lr": learning_rate, "weight_decay": settings["weight_decay"]},
        )
        self.stacks: dict[tuple[int, int], list[tuple[nn.Parameter, int]]] = {}
        for weight, matrices in hidden:
            if weight.ndim != 2 or matrices < 1 or len(weight) % matrices:
                raise ValueError(
                    f"a hidden weight {tuple(weight.shape)} is not made of {matrices} matrices, "
                    "one above the other"
                )
            self.state[weight]["momentum"] = torch.zeros_like(weight)
            shape = (len(weight) // matrices, weight.shape[1])
            self.stacks.setdefault(shape, []).append((weight, matrices))
        # The same group and the same state, so that this is an optimizer of all weights.
        self.others = others
        self.param_groups.append(settings)
        self.state.update(others.state)

    @torch.no_grad()
    def step(self) -> None:
        """One step of both."""
        self.others.step()
        group = self.param_groups[0]
        for shape, stack in self.stacks.items():
            stack = [(weight, number) for weight, number in stack if weight.grad is not None]
            if not stack:
                continue
            weights = [weight for weight, _ in stack]
            gradients = [weight.grad for weight in weights]
            averages = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, averages, MOMENTUM)  # as Nesterov looks ahead
            matrices = torch.cat([one.view(-1, *shape) for one in ahead])
            moves = orthogonal(matrices) * (USUAL_STEP * math.sqrt(max(shape)))
            moves = (moves * group["lr"]).split([number for _, number in stack])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(weights, [move.flatten(0, 1) for move in moves])


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices with orthonormal rows or columns, float32 (N, R, C).

    The iteration of Newton and Schulz with the coefficients of Muon, which lift small singular
    values fast and leave large ones near one, not at it. Zero stays zero. Within an autocast the
    products, which are all that takes long, are of its 16-bit numbers.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    a, b, c = QUINTIC
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + TINY)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.float()


def build(name: str, model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """An optimizer for a model on its device, its state made and zero, its learning rate not set.

    On a GPU the learning rate is a tensor there, which a recorded graph reads when it runs.

    Args:
        name: one of ``config.OPTIMIZERS``.
        model: for "muon" one with a method ``hidden_matrices``, see ``models.HodgeNetwork``.
        weight_decay: per step and unit of the learning rate.

    Raises:
        ValueError: "muon" is not for this model.
    """
    if name == "adamw":
        return adamw(model.parameters(), weight_decay)
    hidden, others = apart(model)
    return Muon(hidden, adamw(others, weight_decay))


def apart(model: nn.Module) -> tuple[list[tuple[nn.Parameter, int]], list[nn.Parameter]]:
    """The hidden matrices of a model, and all its other weights; as of ``hidden_matrices``."""
    hidden = hidden_matrices(model)
    taken = {id(weight) for weight, _ in hidden}
    return hidden, [weight for weight in model.parameters() if id(weight) not in taken]


def hidden_matrices(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """What a model's method of that name gives; a ValueError where it has none, or they are."""
    if not hasattr(model, "hidden_matrices"):
        raise ValueError(
            f"a {type(model).__name__} does not tell which of its weights are hidden matrices, as "
            "muon needs to know; give it a method hidden_matrices as models.HodgeNetwork has, or "
            'use optimizer="adamw"'
        )
    hidden = list(model.hidden_matrices())
    if not hidden:
        raise ValueError(f"this {type(model).__name__} has no hidden matrices, as muon needs")
    return hidden


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
