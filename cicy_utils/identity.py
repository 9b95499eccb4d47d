"""What makes two runs the same: only with the same does one that was begun go on."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

from torch import nn

from cicy_utils.config import MAY_DIFFER_ON_RESUMING, TrainConfig
from cicy_utils.data import Cicy4
from cicy_utils.splits import Split


def run_identity(model: nn.Module, data: Cicy4, split: Split, config: TrainConfig) -> dict:
    """What makes two runs the same: model, data, split and recipe, as plain values.

    It is stored with state and weights.

    Raises:
        ValueError: the split does not fit the data, or something is no plain value, as may be in
            the settings of a network of one's own.
    """
    own = {"name": type(model).__name__, "layers": repr(model)}
    settings = getattr(model, "settings", own)
    identity = {"model": settings} | recipe_identity(data, split, config)
    for name, value in identity.items():
        require_plain(value, name)
    return identity


def recipe_identity(data: Cicy4, split: Split, config: TrainConfig) -> dict:
    """The same of whatever model: data, split and settings.

    Settings that do not change what is computed are left out.
    """
    for part, indices in split.parts.items():
        if len(indices) == 0:
            raise ValueError(f"the {part} set of split {split.name!r} is empty")
        if indices.min() < 0 or indices.max() >= len(data):
            raise ValueError(
                f"split {split.name!r} has indices up to {indices.max():,} in its {part} set, but "
                f"the list has {len(data):,} configurations; make the split with n={len(data)}"
            )
    return {
        "data": {"fingerprint": data.fingerprint, "layout": data.layout},
        "split": {"name": split.name, "seed": split.seed, "fingerprints": split.fingerprints},
        "settings": recipe_settings(config),
    }


def recipe_settings(config: TrainConfig) -> dict:
    """The settings that change what is computed, as JSON would return them."""
    settings = dataclasses.asdict(config) | {"loss_weights": list(config.loss_weights)}
    return {key: value for key, value in settings.items() if key not in MAY_DIFFER_ON_RESUMING}


def require_same_run(path: Path, saved: dict, current: dict) -> None:
    """Refuse to go on with a state that belongs to another run.

    Args:
        path: where the state was found, for the message.
        saved, current: what identifies each run, as nested plain values.

    Raises:
        ValueError: they differ; the message names every difference.
    """
    saved, current = _flatten(saved), _flatten(current)
    differences = [
        f"{key} {_shown(saved.get(key))} (now {_shown(current.get(key))})"
        for key in sorted(saved.keys() | current.keys())
        if saved.get(key) != current.get(key)
    ]
    if differences:
        raise ValueError(
            f"{path} belongs to another run, with {', '.join(differences)}; choose another run "
            "folder (in a notebook by RUN_DIR), or delete this one to start again"
        )


def require_plain(value: object, name: str) -> None:
    """Refuse what would not come back as it is when a run is taken up again, or not from JSON.

    Plain values are dicts with texts as keys, lists, tuples, texts, bools, Python's own numbers and
    None. The name is that of the value, for the message.

    Raises:
        ValueError: it is something else, or holds something else.
    """
    if type(value) is dict and all(type(key) is str for key in value):
        for key, item in value.items():
            require_plain(item, f"{name}.{key}")
    elif type(value) in (list, tuple):
        for number, item in enumerate(value):
            require_plain(item, f"{name}[{number}]")
    elif value is not None and type(value) not in (str, bool, int, float):
        raise ValueError(
            f"{name} must be a plain value, such as a dict with texts as keys, a list, a text or a "
            f"number of Python, not {_shown(value)} of the type {type(value).__name__}"
        )


def _shown(value: object) -> str:
    """A value in one line, cut where it is long, as the layers of a network of one's own are."""
    return textwrap.shorten(repr(value).replace("\\n", " "), 200, placeholder=" ...")


def _flatten(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat |= (
            _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
