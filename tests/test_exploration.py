import signal

import numpy as np
import pandas as pd
import pytest
import torch

from cicy_utils import data, exploration, metrics, models, splits, training
from cicy_utils.config import TrainConfig
from cicy_utils.exploration import CANDIDATES


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model in CANDIDATES for name in CANDIDATES[model]]
)
def test_every_candidate_can_be_trained(model, name):
    candidate = CANDIDATES[model][name]
    assert TrainConfig(**candidate.recipe.settings)
    assert candidate.recipe.layout in data.LAYOUTS
    assert models.build_model(model, **candidate.shape)


def test_an_exploration_is_a_table_of_every_candidate_and_seed(tmp_path, monkeypatch, capsys):
    arguments = ["--only", "paper", "fast", "--seeds", "1", "2", "--subset", "200"]
    arguments += ["--epochs", "1", "--hidden-size", "4", "--folder", str(tmp_path / "trainings")]
    assert exploration.main([*arguments, "--output", str(tmp_path / "all.csv")]) == 0
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
    exploration.main([*arguments, "--output", str(tmp_path / "again.csv")])
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "again.csv"))


def test_other_networks_are_explored_in_shapes_of_their_own(tmp_path, monkeypatch, capsys):
    build, built = models.build_model, []
    monkeypatch.setattr(models, "build_model", lambda *a, **k: built.append(k) or build(*a, **k))
    names = ["fast", "fast, 6 rounds"]
    arguments = ["--model", "Graph-64", "--subset", "100", "--epochs", "1", "--seeds", "1"]
    exploration.main([*arguments, "--only", *names, "--folder", str(tmp_path)])
    assert built == [{"seed": 1}, {"num_layers": 6, "seed": 1}]
    assert capsys.readouterr().out.count(" rounds | ") == 1
    with pytest.raises(SystemExit):
        exploration.main([*arguments, "--only", "paper"])
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
            exploration.explore(candidates, **small)
    assert len(exploration.explore(candidates, **small)) == 2


def test_ctrl_c_while_a_candidate_diverges_ends_the_exploration(tmp_path, monkeypatch):
    def diverge(*_arguments):
        begun.append(1)
        error = training.Diverged("the training loss became nan")
        error.interrupted = True
        raise error

    begun = []
    monkeypatch.setattr(training, "fit", diverge)
    candidates = {name: CANDIDATES["LSTM-448"][name] for name in ("paper", "fast")}
    with pytest.raises(KeyboardInterrupt):
        exploration.explore(candidates, [1], tmp_path, hidden_size=4, subset=200, epochs=1)
    assert begun == [1]


def test_an_exploration_that_is_stopped_says_how_to_go_on(monkeypatch, capsys):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(exploration, "explore", stop)
    assert exploration.main([]) == 130
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
        exploration.main(["--folder", str(tmp_path), "--only", "paper", *arguments])
    assert message in capsys.readouterr().err


def test_the_summary_is_over_the_seeds_best_first():
    measures = {name: 10.0 for name in metrics.EVERY_ACCURACY}
    rows = [
        {"candidate": "a", "seed": 1, **measures, "seconds": 1.0},
        {"candidate": "a", "seed": 2, **measures, "accuracy_h11": 30.0, "seconds": 3.0},
        {"candidate": "b", "seed": 1, **measures, "accuracy_h22": 90.0, "seconds": 1.0},
    ]
    table = exploration.summary(pd.DataFrame(rows))
    assert table.index.tolist() == ["b", "a"]
    assert table.loc["a", ["mean", "spread", "seeds", "seconds"]].tolist() == [12.5, 5.0, 2, 2.0]
    assert (
        exploration.markdown(pd.DataFrame(rows)).splitlines()[3].startswith("| a | 20.0 | 10.0 |")
    )


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
    trials = exploration.explore(fast, [1, 2], tmp_path, hidden_size=4, subset=200, epochs=1)
    assert loaded == ["zeros-first"]
    assert trials.isna().any(axis=1).tolist() == [False, False, True, False]
    assert "fast, seed 2: the training loss became nan" in capsys.readouterr().out
    table = exploration.summary(trials)
    assert table.index.tolist() == ["fast, batch 64", "fast"]
    assert table.loc["fast"].drop("seeds").isna().all()
    assert table.loc["fast, batch 64"].notna().all()
    assert (
        exploration.markdown(trials).splitlines()[-1] == "| fast | – | – | – | – | – | – | – | 2 |"
    )


def test_an_exploration_sees_the_training_set_only(monkeypatch, tmp_path):
    asked, judged, load, answer = [], [], data.load_cicy4, training.predict
    monkeypatch.setattr(data, "load_cicy4", lambda **o: asked.append(o["subset"]) or load(**o))
    monkeypatch.setattr(
        training, "predict", lambda m, some, **o: judged.append(len(some)) or answer(m, some, **o)
    )
    exploration.explore(
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
