"""The label of a result names whatever keeps it from being the paper's."""

import json
import platform

import pandas as pd
import pytest

from cicy_utils import provenance
from cicy_utils.config import PAPER_RECIPE, RETRAINING, TrainConfig
from cicy_utils.training import FitResult

PAPER = TrainConfig()


def result(stop_reason: str, epochs: int = 7) -> FitResult:
    return FitResult(pd.DataFrame(), 1, 0.5, epochs, 1.0, stop_reason, "cpu")


def test_the_papers_recipe_on_the_whole_list_has_no_label():
    assert provenance.run_label(905_684, PAPER, result("converged")) == ""
    assert provenance.run_label(905_684, PAPER, result("max_epochs", 550)) == ""
    assert provenance.run_label(905_684) == ""


def test_hardware_and_seed_do_not_make_another_recipe():
    config = TrainConfig(seed=7, device="cpu", max_hours=100.0)
    assert provenance.run_label(905_684, config, result("converged")) == ""


@pytest.mark.parametrize(
    ("configurations", "config", "outcome", "label"),
    [
        (6_000, None, None, "quick run: 6,000 of 905,684 configurations"),
        (905_684, TrainConfig(max_epochs=1), None, "quick run: at most 1 epoch"),
        (
            6_000,
            TrainConfig(max_epochs=3, batch_size=64),
            result("max_epochs", 3),
            "quick run: 6,000 of 905,684 configurations, at most 3 epochs, "
            "batch size 64 instead of 128",
        ),
        (
            905_684,
            TrainConfig(max_epochs=6, schedule="one-cycle"),
            result("max_epochs", 6),
            "changed recipe: at most 6 epochs, schedule one-cycle instead of plateau",
        ),
        (
            905_684,
            TrainConfig(learning_rate=0.001),
            None,
            "changed recipe: learning rate 0.001 instead of 0.01",
        ),
        (
            905_684,
            TrainConfig(max_epochs=900),
            None,
            "changed recipe: max epochs 900 instead of 550",
        ),
        (
            905_684,
            PAPER,
            result("time_limit"),
            "quick run: stopped by the time limit after 7 epochs",
        ),
        (905_684, PAPER, result("interrupted"), "quick run: stopped by hand after 7 epochs"),
        (905_684, PAPER, result("interrupted", 1), "quick run: stopped by hand after 1 epoch"),
    ],
)
def test_anything_else_says_what_it_is(configurations, config, outcome, label):
    assert provenance.run_label(configurations, config, outcome) == label


def test_retraining_has_a_recipe_of_its_own():
    config = TrainConfig(min_learning_rate=1e-7)
    recipe = PAPER_RECIPE | RETRAINING
    assert provenance.run_label(905_684, config, recipe=recipe) == ""
    assert "min learning rate" in provenance.run_label(905_684, config)


def test_the_label_of_several_runs_says_what_each_says():
    whole, short = "", "quick run: 5 of 905,684 configurations, at most 2 epochs"
    other = "changed recipe: batch size 64 instead of 128, at most 2 epochs"
    assert provenance.joint_label([whole, whole]) == ""
    assert provenance.joint_label([]) == ""
    assert provenance.joint_label([whole, other]) == other
    assert provenance.joint_label([other, short, short]) == (
        "quick run: batch size 64 instead of 128, at most 2 epochs, 5 of 905,684 configurations"
    )


def test_a_joint_label_has_one_reason_for_epochs_and_one_for_checkpoints():
    first = "quick run: 5 of 905,684 configurations, at most 5 epochs, started from 11_a/b"
    second = "quick run: 5 of 905,684 configurations, at most 1 epoch"
    third = "changed recipe: at most 2,000 epochs, started from 07_c/d (quick run)"
    assert provenance.joint_label([first, second, first]) == (
        "quick run: 5 of 905,684 configurations, at most 1 to 5 epochs, started from 11_a/b"
    )
    every = (
        "quick run: 5 of 905,684 configurations, at most 1 to 2,000 epochs, "
        "started from other runs (quick run)"
    )
    assert provenance.joint_label([first, second, third]) == every
    assert provenance.joint_label([every, second, third]) == every  # of joint labels, too
    others = first.replace("11_a/b", "other_runs/a")
    assert provenance.joint_label([first, others]).endswith("started from other runs")


def test_the_label_of_members_says_whose_setting_is_whose():
    first = "changed recipe: at most 26 epochs, the fast recipe"
    second = "changed recipe: batch size 1024 instead of 128, at most 80 epochs, the fast recipe"
    assert provenance.members_label({"A": first, "B": second}) == (
        "changed recipe: the fast recipe, A (at most 26 epochs), "
        "B (batch size 1024 instead of 128; at most 80 epochs)"
    )
    assert provenance.members_label({"A": first, "B": first}) == first
    assert provenance.members_label({"A": first}) == first
    quick = "quick run: 5 of 905,684 configurations"
    assert provenance.members_label({"A": "", "B": quick}) == (
        "quick run: B (5 of 905,684 configurations)"
    )
    assert provenance.members_label({"A": "", "B": ""}) == ""


def test_environment_is_ready_for_json():
    found = json.loads(json.dumps(provenance.environment()))
    assert set(found["packages"]) == set(provenance.PACKAGES)
    assert found["cores"] >= 1
    assert found["processor"]
    assert platform.system() in found["platform"]
    assert platform.release() not in found["platform"]  # which is one machine's own


def test_merged_labels_are_one_for_each_kind():
    quick = ["quick run: 300 of 905,684 configurations", "quick run: at most 2 epochs"]
    changed = ["changed recipe: seed 43"]
    assert provenance.merged_labels([*quick, "", *changed, quick[0]]) == [
        "quick run: 300 of 905,684 configurations, at most 2 epochs",
        "",
        "changed recipe: seed 43",
    ]
    assert provenance.merged_labels([]) == []


def test_accuracies_on_a_part_of_the_list_claim_nothing():
    part, short = "quick run: 300 of 905,684 configurations", "quick run: at most 2 epochs"
    assert provenance.claim_nothing(["", "changed recipe: seed 43", part])
    assert not provenance.claim_nothing(["", "changed recipe: seed 43", short])
    assert not provenance.claim_nothing([])
    assert not provenance.claim_nothing(["quick run: 20,000 of 181,137 test configurations"])


def test_the_precision_belongs_to_the_recipe():
    config = TrainConfig(precision="bfloat16")
    label = provenance.run_label(905_684, config)
    assert label == "changed recipe: precision bfloat16 instead of float32"
