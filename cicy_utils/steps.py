"""One step of a training: a batch in, the weights a little better.

``TrainStep`` says what a step does. ``GraphedStep`` does the same on a GPU as one recorded CUDA
graph: a step launches about 300 small kernels one after the other, and for networks of this size
launching them from Python takes longer than computing them.
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cicy_utils import devices, optimizers
from cicy_utils.data import HODGE_NAMES, MAX_ENTRY, Cicy4
from cicy_utils.graph import fixed_sizes

WARM_UP_STEPS = 3  # before a capture, so that libraries have chosen their algorithms
GRAPH_TOLERANCE = 1e-3  # relative, between the losses of a replayed and an eager step
# At which they are compared: at the paper's 0.01 rounding grows beyond that in three steps.
CHECK_LEARNING_RATE = 1e-3


class Tensors(NamedTuple):
    """A list, or part of it, on a device: uint8 (N, 16, 20) and int16 (N, 4)."""

    matrices: Tensor
    hodge: Tensor


def to_device(data: Cicy4, device: torch.device) -> Tensors:
    """Copy a list to a device, as the integers it consists of: 296 MB for the complete one."""
    return Tensors(
        torch.from_numpy(np.array(data.matrices)).to(device),
        torch.from_numpy(np.array(data.hodge)).to(device),
    )


def scale(matrices: Tensor) -> Tensor:
    """What a network sees: the uint8 matrices as float32, divided by the largest entry, 6."""
    return matrices / MAX_ENTRY


def shuffled(matrices: Tensor, generator: torch.Generator, *, ties: bool = False) -> Tensor:
    """The same manifolds by other matrices: rows and columns with content permuted at random.

    Rows and columns of zeros stay where they are.

    Args:
        matrices: uint8 (N, 16, 20) on any device.
        generator: of the permutations, on the CPU, so that they are the same on every device.
        ties: permute only rows of the same sum with each other, and columns of the same sum, so
            that the sums along both sides stay as they are.
    """
    for axis in (1, 2):
        sums = matrices.sum(dim=3 - axis)
        group = sums if ties else sums.clamp(max=1)  # each is permuted within itself
        places = group.argsort(dim=1, stable=True)
        keys = torch.rand(group.shape, generator=generator).to(matrices.device)
        drawn = keys.argsort(dim=1, stable=True)
        drawn = drawn.gather(1, group.gather(1, drawn).argsort(dim=1, stable=True))
        order = torch.empty_like(places).scatter_(1, places, drawn)
        index = order[:, :, None] if axis == 1 else order[:, None, :]
        matrices = matrices.gather(axis, index.expand_as(matrices))
    return matrices


def permute_matrices(matrices: np.ndarray, seed: int) -> np.ndarray:
    """As ``shuffled``, on arrays: a model whose predictions change leans on the order of the list.

    Args:
        matrices: uint8 (N, 16, 20).
        seed: of the permutations.

    Returns:
        uint8 (N, 16, 20), a new array.
    """
    generator = torch.Generator().manual_seed(seed)
    return shuffled(torch.from_numpy(np.array(matrices)), generator).numpy()


class HodgeLoss(nn.Module):
    """Mean Huber loss over a batch and the four Hodge numbers; paper, eq. (25).

    The paper's is the default: errors in units of one, all four alike.

    Args:
        units: float (4,), what counts as an error of one, for each Hodge number.
        weights: of the four Hodge numbers; only their ratios matter.
        delta: up to this error the loss is quadratic, beyond it linear.
    """

    def __init__(
        self,
        units: Tensor | None = None,
        weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
        delta: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_buffer("units", torch.ones(4) if units is None else units.float())
        self.register_buffer("weights", torch.tensor(weights) / np.mean(weights).item())
        self.delta = delta

    def forward(self, predictions: Tensor, hodge: Tensor) -> Tensor:
        """float32 (B, 4) and integers (B, 4) to a scalar; a ValueError for other shapes."""
        require_outputs(predictions, len(hodge))
        losses = nn.functional.huber_loss(
            predictions / self.units, hodge / self.units, reduction="none", delta=self.delta
        )
        return (losses * self.weights).mean()


def require_outputs(predictions: Tensor, number: int) -> None:
    """Refuse what a network returned if it is not one row of four numbers for each matrix.

    Raises:
        ValueError: it is something else, which arithmetic might repeat to the right shape.
    """
    if predictions.shape != (number, len(HODGE_NAMES)):
        raise ValueError(
            f"a network must return float32 (B, {len(HODGE_NAMES)}); for {number} matrices this "
            f"one returned {tuple(predictions.shape)}"
        )


class TrainStep:
    """What happens to a batch: predictions, loss, gradients, new weights.

    Attributes:
        total: float64 scalar on the device: the sum of the losses of all configurations seen
            since it was last set to zero. It is fetched at the end of an epoch, and for the line
            that tells of progress every few seconds, as fetching makes a GPU wait for Python.
        average: a second model, whose weights follow those of the trained one and whose buffers
            are the same; None without averaging.
        follow: float32 scalar on the device: the share of the way that it follows in a step.
    """

    def __init__(
        self,
        model: nn.Module,
        source: Tensors,
        loss: HodgeLoss,
        optimizer: torch.optim.Optimizer,
        *,
        precision: str = "float32",
        clip_norm: float | None = None,
        averaged: bool = False,
    ) -> None:
        self.model, self.source, self.loss, self.optimizer = model, source, loss, optimizer
        self.device = source.hodge.device
        self.precision, self.clip_norm = precision, clip_norm
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)
        # .to() lays a recurrent layer's weights side by side, which copying them undoes.
        self.average = copy.deepcopy(model).to(self.device) if averaged else None
        self.follow = torch.ones((), device=self.device)

    def __call__(self, batch: Tensor) -> None:
        """Train on the configurations with these indices, int64 (B,) on the device."""
        self.model.train()
        with devices.autocast(self.device, self.precision):
            predictions = self.model(scale(self.source.matrices[batch]))
        loss = self.loss(predictions, self.source.hodge[batch])
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        with devices.autocast(self.device, self.precision):  # where Muon multiplies matrices
            self.optimizer.step()
        if self.average is not None:
            with torch.no_grad():
                for mean, weight in zip(
                    self.average.parameters(), self.model.parameters(), strict=True
                ):
                    mean.lerp_(weight, self.follow)
                for own, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
                    own.copy_(buffer)
        self.total.add_(loss.detach(), alpha=len(batch))

    @property
    def changing(self) -> list[Tensor]:
        """Every tensor that a step changes, or may change: a batch norm's means are buffers."""
        models = [self.model] if self.average is None else [self.model, self.average]
        held = [tensor for m in models for tensor in (*m.parameters(), *m.buffers())]
        return [*held, *optimizers.moments(self.optimizer), self.total]


