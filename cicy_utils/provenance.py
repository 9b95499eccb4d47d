"""Where a result comes from: in what it differs from the paper's, and on what machine it was made.

What differs is its label, "quick run: 5,000 of 905,684 configurations" say, which stands on every
table and figure.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cicy_utils import places
from cicy_utils.config import PAPER_RECIPE, TrainConfig
from cicy_utils.records import LIST_SIZE

if TYPE_CHECKING:
    from cicy_utils.training import FitResult

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "numba", "matplotlib")

QUICK, CHANGED = "quick run", "changed recipe"
STOPPED_BY = {"time_limit": "the time limit", "interrupted": "hand"}
# Reasons of which a joint label has one for all.
EPOCHS = re.compile(r"at most ([\d,]+)(?: to ([\d,]+))? epochs?")
STARTED = re.compile(r"started from \S+( runs)?( \(.*\))?")
NO_CLAIM = "A quick run shows that everything works; its accuracies claim nothing."


def run_label(
    configurations: int,
    config: TrainConfig | None = None,
    result: FitResult | None = None,
    *,
    recipe: Mapping[str, Any] = PAPER_RECIPE,
    changes: Sequence[str] = (),
) -> str:
    """What keeps a run from being the paper's: "" for the whole list with the paper's recipe.

    The label is computed from what was done, never chosen, and stands on every table and
    figure. `configurations` is the number the run drew from the list; `result`, once there,
    adds a training that was cut short; `recipe` is what the paper did; `changes` tell what else
    is not as in the paper, in words without a comma.
    """
    quick, changed = [], []
    if configurations < LIST_SIZE:
        quick.append(f"{configurations:,} of {LIST_SIZE:,} configurations")
    for name, published in recipe.items() if config else ():
        value = getattr(config, name)
        if value == published:
            continue
        if name == "max_epochs" and value < published:
            # One cycle has all its rates in however few epochs; a plateau may not have come yet.
            kind = changed if config.schedule == "one-cycle" else quick
            kind.append(f"at most {value:,} epoch{'' if value == 1 else 's'}")
        else:
            words = name.replace("_", " ")
            changed.append(f"{words} {_in_words(value)} instead of {_in_words(published)}")
    if result and (why := stopped(result.stop_reason, result.epochs)):
        quick.append(why)
    changed += changes
    if not quick and not changed:
        return ""
    return f"{QUICK if quick else CHANGED}: {', '.join(quick + changed)}"


def stopped(stop_reason: str | None, epochs: int | None = None) -> str:
    """What cut a training short, and after how many epochs, in words; "" if nothing did."""
    if stop_reason not in STOPPED_BY:
        return ""
    after = "" if epochs is None else f" after {epochs:,} epoch{'' if epochs == 1 else 's'}"
    return f"stopped by {STOPPED_BY[stop_reason]}{after}"


def _in_words(value: Any) -> str:
    """The value of a setting, without a comma."""
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    if isinstance(value, (tuple, list)):
        return " ".join(f"{item:g}" for item in value)
    return value if isinstance(value, str) else f"{value:g}"


def claim_nothing(labels: Iterable[str]) -> bool:
    """Whether there are accuracies among these that mean nothing: those on a part of the list."""
    part = f" of {LIST_SIZE:,} configurations"
    return any(label.startswith(QUICK) and part in label for label in labels)


def joint_label(labels: Iterable[str]) -> str:
    """The label of a result that rests on several runs: whatever any of them is labelled with.

    "" only when all are the paper's. Of several numbers of epochs it tells the range, and of
    several checkpoints that there are some, and whether any was of a quick run.
    """
    labels = [label for label in labels if label]
    if not labels:
        return ""
    reasons = [reason for label in labels for reason in label.split(": ", 1)[1].split(", ")]
    kind = QUICK if any(label.startswith(QUICK) for label in labels) else CHANGED
    return f"{kind}: {', '.join(_merged(reasons))}"


def _merged(reasons: Iterable[str]) -> list[str]:
    """Each once, and those that differ in their epochs or in their checkpoint only as one."""
    reasons = list(dict.fromkeys(reasons))
    epochs = [found for reason in reasons if (found := EPOCHS.fullmatch(reason))]
    started = [found[0] for reason in reasons if (found := STARTED.fullmatch(reason))]
    together = {}
    if len(epochs) > 1:
        numbers = [int(n.replace(",", "")) for found in epochs for n in found.groups() if n]
        span = f"at most {min(numbers):,} to {max(numbers):,} epochs"
        together = {found[0]: span for found in epochs}
    if len(started) > 1:
        kind = f" ({QUICK})" if any(QUICK in reason for reason in started) else ""
        together |= dict.fromkeys(started, f"started from other runs{kind}")
    return list(dict.fromkeys(together.get(reason, reason) for reason in reasons))


def members_label(labels: Mapping[str, str]) -> str:
    """The same of a result that rests on several named ones: what they do not share, by name."""
    given = {name: label.split(": ", 1)[1].split(", ") for name, label in labels.items() if label}
    shared = [
        reason
        for reason in next(iter(given.values()), [])
        if all(reason in given.get(name, ()) for name in labels)
    ]
    own = {name: [r for r in reasons if r not in shared] for name, reasons in given.items()}
    parts = [
        *shared,
        *(f"{name} ({'; '.join(reasons)})" for name, reasons in own.items() if reasons),
    ]
    kind = joint_label(labels.values()).split(":")[0]
    return f"{kind}: {', '.join(parts)}" if parts else ""


def merged_labels(labels: Iterable[str]) -> list[str]:
    """What to tell of many results at once: one joint label for each kind that is among them."""
    kinds: dict[str, list[str]] = {}
    for label in labels:
        kinds.setdefault(label.split(":")[0], []).append(label)
    return [joint_label(alike) for alike in kinds.values()]


def environment() -> dict[str, Any]:
    """Versions (None of what is not installed) and hardware of this process, ready for JSON."""
    import torch  # slow to import, needed here only for the name of the GPU

    packages = {name: _version(name) for name in PACKAGES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": places.cores(),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
    }


def machine_facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """The same for people: GPU, processor, system and versions."""
    versions = {"Python": environment["python"], **environment["packages"]}
    return {
        "GPU": environment["gpu"] or "none",
        "processor": f"{environment['processor']}, {environment['cores']} cores",
        "system": environment["platform"],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; Linux tells it in /proc/cpuinfo only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
