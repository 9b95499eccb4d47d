"""The training recipe of arXiv 2405.17406, section 5, in plain PyTorch.

``fit`` trains a model on a split and leaves it holding its best weights; ``predict`` applies it.
Both keep the configuration matrices on the device as the integers they are, and scale each batch
there. The folder of a run holds, from its first epoch on,

    checkpoint.pt        the state after the last finished epoch, from which to go on
    weights.safetensors  the best weights by validation loss, with what is needed to use them
    history.csv          one row per epoch
    trained_on.npz       every configuration that the weights were ever trained on

On a CPU a run depends on its arguments alone (and on the number of threads that PyTorch uses),
whether or not it was interrupted on the way. On a GPU some sums are taken in no fixed order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from cicy_utils import checkpoint, records
from cicy_utils.data import HODGE_NAMES, MAX_ENTRY, SHAPE, Cicy4, checksum
from cicy_utils.splits import Split

PRECISIONS = {"float32": "ieee", "tf32": "tf32"}  # name here -> name of PyTorch's setting
EVALUATION_BATCH = 1024  # larger ones are slower on a CPU: they outgrow its caches
STOPPED_FOR_GOOD = ("converged", "max_epochs")
MAY_DIFFER_ON_RESUMING = ("device", "max_hours")  # where and how long, not what, is computed


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; the defaults are the paper's.

    Attributes:
        learning_rate: of AdamW at the start.
        batch_size: configurations per step.
        max_epochs: passes through the training set at most.
        patience: stop after more than this many epochs without a better validation loss.
        plateau_factor: factor on the learning rate when the validation loss has not got better
            (by a ten-thousandth) for more than ``plateau_patience`` epochs.
        plateau_patience: see above.
        min_learning_rate: the learning rate goes no lower.
        seed: of the order of the batches. The initial weights have their own, see
            ``models.build_model``.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: of matrix products on a GPU: "float32", or "tf32" (products of numbers rounded
            to ten bits of mantissa; faster; needs an Ampere GPU or newer and is refused without).
        max_hours: stop after the first epoch that ends later than this many hours after ``fit``
            was called; called again it goes on for as long. None for no limit.
    """

    learning_rate: float = 0.01
    batch_size: int = 128
    max_epochs: int = 550
    patience: int = 20
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    min_learning_rate: float = 1e-8
    seed: int = 42
    device: str = "auto"
    precision: str = "float32"
    max_hours: float | None = None

    def __post_init__(self) -> None:
        for name, lowest in (
            ("batch_size", 1),
            ("max_epochs", 1),
            ("patience", 0),
            ("plateau_patience", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise ValueError(f"{name} must be an integer, at least {lowest}, not {value!r}")
        for name, lowest, highest in (
            ("learning_rate", 0, math.inf),
            ("plateau_factor", 0, 1),
            ("max_hours", 0, math.inf),
        ):
            value = getattr(self, name)
            if name == "max_hours" and value is None:
                continue
            if not _is_number(value) or not lowest < value < highest:
                raise ValueError(
                    f"{name} must be a number between {lowest} and {highest}, not {value!r}"
                )
        if not _is_number(self.min_learning_rate) or self.min_learning_rate < 0:
            raise ValueError(
                f"min_learning_rate must be a number, at least 0, not {self.min_learning_rate!r}"
            )
        if not isinstance(self.device, str) or not re.fullmatch(
            r"auto|cpu|cuda(:\d+)?", self.device
        ):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not {self.device!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {list(PRECISIONS)}, not {self.precision!r}")


@dataclass(frozen=True)
class FitResult:
    """What a training run came to.

    Attributes:
        history: one row per epoch: epoch (from 1), train_loss (mean over the epoch, while the
            weights change), validation_loss (after it), learning_rate (during it), seconds.
        best_epoch: the epoch whose weights were kept.
        best_validation_loss: mean Huber loss of these weights on the validation set.
        epochs: number of epochs trained.
        seconds: spent in them, over all calls.
        stop_reason: "converged" (patience ran out), "max_epochs", "time_limit" or "interrupted";
            after the last two, the same call goes on.
        device: where the last epoch ran: "cpu" or the name of the GPU.
    """

    history: pd.DataFrame
    best_epoch: int
    best_validation_loss: float
    epochs: int
    seconds: float
    stop_reason: str
    device: str


def fit(
    model: nn.Module,
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    run_dir: str | Path,
    *,
    trained_before: records.Mask | None = None,
    on_epoch: Callable[[dict], None] | None = None,
) -> FitResult:
    """Train a model, or go on where the run in this folder stopped.

    A run that has converged or reached ``max_epochs`` is not trained further: its result is read
    from the folder. Ctrl-C after the first epoch ends the run as if its time were up; what it did
    in the unfinished epoch is lost. Afterwards the model holds the best weights, on the device.

    Args:
        model: float32 (B, 16, 20) to (B, 4), usually from ``models.build_model``. A new run starts
            from the weights it holds; they do not matter for one that goes on.
        data: the list.
        split: its training and validation set are used.
        config: the recipe.
        run_dir: folder of the run, made if missing.
        trained_before: what the weights that the model holds were trained on, if they are not
            fresh ones; the mask of this run then counts both.
        on_epoch: called after each epoch, when all files are written, with that epoch's row of
            the history. What it raises ends the run and comes out of ``fit``; the same call goes
            on after that epoch.

    Raises:
        ValueError: the folder holds a run with another model, data, split, recipe or, if they
            were trained before, other weights to start from; or they were trained on some
            configuration that is now to validate or test them; or the split does not fit the
            data; or device or precision are not to be had here.
        FloatingPointError: a loss is infinite or not a number; the files of the run stay as they
            were after the last good epoch.
        KeyboardInterrupt: Ctrl-C before the first epoch was finished.
    """
    run_dir = Path(run_dir)
    device = resolve_device(config.device, config.precision)
    identity = run_identity(model, data, split, config)
    mask = np.zeros(len(data), dtype=bool)
    if trained_before is not None:
        for part in ("validation", "test"):  # by the one an epoch is chosen, by the other judged
            who = "the checkpoint to start from"
            records.require_unseen(trained_before, split.parts[part], data, who=who, part=part)
        mask |= trained_before.indices
        identity["started_from"] = {
            "weights": checksum(torch.cat([w.detach().cpu().ravel() for w in model.parameters()])),
            "trained_on": checksum(mask),
        }
    mask[split.train] = True

    state = None
    if (run_dir / checkpoint.STATE_FILE).exists():
        state = checkpoint.load_state(run_dir / checkpoint.STATE_FILE)
        checkpoint.require_same_run(run_dir / checkpoint.STATE_FILE, state["identity"], identity)
        records.save_trained_on(run_dir, mask, len(data), data.fingerprint)
        write_results(run_dir, state)  # a crash may have come between the state and these
    if state is None or state["stop_reason"] not in STOPPED_FOR_GOOD:
        run_dir.mkdir(parents=True, exist_ok=True)
        with matrix_precision(config.precision):
            state = train(
                model, data, split, config, run_dir, device, identity, state, mask, on_epoch
            )

    model.to(device).load_state_dict(state["best_weights"])
    history = pd.DataFrame(state["history"])
    best = best_epoch(state["history"])
    return FitResult(
        history=history,
        best_epoch=best["epoch"],
        best_validation_loss=best["validation_loss"],
        epochs=len(history),
        seconds=float(history["seconds"].sum()),
        stop_reason=state["stop_reason"],
        device=state["device"],
    )


def train(
    model: nn.Module,
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    run_dir: Path,
    device: torch.device,
    identity: dict,
    state: dict | None,
    mask: np.ndarray,
    on_epoch: Callable[[dict], None] | None = None,
) -> dict:
    """The loop over epochs inside ``fit``; returns the last state, which is also on disk."""
    training_set = to_device(data, split.train, device)
    validation_set = to_device(data, split.validation, device)

    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        min_lr=config.min_learning_rate,
    )
    # Permutations are drawn on the CPU, so that every device sees the batches in the same order.
    generator = torch.Generator().manual_seed(config.seed)
    history, best_weights = [], None
    if state is not None:
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        generator.set_state(state["generator"])
        history, best_weights = list(state["history"]), state["best_weights"]

    started = time.monotonic()
    stop_reason = None
    try:
        with Progress(config, history) as progress:
            while stop_reason is None:
                epoch = len(history) + 1
                epoch_started = time.monotonic()
                learning_rate = optimizer.param_groups[0]["lr"]

                order = torch.randperm(len(split.train), generator=generator).to(device)
                batches = order.split(config.batch_size)
                progress.start(epoch, len(batches) + steps(len(split.validation)))
                train_loss = train_epoch(model, training_set, batches, optimizer, progress)
                validation_loss = validate(model, validation_set, progress)
                require_finite(train_loss, "training", epoch)
                require_finite(validation_loss, "validation", epoch)
                scheduler.step(validation_loss)

                history.append(
                    {
                        "epoch": epoch,
                        "train_loss": train_loss,
                        "validation_loss": validation_loss,
                        "learning_rate": learning_rate,
                        "seconds": time.monotonic() - epoch_started,
                    }
                )
                best = best_epoch(history)
                if best["epoch"] == epoch:
                    best_weights = {
                        name: weight.detach().to("cpu", copy=True)
                        for name, weight in model.state_dict().items()
                    }

                if epoch - best["epoch"] > config.patience:
                    stop_reason = "converged"
                elif epoch == config.max_epochs:
                    stop_reason = "max_epochs"
                elif config.max_hours and time.monotonic() - started > config.max_hours * 3600:
                    stop_reason = "time_limit"

                state = {
                    "identity": identity,
                    "history": history,
                    "weights": model.state_dict(),
                    "best_weights": best_weights,
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "generator": generator.get_state(),
                    "stop_reason": stop_reason,
                    "device": device_name(device),
                }
                if epoch == 1:  # before the first weights: none are without it
                    records.save_trained_on(run_dir, mask, len(data), data.fingerprint)
                checkpoint.save_state(run_dir / checkpoint.STATE_FILE, state)
                write_results(run_dir, state, with_weights=best["epoch"] == epoch)
                progress.finish(history, stop_reason)
                if on_epoch is not None:
                    on_epoch(dict(history[-1]))
    except KeyboardInterrupt:
        # Whatever was half done in memory, the file holds the end of an epoch.
        if not (run_dir / checkpoint.STATE_FILE).exists():
            raise
        state = checkpoint.load_state(run_dir / checkpoint.STATE_FILE)
        if state["stop_reason"] not in STOPPED_FOR_GOOD:
            state["stop_reason"] = "interrupted"
        write_results(run_dir, state)
    return state


class Tensors(NamedTuple):
    """Part of the list on a device: uint8 (N, 16, 20) and int16 (N, 4)."""

    matrices: Tensor
    hodge: Tensor


def to_device(data: Cicy4, indices: np.ndarray, device: torch.device) -> Tensors:
    """Copy some configurations and their labels to a device, as integers."""
    return Tensors(
        torch.from_numpy(data.matrices[indices]).to(device),
        torch.from_numpy(data.hodge[indices]).to(device),
    )


def scale(matrices: Tensor) -> Tensor:
    """What a network sees: the uint8 matrices as float32, divided by the largest entry, 6."""
    return matrices.float() / MAX_ENTRY


def huber_loss(predictions: Tensor, hodge: Tensor) -> Tensor:
    """Mean Huber loss (delta 1) over a batch and the four Hodge numbers; paper, eq. (25)."""
    return nn.functional.huber_loss(predictions, hodge.float(), delta=1.0)


def train_epoch(
    model: nn.Module,
    training_set: Tensors,
    batches: tuple[Tensor, ...],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> float:
    """One step of the optimizer per batch of indices; returns the mean loss.

    The loss is summed on the device: fetching it at each step would make a GPU wait for Python.
    """
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=training_set.hodge.device)
    seen = 0
    for batch in batches:
        predictions = model(scale(training_set.matrices[batch]))
        loss = huber_loss(predictions, training_set.hodge[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch)
        seen += len(batch)
        if progress.step():
            so_far = total.item() / seen
            require_finite(so_far, "training", progress.epoch)
            progress.say(f"training loss {so_far:.4g} so far")
    return total.item() / seen


@torch.inference_mode()
def validate(model: nn.Module, validation_set: Tensors, progress: Progress) -> float:
    """Mean loss over the validation set."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=validation_set.hodge.device)
    for matrices, hodge in zip(
        validation_set.matrices.split(EVALUATION_BATCH),
        validation_set.hodge.split(EVALUATION_BATCH),
        strict=True,
    ):
        total += huber_loss(model(scale(matrices)), hodge) * len(hodge)
        if progress.step():
            progress.say("validation")
    return total.item() / len(validation_set.hodge)


def predict(
    model: nn.Module,
    matrices: np.ndarray,
    *,
    batch_size: int = EVALUATION_BATCH,
    device: str = "auto",
) -> np.ndarray:
    """Apply a model to configuration matrices, in full float32 precision.

    Args:
        model: as for ``fit``; it is moved to the device and put into evaluation mode.
        matrices: uint8 (N, 16, 20), not scaled.
        batch_size: matrices at a time; it limits memory.
        device: as in ``TrainConfig``.

    Returns:
        float32 (N, 4): the outputs for h11, h21, h31, h22, not rounded.

    Raises:
        ValueError: the matrices have another shape or type, or the device is not to be had.
    """
    matrices = np.asarray(matrices)
    if matrices.dtype != np.uint8 or matrices.ndim != 3 or matrices.shape[1:] != SHAPE:
        raise ValueError(
            f"matrices must be uint8 (N, 16, 20), not scaled; these are {matrices.dtype} "
            f"{matrices.shape}"
        )
    place = resolve_device(device)
    model.to(place).eval()
    predictions = np.empty((len(matrices), len(HODGE_NAMES)), dtype=np.float32)
    with torch.inference_mode(), matrix_precision("float32"), Progress() as progress:
        progress.start(None, math.ceil(len(matrices) / batch_size))
        for start in range(0, len(matrices), batch_size):
            batch = torch.tensor(matrices[start : start + batch_size], device=place)
            predictions[start : start + batch_size] = model(scale(batch)).cpu().numpy()
            if progress.step():
                progress.say("predicting")
    return predictions


def run_identity(model: nn.Module, data: Cicy4, split: Split, config: TrainConfig) -> dict:
    """What makes two runs the same: model, data, split and recipe, as plain values.

    It is stored with state and weights. Settings that do not change what is computed are left out.

    Raises:
        ValueError: the split does not fit the data.
    """
    for part, indices in split.parts.items():
        if len(indices) == 0:
            raise ValueError(f"the {part} set of split {split.name!r} is empty")
        if indices.min() < 0 or indices.max() >= len(data):
            raise ValueError(
                f"split {split.name!r} has indices up to {indices.max():,} in its {part} set, but "
                f"the list has {len(data):,} configurations; make the split with n={len(data)}"
            )
    recipe = dataclasses.asdict(config)
    return {
        "model": getattr(model, "settings", {"name": type(model).__name__}),
        "data": {"fingerprint": data.fingerprint, "layout": data.layout},
        "split": {"name": split.name, "seed": split.seed, "fingerprints": split.fingerprints},
        "settings": {k: v for k, v in recipe.items() if k not in MAY_DIFFER_ON_RESUMING},
    }


def write_results(run_dir: Path, state: dict, with_weights: bool = True) -> None:
    """Write the files that others read, history and best weights, from a training state."""
    table = pd.DataFrame(state["history"]).to_csv(index=False).encode()
    checkpoint.write_atomically(run_dir / checkpoint.HISTORY_FILE, lambda file: file.write(table))
    if with_weights:
        best = best_epoch(state["history"])
        chosen = {"best_epoch": best["epoch"], "validation_loss": best["validation_loss"]}
        checkpoint.save_weights(
            run_dir / checkpoint.WEIGHTS_FILE,
            state["best_weights"],
            state["identity"] | {"training": chosen},
        )


def best_epoch(history: list[dict]) -> dict:
    """The row of the lowest validation loss, the first of equals."""
    return min(history, key=lambda row: row["validation_loss"])


def require_finite(loss: float, kind: str, epoch: int) -> None:
    """Stop a run that has diverged.

    Raises:
        FloatingPointError: the loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the {kind} loss became {loss} in epoch {epoch}; the run folder keeps the best "
            "weights of the epochs before; choose a lower learning rate and a new run folder"
        )


def resolve_device(device: str, precision: str = "float32") -> torch.device:
    """The device that a setting means on this machine.

    Raises:
        ValueError: the device is not there, or cannot compute in this precision.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r} is not to be had here; use device='cpu'")
    if precision == "tf32" and (
        place.type != "cuda" or torch.cuda.get_device_capability(place) < (8, 0)
    ):
        raise ValueError(
            f"precision 'tf32' needs an Ampere GPU or newer, and the device is "
            f"{device_name(place)}; use precision='float32'"
        )
    return place


def device_name(device: torch.device) -> str:
    """ "cpu", or the GPU as its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextlib.contextmanager
def matrix_precision(precision: str) -> Iterator[None]:
    """Set the precision of every kind of matrix product on a GPU, and set it back afterwards.

    PyTorch's own defaults differ: TF32 for convolutions and recurrent layers, float32 for the
    rest.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = PRECISIONS[precision]
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def steps(n: int) -> int:
    """Number of evaluation batches for n configurations."""
    return math.ceil(n / EVALUATION_BATCH)


class Progress:
    """What a long computation says: a bar to someone who watches, plain lines to a log.

    Someone watches in a terminal or in Jupyter, unless the environment variable CICY_BATCH is 1.
    A log gets a line per epoch, at most one every few seconds, and a line from inside an epoch
    when nothing else was said for a while.
    """

    LINE_SECONDS = 5.0  # between the lines of two epochs
    LOG_SECONDS = 20.0  # between lines from inside an epoch
    BAR_SECONDS = 2.0  # between losses beside the bar; each makes a GPU wait

    def __init__(self, config: TrainConfig | None = None, history: list[dict] | None = None):
        self.max_epochs = config.max_epochs if config else None
        self.watched = someone_watches()
        self.bar: tqdm | None = None
        self.epoch: int | None = None
        self.done = self.total = 0
        self.started = self.spoke = time.monotonic()
        self.last_line = -math.inf
        self.summary = self.summarise(history) if history else ""
        if history and not self.watched:
            print(f"going on after {self.summary}", flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, epoch: int | None, total: int) -> None:
        """Begin an epoch (None: something that has no epochs) of this many steps."""
        self.epoch, self.done, self.total = epoch, 0, total
        self.started = time.monotonic()
        if self.watched:
            if self.bar is None:
                self.bar = tqdm(
                    total=total,
                    leave=False,
                    delay=1.0,
                    dynamic_ncols=True,
                    bar_format="{desc}{percentage:.0f}%|{bar:10}| {elapsed}<{remaining}{postfix}",
                )
            else:
                self.bar.reset(total)
            self.bar.set_description(self.label, refresh=False)
            self.bar.set_postfix_str(self.summary, refresh=False)

    @property
    def label(self) -> str:
        return "predicting" if self.epoch is None else f"epoch {self.epoch}/{self.max_epochs}"

    def step(self) -> bool:
        """Count a step; True when it is time to say something."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        pause = self.BAR_SECONDS if self.watched else self.LOG_SECONDS
        return time.monotonic() - self.spoke >= pause

    def say(self, text: str) -> None:
        """Say something from inside an epoch."""
        self.spoke = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(filter(None, (text, self.summary))))
            return
        left = (self.spoke - self.started) / self.done * (self.total - self.done)
        print(
            f"{self.label}, step {self.done:,} of {self.total:,}: {text}, "
            f"about {records.duration(left)} to go",
            flush=True,
        )

    def finish(self, history: list[dict], stop_reason: str | None) -> None:
        """Report an epoch, and the end of the run if it is its last."""
        now = time.monotonic()
        self.summary = self.summarise(history)
        due = now - self.last_line >= self.LINE_SECONDS or len(history) == 1 or stop_reason
        if due and not self.watched:
            self.spoke = self.last_line = now
            print(self.summary, flush=True)
        if stop_reason:
            if self.bar is not None:
                self.bar.close()
            best = best_epoch(history)
            print(
                f"stopped ({stop_reason}) after {len(history)} epochs; best validation loss "
                f"{best['validation_loss']:.4g} in epoch {best['epoch']}",
                flush=True,
            )

    def summarise(self, history: list[dict]) -> str:
        """The last epoch in a line, and how long the run can still take."""
        row = history[-1]
        recent = [row["seconds"] for row in history[-5:]]
        left = (self.max_epochs - row["epoch"]) * sum(recent) / len(recent)
        losses = f"{row['train_loss']:.4g} training, {row['validation_loss']:.4g} validation"
        rate, left = f"{row['learning_rate']:.3g}", records.duration(left) if left else ""
        if self.watched:
            return f"before {losses}, rate {rate}" + (f", at most {left} left" if left else "")
        return (
            f"epoch {row['epoch']}/{self.max_epochs}: losses {losses}, learning rate {rate}, "
            f"{records.duration(row['seconds'])}" + (f", at most {left} left" if left else "")
        )


def someone_watches() -> bool:
    """Whether output goes to a terminal or to Jupyter, and not to a log."""
    if os.environ.get("CICY_BATCH") == "1":
        return False
    in_jupyter = type(sys.stderr).__module__.startswith("ipykernel")
    return in_jupyter or (sys.stderr.isatty() and sys.stdout.isatty())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
