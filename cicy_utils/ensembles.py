"""Several models together: the paper's ensembles, and others chosen by what no member has seen.

An ensemble averages the raw outputs of its members and rounds then. The paper (arXiv 2405.17406,
sections 5.4, 6.2 and 7.2) put fourteen together by hand, knowing the test accuracies. Here
weights are also found by hill climbing (Caruana et al., Ensemble selection from libraries of
models, ICML 2004) on the validation set; test labels are read once, after every choice is made.

Who may climb: a model that was never trained on the configurations of the climb. That leaves out
folds 0 to 3 of the cross-validation: the validation set is in their training sets. Fold 4 may: the
piece kept out of it holds the whole validation set. So the out-of-fold predictions of all five, on
the validation set, are those of fold 4, and as one member they would add nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cicy_utils import evaluation, metrics, provenance, records, reference, topology
from cicy_utils.data import HODGE_NAMES, Cicy4
from cicy_utils.paper import ENSEMBLES_FILE, published
from cicy_utils.records import Mask, Predictions
from cicy_utils.splits import Split, split_of, training_share

ROUNDS = 20  # a climb goes on for that many without getting better
MOST_ROUNDS = 200


@dataclass(frozen=True)
class Ensemble:
    """Members with equal weights, to be tested on the test set of a split, "72" or "80"."""

    split: str
    members: tuple[str, ...]


# Tables 5, 7 and 9.
PAPER: dict[str, Ensemble] = {
    "Ens-1": Ensemble("72", ("CNN-LSTM-400", "LSTM-448")),
    "Ens-2": Ensemble("72", ("CNN-LSTM-400", "LSTM-448", "LSTM-424")),
    "Ens-3": Ensemble("72", ("CNN-LSTM-400", "LSTM-448", "LSTM-424", "CNN-LSTM-384")),
    "Ens-4": Ensemble("72", ("LSTM-448", "LSTM-424")),
    "LSTM-448-5f": Ensemble("72", tuple(f"LSTM-448-f{fold}" for fold in range(5))),
    "LSTM-448-f0f1f4": Ensemble("72", ("LSTM-448-f0", "LSTM-448-f1", "LSTM-448-f4")),
    "LSTM-448-f1f4": Ensemble("72", ("LSTM-448-f1", "LSTM-448-f4")),
    "Ens-f1f4-CL400": Ensemble("72", ("LSTM-448-f1", "LSTM-448-f4", "CNN-LSTM-400")),
    "Ens-0f1f4-CL400": Ensemble("72", ("LSTM-448", "LSTM-448-f1", "LSTM-448-f4", "CNN-LSTM-400")),
    "Ens-80-1": Ensemble("80", ("LSTM-448-d80", "LSTM-424-d80")),
    "Ens-80-2": Ensemble("80", ("LSTM-448-d80", "CNN-LSTM-400")),
    "Ens-80-3": Ensemble("80", ("LSTM-448-d80", "LSTM-424-d80", "CNN-LSTM-400")),
    "Ens-80-4": Ensemble("80", ("LSTM-448-d80", "LSTM-424-d80", "CNN-LSTM-400", "LSTM-448-f1")),
    "Ens-80-5": Ensemble("80", ("LSTM-448-d80", "LSTM-424-d80", "LSTM-448-f1")),
}


def average(members: Sequence[Predictions], weights: Sequence[float] | None = None) -> Predictions:
    """The weighted mean of raw outputs; equal weights unless told.

    Raises:
        ValueError: no members, not as many weights, weights that are negative, endless or all 0,
            or members that do not predict the same configurations in the same order.
    """
    weights = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=float)
    if not members or len(weights) != len(members):
        raise ValueError(f"there are {len(members)} members and {len(weights)} weights")
    if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(
            f"weights must be finite, not negative and not all 0, as {weights.tolist()} are not"
        )
    first = members[0]
    for other in members[1:]:
        if not np.array_equal(other.indices, first.indices):
            raise ValueError("the members predict different configurations; align them with `at`")
        if not np.array_equal(other.labels, first.labels):
            raise ValueError("the members were saved with different labels of one configuration")
    shares = weights / weights.sum()
    mean = sum(
        share * m.predictions.astype(float) for share, m in zip(shares, members, strict=True)
    )
    return Predictions(first.indices, mean, first.labels)


def at(predictions: Predictions, indices: np.ndarray) -> Predictions:
    """The predictions for some of the configurations, in the order asked for.

    indices: int (n,), positions in the list.

    Raises:
        ValueError: one of them is not among those predicted.
    """
    rows = pd.Index(predictions.indices).get_indexer(indices)
    if (rows < 0).any():
        raise ValueError("some of the configurations asked for were not predicted")
    return Predictions(*(array[rows] for array in predictions))


@dataclass(frozen=True)
class Climb:
    """Where hill climbing arrived.

    Attributes:
        weights: of the members it chose, largest first; they sum to 1.
        path: one row per round: step (from 1), member added, accuracy (percent, mean over the four
            Hodge numbers) and loss (Huber) of the ensemble so far, kept (whether this round belongs
            to the ensemble returned).
        left_out: members that were not allowed to join, and why.
        label: what keeps each member it chose from being the paper's, see
            ``provenance.members_label``.
    """

    weights: dict[str, float]
    path: pd.DataFrame
    left_out: dict[str, str] = field(default_factory=dict)
    label: str = ""


def hill_climb(
    members: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    trained_on: Mapping[str, Mask],
    indices: np.ndarray,
    rounds: int = ROUNDS,
) -> Climb:
    """Choose weights by greedy forward selection with replacement (Caruana et al. 2004).

    It starts from the best member and adds, round after round, the member, perhaps one that is in
    it already, with which the average of the raw outputs is best. Better is a larger accuracy of
    the rounded average, mean over the four Hodge numbers, since accuracy is what the paper ranks
    by; of equal ones the smaller Huber loss before rounding; of equal ones the first member. When
    ``rounds`` rounds have not surpassed the best ensemble so far, that one is returned; a member's
    weight is its share of the rounds up to there.

    Args:
        members: name to raw outputs, float (n, 4).
        labels: int (n, 4). They are to be those of a validation set: what is climbed on is used up.
        trained_on: name to every configuration that the member was ever trained on.
        indices: int (n,), the configurations of the rows.
        rounds: without a better ensemble; altogether there are ``MOST_ROUNDS`` at the most.

    Raises:
        ValueError: a member was trained on a configuration of the climb, or nobody knows what it
            was trained on; no members, or no rounds; shapes that do not agree.
    """
    labels, indices = np.asarray(labels), np.asarray(indices)
    if not members:
        raise ValueError("there is no member to climb with")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    for name, predictions in members.items():
        if np.shape(predictions) != (len(indices), len(HODGE_NAMES)):
            raise ValueError(
                f"{name} has predictions of shape {np.shape(predictions)} for {len(indices)} "
                "configurations; (n, 4) is needed"
            )
        if name not in trained_on:
            raise ValueError(f"nobody knows what {name} was trained on, so it cannot climb")
        if seen := trained_on[name].count(indices):
            raise ValueError(
                f"{name} was trained on {seen:,} of the {len(indices):,} configurations of this "
                "climb: leave it out, or climb on what it has not seen"
            )
    if labels.shape != (len(indices), len(HODGE_NAMES)) or not len(indices):
        raise ValueError(f"labels must have shape (n, 4) with n at least 1, not {labels.shape}")

    outputs = {name: np.asarray(values, dtype=float) for name, values in members.items()}
    total = np.zeros(labels.shape)
    path: list[tuple[str, float, float]] = []
    best, kept = (-np.inf, -np.inf), 0
    while len(path) < MOST_ROUNDS and len(path) - kept < rounds:
        scores = {name: score((total + o) / (len(path) + 1), labels) for name, o in outputs.items()}
        name = max(scores, key=scores.__getitem__)
        total += outputs[name]
        path.append((name, scores[name][0], -scores[name][1]))
        if scores[name] > best:
            best, kept = scores[name], len(path)

    chosen = pd.Series([name for name, *_ in path[:kept]]).value_counts(normalize=True)
    table = pd.DataFrame(path, columns=["member", "accuracy", "loss"])
    table.insert(0, "step", np.arange(1, len(path) + 1))
    table["kept"] = table["step"] <= kept
    return Climb({name: float(share) for name, share in chosen.items()}, table)


def score(predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy of the rounded predictions in percent, and minus their Huber loss (delta 1).

    Both are means over everything in predictions, float (n, 4), and labels, int (n, 4).
    """
    accuracy = 100 * (np.rint(predictions) == labels).mean()
    error = np.abs(predictions - labels)
    loss = np.where(error <= 1, error**2 / 2, error - 0.5).mean()
    return float(accuracy), -float(loss)


