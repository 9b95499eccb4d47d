"""Training: the paper's recipe (arXiv 2405.17406, section 5) and whatever ``TrainConfig`` changes.

``fit`` trains a model on a split and leaves it holding its best weights; ``fit_many`` trains
several side by side; ``predict`` applies one. All keep the configuration matrices on the device as
the integers they are, and scale each batch there. The folder of a run holds, from its first epoch
on,

    checkpoint.pt        the state, from which to go on
    weights.safetensors  the best weights by validation loss, with what is needed to use them
    history.csv          one row per epoch
    trained_on.npz       every configuration that the weights were ever trained on

On a CPU a run depends on its arguments alone (and on the number of threads that PyTorch uses),
whether or not it was interrupted on the way, and whatever is trained beside it; unless its model
draws random numbers, as dropout does. On a GPU some sums are taken in no fixed order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cicy_utils import (
    checkpoint,
    devices,
    files,
    interrupts,
    lease,
    optimizers,
    places,
    records,
    steps,
)
from cicy_utils.config import TrainConfig, complete
from cicy_utils.data import HODGE_NAMES, SHAPE, Cicy4, checksum
from cicy_utils.devices import device_name, matrix_precision, resolve_device
from cicy_utils.identity import require_same_run, run_identity
from cicy_utils.models import HodgeNetwork
from cicy_utils.progress import Progress
from cicy_utils.records import best_epoch
from cicy_utils.splits import Split

# Larger ones are slower on a CPU, whose caches they outgrow, and smaller ones on a GPU.
EVALUATION_BATCH = {"cpu": 1024, "cuda": 4096}
WARM_UP = 0.1  # share of a one-cycle run in which the learning rate rises
# Runs on a GPU at a time: each takes two of the 32 streams that PyTorch has before it shares them,
# and graphs that are recorded on one stream share a workspace and spoil each other's products.
MOST_SIDE_BY_SIDE = 16
STOPPED_FOR_GOOD = ("converged", "max_epochs")


@dataclass(frozen=True, eq=False)  # a table has no truth value
class FitResult:
    """What a training run came to.

    Attributes:
        history: one row per epoch: epoch (from 1), train_loss (mean over the epoch, while the
            weights change), validation_loss (after it), learning_rate (at its start), seconds.
        best_epoch: the epoch whose weights were kept.
        best_validation_loss: mean Huber loss of these weights on the validation set.
        epochs: number of epochs trained.
        seconds: spent in them, over all calls.
        stop_reason: "converged" (patience ran out), "max_epochs", "time_limit" or "interrupted";
            after the last two, the same call goes on.
        device: where the last epoch ran: "cpu" or the name of the GPU.
        interrupted: whether Ctrl-C came, be it too late to stop anything; then no other training
            should begin.
    """

    history: pd.DataFrame
    best_epoch: int
    best_validation_loss: float
    epochs: int
    seconds: float
    stop_reason: str
    device: str
    interrupted: bool = False


class OutOfTime(RuntimeError):
    """The time limit came before the end of the first epoch, so there are no weights to use yet.

    What was computed is saved; the same call goes on.
    """


class Diverged(FloatingPointError):
    """A loss is infinite or not a number.

    Attributes:
        interrupted: as of ``FitResult``.
    """

    interrupted = False


NoResult = Diverged | OutOfTime | KeyboardInterrupt  # instead of a ``FitResult``


@dataclass(frozen=True, eq=False)
class Run:
    """The arguments of ``fit``, for ``fit_many``."""

    model: nn.Module
    data: Cicy4
    split: Split
    config: TrainConfig
    run_dir: Path
    trained_before: records.Mask | None = None
    on_epoch: Callable[[dict], None] | None = None


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
    from the folder. Ctrl-C, or Jupyter's Interrupt, ends it after the step at work as if its time
    were up, and nothing is lost; a second one ends it at once, and what was done since the state
    was last saved is. Afterwards the model holds the best weights, on the device.

    Args:
        model: float32 (B, 16, 20) to (B, 4), usually from ``models.build_model``. A new run starts
            from the weights it holds; they do not matter for one that goes on, unless they were
            trained before: then it has to hold the same ones again. One of your own is
            known again by what Python shows of it; give it an attribute ``settings``, a dict of
            plain values, if that does not tell everything.
        data: the list.
        split: its training and validation set are used.
        config: the recipe.
        run_dir: folder of the run, made if missing.
        trained_before: what the weights that the model holds were trained on, if they are not
            fresh ones; the mask of this run then counts both.
        on_epoch: called after each epoch, when all files are written, with that epoch's row of
            the history. What it raises ends the run and comes out of ``fit`` (KeyboardInterrupt
            counts as a second Ctrl-C); the same call goes on after that epoch.

    Raises:
        ValueError: the folder holds a run with another model, data, split, recipe or, if they were
            trained before, other weights to start from; or it holds weights without the state of
            their training, which could only be replaced; or those to start from were trained on
            some configuration that is now to validate or test them; or the split does not fit the
            data; or the model's settings are no plain values; or device or precision are not to be
            had here; or targets are to be scaled, or the optimizer is to be Muon, and the model
            cannot.
        lease.Held: another process trains in the folder.
        Diverged: a loss is infinite or not a number; the files of the run stay as they were last
            saved, with numbers only. The model is left as it is then, of no use.
        OutOfTime: ``max_hours`` passed before the first epoch was finished.
        KeyboardInterrupt: Ctrl-C before the first epoch was finished. What was computed is saved,
            unless there was a second one; the same call goes on.
    """
    run = Run(model, data, split, config, Path(run_dir), trained_before, on_epoch)
    return fit_many([run])[0]


