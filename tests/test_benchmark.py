"""The benchmark runs, measures both ways, and prints what it wrote."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cicy_utils import (
    benchmark,
    benchmark_cluster,
    benchmark_training,
    cluster,
    steps,
    stopwatch,
    training,
)
from cicy_utils.benchmark_training import Case, OneByOne, Sizes, epoch_split
from cicy_utils.data import load_cicy4
from cicy_utils.models import build_model

TINY = Sizes(
    batches=(4,),
    usual=8,
    ours=8,
    steps=1,
    side=16,
    list_sizes=(50, 100),
    list_hidden=4,
    list_batch=8,
    hidden_sizes=(4, 8),
    batch_sizes=(2, 4),
    growth=8,
)
PLAN = dataclasses.replace(
    benchmark.SMALL,
    subset=50,
    plain_sample=3,
    labels=60,
    entries=20,
    growth=(50, 100),
    training={"cpu": TINY},
)
CASE = Case("cpu", "float32", "LSTM-448", 8)


@pytest.fixture
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(benchmark_training, "available_devices", lambda: ["cpu"])


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(benchmark_training, "PAPER_BATCH", 8)


@pytest.fixture
def small_models(monkeypatch):
    monkeypatch.setattr(Case, "build", lambda *_: build_model("LSTM-448", hidden_size=4))


@pytest.fixture
def in_this_process(monkeypatch):
    def measure(_module, point):
        return benchmark.POINTS[point["what"]](point)

    monkeypatch.setattr(benchmark_training, "in_new_process", measure)


def test_training_and_prediction_are_measured_both_ways(on_a_cpu):
    content = benchmark.run(PLAN, ["training", "inference"])
    training_rows, inference = content["training"], content["inference"]
    float32 = [row for row in training_rows if row["precision"] == "float32"]
    for rows in (float32, inference):
        assert [row["model"] for row in rows] == list(benchmark_training.MODELS)
    for row in training_rows + inference:
        assert row["device"] == "cpu"
        assert row["ratio"] == row["ours"] / row["usual"]
        assert row["ours_range"][0] <= row["ours"] <= row["ours_range"][1]
        share = row["share_of_peak"]
        assert share is None if row["model"] == "Graph-64" else share > 0
    for row in training_rows:
        assert row["epoch_seconds"] == 652_092 / row["ours"]
    text = benchmark.markdown(content)
    assert text.index("| training |") < text.index("| prediction |")
    assert json.loads(json.dumps(content)) == content


def test_each_part_of_a_step_has_its_row(on_a_cpu, small_batches):
    rows = list(benchmark_training.benchmark_steps({"cpu": TINY}, 2, []))
    assert [row["variant"] for row in rows] == [
        "list on the device, loss fetched in every step",
        "loss fetched once an epoch",
        "fused AdamW",
    ]
    assert rows[0]["gain"] is None
    assert rows[2]["gain"] == rows[2]["rate"] / rows[1]["rate"]


def test_what_zeros_cost_a_graph_has_its_rows(on_a_cpu, small_batches):
    first, second = benchmark_training.benchmark_graph({"cpu": TINY}, 1, [])
    assert [first["variant"], second["variant"]] == ["all 320 entries", "those that are not zero"]
    assert first["gain"] is None
    assert second["gain"] == second["rate"] / first["rate"]


def test_what_muon_costs_has_its_rows(on_a_cpu, small_batches, monkeypatch):
    monkeypatch.setattr(benchmark_training, "_precisions", lambda _: ("float32", "bfloat16"))
    rows = list(benchmark_training.benchmark_optimizers({"cpu": TINY}, 1, []))
    cases = [("Graph-64", "float32"), ("LSTM-448", "float32"), ("LSTM-448", "bfloat16")]
    assert [(row["model"], row["precision"]) for row in rows[::3]] == cases
    ways = ["AdamW", "Muon as PyTorch has it", "Muon as it is here"]
    assert [row["variant"] for row in rows] == ways * 3
    assert rows[3]["gain"] is None
    assert rows[5]["gain"] == rows[5]["rate"] / rows[4]["rate"]


def test_a_graph_is_recorded_with_and_without_zeros_on_a_gpu(small_batches):
    timer = benchmark_training.Timer(CASE, load_cicy4(subset=40), TINY)
    timer.place = torch.device("cuda")
    assert list(benchmark_training.graph_variants(timer, [])) == [
        "all 320 entries",
        "all 320 entries, one CUDA graph",
        "those that are not zero, one CUDA graph",
    ]


def test_one_device_only_where_it_is_asked_for(tmp_path, monkeypatch, small_batches):
    """Every part of training goes by the plan's sizes, which the option cuts to one device."""
    monkeypatch.setattr(benchmark_training, "available_devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(
        benchmark, "SMALL", dataclasses.replace(PLAN, training={"cpu": TINY, "cuda": TINY})
    )
    target = tmp_path / "benchmark.json"
    benchmark.main(["--quick", "--only", "steps", "--device", "cpu", "--output", str(target)])
    assert {row["device"] for row in json.loads(target.read_text())["steps"]} == {"cpu"}
    monkeypatch.setattr(benchmark_training, "available_devices", lambda: ["cpu"])
    with pytest.raises(SystemExit):
        benchmark.main(["--quick", "--device", "cuda"])


