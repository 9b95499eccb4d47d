"""The notebooks that the command runs, and what each profile changes in their parameters.

Only the standard library is imported here, so that a command line can be checked before anything
is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RESULTS = "@results"


@dataclass(frozen=True)
class Variant:
    """One of several tasks of a notebook: the parameters that make it, and what it needs.

    Attributes:
        parameters: the notebook's own values for this variant.
        model: the paper's name of the model it trains; None if it trains none.
        needs: notebooks without whose results it cannot run, or patterns of their variants, such
            as "11_lstm_448/seed-*".
        kind: which column of a profile applies, if not the notebook's.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    needs: tuple[str, ...] = ()
    kind: str | None = None


@dataclass(frozen=True)
class Notebook:
    """An entry of the catalogue.

    Attributes:
        kind: which column of a profile applies.
        variant: name of the run folder, in which parameters may stand in braces, and VARIANT for
            what ``recipes.variant`` makes of recipe and seed, or ``fold_variant`` of a fold.
        model: the paper's name of the model it trains; None if it trains none.
        after: notebooks whose results it reads if they are there; it runs after them.
        files: of the project that it reads, as patterns; ``RESULTS`` stands for results/<run>.
        variants: name to what is run, if that is not one task only; where ``variant`` is empty,
            the name is that of the run folder.
    """

    kind: str
    variant: str = ""
    model: str | None = None
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    variants: Mapping[str, Variant] = field(default_factory=dict)

    @property
    def tasks(self) -> Mapping[str, Variant]:
        """Its variants; the one it has if there are no others."""
        return self.variants or {self.variant: Variant({}, self.model)}

    @property
    def reads(self) -> tuple[str, ...]:
        """Every notebook that one of its variants needs, or that it runs after."""
        needs = [need for one in self.variants.values() for need in one.needs]
        return tuple(dict.fromkeys(need.split("/")[0] for need in (*needs, *self.after)))


def _model(name: str) -> Notebook:
    return Notebook(kind="model", variant="{VARIANT}", model=name)


def _retrained(name: str, need: str, *, fast: bool = False) -> dict[str, Variant]:
    recipe, suffix, kind = ("fast", "-fast", "fast") if fast else ("paper", "", None)
    parameters = {"MODEL": name, "RETRAIN": True, "RECIPE": recipe}
    return {f"{name}-d80{suffix}": Variant(parameters, name, (need,), kind)}


def _evaluated(name: str, need: str) -> dict[str, Variant]:
    return {name: Variant({"MODEL": name, "RETRAIN": False, "RECIPE": "paper"}, None, (need,))}


MODEL_NOTEBOOKS = {
    "01_cnn_gru_384": _model("CNN-GRU-384"),
    "02_cnn_gru_416": _model("CNN-GRU-416"),
    "03_resnet_gru_256": _model("ResNet-GRU-256"),
    "04_resnet_gru_400": _model("ResNet-GRU-400"),
    "05_cnn_lstm_256": _model("CNN-LSTM-256"),
    "06_cnn_lstm_384": _model("CNN-LSTM-384"),
    "07_cnn_lstm_400": _model("CNN-LSTM-400"),
    "08_cnn_lstm_416": _model("CNN-LSTM-416"),
    "09_lstm_400": _model("LSTM-400"),
    "10_lstm_424": _model("LSTM-424"),
    "11_lstm_448": Notebook(
        kind="model",
        variants={
            "seed-{SEEDS[0]}": Variant({"RECIPE": "paper"}, "LSTM-448"),
            "fast-{SEEDS[0]}": Variant({"RECIPE": "fast"}, "LSTM-448", kind="fast"),
        },
    ),
    "12_lstm_456": _model("LSTM-456"),
}

NOTEBOOKS = {
    "00_data": Notebook(kind="data", variant="list"),
    **MODEL_NOTEBOOKS,
    "13_cross_validation": Notebook(
        kind="fold",
        variant="{VARIANT}",
        variants={f"fold-{fold}": Variant({"FOLD": fold}, "LSTM-448") for fold in range(5)},
    ),
    "14_retraining": Notebook(
        kind="retraining",
        variants={
            **_retrained("LSTM-448", "11_lstm_448/seed-*"),
            **_retrained("LSTM-424", "10_lstm_424/seed-*"),
            **_retrained("CNN-LSTM-400", "07_cnn_lstm_400/seed-*"),
            **_evaluated("CNN-LSTM-400", "07_cnn_lstm_400/seed-*"),
            **_evaluated("LSTM-448-f1", "13_cross_validation/fold-1"),
            **_retrained("Graph-64", "18_graph_64/fast-*", fast=True),
        },
    ),
    "15_ensembles": Notebook(
        kind="ensembles",
        variant="all",
        after=(*MODEL_NOTEBOOKS, "13_cross_validation", "14_retraining", "18_graph_64"),
        files=(f"{RESULTS}/*/*/predictions_test.npz",),  # `reference predict` makes them anew
    ),
    "16_hidden_size_scan": Notebook(kind="scan", variant="{MODEL}", model="LSTM-448"),
    "17_reference": Notebook(
        kind="reference", variant="weights", files=("results/reference/*/*/reference.json",)
    ),
    "18_graph_64": Notebook(kind="fast", variant="{VARIANT}", model="Graph-64"),
}