def fit_many(runs: Sequence[Run]) -> list[FitResult]:
    """Train independent models side by side: folds, seeds, widths.

    On a GPU each has a CUDA graph and a stream of its own, so that the small kernels of one fill
    the gaps between those of the others; runs of the same list share one copy of it. Each result
    is what ``fit`` alone would give: exactly on a CPU, where side by side is no faster, and up to
    the order of sums on a GPU.

    Args:
        runs: what ``fit`` would be called with; every one needs a folder of its own. On a GPU no
            more than ``MOST_SIDE_BY_SIDE``.

    Raises:
        ValueError, lease.Held: as of ``fit``, before anything is trained; or two runs share a
            folder or a model, or there are too many for a GPU.
        Diverged: as of ``fit``, after the other runs are finished.
        OutOfTime, KeyboardInterrupt: as of ``fit``, if any run has not finished an epoch.
    """
    outcomes = try_many(runs)
    for outcome in outcomes:
        if not isinstance(outcome, FitResult):
            raise outcome
    return outcomes


def try_many(runs: Sequence[Run]) -> list[FitResult | NoResult]:
    """The same, but where a run has no result its error is returned, and the others have theirs.

    Raises:
        ValueError, lease.Held: as of ``fit_many``, before anything is trained.
    """
    folders = [run.run_dir.resolve() for run in runs]
    if len(set(folders)) < len(folders):
        raise ValueError(f"two runs share a folder: {', '.join(str(path) for path in folders)}")
    if len({id(run.model) for run in runs}) < len(runs):  # its weights would have seen both parts
        raise ValueError("two runs share a model, which both would train: give each its own")
    kinds = [resolve_device(run.config.device, run.config.precision).type for run in runs]
    if kinds.count("cuda") > MOST_SIDE_BY_SIDE:
        raise ValueError(
            f"on a GPU {MOST_SIDE_BY_SIDE} runs can train side by side, not {len(runs)}; train the "
            "others afterwards"
        )
    identities = [_identify(run) for run in runs]  # all are checked before any is trained
    with contextlib.ExitStack() as stack:
        leases = [stack.enter_context(lease.hold(folder)) for folder in folders]
        interrupt = stack.enter_context(interrupts.deferred())
        outcomes = _fit_many(runs, identities, leases, interrupt)
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, FitResult):
                outcomes[number] = dataclasses.replace(outcome, interrupted=interrupt.asked)
            elif isinstance(outcome, Diverged):
                outcome.interrupted = interrupt.asked
        return outcomes


def by_hand(outcome: FitResult | NoResult) -> bool:
    """Whether Ctrl-C came during a training, so that no other should begin."""
    if isinstance(outcome, FitResult | Diverged):
        return outcome.interrupted
    return isinstance(outcome, KeyboardInterrupt)


