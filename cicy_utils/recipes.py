"""Recipes of training: the paper's, and a fast one (:mod:`cicy_utils.exploration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from cicy_utils.config import PAPER_RECIPE, TrainConfig
from cicy_utils.records import require_seeds

# What the notebooks' parameter SETTINGS may hold: what has no parameter there, and no schedule.
OTHER_SETTINGS = (
    "optimizer",
    "weight_decay",
    "clip_norm",
    "huber_delta",
    "loss_weights",
    "averaging",
    "shuffle",
)


@dataclass(frozen=True)
class Recipe:
    """What distinguishes a way of training from the paper's.

    Attributes:
        settings: fields of ``config.TrainConfig``; what is not named is as in the paper.
        layout: of the matrices, one of ``data.LAYOUTS``.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    layout: str = "stored"

    def changed(self, **settings: Any) -> Recipe:
        """The recipe with other settings, or another layout."""
        layout = settings.pop("layout", self.layout)
        return Recipe({**self.settings, **settings}, layout)


PAPER = Recipe()
# Chosen by the tables of ``cicy_utils.exploration``.
FAST = Recipe(
    {
        "optimizer": "muon",
        "learning_rate": 0.012,
        "max_epochs": 60,
        "patience": 60,
        "schedule": "one-cycle",
        "scale_targets": True,
        "huber_delta": 0.03,
    },
    "zeros-first",
)
GRAPH = FAST.changed(learning_rate=0.006, huber_delta=0.003, loss_weights=(1, 1, 2, 8))
RECIPES = {"paper": PAPER, "fast": FAST}
CROSS_VALIDATED = "LSTM-448"  # the network of the paper's five folds
OWN = {("fast", "Graph-64"): GRAPH}  # where a network has one of its own


def config(
    recipe: str, model: str = "", *, others: Mapping[str, Any] | None = None, **changes: Any
) -> TrainConfig:
    """The settings of a network's recipe, with changes; one that is None changes nothing.

    others: changes of ``OTHER_SETTINGS`` only.

    Raises:
        ValueError: there is no such recipe or setting, or as of ``config.TrainConfig``.
    """
    others = {} if others is None else others
    _require_known(others, OTHER_SETTINGS, "SETTINGS")
    _require_known(changes, [setting.name for setting in fields(TrainConfig)], "a training")
    changes = {name: value for name, value in {**changes, **others}.items() if value is not None}
    return TrainConfig(**{**_recipe(recipe, model).settings, **changes})


def _require_known(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} is a dict of {', '.join(known)}, not {given!r}")
    if unknown := ", ".join(sorted(given.keys() - set(known))):
        raise ValueError(f"{what} has no setting {unknown}; it has {', '.join(known)}")


def settings(recipe: str, model: str = "") -> dict[str, Any]:
    """Every setting of a network's recipe: what ``provenance.run_label`` compares with."""
    return PAPER_RECIPE | dict(_recipe(recipe, model).settings)


def layout(recipe: str) -> str:
    """The layout of the matrices that a recipe trains on."""
    return _recipe(recipe).layout


def other_layout(layout: str, expected: str = PAPER.layout) -> list[str]:
    """That matrices are in another layout than a recipe's, in words for a label."""
    return [] if layout == expected else [f"layout {layout} instead of {expected}"]


def result_name(model: str, recipe: str) -> str:
    """What a network trained by a recipe is called beside the paper's: "LSTM-448-fast".

    ValueError when the model's name tells of a recipe already.
    """
    if (own := network(model)) != model:
        raise ValueError(
            f"{model!r} is {own} by the {recipe_in(model)} recipe: set MODEL to {own!r} and RECIPE "
            f"to {recipe_in(model)!r}"
        )
    return model if recipe == "paper" else f"{model}-{recipe}"


def expected(recipe: str, model: str) -> dict[str, Any]:
    """What ``evaluation.evaluate_run`` compares a training with that follows a recipe.

    recipe: every setting; layout; changes: how the recipe itself is told.
    """
    return {
        "recipe": settings(recipe, model),
        "layout": layout(recipe),
        "changes": [] if recipe == "paper" else [f"the {recipe} recipe"],
    }


def network(name: str) -> str:
    """The network of a result, whatever the recipe: the inverse of ``result_name``."""
    recipe = recipe_in(name)
    return name if recipe == "paper" else name.removesuffix(f"-{recipe}")


def recipe_in(name: str) -> str:
    """The recipe of a result: "fast" of "LSTM-448-fast"."""
    return next((recipe for recipe in RECIPES if name.endswith(f"-{recipe}")), "paper")


def fold_variant(fold: int, model: str, recipe: str) -> str:
    """The name of the run folder of a fold: "fold-1", and by another recipe "fold-1-fast".

    Of another network than the one that the paper cross-validates: "fold-1-LSTM-424".
    """
    other = "" if model == CROSS_VALIDATED else f"-{model}"
    return result_name(f"fold-{fold}{other}", recipe)


def variant(recipe: str, seeds: Sequence[int]) -> str:
    """The name of the run folder of the first seed: "seed-42", or "fast-42".

    ValueError when there is no such recipe, or as of ``records.require_seeds``.
    """
    _recipe(recipe)
    require_seeds(seeds)
    return f"{'seed' if recipe == 'paper' else recipe}-{seeds[0]}"


def _recipe(name: str, model: str = "") -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return OWN.get((name, model), RECIPES[name])
