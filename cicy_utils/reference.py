"""Weights that come with the project, in results/reference, and numbers of their own.

``publish`` makes a small copy of a run's best weights, in 16 bits, and measures that copy on the
whole test set: what is published are the numbers of the file itself. ``check`` measures it again,
on a part of the test set that a CPU answers within seconds. ``predict`` saves what the copy says of
the validation and the test set, so that it can join an ensemble.

    python -m cicy_utils.reference publish results/mine/11_lstm_448/fast-42
    python -m cicy_utils.reference check
    python -m cicy_utils.reference predict
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cicy_utils import (
    checkpoint,
    evaluation,
    files,
    metrics,
    models,
    places,
    prediction,
    provenance,
    records,
)
from cicy_utils.data import HODGE_NAMES, Cicy4, load_cicy4
from cicy_utils.durations import duration
from cicy_utils.markdown import markdown_table
from cicy_utils.splits import Split, split_72
from cicy_utils.training import STOPPED_FOR_GOOD, predict

RECORD_FILE = "reference.json"
LARGEST_FILE = 8_000_000  # bytes


def publish(run_dir: Path | str) -> dict[str, Any]:
    """Write weights.float16.safetensors and reference.json into the folder of a finished run.

    The second holds the metrics of the first, on the validation and the test set in all decodings,
    its sha256, and how it was trained. The executed notebook beside them is freed of the names of
    this machine's folders; of one that trains nothing, such as 15_ensembles, that is all.

    Returns:
        What reference.json holds; empty where nothing was trained.

    Raises:
        FileNotFoundError: nothing has finished in the folder.
        ValueError: the run was cut short, is of another list than the one at hand or another split
            than one of 72 % that is drawn here, or its weights are too large to be kept with the
            project.
    """
    run_dir = Path(run_dir)
    record = records.read_metrics(run_dir)
    if "training" not in record:
        _forget_where(run_dir / "notebook.ipynb")
        return {}
    if record["training"]["stop_reason"] not in STOPPED_FOR_GOOD:
        raise ValueError(f"the training in {run_dir} was cut short: finish it before publishing it")
    weights, metadata = checkpoint.load_weights(run_dir / checkpoint.WEIGHTS_FILE)
    # What scales the outputs stays in float32: eleven bits of a mean of 241 would shift them.
    small = {
        name: weight if name.startswith("target_") else weight.to(torch.float16)
        for name, weight in weights.items()
    }
    if (size := sum(weight.nbytes for weight in small.values())) > LARGEST_FILE:
        raise ValueError(
            f"the weights of {run_dir} take {size / 1e6:.1f} MB in 16 bits, more than the "
            f"{LARGEST_FILE / 1e6:.0f} MB that are kept with the project: publish a smaller model"
        )
    data, split = _list_and_split(run_dir / checkpoint.WEIGHTS_FILE, metadata)
    path = run_dir / checkpoint.SMALL_WEIGHTS_FILE
    checkpoint.save_weights(path, small, metadata)
    model, _ = prediction.load_model(path)
    validation = predict(model, data.matrices[split.validation])
    residuals = evaluation.residual_section("validation", validation, data.hodge[split.validation])
    covariance = np.array(residuals["covariance"])
    entry = {
        "name": record["model"],
        "label": record["label"],
        "recipe": record["settings"],
        "weights": models.count_weights(model),
        "bytes": path.stat().st_size,
        "sha256": files.checksum(path),
        "data": record["data"],
        "split": evaluation.split_section(split),
        "training": record["training"],
        "residuals": residuals,
        "metrics": {
            "validation": metrics.evaluate(validation, data.hodge[split.validation]).to_dict(
                orient="index"
            ),
            "test": _measure(model, data, split.test, covariance),
        },
        "environment": record["environment"],
    }
    records.write_json(run_dir / RECORD_FILE, entry)
    _forget_where(run_dir / "notebook.ipynb")
    return entry


def find(folder: Path | str | None = None) -> list[Path]:
    """The folders with published weights; folder: where to look, None for results/reference."""
    folder = Path(folder or _home())
    return sorted(path.parent for path in folder.glob(f"*/*/{RECORD_FILE}"))


def is_published(folder: Path | str) -> bool:
    """Whether the weights of a run come with the project."""
    return (Path(folder) / RECORD_FILE).is_file()


def check(
    folders: Sequence[Path | str], part: int | None = 20_000, seed: int = 0, device: str = "auto"
) -> list[dict[str, Any]]:
    """Measure published weights again, on a random part of the test set.

    Args:
        folders: what ``find`` returns.
        part: how many test configurations are drawn, without replacement; None for all.
        seed: of that draw.
        device: as of ``config.TrainConfig``.

    Returns:
        For each folder: name, folder, label (of its training), sha256, part (how many), test (size
        of the whole test set), published and here (test metrics by decoding).

    Raises:
        FileNotFoundError: there are no published weights in a folder.
        ValueError: a file is not the one that was published, or the list at hand is another one;
            or the part is larger than the test set.
    """
    found = []
    for folder in map(Path, folders):
        entry, model, data, split = _published(folder)
        wanted = len(split.test) if part is None else part
        if not 0 < wanted <= len(split.test):
            raise ValueError(
                f"the part must be between 1 and {len(split.test):,} test configurations, "
                f"not {wanted:,}"
            )
        drawn = np.random.default_rng(seed).choice(split.test, wanted, replace=False)
        covariance = np.array(entry["residuals"]["covariance"])
        found.append(
            {
                "name": entry["name"],
                "folder": records.place(folder),
                "label": entry["label"],
                "sha256": entry["sha256"],
                "part": wanted,
                "test": len(split.test),
                "published": entry["metrics"]["test"],
                "here": _measure(model, data, drawn, covariance, device),
            }
        )
    return found


def save_predictions(folder: Path | str, device: str = "auto") -> None:
    """Write predictions_validation.npz and predictions_test.npz of published weights.

    A finished run leaves such files, of its weights in 32 bits, which these replace; in a clone
    there are none, and without them ``ensembles.find_members`` takes no member.

    Args:
        folder: one of ``find``.
        device: as of ``config.TrainConfig``.

    Raises:
        FileNotFoundError, ValueError: as of ``check``.
    """
    _, model, data, split = _published(Path(folder))
    for part in ("validation", "test"):
        indices = split.parts[part]
        answers = predict(model, data.matrices[indices], device=device)
        records.save_predictions(folder, part, indices, answers, data.hodge[indices])


def record_check(
    found: list[dict[str, Any]], run_dir: Path | str, *, notebook: str
) -> dict[str, Any]:
    """Write metrics.json of the notebook that checks published weights, and return it.

    Its label tells how much of the test set was drawn, and how the weights were trained.
    """
    labels = {}
    for entry in found:
        part, test = entry["part"], entry["test"]
        drawn = f"{provenance.QUICK}: {part:,} of {test:,} test configurations"
        own = provenance.joint_label([drawn if part < test else "", entry["label"]])
        labels[entry["folder"]] = own
    return records.write_metrics(
        run_dir,
        notebook=notebook,
        variant=Path(run_dir).name,
        label=provenance.members_label(labels),
        data=evaluation.data_section(load_cicy4(layout="stored")),
        published=found,
        environment=provenance.environment(),
    )


def stages(folder: Path) -> list[Path]:
    """The trainings that led to some weights, one from the other, the first one first.

    A record names the notebook and the variant that a training went on from, and not the run: that
    is the same one or, where it has none of that name, the one of the published weights. What
    cannot be found is left out.
    """
    found: list[Path] = []
    while record := records.found_metrics(folder):
        found.insert(0, folder)
        if not (before := record.get("checkpoint")):
            break
        known = {stage.resolve() for stage in found}
        earlier = [run / before for run in (folder.parents[1], _home())]
        earlier = [stage for stage in earlier if stage.resolve() not in known]
        if not earlier:
            break
        folder = next(filter(records.found_metrics, earlier), earlier[0])
    return found


def _home() -> Path:
    """The run whose numbers come with the project."""
    return records.project_root() / "results" / places.REFERENCE


def _trained(folder: Path) -> str:
    """How long some weights were trained, and where."""
    found = [records.read_metrics(stage) for stage in stages(folder)]
    trainings = [record["training"] for record in found]
    epochs, seconds = ([training[of] for training in trainings] for of in ("epochs", "seconds"))
    device = _device(trainings[-1]["device"])
    if found[0].get("checkpoint"):  # which is not at hand
        return f"{epochs[-1]} epochs, {duration(seconds[-1])} on {device}, and others before"
    if len(trainings) == 1:
        return f"{epochs[0]} epochs, {duration(seconds[0])} on {device}"
    return (
        f"the last of {len(trainings)} stages, {epochs[-1]} of {sum(epochs)} epochs, "
        f"{duration(seconds[-1])} of {duration(sum(seconds))}, on {device}"
    )


def _device(name: str) -> str:
    return "a CPU" if name == "cpu" else name


def markdown(folders: Sequence[Path | str]) -> str:
    """Published weights: how each was trained, and a Markdown table of test accuracies (%).

    Empty where there are none.
    """
    if not folders:
        return ""
    heads = ["weights", "decoding", *HODGE_NAMES, "all four"]
    trained, rows = [], []
    for folder in map(Path, folders):
        entry = _entry(folder)
        trained.append(
            f"- `{records.place(folder)}`: {entry['name']}, "
            f"{entry['weights'] / 1e6:.2f} million weights, "
            f"{_trained(folder)}; {entry['label'] or 'the paper’s recipe'}"
        )
        for decoding, row in entry["metrics"]["test"].items():
            numbers = [f"{row[name]:.2f}" for name in metrics.EVERY_ACCURACY]
            rows.append([f"`{records.place(folder)}`", decoding, *numbers])
    return "\n".join([*trained, "", markdown_table(heads, rows, words=["weights", "decoding"])])


def _forget_where(notebook: Path) -> None:
    """Take the folders of this machine out of an executed notebook, if there is one."""
    if notebook.is_file():
        text = notebook.read_text(encoding="utf-8")
        text = text.replace(f"{records.project_root()}/", "")
        files.write_text(notebook, text)


def _entry(folder: Path) -> dict[str, Any]:
    """What ``publish`` wrote into a folder."""
    path = folder / RECORD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {RECORD_FILE} in {folder}: no weights are published there")
    return json.loads(path.read_text(encoding="utf-8"))


def _published(folder: Path) -> tuple[dict[str, Any], models.HodgeNetwork, Cicy4, Split]:
    """The entry of published weights, their model, the list in its layout and their split."""
    path, entry = folder / checkpoint.SMALL_WEIGHTS_FILE, _entry(folder)
    model, metadata = prediction.load_model(path)
    if files.checksum(path) != entry["sha256"]:
        raise ValueError(f"{path} is not the file whose numbers are published: fetch it again")
    return entry, model, *_list_and_split(path, metadata)


def _list_and_split(path: Path, metadata: dict[str, Any]) -> tuple[Cicy4, Split]:
    """The complete list in the layout of some weights, and the split that they were judged by."""
    name, seed = metadata["split"]["name"], metadata["split"]["seed"]
    if name != "72" or seed is None:
        own = f"the split {name!r}" if seed is not None else "the published split"
        raise ValueError(
            f"{path} was trained on {own}: publish weights that were trained on the 72 % split "
            "that is drawn here, as only these are measured again on its test set"
        )
    data = load_cicy4(layout=metadata["data"]["layout"])
    split = split_72(len(data), seed=seed)
    known = (metadata["data"]["fingerprint"], metadata["split"]["fingerprints"])
    if known != (data.fingerprint, split.fingerprints):
        raise ValueError(
            f"{path} was trained on another list or split than the complete one at hand, so it "
            "cannot be told what it has seen: publish weights of the complete list"
        )
    return data, split


def _measure(
    model: models.HodgeNetwork,
    data: Cicy4,
    indices: np.ndarray,
    covariance: np.ndarray,
    device: str = "auto",
) -> dict[str, dict[str, float]]:
    """Metrics of a model on these configurations."""
    answers = {"here": (predict(model, data.matrices[indices], device=device), covariance)}
    return evaluation.measure(data, indices, answers)["here"]


def _show(entry: dict[str, Any]) -> None:
    """Print what ``check`` found of one folder."""
    sides = {side: pd.DataFrame(entry[side]).T for side in ("published", "here")}
    table = pd.concat({side: frame[metrics.EVERY_ACCURACY] for side, frame in sides.items()})
    print(f"{entry['name']}, {entry['part']:,} of {entry['test']:,} configurations")
    print(table.round(2).to_string())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.reference", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("publish", help="make the small copy of a run's weights")
    made.add_argument("folder", type=Path, nargs="+")
    again = commands.add_parser("check", help="measure the published weights again")
    again.add_argument("--part", type=int, default=20_000, help="test configurations")
    commands.add_parser("predict", help="save the predictions of the published weights")
    options = parser.parse_args(arguments)
    try:
        if options.command == "publish":
            for folder in options.folder:
                publish(folder)
            print(markdown(list(filter(is_published, options.folder))))
        elif not find():
            print("there are no published weights in results/reference")
        elif options.command == "predict":
            for folder in find():
                save_predictions(folder)
                print(f"{records.place(folder)}: validation and test set predicted")
        else:
            for entry in check(find(), options.part):
                _show(entry)
    except (FileNotFoundError, ValueError) as error:
        print(f"python -m cicy_utils.reference: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