def require_startable(runs: Sequence[Run]) -> None:
    """Refuse what ``fit_many`` would refuse, for runs that are to begin one after the other.

    Raises:
        ValueError, lease.Held: as of ``fit_many``.
    """
    for run in runs:
        identity, _ = _identify(run)
        lease.require_free(run.run_dir)
        path = run.run_dir / checkpoint.STATE_FILE
        if path.exists():
            _require_same_run(path, checkpoint.load_state(path), identity)


def _fit_many(
    runs: Sequence[Run],
    identities: Sequence[tuple[dict, np.ndarray]],
    leases: Sequence[lease.Lease],
    interrupt: interrupts.Interrupt,
) -> list[FitResult | NoResult]:
    """The same in folders that are ours alone."""
    states = [_saved_state(run, *identity) for run, identity in zip(runs, identities, strict=True)]

    shared: dict[tuple[int, torch.device], steps.Tensors] = {}
    trainings: dict[int, Training] = {}
    failures: dict[Training, Diverged] = {}
    for number, (run, state) in enumerate(zip(runs, states, strict=True)):
        if state is not None and state["stop_reason"] in STOPPED_FOR_GOOD:
            continue
        device = resolve_device(run.config.device, run.config.precision)
        key = (id(run.data), device)
        if key not in shared:
            shared[key] = steps.to_device(run.data, device)
        name = run.run_dir.name if len(runs) > 1 else ""
        trainings[number] = Training(
            run, *identities[number], state, shared[key], device, leases[number], interrupt, name
        )

    try:
        active = list(trainings.values())
        while active and not interrupt.asked:
            still = []
            for training in active:
                try:
                    if training.advance():
                        still.append(training)
                except Diverged as error:
                    failures[training] = without_frames(error)
            active = still
        for training in active:
            try:
                training.interrupt()
            except Diverged as error:
                failures[training] = without_frames(error)
        for number, training in trainings.items():
            states[number] = training.state
    except KeyboardInterrupt:
        # Whatever was half done in memory, the files hold steps that were finished.
        for number, training in trainings.items():
            state = states[number] = _interrupted(training.run, states[number])
            if state is not None and state["stop_reason"] == "interrupted":
                training.progress.stopped(state["history"], "interrupted")
    finally:
        for training in trainings.values():
            training.progress.close()
            if training.stream is not None:  # a step on its way would change the best weights
                training.stream.synchronize()
    return [
        failures.get(trainings.get(number)) or _result(run, state)
        for number, (run, state) in enumerate(zip(runs, states, strict=True))
    ]


def without_frames(error: Diverged) -> Diverged:
    """The error for later: its frames would keep all that is trained here in memory."""
    return error.with_traceback(None)