@dataclass(frozen=True)
class Member:
    """A result that may join an ensemble: its run folder, record and what it was trained on."""

    folder: Path
    record: dict[str, Any]
    trained_on: Mask

    @property
    def place(self) -> str:
        """ "11_lstm_448/seed-42" """
        return records.place(self.folder)

    def predict(self, part: str, indices: np.ndarray) -> Predictions:
        """Its saved predictions of some configurations of one part of its split."""
        return at(records.load_predictions(self.folder, part), indices)

    def has_predicted(self, part: str, indices: np.ndarray) -> bool:
        """Whether predictions of all these configurations were saved under that part."""
        try:
            known = records.load_predictions(self.folder, part).indices
        except FileNotFoundError:
            return False
        return bool(np.isin(indices, known).all())


@dataclass(frozen=True)
class Members:
    """Results by name that may be tested on one test set, and why the others may not."""

    members: dict[str, Member]
    left_out: dict[str, str]


def find_members(run_folder: Path | str, data: Cicy4, split: Split) -> Members:
    """The finished models in results/<run>/ that the test set of a split can judge.

    On the 80 % split these are the results of retraining and, as in the paper, every model of the
    72 % split and of the folds, which have not seen that test set either. Of several trainings of
    one model (seeds) the one that validates best has its name and stands in the paper's ensembles;
    the others, "LSTM-448 (seed-43)", may be climbed with.

    FileNotFoundError when there is no such folder.
    """
    run_folder = records.results_folder(run_folder)
    members: dict[str, Member] = {}
    refused: list[tuple[str, Path, str]] = []
    known: set[tuple[str, str]] = set()
    for folder, record in sorted(records.trained(run_folder), key=_preference):
        model = record["model"]
        if training_share(record["split"]["name"]) == 80 and training_share(split.name) != 80:
            continue
        if (training := _training(folder, record)) in known:
            continue  # the same weights twice would not be two members
        if reason := _why_not(folder, record, data, split):
            refused.append((model, folder, reason))
            continue
        known.add(training)
        member = Member(folder, record, records.load_trained_on(folder))
        members[_name(model, folder, members)] = member
    left_out: dict[str, str] = {}
    for model, folder, reason in refused:
        left_out[_name(model, folder, {**members, **left_out})] = reason
    # In the order of the notebooks, whatever they are worth.
    return Members(dict(sorted(members.items(), key=lambda item: item[1].place)), left_out)


