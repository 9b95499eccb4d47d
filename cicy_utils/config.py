"""How a network is trained, in settings: the paper's recipe and what may be changed in it.

Nothing here brings PyTorch, so that plans and labels can be made without it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

SCHEDULES = ("plateau", "one-cycle")
OPTIMIZERS = ("adamw", "muon")
LARGEST_SEED = 2**32 - 1
# Name here -> name of PyTorch's setting for float32 matrix products on a GPU.
PRECISIONS = {"float32": "ieee", "tf32": "tf32", "bfloat16": "ieee"}
# Where, how long and how safely, not what, is computed.
MAY_DIFFER_ON_RESUMING = ("device", "max_hours", "save_minutes")
# These, and which of several equal runs it is.
NOT_THE_RECIPE = ("seed", *MAY_DIFFER_ON_RESUMING)

# What settings may be: integers, the least of them; numbers, and what they are below; names.
INTEGERS = {"batch_size": 1, "max_epochs": 1, "patience": 0, "plateau_patience": 0, "seed": 0}
POSITIVE = {
    "learning_rate": math.inf,
    "plateau_factor": 1,
    "huber_delta": math.inf,
    "clip_norm": math.inf,
    "max_hours": math.inf,
    "save_minutes": math.inf,
}
NONE_TOO = ("clip_norm", "max_hours")
NOT_NEGATIVE = {"min_learning_rate": math.inf, "weight_decay": math.inf, "averaging": 1}
FLAGS = {"scale_targets": (), "shuffle": ("ties",)}  # True, False, or one of these
CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; the defaults are the paper's.

    Attributes:
        optimizer: "adamw", or "muon" for what ``hidden_matrices`` of the network names, and AdamW
            for all other weights; see ``optimizers.Muon``.
        learning_rate: of the optimizer: at the start, or at the top of a one-cycle schedule.
        batch_size: configurations per step.
        max_epochs: passes through the training set at most.
        patience: stop after more than this many epochs without a better validation loss.
        schedule: of the learning rate. "plateau": times ``plateau_factor`` when the validation
            loss has not got better (by a ten-thousandth) for more than ``plateau_patience``
            epochs, but never below ``min_learning_rate``. "one-cycle": up from zero in a straight
            line during the first tenth of all steps, then down to zero along a cosine.
        plateau_factor, plateau_patience, min_learning_rate: see above.
        weight_decay: of the optimizer, per step and unit of the learning rate.
        clip_norm: longest gradient that a step uses; None for any.
        scale_targets: let the head's outputs mean standard deviations from the mean of the
            training set, and measure errors in these units, so that h22 does not drown the rest.
        huber_delta: error up to which the loss is quadratic, beyond it linear.
        loss_weights: of h11, h21, h31 and h22 in the loss; only their ratios matter.
        averaging: decay per step of an exponential average of the weights, which is what is
            validated and kept; 0 for none.
        shuffle: permute rows and columns of every training matrix at random, anew in each epoch:
            True for all of them, "ties" for rows of the same n among each other, and columns of
            the same degree. What is validated and tested stays in the order of the list.
        seed: of the order of the batches. The initial weights have their own, see
            ``models.build_model``.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: of matrix products. "float32"; on a GPU "tf32" (of numbers rounded to ten bits
            of mantissa); on a CPU "bfloat16" (seven bits, for the feature blocks and Muon: head,
            loss and weights stay float32). The last two are refused where the device has no
            circuits for them.
        max_hours: stop when ``fit`` has worked this long; called again it goes on for as long.
            None for no limit, or on Kaggle for what its sessions allow, see
            ``places.training_hours``.
        save_minutes: save the state inside an epoch when that long has passed since it was last
            saved; it always is at the end of one.
    """

    optimizer: str = "adamw"
    learning_rate: float = 0.01
    batch_size: int = 128
    max_epochs: int = 550
    patience: int = 20
    schedule: str = "plateau"
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    min_learning_rate: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float | None = None
    scale_targets: bool = False
    huber_delta: float = 1.0
    loss_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    averaging: float = 0.0
    shuffle: bool | str = False
    seed: int = 42
    device: str = "auto"
    precision: str = "float32"
    max_hours: float | None = None
    save_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name, least in INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be an integer, at least {least}, not {value!r}")
            object.__setattr__(self, name, int(value))  # JSON knows no number of NumPy's
        if self.seed > LARGEST_SEED:
            raise ValueError(f"seed must be at most {LARGEST_SEED:,}, not {self.seed:,}")
        for name, limit in POSITIVE.items():
            value = getattr(self, name)
            if name in NONE_TOO and value is None:
                continue
            if not _is_number(value) or not 0 < value < limit:
                raise ValueError(f"{name} must be a number between 0 and {limit}, not {value!r}")
            object.__setattr__(self, name, float(value))  # 1 is 1.0, in a fingerprint too
        for name, limit in NOT_NEGATIVE.items():
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < limit:
                below = "" if limit == math.inf else f" and below {limit}"
                raise ValueError(f"{name} must be a number, at least 0{below}, not {value!r}")
            object.__setattr__(self, name, float(value))
        for name, besides in FLAGS.items():
            if not isinstance(value := getattr(self, name), bool) and value not in besides:
                known = " or ".join(map(repr, (True, False, *besides)))
                raise ValueError(f"{name} must be {known}, not {value!r}")
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} must be one of {list(known)}, not {value!r}")
        require_names(self.device, self.precision)
        object.__setattr__(self, "loss_weights", _four_weights(self.loss_weights))


# The recipe of arXiv 2405.17406, section 5 and, where that is silent, its notebooks and PyTorch's
# defaults; whatever differs is named in the label of a run.
PAPER_RECIPE = {
    field.name: field.default for field in fields(TrainConfig) if field.name not in NOT_THE_RECIPE
}
RETRAINING = {"min_learning_rate": 1e-7}  # what is otherwise in the notebooks of section 7


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Saved settings, as JSON has them, with the defaults of those that there were not yet."""
    saved = PAPER_RECIPE | dict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in saved.items()}


def recipe_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of saved settings is a recipe, whatever the seed and the device.

    All numbers are floats, so that what is equal has one fingerprint: records may hold 1 for 1.0.
    """
    saved = complete(settings)
    return {key: _as_floats(saved[key]) for key in saved if key not in NOT_THE_RECIPE}


def require_names(device: str, precision: str) -> None:
    """Refuse what names no device or no precision, whatever this machine has: a ValueError."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, not {precision!r}")


def _four_weights(given: object) -> tuple[float, ...]:
    """Those of the loss as the tuple that a dict can hold, made of a list too, as JSON has it."""
    weights = tuple(given) if isinstance(given, list | tuple) else ()
    if len(weights) != 4 or not all(_is_number(w) and 0 <= w < math.inf for w in weights):
        raise ValueError(f"loss_weights must be four numbers, at least 0, not {given!r}")
    if not any(weights):
        raise ValueError("loss_weights must not all be 0: nothing would be learned")
    return tuple(map(float, weights))


def _as_floats(value: Any) -> Any:
    """A setting with every number in it as a float."""
    if isinstance(value, list | tuple):
        return [_as_floats(item) for item in value]
    return float(value) if _is_number(value) else value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
