"""From a checkpoint to a better result, as from the 72 % split to the 80 % split (section 7).

One rule guards it: weights that were ever trained on a configuration of the test set at hand are
refused, and so are weights of which nobody knows what they were trained on.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cicy_utils import evaluation, prediction, recipes, records, training
from cicy_utils.checkpoint import STATE_FILE, find_weights, weights_file
from cicy_utils.config import RETRAINING
from cicy_utils.data import Cicy4
from cicy_utils.models import HodgeNetwork
from cicy_utils.records import Mask
from cicy_utils.splits import Split, training_share


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights to go on from, and all that is known of them.

    Attributes:
        folder: of the run that made them.
        model: holding them, on the CPU.
        trained_on: every configuration they were ever trained on.
        record: metrics.json of that run.
    """

    folder: Path
    model: HodgeNetwork
    trained_on: Mask
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """Notebook and variant of the run: "11_lstm_448/fast-42"."""
        return records.place(self.folder)

    @property
    def change(self) -> str:
        """What the label of a training says that goes on from these weights."""
        kind = self.record.get("label", "").split(":")[0]
        return f"started from {self.name}{f' ({kind})' if kind else ''}"

    def copy_to(self, model: HodgeNetwork) -> None:
        """Give these weights to a network, which must be of the same kind; else a ValueError."""
        if model.settings != self.model.settings:
            raise ValueError(
                f"the checkpoint {self.folder} holds the network {self.model.settings}, and to be "
                f"trained is {model.settings}: start from a run of the same network"
            )
        model.load_state_dict(self.model.state_dict())


def result_name(model: str, retrain: bool, recipe: str = "paper") -> str:
    """The name of a result on the 80 % split, as in data/paper_results.csv: "LSTM-448-d80".

    model: without the recipe; by the fast one its result is "LSTM-448-d80-fast".
    """
    return recipes.result_name(f"{model}-d80" if retrain else model, recipe)


def find_checkpoint(run_folder: Path | str, model: str, data: Cicy4) -> Path:
    """The folder of a model's run in results/<run>/; of several the one that validates best.

    Those that ``load_checkpoint`` would refuse (cut short, of another list, without weights) are
    only taken where there is no other, for its message.

    Args:
        run_folder: results/<run>.
        model: name of the result, "LSTM-448" or "LSTM-448-f1"; results on the 80 % split are no
            checkpoints to start from.
        data: what is to be trained on.

    Raises:
        FileNotFoundError: no such model has finished there.
    """
    found = [
        (not _can_start(folder, record, data), records.preference(record), folder)
        for folder, record in records.trained(run_folder)
        if record["model"] == model and training_share(record["split"]["name"]) != 80
    ]
    if not found:
        raise FileNotFoundError(
            f"no finished run of {model} in {run_folder}: train it there first, or name the folder "
            "of its run as CHECKPOINT"
        )
    return min(found)[-1]


def _can_start(folder: Path, record: dict[str, Any], data: Cicy4) -> bool:
    """Whether something can be started from a run, but for what its weights have seen."""
    of = record["data"]
    return (
        (of["fingerprint"], of["layout"]) == (data.fingerprint, data.layout)
        and record["training"]["stop_reason"] in training.STOPPED_FOR_GOOD
        and find_weights(folder) is not None
    )