def _name(model: str, folder: Path, taken: Mapping[str, object]) -> str:
    """The model's, or with its run where that is taken: "LSTM-448 (seed-43)"."""
    names = (model, f"{model} ({folder.name})", f"{model} ({records.place(folder)})")
    return next(name for name in names if name not in taken)


def climb(found: Members, split: Split, *, rounds: int = ROUNDS) -> Climb | None:
    """Hill climbing on the validation set with every member that was not trained on it.

    Only predictions of the validation set are read. None when there is no such member.
    """
    indices = split.validation
    left_out = {
        name: f"trained on {seen:,} of the {len(indices):,} validation configurations"
        for name, member in found.members.items()
        if (seen := member.trained_on.count(indices))
    }
    allowed = {name: m for name, m in found.members.items() if name not in left_out}
    if not allowed:
        return None
    predictions = {name: m.predict("validation", indices) for name, m in allowed.items()}
    together = average(list(predictions.values()))  # refuses labels that differ
    result = hill_climb(
        {name: p.predictions for name, p in predictions.items()},
        together.labels,
        trained_on={name: m.trained_on for name, m in allowed.items()},
        indices=indices,
        rounds=rounds,
    )
    label = provenance.members_label(_labels(result.weights, found))
    return Climb(result.weights, result.path, left_out, label)