def test_what_is_measured_is_kept_when_a_later_row_fails(tmp_path, monkeypatch):
    def fail(*_):
        yield {"seconds": 2.0}
        raise RuntimeError("the machine is gone")

    monkeypatch.setattr(benchmark, "SMALL", PLAN)
    monkeypatch.setattr(benchmark, "benchmark_loading", lambda _rounds: [{"seconds": 1.0}])
    monkeypatch.setattr(benchmark, "benchmark_parsers", fail)
    target = tmp_path / "benchmark.json"
    with pytest.raises(RuntimeError, match="gone"):
        benchmark.main(["--quick", "--only", "loading", "parser", "--output", str(target)])
    content = json.loads(target.read_text())
    assert (content["loading"], content["parser"]) == ([{"seconds": 1.0}], [{"seconds": 2.0}])


WITHOUT_NUMBA = f"""
import sys
sys.modules["numba"] = None
from cicy_utils import benchmark, benchmark_training
from cicy_utils.benchmark_training import Sizes
benchmark_training.available_devices = lambda: ["cpu"]
benchmark_training.PAPER_BATCH = 8
assert list(benchmark_training.benchmark_steps({{"cpu": {TINY!r}}}, 1, []))
benchmark.main(["--help"])
"""


def test_networks_are_measured_without_numba():
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_growth_is_measured_at_every_size(on_a_cpu, in_this_process):
    rows = list(benchmark.benchmark_growth(PLAN, 1, []))
    assert [(row["grows"], row["sizes"]) for row in rows] == [
        ("configurations", [50, 100]),
        ("hidden size", [4, 8]),
        ("batch size", [2, 4]),
        ("configurations", [50, 100]),
    ]
    for row in rows:
        assert len(row["seconds"]) == len(row["mib"]) == 2
    assert rows[-1]["what"] == "Hodge numbers"
    table = benchmark.markdown({"machine": {}, "growth": rows})
    assert "| 50 / 100 |" in table
    for row in rows:
        assert f"| {stopwatch.exponent(row['sizes'], row['seconds']):.2f} (" in table
    assert table.count("training epoch (") == 3


def test_exact_parts_and_the_file_that_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "SMALL", PLAN)
    target = tmp_path / "made" / "benchmark.json"
    parts = ["loading", "topology", "enumeration", "parser"]
    benchmark.main(["--quick", "--only", *parts, "--output", str(target)])
    content = json.loads(target.read_text())
    assert capsys.readouterr().out.strip() == benchmark.markdown(content)
    assert list(content) == ["machine", *parts, "notes"]
    assert content["machine"]["sizes"].startswith("quick")  # so that nobody quotes it
    assert content["loading"][0]["configurations"] == 905_684
    assert [row["quantity"] for row in content["topology"]] == ["Hodge numbers", "Euler numbers"]
    for row in content["topology"]:
        assert row["configurations"] == 50
        assert 0 < row["least"] <= row["seconds"] <= row["most"]
        assert row["ratio"] > 1  # plain Python is two orders of magnitude slower
    assert [row["configurations"] for row in content["enumeration"]] == [7868]
    assert {row["parser"] for row in content["parser"]} == {"ours", "literal_eval"}


