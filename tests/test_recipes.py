import dataclasses
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from cicy_utils import data, metrics, models, paper, provenance, recipes, splits, training
from cicy_utils.config import PAPER_RECIPE, TrainConfig
from cicy_utils.recipes import CANDIDATES


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


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model in CANDIDATES for name in CANDIDATES[model]]
)
def test_every_candidate_can_be_trained(model, name):
    candidate = CANDIDATES[model][name]
    assert TrainConfig(**candidate.recipe.settings)
    assert candidate.recipe.layout in data.LAYOUTS
    assert models.build_model(model, **candidate.shape)


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


def test_an_exploration_is_a_table_of_every_candidate_and_seed(tmp_path, monkeypatch, capsys):
    arguments = ["--only", "paper", "fast", "--seeds", "1", "2", "--subset", "200"]
    arguments += ["--epochs", "1", "--hidden-size", "4", "--folder", str(tmp_path / "trainings")]
    assert recipes.main([*arguments, "--output", str(tmp_path / "all.csv")]) == 0
    table = pd.read_csv(tmp_path / "all.csv")
    assert table[["candidate", "seed"]].to_numpy().tolist() == [
        ["paper", 1],
        ["fast", 1],
        ["paper", 2],
        ["fast", 2],
    ]
    assert table["accuracy_h11"].between(0, 100).all()
    assert "| fast | " in capsys.readouterr().out
    # Again: what is trained is not trained again.
    monkeypatch.setattr(training, "Training", lambda *_: pytest.fail("trained again"))
    recipes.main([*arguments, "--output", str(tmp_path / "again.csv")])
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "again.csv"))


def test_other_networks_are_explored_in_shapes_of_their_own(tmp_path, monkeypatch, capsys):
    build, built = models.build_model, []
    monkeypatch.setattr(models, "build_model", lambda *a, **k: built.append(k) or build(*a, **k))
    names = ["fast", "fast, 6 rounds"]
    arguments = ["--model", "Graph-64", "--subset", "100", "--epochs", "1", "--seeds", "1"]
    recipes.main([*arguments, "--only", *names, "--folder", str(tmp_path)])
    assert built == [{"seed": 1}, {"num_layers": 6, "seed": 1}]
    assert capsys.readouterr().out.count(" rounds | ") == 1
    with pytest.raises(SystemExit):
        recipes.main([*arguments, "--only", "paper"])
    assert "no candidates ['paper']" in capsys.readouterr().err


def test_half_a_training_is_not_explored(tmp_path, monkeypatch):
    step = training.Progress.step

    def press(progress):
        if progress.epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return step(progress)

    candidates = {name: CANDIDATES["LSTM-448"][name] for name in ("paper", "fast")}
    small = dict(seeds=[1], folder=tmp_path, hidden_size=4, subset=200, epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "step", press)
        with pytest.raises(KeyboardInterrupt):
            recipes.explore(candidates, **small)
    assert len(recipes.explore(candidates, **small)) == 2


def test_an_exploration_that_is_stopped_says_how_to_go_on(monkeypatch, capsys):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "explore", stop)
    assert recipes.main([]) == 130
    assert capsys.readouterr().err == "Stopped. Run the same command again to go on.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subset", "0"], "1 to 652,092 configurations, not 0"),
        (["--precision", "foo"], "precision"),
        (["--epochs", "0"], "max_epochs must be an integer"),
        (["--output", "nowhere/trials.csv"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_explored_is_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipes.main(["--folder", str(tmp_path), "--only", "paper", *arguments])
    assert message in capsys.readouterr().err


def test_the_summary_is_over_the_seeds_best_first():
    measures = {name: 10.0 for name in metrics.EVERY_ACCURACY}
    rows = [
        {"candidate": "a", "seed": 1, **measures, "seconds": 1.0},
        {"candidate": "a", "seed": 2, **measures, "accuracy_h11": 30.0, "seconds": 3.0},
        {"candidate": "b", "seed": 1, **measures, "accuracy_h22": 90.0, "seconds": 1.0},
    ]
    table = recipes.summary(pd.DataFrame(rows))
    assert table.index.tolist() == ["b", "a"]
    assert table.loc["a", ["mean", "spread", "seeds", "seconds"]].tolist() == [12.5, 5.0, 2, 2.0]
    assert recipes.markdown(pd.DataFrame(rows)).splitlines()[3].startswith("| a | 20.0 | 10.0 |")


def test_a_candidate_that_diverges_leaves_the_others_explored(tmp_path, monkeypatch, capsys):
    build, load, built, loaded = models.build_model, data.load_cicy4, [], []

    def third_is_broken(*arguments, **options):
        built.append(build(*arguments, **options))
        if len(built) == 3:
            torch.nn.init.constant_(built[-1].head[1].bias, torch.nan)
        return built[-1]

    monkeypatch.setattr(models, "build_model", third_is_broken)
    monkeypatch.setattr(data, "load_cicy4", lambda **o: loaded.append(o["layout"]) or load(**o))
    fast = {name: CANDIDATES["LSTM-448"][name] for name in ("fast", "fast, batch 64")}
    trials = recipes.explore(fast, [1, 2], tmp_path, hidden_size=4, subset=200, epochs=1)
    assert loaded == ["zeros-first"]
    assert trials.isna().any(axis=1).tolist() == [False, False, True, False]
    assert "fast, seed 2: the training loss became nan" in capsys.readouterr().out
    table = recipes.summary(trials)
    assert table.index.tolist() == ["fast, batch 64", "fast"]
    assert table.loc["fast"].drop("seeds").isna().all()
    assert table.loc["fast, batch 64"].notna().all()
    assert recipes.markdown(trials).splitlines()[-1] == "| fast | – | – | – | – | – | – | – | 2 |"


def test_an_exploration_sees_the_training_set_only(monkeypatch, tmp_path):
    asked, judged, load, answer = [], [], data.load_cicy4, training.predict
    monkeypatch.setattr(data, "load_cicy4", lambda **o: asked.append(o["subset"]) or load(**o))
    monkeypatch.setattr(
        training, "predict", lambda m, some, **o: judged.append(len(some)) or answer(m, some, **o)
    )
    recipes.explore(
        {"paper": CANDIDATES["LSTM-448"]["paper"]},
        [1],
        tmp_path,
        hidden_size=4,
        subset=200,
        epochs=1,
    )
    (chosen,) = asked
    assert len(chosen) == 200
    assert np.isin(chosen, splits.split_72(905_684).train).all()
    assert judged == [16]  # the validation set of the 200
