"""What to run: the notebooks chosen, with their folders and every parameter checked."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import papermill

from cicy_utils import files, recipes, splits
from cicy_utils.batch import profiles
from cicy_utils.config import LARGEST_SEED, TrainConfig
from cicy_utils.data import LAYOUTS
from cicy_utils.paper import SPLIT_SIZES
from cicy_utils.records import LIST_SIZE, seed_folders, settings_fingerprint
from cicy_utils.splits import SMALLEST

# Types of the parameters that are None by default, where the notebook itself does not tell.
OPTIONAL = {
    "SUBSET": int,
    "BASELINE_SUBSET": int,
    "PART": int,
    "HIDDEN_SIZE": int,
    "NUM_LAYERS": int,
    "LAYOUT": str,
    "LEARNING_RATE": float,
    "BATCH_SIZE": int,
    "MAX_EPOCHS": int,
    "PATIENCE": int,
    "MAX_HOURS": float,
    "CHECKPOINT": str,
    "RESULTS": str,
    "RUN_DIR": str,
}
OR_NONE = ("SPLIT_SEED",)  # they may be None though they are not by default
# Whole numbers that mean something, the first and the last, besides those of ``TrainConfig``.
RANGES = {
    "SUBSET": (SMALLEST, LIST_SIZE),
    "BASELINE_SUBSET": (SMALLEST, LIST_SIZE),
    "BASELINE_TRAIN": (1, math.inf),
    "SPLIT_SEED": (0, LARGEST_SEED),
    "ROUNDS": (1, math.inf),
    "TRIALS": (1, math.inf),
    "PART": (1, SPLIT_SIZES["72"]["test"]),
    "PART_SEED": (0, math.inf),
}
OF_THE_LIST = ("SUBSET", "BASELINE_SUBSET")  # only of our own is it known how long it is
SHAPE = ("HIDDEN_SIZE", "NUM_LAYERS", "BIDIRECTIONAL")  # of a network
# What a scan tries, in the order of ``scan.Space``.
SPACE = ("MODEL", "LOWEST_HIDDEN", "HIGHEST_HIDDEN", "HIDDEN_STEP", "LAYERS", "LEARNING_RATES")
# Where and how long, not what, is computed: a run may go on with other values.
MAY_DIFFER = ("RUN_DIR", "DEVICE", "MAX_HOURS", "TRIALS")
TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
    list: "a list such as [42, 43]",
    dict: "a dictionary such as {'huber_delta': 0.01}",
}


@dataclass(frozen=True)
class Task:
    """A notebook to run: its source, its folder, what papermill injects, and all settings.

    title: the notebook, with the variant where it has several; needs: notebooks, or patterns of
    their variants, without which it cannot run; reads: patterns of all whose results it uses;
    files: patterns of other files that it reads.
    """

    name: str
    source: Path
    run_dir: Path
    injected: dict[str, Any]
    settings: dict[str, Any]
    title: str
    model: str | None = None
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        return self.run_dir.name

    @property
    def seeds(self) -> dict[Path, int | None]:
        """Its run folder and, where it trains with several seeds, one for each of the others.

        The value is the seed of the training in a folder; None where a notebook has none.
        """
        if "SEEDS" not in self.settings:
            return {self.run_dir: self.settings.get("SEED")}
        folders = seed_folders(self.run_dir, self.settings["SEEDS"])
        return {folder: seed for seed, folder in folders.items()}

    @property
    def folders(self) -> list[Path]:
        """The same folders without the seeds."""
        return list(self.seeds)

    def is_one_of(self, patterns: Iterable[str]) -> bool:
        """Whether one of these patterns of notebook and variant is of it."""
        return any(fnmatchcase(f"{self.name}/{self.variant}", pattern) for pattern in patterns)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what is computed in its own folder, as JSON keeps them."""
        settings = {key: value for key, value in self.settings.items() if key not in MAY_DIFFER}
        if "SEEDS" in settings:
            settings["SEEDS"] = settings["SEEDS"][:1]  # the other ones have folders of their own
        return json.loads(json.dumps(settings))

    @property
    def expected(self) -> dict[Path, dict[str, Any]]:
        """The settings that decide what is computed in each of its folders, with the seed."""
        return {
            folder: self.identity if seed is None else self.identity | {"SEED": seed}
            for folder, seed in self.seeds.items()
        }

    @property
    def fingerprint(self) -> str:
        """Of the notebook and its settings, whatever the seed: of that, a folder has its own."""
        settings = {key: value for key, value in self.identity.items() if key != "SEEDS"}
        return settings_fingerprint({"notebook": self.name} | settings)

    @property
    def source_hash(self) -> str:
        return files.checksum(self.source)