def measure(
    name: str,
    weights: Mapping[str, float],
    found: Members,
    data: Cicy4,
    split: Split,
    *,
    chosen_by: str,
    euler: np.ndarray,
) -> dict[str, Any]:
    """An entry of ensembles.json: what an ensemble is worth.

    Args:
        name: of the ensemble.
        weights: of its members, by name.
        found: where the members are.
        data, split: the list and its split.
        chosen_by: "paper" or "validation".
        euler: int (n,), Euler numbers of the test matrices.

    Returns:
        name, split ("72" or "80"), members, places (notebook and variant of each: a name alone is
        of whatever training validates best that day), weights, chosen_by, label, data_fingerprint,
        test_fingerprint, and as in metrics.json: metrics of test; of validation, unless a member
        was trained on some of it; of train, where every member saved predictions of the training
        set; and residuals, those of the mean on the validation set, null where a member was
        trained on some of it (the decoding "consistent" is then missing).
    """
    shares = np.array(list(weights.values()), dtype=float)
    shares /= shares.sum()
    residuals = _residuals(weights, found, split)
    covariance = residuals and np.array(residuals["covariance"])
    parts = ("train", "validation", "test")
    return {
        "name": name,
        "split": split.name,
        "members": list(weights),
        "places": _places(weights, found),
        "weights": shares.tolist(),
        "chosen_by": chosen_by,
        "label": provenance.joint_label(_labels(weights, found).values()),
        "data_fingerprint": data.fingerprint,
        "test_fingerprint": split.fingerprints["test"],
        "residuals": residuals,
        "metrics": _measures(weights, found, split, parts, euler, covariance),
    }


