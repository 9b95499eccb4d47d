"""Which hidden size learns best: a scan with Optuna over the sizes of a recurrent network.

The paper chose its hidden sizes by hand and left a systematic scan for later (section 8). Here
every trial is a training by the paper's recipe with another size, and is judged by its best
validation loss; the test set is never looked at. A trial that is worse than the median of the
others at the same epoch is stopped early. The folder of a scan holds

    study.journal   Optuna's record of the study
    trials/         a folder for every trial, as ``training.fit`` writes it
    trials.csv      one row per trial

Optuna is an extra of this package: pip install ".[scan]" in a clone.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from cicy_utils import checkpoint, files, lease, models, provenance, recipes, records, training
from cicy_utils.config import PAPER_RECIPE, TrainConfig
from cicy_utils.data import Cicy4
from cicy_utils.evaluation import data_section, split_section
from cicy_utils.identity import recipe_identity, require_same_run
from cicy_utils.splits import Split

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STUDY_FILE = "study.journal"
TRIALS_FILE = "trials.csv"
TRIALS_FOLDER = "trials"
STARTUP_TRIALS = 4  # without pruning: their median is what the others are compared with
MOST_CURVES = 5  # in a figure
WARMUP_SHARE = 10  # pruning starts after this fraction (1/10) of the epochs
COLUMNS = ["trial", "state", "hidden_size", "num_layers", "learning_rate", "seed", "weights",
           "best_validation_loss", "best_epoch", "epochs", "seconds"]  # fmt: skip


@dataclass(frozen=True)
class Space:
    """What is scanned.

    Attributes:
        model: the network whose sizes are replaced, as in ``models.MODELS``.
        lowest_hidden, highest_hidden, hidden_step: the hidden sizes, both ends included.
        num_layers: numbers of recurrent layers to choose from.
        learning_rates: learning rates at the start to choose from.
    """

    model: str
    lowest_hidden: int
    highest_hidden: int
    hidden_step: int = 1
    num_layers: tuple[int, ...] = (2,)
    learning_rates: tuple[float, ...] = (0.01,)

    def __post_init__(self) -> None:
        if self.model not in models.MODELS:
            raise ValueError(
                f"unknown model {self.model!r}; choose one of {', '.join(models.MODELS)}"
            )
        sizes = (self.lowest_hidden, self.highest_hidden, self.hidden_step, *self.num_layers)
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(f"sizes and numbers of layers must be positive integers, not {sizes}")
        if (self.highest_hidden - self.lowest_hidden) % self.hidden_step or (
            self.highest_hidden < self.lowest_hidden
        ):
            raise ValueError(
                f"from hidden size {self.lowest_hidden} no steps of {self.hidden_step} lead up to "
                f"{self.highest_hidden}; choose another end or step"
            )
        if not self.num_layers or not self.learning_rates:
            raise ValueError("num_layers and learning_rates need at least one value each")
        for learning_rate in self.learning_rates:
            TrainConfig(learning_rate=learning_rate)  # refuses what is none
        # Sequences from a notebook's parameters are lists; what is frozen holds tuples.
        object.__setattr__(self, "num_layers", tuple(self.num_layers))
        object.__setattr__(self, "learning_rates", tuple(self.learning_rates))


class ScanResult(NamedTuple):
    """What a scan came to.

    trials: one row per trial, as in trials.csv: trial, state ("finished", "pruned": stopped as
    too bad, "diverged", "unfinished"), hidden_size, num_layers, learning_rate, seed, weights
    (number), best_validation_loss (so far), best_epoch, epochs, seconds.
    stop_reason: "done" (as many trials as wanted), "time_limit" or "interrupted"; after the last
    two the same call goes on.
    """

    trials: pd.DataFrame
    stop_reason: str


def run_scan(
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    space: Space,
    study_dir: Path | str,
    *,
    trials: int,
    max_hours: float | None = None,
) -> ScanResult:
    """Run trials until there are as many as wanted, counting those of earlier calls.

    A trial that was cut short goes on from its last epoch. Only one process may work on a folder.

    Args:
        data, split: as of ``training.fit``; the test set is not used.
        config: the recipe of every trial; the learning rate is the trial's own, the seed is this
            one plus the number of the trial, and max_hours is not used.
        space: what is scanned.
        study_dir: folder of the scan, made if missing.
        trials: how many are wanted in all.
        max_hours: stop when that long has passed since the call; None for no limit.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: trials is less than one, or the folder holds a scan of something else, or
            another process works on it.
    """
    if trials < 1:
        raise ValueError(f"a scan needs at least one trial, not {trials}")
    with lease.hold(study_dir):
        return _run_trials(data, split, config, space, Path(study_dir), trials, max_hours)


def _run_trials(
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    space: Space,
    study_dir: Path,
    trials: int,
    max_hours: float | None,
) -> ScanResult:
    """What ``run_scan`` does when nobody else works on the folder."""
    optuna = _optuna()
    study = _open(study_dir, config, _identity(data, split, config, space))
    deadline = time.monotonic() + (np.inf if max_hours is None else max_hours * 3600)
    _retry_unfinished(study)

    stop_reason = "done"
    while stop_reason == "done" and _done(study) < trials:
        left = deadline - time.monotonic()
        if left <= 0:
            stop_reason = "time_limit"
            break
        trial = study.ask()
        settings = _settings(trial, space, config)
        folder = study_dir / TRIALS_FOLDER / _folder(trial)
        so_far = f"{_done(study) + 1} of {trials}"
        print(f"trial {int(folder.name)} ({so_far}): {_words(settings)}", flush=True)
        hours = None if np.isinf(left) else left / 3600
        try:
            result = _train(trial, settings, data, split, config, space, folder, hours)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            print("stopped: worse than the median", flush=True)
        except training.OutOfTime:
            stop_reason = "time_limit"
            break
        except KeyboardInterrupt:
            if not _done(study):
                raise
            stop_reason = "interrupted"
            break
        except training.Diverged as error:
            trial.set_user_attr("diverged", True)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            print(f"stopped: {error}", flush=True)
            if error.interrupted:
                stop_reason = "interrupted"
        else:
            if result.stop_reason not in training.STOPPED_FOR_GOOD:
                stop_reason = result.stop_reason
                break
            study.tell(trial, result.best_validation_loss)
            if result.interrupted and _done(study) < trials:
                stop_reason = "interrupted"
        (folder / checkpoint.STATE_FILE).unlink(missing_ok=True)  # large, and not needed any more
        _write_table(study, study_dir, space)
    return ScanResult(_write_table(study, study_dir, space), stop_reason)


def record_scan(
    result: ScanResult,
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    space: Space,
    run_dir: Path | str,
    *,
    notebook: str,
) -> dict[str, Any]:
    """Write metrics.json of a scan and return it.

    Besides the sections that every run has: seed, settings, split, training (seconds and
    stop_reason over all trials) and scan, with the space, the number of trials by state and the
    best finished trial, or None.
    """
    table = result.trials
    counts = table["state"].value_counts().to_dict()
    best = best_trial(table)
    rate = PAPER_RECIPE["learning_rate"]  # that of a trial is the space's
    recipe = dataclasses.replace(config, learning_rate=rate)
    changes = [*_differences(space, result.stop_reason), *recipes.other_layout(data.layout)]
    return records.write_metrics(
        run_dir,
        notebook=notebook,
        variant=Path(run_dir).name,
        label=provenance.run_label(len(data), recipe, changes=changes),
        seed=config.seed,
        settings=dataclasses.asdict(config),
        data=data_section(data),
        split=split_section(split),
        training={"seconds": float(table["seconds"].sum()), "stop_reason": result.stop_reason},
        scan={
            **dataclasses.asdict(space),
            "trials": sum(number for state, number in counts.items() if state != "unfinished"),
            "states": counts,
            "best": None if best is None else best.to_dict(),
        },
        environment=provenance.environment(),
    )


def _differences(space: Space, stop_reason: str) -> list[str]:
    """What a scan tries besides the paper's recipe, in words for a label."""
    expected = {
        "learning rate": (space.learning_rates, PAPER_RECIPE["learning_rate"]),
        "num layers": (space.num_layers, models.MODELS[space.model].num_layers),
    }
    words = []
    for name, (tried, published) in expected.items():
        if set(tried) != {published}:
            values = " ".join(f"{value:g}" for value in sorted(set(tried)))
            words.append(f"{name} {values} instead of {published:g}")
    if who := provenance.STOPPED_BY.get(stop_reason):
        words.append(f"stopped by {who} before all trials were done")
    return words