class GraphedStep:
    """A ``TrainStep`` on a GPU that is recorded once and then replayed.

    A batch of another size than the recorded one, as the last of an epoch may be, takes the eager
    step, which works on the same tensors. A network that draws random numbers, as dropout does, is
    not recorded: its replays cannot be compared with other steps.

    Args:
        step: what is recorded.
        batch_size: of the batches to come.
        drawn_from: int64 on the device, the configurations that they are drawn from at random; None
            for all.

    Attributes:
        failure: why a recording in this process failed; None if none has. PyTorch
            (before 2.13) may then go on believing that it records, so no other is tried.

    Raises:
        RuntimeError: the step, or one before it, could not be recorded, or a replay does not
            compute what the step computes. All weights are then as they were.
    """

    failure: ClassVar[str | None] = None

    def __init__(self, step: TrainStep, batch_size: int, drawn_from: Tensor | None = None) -> None:
        if self.failure is not None:
            raise RuntimeError(self.failure)
        self.step = step
        hodge = step.source.hodge
        if drawn_from is None:
            drawn_from = torch.arange(len(hodge), device=hodge.device)
        self.drawn_from = drawn_from
        # From all over, as a batch is: the list is in the order of its sizes.
        places = torch.arange(batch_size, device=hodge.device) * len(drawn_from) // batch_size
        self.batch = drawn_from[places]
        self.graph = torch.cuda.CUDAGraph()
        before = [tensor.detach().clone() for tensor in step.changing]
        learning_rate = float(step.optimizer.param_groups[0]["lr"])
        try:
            self._record(before, learning_rate)
        finally:
            optimizers.set_learning_rate(step.optimizer, learning_rate)
            self._restore(before)

    def __call__(self, batch: Tensor) -> None:
        """Train on the configurations with these indices, int64 (B,) on the device."""
        if len(batch) == len(self.batch):
            self.batch.copy_(batch)
            self.graph.replay()
        else:
            self.step(batch)

    def _record(self, before: list[Tensor], learning_rate: float) -> None:
        step = self.step
        eager = self._losses(before, step)
        with fixed_sizes(
            step.model, step.source.matrices, self.drawn_from, len(self.batch)
        ) as others:
            if others:  # for which libraries may choose other algorithms
                self._losses(before, step)
            step.optimizer.zero_grad()  # so that the graph makes gradients of its own
            # Not that of the check, which so finds out whether replays follow the learning rate.
            optimizers.set_learning_rate(step.optimizer, learning_rate)
            self._capture()
            replayed = self._losses(before, self)
        if not np.allclose(eager, replayed, rtol=GRAPH_TOLERANCE, atol=0, equal_nan=True):
            raise RuntimeError(f"its losses are {replayed}, and those of eager steps are {eager}")

    def _capture(self) -> None:
        # cuBLAS has one workspace for each stream. Graphs recorded on the same one would share it:
        # side by side they would spoil each other's products, and with the first that is freed
        # newer versions of PyTorch take it from all.
        own = torch.cuda.Stream(self.step.device)
        try:
            # The outer block goes back to the stream of before even when the recording fails.
            with (
                _without_collection(),
                torch.cuda.stream(own),
                torch.cuda.graph(self.graph, stream=own),
            ):
                self.step(self.batch)
        except RuntimeError as error:
            first = first_error(error)
            if isinstance(first, torch.OutOfMemoryError):  # another network may well be recorded
                raise torch.OutOfMemoryError(str(first)) from error
            GraphedStep.failure = str(first)
            raise RuntimeError(self.failure) from error

    def _losses(self, before: list[Tensor], step: TrainStep | GraphedStep) -> list[float]:
        """The losses of the first few steps from where the training stands."""
        self._restore(before)
        optimizers.set_learning_rate(self.step.optimizer, CHECK_LEARNING_RATE)
        self.step.total.zero_()
        losses = []
        for _ in range(WARM_UP_STEPS):
            step(self.batch)
            losses.append(self.step.total.item())
        return losses

    @torch.no_grad()
    def _restore(self, before: list[Tensor]) -> None:
        for tensor, value in zip(self.step.changing, before, strict=True):
            tensor.copy_(value)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Collect garbage now and not within: a graph that is freed during a recording ends that."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def first_error(error: RuntimeError) -> RuntimeError:
    """The one that led to this: when a step cannot be recorded, the recording cannot end, too."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def fastest_step(
    step: TrainStep, batch_size: int, drawn_from: Tensor | None = None
) -> TrainStep | GraphedStep:
    """The step as a CUDA graph on a GPU; itself, with a line that says why, where that fails.

    batch_size, drawn_from: as of ``GraphedStep``.

    Raises:
        torch.OutOfMemoryError: there is no memory for a step.
    """
    if step.device.type != "cuda":
        return step
    try:
        return GraphedStep(step, batch_size, drawn_from)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        print(f"no CUDA graph, so every step is launched from Python: {reason}", flush=True)
        return step