class Training:
    """A run in progress, which ``advance`` takes a batch further.

    Attributes:
        state: what the file of the run holds; None before it was first saved.
    """

    def __init__(
        self,
        run: Run,
        identity: dict,
        mask: np.ndarray,
        state: dict | None,
        source: steps.Tensors,
        device: torch.device,
        held: lease.Lease,
        interrupt: interrupts.Interrupt,
        name: str = "",
    ) -> None:
        config = run.config
        self.lease, self.asked_to_stop = held, interrupt
        self.run, self.identity, self.mask, self.state = run, identity, mask, state
        self.config, self.device, self.source = config, device, source
        self.model = run.model.to(device)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.history: list[dict] = []
        self.best_weights: dict[str, Tensor] | None = None
        self.batches: tuple[Tensor, ...] | None = None  # of this epoch
        self.position = 0  # how many of them are done
        self.elapsed = 0.0  # seconds that they took
        self.stop_reason: str | None = None
        # Permutations are drawn on the CPU, so that every device sees the batches in one order.
        self.generator = torch.Generator().manual_seed(config.seed)

        self.train_indices = torch.from_numpy(np.array(run.split.train)).to(device)
        self.validation_indices = torch.from_numpy(np.array(run.split.validation)).to(device)
        self.validation_batches = self.validation_indices.split(EVALUATION_BATCH[device.type])
        self.batches_per_epoch = math.ceil(len(run.split.train) / config.batch_size)
        self.training_set = source
        if config.shuffle:  # which rewrites it in each epoch
            chosen = (tensor[self.train_indices] for tensor in source)
            self.training_set = steps.Tensors(*chosen)
            self.unshuffled = self.training_set.matrices.clone()
            self.train_indices = torch.arange(len(run.split.train), device=device)

        if self.stream is not None:  # all of the above was put on the device by another stream
            self.stream.wait_stream(torch.cuda.current_stream(device))
        with self.at_work():
            if config.scale_targets:
                fresh = run.trained_before is None
                _scale_targets(self.model, run.data.hodge[run.split.train], fresh)
            units = self.model.target_scale.clone() if config.scale_targets else None
            self.loss = steps.HodgeLoss(units, config.loss_weights, config.huber_delta).to(device)
            self.optimizer = optimizers.build(config.optimizer, self.model, config.weight_decay)
            optimizers.set_learning_rate(self.optimizer, config.learning_rate)
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer,
                factor=config.plateau_factor,
                patience=config.plateau_patience,
                min_lr=config.min_learning_rate,
            )
            self.step = steps.TrainStep(
                self.model,
                self.training_set,
                self.loss,
                self.optimizer,
                precision=config.precision,
                clip_norm=config.clip_norm,
                averaged=config.averaging > 0,
            )
            if state is not None:
                self._restore(state)
            self.take = steps.fastest_step(self.step, config.batch_size, self.train_indices)
        self.progress = Progress(config.max_epochs, self.history, name)
        self.started = self.saved = time.monotonic()
        self.max_hours = places.training_hours(config.max_hours)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """On this run's own stream, in its precision."""
        with matrix_precision(self.config.precision), torch.cuda.stream(self.stream):
            yield

    def advance(self) -> bool:
        """Train on one batch, at the end of an epoch validate; whether there is more to do."""
        with self.at_work():
            if self.batches is None:
                self._begin_epoch()
            if self.position < self.batches_per_epoch:  # else interrupted in its validation
                self._take_step()
            if self.position == self.batches_per_epoch:
                self._end_epoch()
            elif self.out_of_time():
                self.stop_reason = "time_limit"
                self.save()
                self.progress.stopped(self.history, self.stop_reason)
            elif time.monotonic() - self.saved > self.config.save_minutes * 60:
                self.save()
        return self.stop_reason is None

    def interrupt(self) -> None:
        """Stop between two batches, or instead of a validation, so that the next call goes on."""
        self.stop_reason = "interrupted"
        if self.batches is not None:
            with self.at_work():
                self.save()
        elif self.state is not None:  # there is nothing new since it was saved
            self.state = self.state | {"stop_reason": self.stop_reason}
        self.progress.stopped(self.history, self.stop_reason)

    @property
    def epoch(self) -> int:
        """The number of the epoch at work, from 1."""
        return len(self.history) + 1

    def learning_rate(self, position: int) -> float:
        """Of the step at this position in the epoch."""
        if self.config.schedule == "one-cycle":
            done = (self.epoch - 1) * self.batches_per_epoch + position
            total = self.config.max_epochs * self.batches_per_epoch
            return self.config.learning_rate * one_cycle((done + 1) / total)
        # On a GPU the learning rate is a float32: seven digits of it mean something.
        return float(f"{float(self.optimizer.param_groups[0]['lr']):.7g}")

    def out_of_time(self) -> bool:
        """Whether the time limit has passed."""
        limit = self.max_hours
        return limit is not None and time.monotonic() - self.started > limit * 3600

    def _begin_epoch(self) -> None:
        """Draw the order of the batches; ``position`` tells where in it to go on."""
        config = self.config
        self.epoch_started = time.monotonic() - self.elapsed
        self.epoch_generator = self.generator.get_state()
        order = torch.randperm(len(self.train_indices), generator=self.generator)
        self.batches = self.train_indices[order.to(self.device)].split(config.batch_size)
        self.epoch_learning_rate = self.learning_rate(0)
        self.step.follow.fill_(1.0 if self.epoch == 1 else 1.0 - config.averaging)
        if config.shuffle:
            own = torch.Generator().manual_seed(config.seed * 1_000_003 + self.epoch)
            ties = config.shuffle == "ties"
            self.training_set.matrices.copy_(steps.shuffled(self.unshuffled, own, ties=ties))
        batches = self.batches_per_epoch + len(self.validation_batches)
        self.progress.start(self.epoch, batches, self.position)

    def _take_step(self) -> None:
        """Train on the next batch of the epoch."""
        if self.config.schedule == "one-cycle":
            optimizers.set_learning_rate(self.optimizer, self.learning_rate(self.position))
        self.take(self.batches[self.position])
        self.position += 1
        if self.progress.step():
            seen = min(self.position * self.config.batch_size, len(self.train_indices))
            loss = self.step.total.item() / seen
            require_finite(loss, "training", self.epoch)
            self.progress.say(f"training loss {loss:.4g} so far")

    def _end_epoch(self) -> None:
        """Validate, keep the weights if they are the best, decide whether to go on, and save."""
        epoch, config = self.epoch, self.config
        train_loss = self.step.total.item() / len(self.train_indices)
        validation_loss = self._validate()
        if validation_loss is None:
            return
        require_finite(train_loss, "training", epoch)
        require_finite(validation_loss, "validation", epoch)
        if config.schedule == "plateau":
            self.plateau.step(validation_loss)
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "validation_loss": validation_loss,
                "learning_rate": self.epoch_learning_rate,
                "seconds": time.monotonic() - self.epoch_started,
            }
        )
        best = best_epoch(self.history)
        if best["epoch"] == epoch:
            self.best_weights = {
                name: weight.detach().to("cpu", copy=True)
                for name, weight in (self.step.average or self.model).state_dict().items()
            }
        if epoch - best["epoch"] > config.patience:
            self.stop_reason = "converged"
        elif epoch == config.max_epochs:
            self.stop_reason = "max_epochs"
        elif self.out_of_time():
            self.stop_reason = "time_limit"
        self.position, self.elapsed = 0, 0.0
        self.step.total.zero_()
        self.batches = None
        self.save(with_weights=best["epoch"] == epoch)
        self.progress.finish(self.history, self.stop_reason)
        if self.run.on_epoch is not None:
            self.run.on_epoch(dict(self.history[-1]))

    @torch.inference_mode()
    def _validate(self) -> float | None:
        """Mean loss over the validation set; None when interrupted meanwhile."""
        model = self.step.average or self.model
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.validation_batches:
            if self.asked_to_stop.asked:
                return None
            with devices.autocast(self.device, self.config.precision):
                predictions = model(steps.scale(self.source.matrices[batch]))
            total += self.loss(predictions, self.source.hodge[batch]) * len(batch)
            if self.progress.step():
                self.progress.say("validation")
        return total.item() / len(self.validation_indices)

    def save(self, with_weights: bool = False) -> None:
        """Write the state, and what others read of it."""
        run, inside, first = self.run, self.position > 0, self.state is None
        if inside:
            self.elapsed = time.monotonic() - self.epoch_started
            sums = [weight.detach().sum() for weight in self.model.parameters()]
            spoilt = torch.stack([self.step.total, *sums]).sum()
            require_finite(spoilt.item(), "training", self.epoch)
        self.state = {
            "identity": self.identity,
            "history": list(self.history),
            "weights": self.model.state_dict(),
            "average": self.step.average.state_dict() if self.step.average else None,
            "best_weights": self.best_weights,
            "moments": optimizers.moments(self.optimizer),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "plateau": self.plateau.state_dict(),
            "generator": self.epoch_generator if inside else self.generator.get_state(),
            "position": self.position,
            "elapsed": self.elapsed,
            "total": self.step.total,
            "stop_reason": self.stop_reason,
            "device": device_name(self.device),
        }
        self.lease.require()
        if first:  # no weights are without it; what was measured was of others
            (run.run_dir / records.METRICS_FILE).unlink(missing_ok=True)
            records.save_trained_on(run.run_dir, self.mask, len(run.data), run.data.fingerprint)
        checkpoint.save_state(run.run_dir / checkpoint.STATE_FILE, self.state)
        if not inside:
            write_results(run.run_dir, self.state, with_weights)
        self.saved = time.monotonic()

    def _restore(self, state: dict) -> None:
        self.model.load_state_dict(state["weights"])
        if self.step.average is not None:
            self.step.average.load_state_dict(state["average"])
        with torch.no_grad():
            moments = optimizers.moments(self.optimizer)
            for tensor, value in zip(moments, state["moments"], strict=True):
                tensor.copy_(value)
            self.step.total.copy_(state["total"])
        self.plateau.load_state_dict(state["plateau"])
        optimizers.set_learning_rate(self.optimizer, state["learning_rate"])
        self.generator.set_state(state["generator"])
        self.history, self.best_weights = list(state["history"]), state["best_weights"]
        self.position, self.elapsed = state["position"], state["elapsed"]