def record_ensembles(
    found: Mapping[str, Members],
    climbs: Mapping[str, Climb | None],
    data: Cicy4,
    splits: Sequence[Split],
    run_dir: Path | str,
    *,
    notebook: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure the paper's ensembles and those of the climbs; write metrics.json, ensembles.json.

    This is where test labels are read, after the climbs. metrics.json has the sections members
    (name to the label of what may take part), missing (ensemble to the members that are not there),
    climbs (split to a ``Climb``, without its label) and picks (split to: how an ensemble was
    picked, which one, its members and test metrics).

    Args:
        found, climbs: by name of the split, "72" and "80".

    Returns:
        The record and the entries of ensembles.json, see :func:`measure`.
    """
    run_dir = Path(run_dir)
    # Killed from here on, nothing of before stands there; and the record comes last.
    for name in (records.METRICS_FILE, ENSEMBLES_FILE):
        (run_dir / name).unlink(missing_ok=True)
    entries, missing, picks = [], {}, {}
    for split in splits:
        there = found[split.name]
        euler = topology.euler_numbers_batch(data.matrices[split.test])
        wanted = {name: e.members for name, e in PAPER.items() if e.split == split.name}
        for name, members in wanted.items():
            lacking = [member for member in members if member not in there.members]
            if lacking:
                missing[name] = lacking
                continue
            weights = dict.fromkeys(members, 1.0)
            entries.append(
                measure(name, weights, there, data, split, chosen_by="paper", euler=euler)
            )
        if reached := climbs[split.name]:
            name = f"Climb-{split.name}"
            entries.append(
                measure(
                    name, reached.weights, there, data, split, chosen_by="validation", euler=euler
                )
            )
        own = [entry for entry in entries if entry["split"] == split.name]
        picks[split.name] = _picks(own, there, split)
    members: dict[str, str] = {}
    for there in found.values():
        members |= _labels(there.members, there)
    drawn = provenance.run_label(len(data))
    records.write_json(run_dir / ENSEMBLES_FILE, entries)
    record = records.write_metrics(
        run_dir,
        notebook=notebook,
        variant=run_dir.name,
        label=provenance.joint_label([drawn, provenance.members_label(members)]),
        data=evaluation.data_section(data),
        members=members,
        missing=missing,
        climbs={
            name: {
                "weights": reached.weights,
                "places": _places(reached.weights, found[name]),
                "path": reached.path.to_dict(orient="records"),
                "left_out": reached.left_out,
            }
            for name, reached in climbs.items()
            if reached
        },
        picks=picks,
        environment=provenance.environment(),
    )
    return record, entries


def _picks(
    entries: Sequence[dict[str, Any]], there: Members, split: Split
) -> dict[str, dict[str, Any]]:
    """By test accuracy, as in the paper, and by validation: the pick and its raw test metrics.

    Both of the same candidates: what has a name in the paper and was not trained on the validation
    set, so that the difference is that of the choice alone.
    """
    singles = [
        {
            "name": name,
            "members": [name],
            "metrics": _measures({name: 1.0}, there, split, ("validation", "test")),
        }
        for name in there.members
        if (name, int(split.name)) in published().index
    ]
    paper = [entry for entry in entries if entry["chosen_by"] == "paper"]
    climbed = [entry for entry in entries if entry["chosen_by"] == "validation"]
    picks = {}
    for how, candidates, part in (
        ("paper's single models, by test accuracy", singles, "test"),
        ("paper's single models, by validation", singles, "validation"),
        ("paper's ensembles, by test accuracy", paper, "test"),
        ("paper's ensembles, by validation", paper, "validation"),
        ("hill climbing, by validation", climbed, "validation"),
    ):
        known = [c for c in candidates if "validation" in c["metrics"]]
        if known:
            best = max(known, key=lambda c: metrics.mean_accuracy(c["metrics"][part]["raw"]))
            test = best["metrics"]["test"]["raw"]
            picks[how] = {"name": best["name"], "members": best["members"], "test": test}
    return picks


def _places(names: Iterable[str], found: Members) -> list[str]:
    return [found.members[name].place for name in names]


def _labels(names: Iterable[str], found: Members) -> dict[str, str]:
    return {name: found.members[name].record["label"] for name in names}


def _measures(
    weights: Mapping[str, float],
    found: Members,
    split: Split,
    parts: Sequence[str],
    euler: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics of a weighted mean, for those of the parts that can be measured honestly.

    euler, covariance: for the decodings of the test part.
    """
    chosen = [found.members[name] for name in weights]
    measured = {}
    for part in parts:
        indices = split.parts[part]
        if part == "validation" and _have_seen_validation(chosen, split):
            continue
        if part == "train" and not all(m.has_predicted(part, indices) for m in chosen):
            continue
        mean = average([m.predict(part, indices) for m in chosen], list(weights.values()))
        known = (euler, covariance) if part == "test" else ()
        rows = metrics.evaluate(mean.predictions, mean.labels, *known).to_dict(orient="index")
        measured[part] = {"raw": rows["raw"]} if part == "train" else rows
    return measured


def _residuals(weights: Mapping[str, float], found: Members, split: Split) -> dict[str, Any] | None:
    """How far off a weighted mean is on the validation set; None if a member has seen that."""
    chosen = [found.members[name] for name in weights]
    if _have_seen_validation(chosen, split):
        return None
    pieces = [member.predict("validation", split.validation) for member in chosen]
    mean = average(pieces, list(weights.values()))
    return evaluation.residual_section("validation", mean.predictions, mean.labels)


def _have_seen_validation(members: Sequence[Member], split: Split) -> bool:
    return any(member.trained_on.count(split.validation) for member in members)


def _preference(result: tuple[Path, dict[str, Any]]) -> tuple:
    """Results of the 80 % split first (others stand in for them), then as they validate."""
    folder, record = result
    later = training_share(record["split"]["name"]) != 80
    return later, records.preference(record), folder


def _training(folder: Path, record: dict[str, Any]) -> tuple[str, str]:
    """The training that a result's weights come from, that of its checkpoint if it is only judged.

    Where it was, and what is told of it: another run may have trained in a folder of that name.
    """
    told = dict(record["training"])
    judged = told.pop("retrained", None) is False
    where = record["checkpoint"] if judged else records.place(folder)
    return where, records.settings_fingerprint(told)


def _why_not(folder: Path, record: dict[str, Any], data: Cicy4, split: Split) -> str:
    """Why a result must not be tested on this test set; empty when it may."""
    if record["data"]["fingerprint"] != data.fingerprint:
        return f"other configurations ({record['data']['configurations']:,} of them)"
    if record["split"]["seed"] != split.seed:
        seed = record["split"]["seed"]
        return "another split, " + ("the published one" if seed is None else f"of seed {seed}")
    own = split if record["split"]["name"] == split.name else split_of(data, "72", seed=split.seed)
    if record["split"]["fingerprints"]["test"] != own.fingerprints["test"]:
        return "another test set than that of its split"
    if not (folder / records.TRAINED_ON_FILE).is_file():
        return f"what it was trained on is not kept here (no {records.TRAINED_ON_FILE})"
    try:
        trained_on = records.load_trained_on(folder)
        records.require_unseen(trained_on, split.test, data, who="it")
    except ValueError as error:
        return str(error)
    # Those of the test set are not looked into before every choice is made.
    for part in ("validation", "test"):
        if not records.predictions_file(folder, part).is_file():
            how = "run the notebook first"
            if reference.is_published(folder):
                how = "`python -m cicy_utils.reference predict` makes them of published weights"
            return f"no predictions of part {part!r}: {how}"
    return ""