def plan(
    profile: str,
    run_dir: Path,
    notebooks: Path,
    *,
    only: Sequence[str] = (),
    overrides: Mapping[str, str] | None = None,
    catalogue: Mapping[str, profiles.Notebook] = profiles.NOTEBOOKS,
    table: Mapping[str, Mapping[str, Mapping[str, Any]]] = profiles.PROFILES,
) -> list[Task]:
    """Decide what to run, and check every parameter of every notebook before anything runs.

    Args:
        profile: one of the profiles in the table.
        run_dir: results/<run>.
        notebooks: folder of the notebooks' sources.
        only: names or numbers of notebooks; none for all.
        overrides: parameters from the command line, as text; each applies to every chosen
            notebook that has it.

    Raises:
        ValueError: an unknown profile, notebook or parameter, a parameter of a wrong type, or one
            from the command line with a value that means nothing.
        FileNotFoundError: a notebook of the catalogue is missing.
    """
    if profile not in table:
        raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(table)}")
    names = profiles.in_order(only or catalogue, catalogue)
    notebooks = Path(notebooks).resolve()
    overrides = dict(overrides or {})
    if "RUN_DIR" in overrides:
        raise ValueError("RUN_DIR follows from the name of the run; choose that with --run")
    unused, known = set(overrides), {}
    tasks = []
    for name in names:
        entry, source = catalogue[name], notebooks / f"{name}.ipynb"
        defaults = default_parameters(source)
        chosen = {
            key: from_text(name, key, overrides[key], defaults[key])
            for key in sorted(overrides.keys() & defaults.keys())
        }
        unused -= chosen.keys()
        known |= defaults
        for label, variant in _variants(name, entry, chosen).items():
            injected = {
                **table[profile][variant.kind or entry.kind],
                **variant.parameters,
                **chosen,
            }
            check_parameters(name, injected, defaults)
            settings = defaults | injected
            model = variant.model and settings.get("MODEL", variant.model)
            if chosen:
                check_values(name, settings, chosen, model)
                _require_files(name, settings, notebooks, Path(run_dir).resolve())
            pattern = entry.variant or label
            folder = Path(run_dir).resolve() / name / pattern.format_map(_words(settings))
            if "SEEDS" in settings:
                seed_folders(folder, settings["SEEDS"])  # refuses what are no seeds
            injected["RUN_DIR"] = str(folder)
            check_parameters(name, injected, defaults)
            # A checkpoint that is named stands in for the one that would be looked for.
            needs = () if settings.get("CHECKPOINT") else variant.needs
            task = Task(
                name,
                source,
                folder,
                injected,
                settings,
                title=f"{name}/{folder.name}" if entry.variants else name,
                model=model,
                needs=needs,
                reads=tuple(map(profiles.pattern, (*needs, *entry.after))),
                files=entry.files,
            )
            tasks.append(task)
    order = profiles.FIRST.get(profile, ())
    tasks.sort(key=lambda task: _place(task.title, order))
    if unused:
        raise ValueError(
            f"none of the chosen notebooks has a parameter {' or '.join(sorted(unused))}; "
            f"they have {', '.join(known)}"
        )
    return tasks


def _words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the name of a run folder may be made of: the settings, and "fast-42" or "fold-1"."""
    words = dict(settings)
    if {"RECIPE", "SEEDS"} <= words.keys():
        words["VARIANT"] = recipes.variant(words["RECIPE"], words["SEEDS"])
    elif {"RECIPE", "MODEL", "FOLD"} <= words.keys():
        words["VARIANT"] = recipes.fold_variant(words["FOLD"], words["MODEL"], words["RECIPE"])
    return words


def _place(title: str, order: Sequence[str]) -> int:
    """How early a task comes: what the order does not name keeps its place after the rest."""
    return next((n for n, start in enumerate(order) if title.startswith(start)), len(order))


def _variants(
    name: str, entry: profiles.Notebook, chosen: Mapping[str, Any]
) -> dict[str, profiles.Variant]:
    """The variants of a notebook whose own parameters agree with those of the command line.

    Raises:
        ValueError: none does.
    """
    found = {
        label: variant
        for label, variant in entry.tasks.items()
        if all(chosen.get(key, value) == value for key, value in variant.parameters.items())
    }
    if not found:
        given = ", ".join(f"{key} {value!r}" for key, value in chosen.items())
        raise ValueError(
            f"{name} has no variant with {given}; it has {', '.join(entry.tasks)} (choose other "
            "notebooks with --only)"
        )
    return found


def default_parameters(source: Path) -> dict[str, Any]:
    """The parameters of a notebook with their defaults.

    Raises:
        FileNotFoundError: there is no such notebook.
        ValueError: a default is not a literal.
    """
    if not source.is_file():
        raise FileNotFoundError(f"there is no notebook {source}; restore it from the repository")
    defaults = {}
    for name, parameter in papermill.inspect_notebook(verbatim(source)).items():
        try:
            defaults[name] = ast.literal_eval(parameter["default"])
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"{source.name}: the default of {name} is {parameter['default']}; write a literal"
            ) from error
    return defaults


def check_parameters(notebook: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse parameters that a notebook does not have, or values of another type.

    Raises:
        ValueError: with the notebook, the parameter and what is expected.
    """
    for name, value in values.items():
        if name not in defaults:
            raise ValueError(
                f"{notebook} has no parameter {name}; it has {', '.join(defaults) or 'none'}"
            )
        wanted = _type(name, defaults[name])
        fits = wanted is None or type(value) in {wanted, int if wanted is float else wanted}
        if not fits and not (value is None and (defaults[name] is None or name in OR_NONE)):
            raise ValueError(f"{notebook}: {name} is {TYPE_NAMES[wanted]}, not {value!r}")
        if value == []:
            raise ValueError(f"{notebook}: {name} must not be empty")