def one_cycle(done: float) -> float:
    """Share of the highest learning rate when this share of all steps is done (0 to 1)."""
    if done < WARM_UP:
        return done / WARM_UP
    return (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def require_finite(loss: float, kind: str, epoch: int) -> None:
    """Stop a run that has diverged.

    Raises:
        Diverged: the loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        kept = "; the run folder keeps the best weights of the epochs before" if epoch > 1 else ""
        raise Diverged(
            f"the {kind} loss became {loss} in epoch {epoch}{kept}; choose a lower learning rate, "
            "a new run folder and a model with other weights than these"
        )


def predict(
    model: nn.Module,
    matrices: np.ndarray,
    *,
    batch_size: int | None = None,
    device: str = "auto",
) -> np.ndarray:
    """Apply a model to configuration matrices, in full float32 precision.

    Args:
        model: as for ``fit``; it is moved to the device and put into evaluation mode.
        matrices: uint8 (N, 16, 20), not scaled, in the layout that the model was trained on.
        batch_size: matrices at a time, which limits memory; None for a number by the device.
        device: as in ``TrainConfig``.

    Returns:
        float32 (N, 4): the outputs for h11, h21, h31, h22, not rounded.

    Raises:
        ValueError: the matrices have another shape or type, or the model returns another shape; or
            the batch size is no positive integer, or the device is not to be had.
    """
    matrices = np.asarray(matrices)
    if matrices.dtype != np.uint8 or matrices.ndim != 3 or matrices.shape[1:] != SHAPE:
        raise ValueError(
            f"matrices must be uint8 (N, 16, 20), not scaled; these are {matrices.dtype} "
            f"{matrices.shape}"
        )
    place = resolve_device(device)
    if batch_size is None:
        batch_size = EVALUATION_BATCH[place.type]
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer or None, not {batch_size!r}")
    if next(model.parameters()).device != place:
        # Even to where it is .to() would move recurrent weights, and a CUDA graph not see it.
        model.to(place)
    model.eval()
    predictions = np.empty((len(matrices), len(HODGE_NAMES)), dtype=np.float32)
    progress = Progress()
    progress.start(None, math.ceil(len(matrices) / batch_size))
    with (
        contextlib.closing(progress),
        torch.inference_mode(),
        matrix_precision("float32"),
    ):
        for start in range(0, len(matrices), batch_size):
            batch = torch.tensor(matrices[start : start + batch_size], device=place)
            outputs = model(steps.scale(batch))
            steps.require_outputs(outputs, len(batch))
            predictions[start : start + batch_size] = outputs.cpu().numpy()
            if progress.step():
                progress.say()
    return predictions


def write_results(run_dir: Path, state: dict, with_weights: bool = True) -> None:
    """Write the files that others read, history and best weights, from a training state."""
    table = pd.DataFrame(state["history"]).to_csv(index=False)
    files.write_text(run_dir / records.HISTORY_FILE, table)
    if with_weights:
        best = best_epoch(state["history"])
        chosen = {"best_epoch": best["epoch"], "validation_loss": best["validation_loss"]}
        checkpoint.save_weights(
            run_dir / checkpoint.WEIGHTS_FILE,
            state["best_weights"],
            state["identity"] | {"training": chosen},
        )


def _identify(run: Run) -> tuple[dict, np.ndarray]:
    """The identity of a run and the mask of all that its weights will have been trained on."""
    resolve_device(run.config.device, run.config.precision)
    if not (run.run_dir / checkpoint.STATE_FILE).exists() and checkpoint.find_weights(run.run_dir):
        raise ValueError(
            f"{run.run_dir} holds weights without the state of their training, so that it cannot "
            f"go on and would replace them: choose another run folder, or delete this one"
        )
    if run.config.optimizer == "muon":
        optimizers.hidden_matrices(run.model)
    identity = run_identity(run.model, run.data, run.split, run.config)
    if run.config.scale_targets and not hasattr(run.model, "target_scale"):
        raise ValueError(
            f"targets can be scaled for the networks of models.build_model only, not for a "
            f"{type(run.model).__name__}; use scale_targets=False"
        )
    mask = np.zeros(len(run.data), dtype=bool)
    if (before := run.trained_before) is not None:
        for part in ("validation", "test"):  # by the one an epoch is chosen, by the other judged
            who = "the checkpoint to start from"
            records.require_unseen(before, run.split.parts[part], run.data, who=who, part=part)
        mask |= before.indices
        weights = [weight.detach().cpu().ravel() for weight in run.model.parameters()]
        identity["started_from"] = {
            "weights": checksum(torch.cat(weights)),
            "trained_on": checksum(mask),
        }
    mask[run.split.train] = True
    return identity, mask


def _saved_state(run: Run, identity: dict, mask: np.ndarray) -> dict | None:
    """The state that a run left behind, with the files that a crash may have kept it from."""
    path = run.run_dir / checkpoint.STATE_FILE
    if not path.exists():
        return None
    state = checkpoint.load_state(path)
    _require_same_run(path, state, identity)
    records.save_trained_on(run.run_dir, mask, len(run.data), run.data.fingerprint)
    if state["history"]:
        write_results(run.run_dir, state)
    return state


def _require_same_run(path: Path, state: dict, identity: dict) -> None:
    """As of ``require_same_run``; settings that came later had their defaults."""
    saved = state["identity"]
    saved = saved | {"settings": complete(saved["settings"])}
    require_same_run(path, saved, identity)


def _interrupted(run: Run, before: dict | None) -> dict | None:
    """The state in a run's folder, as one that Ctrl-C ended."""
    path = run.run_dir / checkpoint.STATE_FILE
    if not path.exists():
        return before
    state = checkpoint.load_state(path)
    if state["stop_reason"] not in STOPPED_FOR_GOOD:
        state["stop_reason"] = "interrupted"
    if state["history"]:
        write_results(run.run_dir, state)
    return state


def _result(run: Run, state: dict | None) -> FitResult | NoResult:
    """Give the model its best weights and sum up the run, or tell why it has none."""
    if state is None or not state["history"]:
        if state is None or state["stop_reason"] == "interrupted":
            return KeyboardInterrupt(
                f"before the first epoch in {run.run_dir} was finished there are no weights to "
                "use; call again to go on"
            )
        limit = run.config.max_hours or places.TRAINING_HOURS
        return OutOfTime(
            f"the time limit of {limit:g} hours came before the first epoch in {run.run_dir} was "
            f"finished; {places.how_to_go_on() or 'call again to go on, or allow more'}"
        )
    run.model.to(resolve_device(run.config.device)).load_state_dict(state["best_weights"])
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


@torch.no_grad()
def _scale_targets(model: HodgeNetwork, hodge: np.ndarray, fresh: bool) -> None:
    """Let the outputs of a model's head mean standard deviations from the mean of these labels.

    Weights that are not fresh go on giving the answers that they gave.
    """
    labels = hodge.astype(np.float64)
    spread = labels.std(axis=0)
    spread[spread == 0] = 1.0  # all labels are equal, and their mean is the answer
    mean, scale = (
        torch.from_numpy(values).to(model.target_mean) for values in (labels.mean(axis=0), spread)
    )
    if not fresh:
        last = model.head[-1]
        last.weight.mul_((model.target_scale / scale)[:, None])
        last.bias.mul_(model.target_scale / scale).add_((model.target_mean - mean) / scale)
    model.target_mean.copy_(mean)
    model.target_scale.copy_(scale)