KINDS = ("data", "model", "fast", "fold", "retraining", "ensembles", "scan", "reference")

# What is not named here stays as the notebook has it, which is the paper's recipe. The paper's
# learning rate of 0.01 needs more steps than the short profiles take before the loss settles.
# All notebooks of a profile draw the same configurations, or their results could not be compared.
_SMOKE = {"SUBSET": 300, "BATCH_SIZE": 64, "LEARNING_RATE": 0.001}
_QUICK = {"SUBSET": 5_000, "BATCH_SIZE": 64, "LEARNING_RATE": 0.001}
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "data": {"SUBSET": 300},
        "model": {**_SMOKE, "MAX_EPOCHS": 2},
        "fast": {"SUBSET": 300, "BATCH_SIZE": 64, "MAX_EPOCHS": 2},
        "fold": {**_SMOKE, "MAX_EPOCHS": 2},
        "retraining": {**_SMOKE, "MAX_EPOCHS": 2},
        "ensembles": {"SUBSET": 300},
        "scan": {
            "SUBSET": 300,
            "BATCH_SIZE": 64,
            "MAX_EPOCHS": 2,
            "LEARNING_RATES": [0.001],
            "LOWEST_HIDDEN": 8,
            "HIGHEST_HIDDEN": 32,
            "TRIALS": 2,
        },
        "reference": {"PART": 300},
    },
    "quick": {
        "data": {"BASELINE_SUBSET": 5_000},  # as many as the models get
        "model": {**_QUICK, "MAX_EPOCHS": 5},
        "fast": {"SUBSET": 5_000, "BATCH_SIZE": 64, "MAX_EPOCHS": 5},
        "fold": {**_QUICK, "MAX_EPOCHS": 2},
        "retraining": {**_QUICK, "MAX_EPOCHS": 2},
        "ensembles": {"SUBSET": 5_000},
        # its networks are compared with each other only
        "scan": {
            "SUBSET": 2_000,
            "BATCH_SIZE": 64,
            "MAX_EPOCHS": 3,
            "LEARNING_RATES": [0.001],
            "LOWEST_HIDDEN": 32,
            "HIGHEST_HIDDEN": 128,
            "TRIALS": 6,
        },
        "reference": {"PART": 20_000},
    },
    "paper": {kind: {} for kind in KINDS},
}

# Tasks whose titles begin like this come first, in this order: should the machine be taken away,
# the best single models of the paper are done.
FIRST = {
    "paper": (
        "11_lstm_448/seed",
        "07_cnn_lstm_400",
        "10_lstm_424",
        "11_lstm_448/fast",
        "18_graph_64",
    ),
}


def find(name: str, catalogue: Iterable[str] = NOTEBOOKS) -> str:
    """A notebook's full name from its name, file name or number ("11_lstm_448" from "11").

    Raises:
        ValueError: there is no such notebook.
    """
    wanted = name.removesuffix(".ipynb").rsplit("/", 1)[-1]
    names = list(catalogue)
    for full in names:
        if wanted in (full, full.split("_", 1)[0]):
            return full
    raise ValueError(f"there is no notebook {name!r}; choose from {', '.join(names)}")


def pattern(need: str) -> str:
    """Of notebook and variant, for what is needed or read: any variant, if it names none."""
    return need if "/" in need else f"{need}/*"


def in_order(names: Iterable[str], catalogue: Mapping[str, Notebook] = NOTEBOOKS) -> list[str]:
    """The notebooks named, each once, every one after those that it needs.

    Raises:
        ValueError: there is no such notebook.
    """
    wanted = {find(name, catalogue) for name in names}
    ordered: list[str] = []

    def add(name: str) -> None:
        for need in catalogue[name].reads:
            add(need)
        if name not in ordered:
            ordered.append(name)

    for name in catalogue:
        if name in wanted:
            add(name)
    return [name for name in ordered if name in wanted]