def test_labelling_by_one_and_two_workers():
    content = benchmark.run(PLAN, ["cluster"])
    rows = content["cluster"]
    assert [(row["workers"], row["count"]) for row in rows] == [
        ("threads", 1),
        ("threads", 2),
        ("Dask workers", 1),
        ("Dask workers", 2),
    ]
    for row, alone in zip(rows, [rows[0], rows[0], rows[2], rows[2]], strict=True):
        assert row["configurations"] == 60
        assert 0 < row["least"] <= row["seconds"] <= row["most"]
        assert row["rate"] == 60 / row["seconds"]
        assert row["ratio"] == pytest.approx(row["rate"] / alone["rate"])
    assert "| Dask workers | 2 | 60 |" in benchmark.markdown(content)


def test_without_distributed_the_cluster_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    benchmark.main(["--quick", "--only", "cluster", "--output", str(tmp_path / "file.json")])
    assert json.loads((tmp_path / "file.json").read_text())["cluster"] == []
    content = benchmark.run(PLAN, ["cluster"])
    assert content["cluster"] == []
    (note,) = content["notes"]
    assert "distributed is not installed" in note
    assert f"Note: {note}." in benchmark.markdown(content)


def test_local_workers_have_their_resources_and_end_with_the_block():
    with benchmark_cluster.local_cluster(["GPU=1 FIRST=1", "GPU=1"]) as address:
        for resource, workers in (("FIRST", 1), ("GPU", 2)):
            with cluster.connect(address, resource=resource) as found:
                assert found.slots() == workers
    with pytest.raises(ValueError, match="no scheduler answers"), cluster.connect(address):
        pass


def test_workers_that_do_not_start_say_why():
    with (
        pytest.raises(RuntimeError, match=r"dask worker does not start: .*'many'"),
        benchmark_cluster.local_cluster(["GPU=many"]),
    ):
        pass


def test_the_usual_way_computes_the_same():
    data = load_cicy4(subset=40)
    matrices, hodge = OneByOne(data, np.array([7, 3]))[1]
    assert matrices.dtype == hodge.dtype == torch.float32
    np.testing.assert_allclose(matrices.numpy(), data.matrices[3] / 6, rtol=1e-6)
    assert hodge.tolist() == data.hodge[3].tolist()
    model = CASE.build(hidden_size=5)
    usual = benchmark_training.usual_predict(CASE, model, data)
    np.testing.assert_allclose(
        usual, benchmark_training.our_predict(CASE, model, data), rtol=1e-5, atol=1e-5
    )