def load_checkpoint(
    folder: Path | str, data: Cicy4, split: Split, *, model: str | None = None
) -> Checkpoint:
    """Load the weights of a run, unless they know what is to be tested.

    Args:
        folder: of the run; one that is not found from here is looked up from the top folder of
            the project, wherever a notebook runs.
        data, split: what is to be trained on and tested.
        model: name of the result that they must be, "LSTM-448-f1"; None for any.

    Raises:
        FileNotFoundError: there is no such folder, or weights, metrics.json or trained_on.npz are
            missing in it.
        ValueError: the weights were ever trained on a configuration of the split's test set, or
            on another list or layout than these data; or their training was cut short; or they
            are another result than ``model``.
    """
    folder = records.find(folder)
    weights_file(folder)  # tells where there are some
    trained_on = records.load_trained_on(folder)
    record = records.read_metrics(folder)
    if model not in (None, record["model"]):
        own, recipe = recipes.network(record["model"]), recipes.recipe_in(record["model"])
        raise ValueError(
            f"the checkpoint {folder} is of {record['model']} and not of {model}: name one of "
            f"{model}, or set MODEL to {own!r} and RECIPE to {recipe!r}"
        )
    records.require_unseen(trained_on, split.test, data, who=f"the checkpoint {folder}")
    network, metadata = prediction.load_model(folder)
    if metadata["data"]["layout"] != data.layout:
        raise ValueError(
            f"the checkpoint {folder} was trained on the layout {metadata['data']['layout']!r} and "
            f"the list is in the layout {data.layout!r}: set LAYOUT to the former"
        )
    if record["training"]["stop_reason"] not in training.STOPPED_FOR_GOOD:
        raise ValueError(
            f"the training in {folder} was cut short and can go on: finish it first, since "
            "everything that starts from it would have to start again"
        )
    return Checkpoint(folder, network, trained_on, record)


def start(folder: Path | str | None, data: Cicy4, split: Split) -> Checkpoint | None:
    """What to go on from, see ``load_checkpoint``; None, without a folder, for fresh weights."""
    return load_checkpoint(folder, data, split) if folder else None


def run(
    checkpoint: Checkpoint,
    data: Cicy4,
    split: Split,
    config: training.TrainConfig,
    run_dir: Path | str,
    *,
    retrain: bool,
    notebook: str,
    recipe: str = "paper",
) -> dict[str, Any]:
    """Train on from a checkpoint, or only evaluate it; returns the record in metrics.json.

    recipe: the one in ``recipes.RECIPES`` that config follows, beside ``config.RETRAINING``.

    The record has two entries more than that of a model: checkpoint (its notebook and variant)
    and, in training, "retrained". Of one that is retrained, the metrics also have the part
    test_before, the checkpoint on the same test set; one that is not keeps what its record says
    of its training.

    Raises:
        ValueError: as of ``training.fit``; a checkpoint that was trained on validation
            configurations can be evaluated but not retrained; and not in the folder of a training,
            whose weights have seen something else than the checkpoint has.
    """
    # The checkpoint stays what it is: a call that goes on has to begin with the same weights.
    model, before = copy.deepcopy(checkpoint.model), checkpoint.record
    if not retrain:
        if find_weights(Path(run_dir)) or (Path(run_dir) / STATE_FILE).exists():
            raise ValueError(
                f"{run_dir} holds a training, and {checkpoint.folder} is only to be evaluated: "
                "choose another run folder (in a notebook by RUN_DIR)"
            )
        records.save_trained_on(run_dir, checkpoint.trained_on.indices, len(data), data.fingerprint)
        return evaluation.record_model(
            model,
            data,
            split,
            run_dir,
            parts=split.parts,
            notebook=notebook,
            name=before["model"],
            label=before["label"],
            settings=before["settings"] | {"device": config.device},
            training=before["training"] | {"retrained": False},
            residuals=before.get("residuals"),
            checkpoint=checkpoint.name,
        )
    predicted = training.predict(model, data.matrices[split.test], device=config.device)
    answers = {"test_before": (predicted, records.residual_covariance(before))}
    result = training.fit(
        model, data, split, config, Path(run_dir), trained_before=checkpoint.trained_on
    )
    expected = recipes.expected(recipe, model.name)
    expected["recipe"] |= RETRAINING
    if before["label"]:
        expected["changes"].append(checkpoint.change)
    return evaluation.evaluate_run(
        model,
        data,
        split,
        config,
        result,
        run_dir,
        notebook=notebook,
        name=result_name(recipes.network(before["model"]), retrain, recipe),
        retrained=True,
        answers=answers,
        checkpoint=checkpoint.name,
        **expected,
    )
