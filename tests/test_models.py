import csv
from pathlib import Path

import pytest
import torch

from cicy_utils.models import (
    MODELS,
    CNNBlock,
    ModelSpec,
    ResNetBlock,
    build_model,
    changes,
    count_weights,
    describe,
)

PUBLISHED = Path(__file__).parents[1] / "data" / "paper_results.csv"
UNUSED = 384  # weights of two batch norms that the reference counts and never calls

WEIGHTS = {
    "CNN-GRU-384": 2_222_276,
    "CNN-GRU-416": 2_487_748,
    "ResNet-GRU-256": 1_328_452,
    "ResNet-GRU-400": 2_336_452,
    "CNN-LSTM-256": 1_547_460,
    "CNN-LSTM-384": 2_673_860,
    "CNN-LSTM-400": 2_842_308,
    "CNN-LSTM-416": 3_016_900,
    "LSTM-400": 2_373_124,
    "LSTM-424": 2_637_316,
    "LSTM-448": 2_915_332,
    "LSTM-456": 3_011_076,
    "ResNet-LSTM-256": 1_531_204,
    "ResNet-LSTM-400": 2_826_052,
    "Graph-64": 890_244,
}


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_output_of_every_model(name):
    model = build_model(name, seed=1)
    assert count_weights(model) == WEIGHTS[name]
    output = model(torch.rand(3, 16, 20))
    assert output.shape == (3, 4)
    assert output.dtype == torch.float32


def test_weights_agree_with_the_published_table():
    with PUBLISHED.open() as file:
        published = {
            row["name"]: row["parameters_millions"]
            for row in csv.DictReader(file)
            if row["parameters_millions"]
        }
    assert len(published) == 12
    for name, millions in published.items():
        counted = WEIGHTS[name] + (UNUSED if name.startswith("ResNet") else 0)
        assert f"{counted / 1e6:.3f}" == millions


def test_feature_blocks():
    inputs = torch.rand(2, 16, 20)
    assert CNNBlock()(inputs).shape == (2, 384)
    assert ResNetBlock()(inputs).shape == (2, 256)
    assert count_weights(CNNBlock()) == 75_968
    assert count_weights(ResNetBlock()) == 190_784


def test_the_recurrent_block_is_an_lstm_that_ends_on_the_last_row():
    """Hochreiter and Schmidhuber's cell with the gates input, forget, cell, output."""
    block = build_model("LSTM-400", hidden_size=5, seed=0).recurrent
    inputs = torch.rand(2, 16, 20)
    layers = dict(block.layers.named_parameters())
    rows = list(inputs.unbind(1))
    for layer in range(2):
        hidden = cell = torch.zeros(2, 5)
        for step, row in enumerate(rows):
            gates = row @ layers[f"weight_ih_l{layer}"].T + layers[f"bias_ih_l{layer}"]
            gates = gates + hidden @ layers[f"weight_hh_l{layer}"].T + layers[f"bias_hh_l{layer}"]
            enter, forget, new, leave = gates.chunk(4, dim=1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = rows[step] = leave.sigmoid() * cell.tanh()
    torch.testing.assert_close(block(inputs), hidden)


def test_both_directions_end_on_their_last_row():
    block = build_model("CNN-GRU-384", hidden_size=5, bidirectional=True, seed=0).recurrent
    inputs = torch.rand(2, 16, 20)
    _, last = block.layers(inputs)
    torch.testing.assert_close(block(inputs), torch.cat([last[-2], last[-1]], dim=1))


def test_overrides_replace_the_table():
    model = build_model("LSTM-448", hidden_size=8, num_layers=3, bidirectional=True)
    assert model.spec == ModelSpec(None, "lstm", 8, 3, True)
    assert model(torch.rand(1, 16, 20)).shape == (1, 4)
    assert MODELS["LSTM-448"] == ModelSpec(None, "lstm", 448)


def test_a_seed_gives_one_set_of_weights_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, second = (build_model("LSTM-400", hidden_size=4, seed=3) for _ in range(2))
    other = build_model("LSTM-400", hidden_size=4, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_seed_leaves_the_generators_of_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded"))
    build_model("LSTM-400", hidden_size=4, seed=3)


def test_unknown_names_and_bad_sizes_are_refused():
    with pytest.raises(ValueError, match=r"unknown model 'LSTM-449'; choose one of CNN-GRU-384"):
        build_model("LSTM-449")
    for bad in ({"hidden_size": 0}, {"num_layers": 1.5}, {"hidden_size": True}):
        with pytest.raises(ValueError, match="must be a positive integer"):
            build_model("LSTM-448", **bad)
    with pytest.raises(ValueError, match="bidirectional must be True or False"):
        build_model("LSTM-448", bidirectional="yes")
    with pytest.raises(ValueError, match="block must be one of"):
        ModelSpec("vgg", "gru", 3)
    with pytest.raises(ValueError, match="recurrent must be one of"):
        ModelSpec(None, "rnn", 3)
    with pytest.raises(ValueError, match=r"one of \[None\] beside the block 'graph', not 'lstm'"):
        ModelSpec("graph", "lstm", 3)
    with pytest.raises(ValueError, match="a graph block has no direction"):
        build_model("Graph-64", bidirectional=True)


@pytest.mark.parametrize("name", ["CNN-LSTM-400", "ResNet-GRU-256", "LSTM-448", "Graph-64"])
def test_describe_accounts_for_every_weight(name):
    table = describe(build_model(name))
    assert table["weights"].sum() == WEIGHTS[name]
    assert table["output"].iloc[-1] == "4"
    assert table["layer"].is_unique


def test_describe_shows_shapes():
    table = describe(build_model("CNN-LSTM-400")).set_index("layer")
    assert table.loc["recurrent.layers", "output"] == "16 x 400"
    convolutions = table[table["type"].str.startswith("Conv2d")]
    assert convolutions["output"].tolist() == ["128 x 13 x 17", "64 x 4 x 6"]
    assert convolutions["weights"].tolist() == [2176, 73_792]
    graph = describe(build_model("Graph-64")).set_index("layer")
    assert graph.loc["graph.layers.11", "type"] == "MessageLayer(64)"
    assert graph.loc["graph.together", "output"] == "512"


def test_a_changed_network_says_what_is_changed():
    assert changes(build_model("LSTM-448", num_layers=2)) == []
    changed = build_model("LSTM-448", hidden_size=3, num_layers=1, bidirectional=True)
    assert changes(changed) == [
        "hidden size 3 instead of 448",
        "num layers 1 instead of 2",
        "bidirectional True instead of False",
    ]