def test_what_is_timed_is_the_last_epoch(monkeypatch):
    asked = {}
    fit = training.fit

    def spy(model, data, split, config, run_dir):
        asked.update(sizes=split.sizes, config=config)
        asked["result"] = fit(model, data, split, config, run_dir)
        return asked["result"]

    monkeypatch.setattr(training, "fit", spy)
    case = dataclasses.replace(CASE, batch_size=16)
    took = benchmark_training.our_epoch(case, load_cicy4(subset=40), epoch_split(27), [], 4)
    assert asked["sizes"] == {"train": 27, "validation": 3, "test": 1}
    assert (asked["config"].batch_size, asked["config"].device) == (16, "cpu")
    assert len(asked["result"].history) == 2
    assert took == asked["result"].history["seconds"].iloc[-1]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only trainings advance: by a second a step, ten a validation, 100 a save."""
    now = [0.0]

    def slow(owner, name, seconds):
        work = getattr(owner, name)

        def slower(*arguments, **options):
            now[0] += seconds
            return work(*arguments, **options)

        monkeypatch.setattr(owner, name, slower)

    slow(steps.TrainStep, "__call__", 1)
    slow(training.Training, "_validate", 10)
    slow(training.Training, "save", 100)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])


@pytest.mark.parametrize("models", [1, 3])
def test_epochs_side_by_side_are_timed_with_all_that_belongs_to_them(clock, small_models, models):
    data, split = load_cicy4(subset=40), epoch_split(24)
    took = benchmark_training.many_epochs(CASE, data, split, [], models)
    assert took == models * (3 + 10 + 100)


def test_models_side_by_side_are_measured_beside_one_alone(monkeypatch):
    """What a GPU's rows compare; each second of them is one of ``many_epochs``."""
    timer = benchmark_training.Timer(CASE, load_cicy4(subset=40), TINY)
    timer.place = torch.device("cuda")
    monkeypatch.setattr(benchmark_training, "many_epochs", lambda *a: {1: 2.0, 4: 4.0}[a[-1]])
    *_, (alone, one), (together, four) = benchmark_training.step_variants(timer, []).items()
    assert (alone, together) == (
        "validating and saving once an epoch",
        "4 models side by side, together",
    )
    assert (one(), four()) == (TINY.ours / 2.0, 4 * TINY.ours / 4.0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_besides_the_list_leaves_out_its_copy_on_a_gpu(monkeypatch, small_models, device):
    """Of our side, which has one there; the usual way has none."""
    aside = []

    class Memory:
        def __init__(self, _device, bytes_aside=0):
            aside.append(bytes_aside)

        def peak(self):
            return 1.0

    monkeypatch.setattr(benchmark_training, "available_devices", lambda: [device])
    monkeypatch.setattr(benchmark_training, "device_name", lambda name: name)
    monkeypatch.setattr(benchmark_training, "_precisions", lambda _: ("float32",))
    monkeypatch.setattr(benchmark_training, "matrix_product_peak", lambda *_: 1.0)
    monkeypatch.setattr(benchmark_training, "MODELS", ("LSTM-448",))
    monkeypatch.setattr(benchmark_training, "Memory", Memory)
    for side in ("usual_epoch", "our_epoch"):
        monkeypatch.setattr(benchmark_training, side, lambda *_, **options: 1.0)
    (row,) = benchmark_training.benchmark_training({device: TINY}, 1, [])
    assert row["usual_mib"] == row["ours_mib"] == (1.0 if device == "cuda" else None)
    point = {"device": device, "training configurations": 8, "hidden size": 4, "batch size": 8}
    assert benchmark_training.epoch_point(point) == {"seconds": 1.0, "mib": 1.0, "notes": []}
    # 8 configurations to train on, 1 to validate, 1 to test
    beside = [0, 10 * (16 * 20 + 4 * 2)] if device == "cuda" else []
    assert aside == [*beside, 0]  # where the cost grows, the list counts


@pytest.mark.parametrize("fails", [False, True])
def test_memory_of_a_gpu_is_its_peak_without_what_is_put_aside(monkeypatch, fails):
    """After a CUDA graph that could not be recorded PyTorch may refuse to empty its cache."""

    def empty_cache():
        if fails:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10 * stopwatch.MIB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 15 * stopwatch.MIB)
    assert stopwatch.Memory("cuda").peak() == 5
    assert stopwatch.Memory("cuda", aside=2 * stopwatch.MIB).peak() == 3


def test_operations_are_those_of_the_architecture():
    lstm = benchmark_training.operations_per_configuration(build_model("LSTM-448"))
    recurrent = 4 * 448 * (20 + 448) + 4 * 448 * (448 + 448)
    assert lstm == 2 * (16 * recurrent + 448 * 1024 + 1024 * 4)
    assert round(3 * 652_092 * lstm / 1e12) == 155  # a training epoch
    both = benchmark_training.operations_per_configuration(build_model("CNN-LSTM-400"))
    recurrent = 4 * 400 * (20 + 400) + 4 * 400 * (400 + 400)
    convolutions = 128 * 16 * 13 * 17 + 64 * 128 * 9 * 4 * 6
    head = (384 + 400) * 1024 + 1024 * 4
    assert both == 2 * (16 * recurrent + convolutions + head)


def test_other_precisions_are_timed_once_on_a_cpu(monkeypatch):
    monkeypatch.setattr(benchmark_training, "_precisions", lambda _: ("float32", "bfloat16"))
    size = dataclasses.replace(TINY, batches=(4, 8))
    cpu, gpu = (benchmark_training.cases(device, size) for device in ("cpu", "cuda"))
    assert len(gpu) == 2 * 4 * 2
    assert [case for case in cpu if case.precision != "float32"] == [
        Case("cpu", "bfloat16", "LSTM-448", 4)
    ]


