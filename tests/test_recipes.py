import dataclasses

import pytest

from cicy_utils import metrics, paper, provenance, recipes
from cicy_utils.config import PAPER_RECIPE, TrainConfig


def test_the_papers_recipe_is_the_default_of_training():
    assert recipes.config("paper") == TrainConfig()
    assert recipes.RECIPES["paper"].layout == "stored"
    assert recipes.settings("paper") == PAPER_RECIPE


def test_what_is_none_is_the_recipes_own():
    config = recipes.config("fast", batch_size=None, max_epochs=3)
    fast = recipes.RECIPES["fast"].settings
    assert config.max_epochs == 3
    assert config.batch_size == fast.get("batch_size", 128)
    assert config.scale_targets is True
    with pytest.raises(ValueError, match="no recipe 'slow'; choose one of paper, fast"):
        recipes.config("slow")
    with pytest.raises(ValueError, match="no setting delta, rate; it has optimizer,"):
        recipes.config("fast", delta=0.01, rate=1)


def test_a_network_may_have_a_recipe_of_its_own():
    assert recipes.config("fast", "Graph-64").optimizer == "muon"
    assert recipes.config("fast", "Graph-64").learning_rate == 0.006
    assert recipes.config("fast", "Graph-64", learning_rate=0.1).learning_rate == 0.1
    assert recipes.config("fast", "LSTM-448") == recipes.config("fast")
    assert recipes.config("paper", "Graph-64") == TrainConfig()
    for recipe in recipes.RECIPES:
        config = recipes.config(recipe, "Graph-64")
        for name, value in recipes.settings(recipe, "Graph-64").items():
            assert getattr(config, name) == value


def test_other_settings_are_those_that_no_parameter_of_the_notebooks_has():
    others = {"huber_delta": 0.01, "optimizer": "adamw", "loss_weights": None}
    fast = recipes.config("fast", seed=7)
    expected = dataclasses.replace(fast, huber_delta=0.01, optimizer="adamw")
    assert recipes.config("fast", others=others, seed=7) == expected
    assert recipes.config("fast", others={}, seed=7) == fast
    message = "SETTINGS has no setting batch_size, seed; it has optimizer, "
    with pytest.raises(ValueError, match=message):
        recipes.config("fast", others={"seed": 1, "batch_size": 7, "huber_delta": 1})
    with pytest.raises(ValueError, match=r"^SETTINGS is a dict of optimizer, "):
        recipes.config("fast", others=0.5)


def test_a_changed_recipe_leaves_the_old_one():
    changed = recipes.FAST.changed(batch_size=7, layout="stored")
    assert changed.settings["batch_size"] == 7
    assert changed.layout == "stored"
    assert "batch_size" not in recipes.PAPER.settings
    assert recipes.FAST.layout != "stored"


def test_results_of_another_recipe_have_names_of_their_own():
    assert recipes.result_name("LSTM-448", "paper") == "LSTM-448"
    assert recipes.result_name("LSTM-448", "fast") == "LSTM-448-fast"
    assert recipes.network("LSTM-448-fast") == recipes.network("LSTM-448") == "LSTM-448"
    assert recipes.variant("paper", [42]) == "seed-42"
    assert recipes.variant("fast", [7, 42]) == "fast-7"
    with pytest.raises(ValueError, match=r"such as \[42, 43\], not 42"):
        recipes.variant("fast", 42)
    nothing = {"test": {"raw": dict.fromkeys(metrics.EVERY_ACCURACY, 0.0)}}
    nothing["constant"] = nothing["test"]
    table = paper.headline("LSTM-448-fast", nothing)
    assert table.loc["published", "accuracy_h11"] == pytest.approx(99.735, abs=0.001)


def test_the_label_of_the_fast_recipe_names_it_and_its_changes():
    fast = recipes.settings("fast")
    label = provenance.run_label(
        905_684, recipes.config("fast"), recipe=fast, changes=["the fast recipe"]
    )
    assert label == "changed recipe: the fast recipe"
    own = recipes.config("fast", "Graph-64")
    assert provenance.run_label(905_684, own, recipe=recipes.settings("fast", "Graph-64")) == ""
    label = provenance.run_label(905_684, own, recipe=fast)
    assert "learning rate 0.006 instead of 0.012" in label
    plain = recipes.config("fast", optimizer="adamw")
    label = provenance.run_label(905_684, plain, recipe=fast)
    assert label == "changed recipe: optimizer adamw instead of muon"
    assert recipes.settings("paper", "Graph-64") == recipes.settings("paper")
    changed = recipes.config("fast", loss_weights=(1, 1, 2, 4), scale_targets=False)
    label = provenance.run_label(905_684, changed, recipe=fast)
    assert "scale targets off instead of on" in label
    assert "loss weights 1 1 2 4 instead of 1 1 1 1" in label
