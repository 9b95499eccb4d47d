"""The README: its examples run, its numbers come from files, its files exist."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from cicy_utils import benchmark, paper, recipes, reference
from cicy_utils.data import HODGE_NAMES
from cicy_utils.verification import recorded_statistics, statistics_markdown

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORDS = " ".join(README.split())
BEST = "18_graph_64/fast-46"
ACCURACIES = [f"accuracy_{name}" for name in HODGE_NAMES]


def test_examples_give_what_is_shown():
    examples = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    result = runner.run(parser.get_doctest(examples, {}, "README.md", "README.md", 0))
    assert result.attempted >= 8
    assert result.failed == 0


def test_statistics_are_the_recorded_ones():
    assert between("statistics") == statistics_markdown(recorded_statistics())


@pytest.mark.parametrize(
    ("part", "file"), [("speed", "benchmark.json"), ("graph", "benchmark_graph.json")]
)
def test_speed_is_the_benchmark_s_own_output(part, file):
    content = json.loads((ROOT / "results" / "reference" / file).read_text())
    assert between(part) == benchmark.markdown(content)


@pytest.mark.parametrize(
    ("part", "file", "model"),
    [
        ("recipes", "recipes.csv", "LSTM-448"),
        ("recipes of the graph", "recipes_graph.csv", "Graph-64"),
    ],
)
def test_recipes_are_the_exploration_s_own_table(part, file, model):
    trials = pd.read_csv(ROOT / "results" / "reference" / file)
    assert between(part) == recipes.markdown(trials)
    assert recipes.summary(trials)["seeds"].min() >= 3
    assert set(trials["candidate"]) == set(recipes.CANDIDATES[model])


def test_published_weights_are_the_committed_ones():
    assert between("reference") == reference.markdown(reference.find(ROOT / "results/reference"))


def test_the_rounds_are_those_of_the_best_weights():
    assert between("rounds") == reference.rounds(ROOT / "results/reference" / BEST)


def test_what_the_text_says_of_the_best_weights_is_in_their_file():
    entry = json.loads((ROOT / "results/reference" / BEST / "reference.json").read_text())
    raw, consistent = (entry["metrics"]["test"][name] for name in ("raw", "consistent"))
    network = entry["name"].removesuffix("-fast")
    published = paper.published().xs(72, level="split")
    alone = published["parameters_millions"].notna()  # the others are ensembles, or folds
    models, best_ensembles = published[alone], published[~alone][ACCURACIES].max()
    assert len(models) == 12
    best, of_h22 = models[ACCURACIES].max(), models["accuracy_h22"].idxmax()
    best_at_80 = paper.published().xs(80, level="split")[ACCURACIES].max()
    rows = {
        "the best of the paper's twelve networks | 72 % of the list": best,
        "the best of its ensembles | 72 %": best_ensembles,
        "the best of its ensembles | 80 %": best_at_80,
        f"`{network}` (`{BEST.split('/')[1]}`) | 72 %": [raw[name] for name in ACCURACIES],
    }
    for name, accuracies in rows.items():
        assert f"| {name} | {percent(accuracies).replace(' /', ' |')} |" in between("accuracies")
    for sentence in (
        f"**`{network}` is right more often than any network or ensemble of the paper, on all four "
        "Hodge numbers**",
        f"all four right for {consistent['accuracy_all']:.2f} % of the test set",
        f"mean absolute error on $h^{{2,2}}$ is {raw['mae_h22']:.2f}, and "
        f"{models['mae_h22'][of_h22]:.2f} for {of_h22}; its mean squared error "
        f"{raw['mse_h22']:.1f}, and {models['mse_h22'][of_h22]:.1f}",
        f"The ten largest errors make {share_of_the_largest_errors()} % of that",
        f"with the exact relations it is {consistent['mse_h22']:.1f}",
        f"has {percent(models.loc['LSTM-448', ACCURACIES])} % for it",
        f"in {hours_of_training(BEST):.1f} hours of training",
    ):
        assert sentence in WORDS
    assert raw["mae_h22"] < models["mae_h22"].min()
    assert all(raw[name] > published[name].max() for name in ACCURACIES)
    assert all(raw[name] > best_at_80[name] for name in ACCURACIES)


def test_what_the_text_says_of_the_exploration_is_in_its_table():
    trials = pd.read_csv(ROOT / "results" / "reference" / "recipes.csv")
    mean = recipes.summary(trials)["mean"]["fast, float32"]
    assert f"The LSTM above reaches a mean of {mean:.1f} in float32" in WORDS


def test_every_module_and_folder_is_in_the_tree():
    tree = re.search(r"## Files\n\n```\n(.*?)```", README, re.DOTALL)[1]
    named = re.findall(r"^ {0,2}(\S+)", tree, re.MULTILINE)
    assert len(named) == len(set(named))  # each once
    inside = re.findall(r"^  (\S+)", tree, re.MULTILINE)
    modules = {path.name for path in (ROOT / "cicy_utils").glob("*.py")} - {"__init__.py"}
    assert set(inside) == modules | {"batch/"}
    for name in re.findall(r"^(\S+\.\S+|\S+/)", tree, re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_no_line_is_a_stray_fence_or_quote():
    # After the code blocks are taken out, nothing is left that opens or closes one.
    prose, blocks = re.subn(r"^```\w*\n.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert blocks >= 8
    assert not re.search(r"^\W*(`{3,}|'{2,}|\"{2,}|~{3,})", prose, re.MULTILINE)


def test_promised_tests_exist():
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", README)
    assert len(named) > 20
    for path, name in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in text if name else "def test_" in text, name


def test_links_within_the_repository_resolve():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "data/README.md", "results/README.md"])
def test_commands_name_modules_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for module in re.findall(r"python -m (cicy_utils[\w.]*)", text):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file(), module


def percent(values: Iterable[float]) -> str:
    """As the text has them: 99.92 / 99.59 / 97.66 / 81.90."""
    return " / ".join(f"{value:.2f}" for value in values)


def hours_of_training(folder: str) -> float:
    """Of these weights, with all that they were started from."""
    record = json.loads((ROOT / "results/reference" / folder / "metrics.json").read_text())
    before = record.get("checkpoint")
    return record["training"]["seconds"] / 3600 + (hours_of_training(before) if before else 0)


def share_of_the_largest_errors() -> str:
    """As the executed notebook has it."""
    notebook = (ROOT / "results/reference" / BEST / "notebook.ipynb").read_text()
    return re.search(r"mean squared error: ([\d.]+) % together", notebook)[1]


def between(name: str) -> str:
    """The part of the README between two marks."""
    return re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)[1].strip()