def test_a_fallback_is_told_once_for_each_case(monkeypatch, capsys):
    said = "no CUDA graph, so every step is launched from Python: its losses are"
    notes = []
    other = dataclasses.replace(CASE, precision="tf32")
    for number, case in enumerate([CASE, CASE, other]):
        with benchmark_training._listening(notes, case):
            print(f"epoch 1\n{said} {number}")
    assert notes == [
        f"LSTM-448, float32, batch 8: {said} 0",
        f"LSTM-448, tf32, batch 8: {said} 2",
    ]
    assert capsys.readouterr().out == ""
    assert f"Note: {notes[1]}." in benchmark.markdown({"machine": {}, "notes": notes})


def test_a_fallback_while_the_cost_grows_is_told(monkeypatch):
    points = [{"n": 1}, {"n": 2}]
    found = {"seconds": 1.0, "mib": 2.0, "notes": ["eager"]}
    monkeypatch.setattr(benchmark_training, "in_new_process", lambda *_: found)
    notes = []
    benchmark_training.growth("cpu", "epoch", "n", points, 2, notes)
    assert notes == ["eager"]


def test_each_point_of_a_growth_is_the_median_of_its_rounds(monkeypatch):
    order = []

    def measure(_module, point):
        order.append(point["n"])
        disturbed = len(order) == 2
        return {"seconds": point["n"] + 9.0 * disturbed, "mib": point["n"] * 2, "notes": []}

    monkeypatch.setattr(benchmark_training, "in_new_process", measure)
    row = benchmark_training.growth("cpu", "epoch", "n", [{"n": 1}, {"n": 2}], 3, [])
    assert order == [1, 2] * 3
    assert (row["sizes"], row["seconds"], row["mib"]) == ([1, 2], [1, 2], [2, 4])


def test_the_share_of_the_peak_is_that_of_the_operations(monkeypatch, small_models):
    """Backwards costs twice as much as forwards, and a ninth as many are validated."""
    monkeypatch.setattr(benchmark_training, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr(benchmark_training, "MODELS", ("LSTM-448",))
    peaks = {"float32": 1e9, "bfloat16": 4e9}
    monkeypatch.setattr(benchmark_training, "matrix_product_peak", lambda _d, p, *_: peaks[p])
    monkeypatch.setattr(benchmark_training, "_precisions", lambda _: tuple(peaks))
    for side in ("usual_epoch", "our_epoch"):
        monkeypatch.setattr(benchmark_training, side, lambda *_, **options: 0.5)
    rows = list(benchmark_training.benchmark_training({"cpu": TINY}, 1, []))
    each = benchmark_training.operations_per_configuration(CASE.build())
    for row in rows:
        share = 8 / 0.5 * (28 / 9) * each / peaks[row["precision"]]
        assert row["share_of_peak"] == pytest.approx(share)
    assert len(rows) == 2


def test_the_peak_is_that_of_the_fastest_product(monkeypatch):
    times = iter([0.0, 3.0, 10.0, 12.0, 20.0, 25.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(benchmark_training, "PRODUCTS", 3)
    peak = benchmark_training.matrix_product_peak("cpu", "float32", 16)
    assert peak == 2 * 16**3 / 2.0


def test_alternatives_take_turns():
    order = []
    measures = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert stopwatch.interleaved(measures, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert order == list("abbaab")


def test_exponents_are_those_of_power_laws():
    sizes = [10, 100, 500]
    assert stopwatch.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert stopwatch.exponent(sizes, [1.0, 2.0, None]) is None
    assert stopwatch.exponent(sizes, [1.0, 0.0, 1.0]) is None
    assert stopwatch.median([1, 5, 2]) == 2
    assert stopwatch.median([1, None]) is None


TAKE_64_MIB = """
import numpy as np
from cicy_utils import stopwatch
memory = stopwatch.Memory()
array = np.ones(64 * stopwatch.MIB, dtype=np.uint8)
del array
print(memory.peak())
"""


def test_memory_is_what_was_taken_at_the_most():
    """In a process of its own: in this one, tests before may have left as much to be used again."""
    done = subprocess.run([sys.executable, "-c", TAKE_64_MIB], capture_output=True, text=True)
    peak = ast.literal_eval(done.stdout)
    assert (peak is None) == (not sys.platform.startswith("linux"))
    assert peak is None or 60 < peak < 100


def test_a_measurement_that_fails_says_why():
    with pytest.raises(RuntimeError, match="KeyError: 'nonsense'"):
        stopwatch.in_new_process(benchmark.MODULE, {"what": "nonsense"})