def best_trial(trials: pd.DataFrame) -> pd.Series | None:
    """The finished trial with the lowest validation loss; None when none has finished."""
    finished = trials[trials["state"] == "finished"]
    return finished.loc[finished["best_validation_loss"].idxmin()] if len(finished) else None


def ranked(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials for a reader: the best first, in words, with minutes instead of seconds."""
    table = trials.sort_values("best_validation_loss", ignore_index=True)
    table = table.assign(seconds=table["seconds"] / 60).rename(columns={"seconds": "minutes"})
    return table.rename(columns=lambda name: name.replace("num_", "").replace("_", " "))


def best_curves(trials: pd.DataFrame, study_dir: Path | str) -> list[tuple[str, pd.DataFrame]]:
    """Names and histories of the best finished trials, for ``plots.loss_curves``."""
    finished = trials[trials["state"] == "finished"].sort_values("best_validation_loss")
    return [
        (f"{row.hidden_size} (trial {row.trial})", _history(trial_folder(study_dir, row.trial)))
        for row in finished[:MOST_CURVES].itertuples()
    ]


def trial_folder(study_dir: Path | str, trial: int) -> Path:
    """The folder of a trial of trials.csv, as ``training.fit`` writes it."""
    return Path(study_dir) / TRIALS_FOLDER / f"{trial:03d}"


def _optuna() -> Any:
    try:
        with warnings.catch_warnings():
            # Optuna asks for a widget that tells of progress; nothing here shows one.
            warnings.filterwarnings("ignore", message="IProgress not found")
            import optuna
    except ImportError as error:
        raise ImportError("a scan needs Optuna; install it with: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open(study_dir: Path, config: TrainConfig, identity: dict) -> Study:
    """The study in a folder, new or as it was left."""
    optuna = _optuna()
    from optuna.storages.journal import JournalFileBackend

    path = study_dir / STUDY_FILE
    study = optuna.create_study(
        study_name="scan",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=STARTUP_TRIALS, n_warmup_steps=config.max_epochs // WARMUP_SHARE
        ),
    )
    # Counted on, so that a study that goes on does not draw its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    if "identity" in study.user_attrs:
        require_same_run(path, study.user_attrs["identity"], identity)
    else:
        study.set_user_attr("identity", identity)
    return study


def _identity(data: Cicy4, split: Split, config: TrainConfig, space: Space) -> dict:
    """What makes two scans the same, as plain values."""
    identity = {"space": dataclasses.asdict(space)}
    identity |= recipe_identity(data, split, config)
    del identity["settings"]["learning_rate"]  # of the space
    return json.loads(json.dumps(identity))  # as it will be read back


def _retry_unfinished(study: Study) -> None:
    """Queue trials that were cut short: Optuna takes no trial up again, so each gets a successor.

    The successor has the same settings and goes on in the same folder.
    """
    states = _optuna().trial.TrialState
    # Killed between the two steps below, an earlier call has queued a successor already.
    queued = {_folder(trial) for trial in study.get_trials(states=(states.WAITING,))}
    for old in study.get_trials(states=(states.RUNNING,)):
        if "settings" in old.user_attrs and _folder(old) not in queued:
            study.enqueue_trial(
                old.params,
                user_attrs={"folder": _folder(old), "settings": old.user_attrs["settings"]},
            )
        study.tell(old.number, state=states.FAIL)


def _done(study: Study) -> int:
    """How many trials are over: those that were cut short do not count."""
    states = _optuna().trial.TrialState
    return len(study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED)))


def _settings(trial: Trial, space: Space, config: TrainConfig) -> dict[str, Any]:
    """Draw what a trial tries, or repeat what its predecessor did."""
    chosen = {
        "hidden_size": trial.suggest_int(
            "hidden_size", space.lowest_hidden, space.highest_hidden, step=space.hidden_step
        ),
        "num_layers": trial.suggest_categorical("num_layers", space.num_layers),
        "learning_rate": trial.suggest_categorical("learning_rate", space.learning_rates),
    }
    # A size that is drawn again is trained from other weights: one training is one draw.
    settings = trial.user_attrs.get("settings", chosen | {"seed": config.seed + trial.number})
    trial.set_user_attr("settings", settings)
    return settings


def _train(
    trial: Trial,
    settings: dict[str, Any],
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    space: Space,
    folder: Path,
    max_hours: float | None,
) -> training.FitResult:
    """One trial; raises ``optuna.TrialPruned`` when it is not worth going on."""
    optuna = _optuna()

    def on_epoch(row: dict) -> None:
        trial.report(row["validation_loss"], row["epoch"])
        if row["epoch"] < config.max_epochs and trial.should_prune():
            raise optuna.TrialPruned

    for row in _history(folder).to_dict("records"):  # of its predecessor
        trial.report(row["validation_loss"], int(row["epoch"]))
    own = dataclasses.replace(
        config,
        learning_rate=settings["learning_rate"],
        seed=settings["seed"],
        max_hours=max_hours,
    )
    return training.fit(_model(settings, space), data, split, own, folder, on_epoch=on_epoch)


def _model(settings: dict[str, Any], space: Space) -> models.HodgeNetwork:
    return models.build_model(
        space.model,
        hidden_size=settings["hidden_size"],
        num_layers=settings["num_layers"],
        seed=settings["seed"],
    )


def _folder(trial: Trial | FrozenTrial) -> str:
    return trial.user_attrs.get("folder", f"{trial.number:03d}")


def _words(settings: dict[str, Any]) -> str:
    names = {name: name.removeprefix("num_").replace("_", " ") for name in settings}
    return ", ".join(f"{names[name]} {value:g}" for name, value in settings.items())


def _history(folder: Path) -> pd.DataFrame:
    path = folder / records.HISTORY_FILE
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _write_table(study: Study, study_dir: Path, space: Space) -> pd.DataFrame:
    """Write trials.csv and return it; trials that have a successor are not in it."""
    states = _optuna().trial.TrialState
    names = {states.COMPLETE: "finished", states.PRUNED: "pruned"}
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state == states.FAIL or "settings" not in trial.user_attrs:
            continue
        settings = trial.user_attrs["settings"]
        state = names.get(trial.state, "unfinished")
        history = _history(study_dir / TRIALS_FOLDER / _folder(trial))
        row = {
            "trial": int(_folder(trial)),
            "state": "diverged" if trial.user_attrs.get("diverged") else state,
            **settings,
            "weights": models.count_weights(_model(settings, space)),
            "best_validation_loss": np.nan,
            "best_epoch": 0,
            "epochs": len(history),
            "seconds": 0.0,
        }
        if len(history):
            best = history.loc[history["validation_loss"].idxmin()]
            row["best_validation_loss"] = float(best["validation_loss"])
            row["best_epoch"] = int(best["epoch"])
            row["seconds"] = float(history["seconds"].sum())
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values("trial", ignore_index=True)
    files.write_text(study_dir / TRIALS_FILE, table.to_csv(index=False))
    return table
