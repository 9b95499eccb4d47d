"""The notebooks that the command runs, and what each profile changes in their parameters.

Only the standard library is imported here, so that a command line can be checked before anything
is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Notebook:
    """An entry of the catalogue.

    Attributes:
        kind: which column of a profile applies.
        variant: name of the run folder, in which parameters may stand in braces.
        model: the paper's name of the model it trains; None if it trains none.
        needs: notebooks whose results it reads.
    """

    kind: str
    variant: str
    model: str | None = None
    needs: tuple[str, ...] = ()


def _model(name: str) -> Notebook:
    return Notebook(kind="model", variant="seed-{SEED}", model=name)


NOTEBOOKS = {
    "00_data": Notebook(kind="data", variant="list"),
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
    "11_lstm_448": _model("LSTM-448"),
    "12_lstm_456": _model("LSTM-456"),
}

# What is not named here stays as the notebook has it, which is the paper's recipe. The paper's
# learning rate of 0.01 needs more steps than the short profiles take before the loss settles.
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "data": {"SUBSET": 300},
        "model": {"SUBSET": 300, "MAX_EPOCHS": 2, "BATCH_SIZE": 64, "LEARNING_RATE": 0.001},
    },
    "quick": {
        "data": {},
        "model": {"SUBSET": 5_000, "MAX_EPOCHS": 5, "BATCH_SIZE": 64, "LEARNING_RATE": 0.001},
    },
    "paper": {"data": {}, "model": {}},
}


def parameters(profile: str, notebook: str) -> dict[str, Any]:
    """The papermill parameters of a notebook in a profile, less its RUN_DIR.

    Raises:
        ValueError: there is no such profile or notebook.
    """
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}")
    return dict(PROFILES[profile][NOTEBOOKS[find(notebook)].kind])


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


def in_order(names: Iterable[str], catalogue: Mapping[str, Notebook] = NOTEBOOKS) -> list[str]:
    """The notebooks named, each once, every one after those that it needs.

    Raises:
        ValueError: there is no such notebook.
    """
    wanted = {find(name, catalogue) for name in names}
    ordered: list[str] = []

    def add(name: str) -> None:
        for need in catalogue[name].needs:
            add(need)
        if name not in ordered:
            ordered.append(name)

    for name in catalogue:
        if name in wanted:
            add(name)
    return [name for name in ordered if name in wanted]