def check_values(
    notebook: str, settings: Mapping[str, Any], chosen: Collection[str], model: str | None = None
) -> None:
    """Refuse values of the right type that mean nothing, so that nothing is moved away for them.

    chosen: the settings from the command line; model: the network that is trained, if one is.

    Raises:
        ValueError: with the notebook and what is wrong.
    """
    try:
        _check_training(settings)
        _check_ranges(settings, chosen)
        if "SPLIT_SEED" in chosen and settings["SPLIT_SEED"] is None:
            splits.require_own(settings["SOURCE"])
        if model and not {"MODEL", *SHAPE}.isdisjoint(chosen):
            from cicy_utils import models  # slow to import, as is the scan: they bring torch

            models.specification(model, **{name.lower(): settings.get(name) for name in SHAPE})
        if settings.keys() >= set(SPACE) and not set(SPACE).isdisjoint(chosen):
            from cicy_utils import scan

            scan.Space(*(settings[name] for name in SPACE))
    except ValueError as error:
        raise ValueError(f"{notebook}: {error}") from None


def _check_training(settings: Mapping[str, Any]) -> None:
    """ValueError where nothing can be trained by the settings, whatever the network."""
    known = [setting.name for setting in fields(TrainConfig)]
    given = {name: settings[name.upper()] for name in known if name.upper() in settings}
    for seed in settings.get("SEEDS", [settings.get("SEED")]):
        own = given | {"seed": seed}
        recipes.config(settings.get("RECIPE", "paper"), others=settings.get("SETTINGS"), **own)
    if (layout := settings.get("LAYOUT")) not in (None, *LAYOUTS):
        raise ValueError(f"LAYOUT is one of {', '.join(LAYOUTS)}, not {layout!r}")


def _check_ranges(settings: Mapping[str, Any], chosen: Collection[str]) -> None:
    """ValueError where a number that was chosen is outside its ``RANGES``."""
    for name in filter(chosen.__contains__, RANGES):
        value, (least, most) = settings[name], RANGES[name]
        if name in OF_THE_LIST and settings.get("SOURCE") != "bundled":
            most = math.inf
        if value is not None and not least <= value <= most:
            wanted = f", at least {least}" if most == math.inf else f" from {least} to {most:,}"
            raise ValueError(f"{name} must be a whole number{wanted}, not {value:,}")


def _require_files(
    notebook: str, settings: Mapping[str, Any], notebooks: Path, run_dir: Path
) -> None:
    """ValueError where a parameter names what is not there and will not be made in this run."""
    for name in ("SOURCE", "CHECKPOINT", "RESULTS"):
        path = settings.get(name)
        if path in (None, "bundled"):
            continue
        found = named(path, notebooks)
        if not any(p.exists() or p.resolve().is_relative_to(run_dir) for p in found):
            raise ValueError(f"{notebook}: {name} is {path!r}, and nothing is there")


def named(path: str, notebooks: Path) -> tuple[Path, Path]:
    """Where a path in a parameter may lie: beside the notebooks, or from the top folder on."""
    expanded = Path(path).expanduser()
    return notebooks / expanded, notebooks.parent / expanded


def from_text(notebook: str, name: str, text: str, default: Any) -> Any:
    """A parameter's value from the command line: text as it is, everything else as a literal."""
    wanted = _type(name, default)
    if wanted is str and not (default is None and text == "None"):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        expected = TYPE_NAMES.get(wanted, "a literal")
        raise ValueError(f"{notebook}: {name} is {expected}, not {text!r}") from None


def _type(name: str, default: Any) -> type | None:
    """The type that a parameter's values have; None if any will do."""
    wanted = OPTIONAL.get(name) if default is None else type(default)
    return wanted if wanted in TYPE_NAMES else None


def verbatim(path: Path) -> str:
    """A path that papermill's formatting of paths leaves alone."""
    return str(path).replace("{", "{{").replace("}", "}}")
