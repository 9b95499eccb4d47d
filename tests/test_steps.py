import contextlib
import copy
import gc

import numpy as np
import pytest
import torch
from torch import nn

from cicy_utils import config, devices, optimizers, prediction, reference, steps, topology
from cicy_utils.data import LAYOUTS, arrange, load_cicy4
from cicy_utils.graph import Padded, fixed_sizes, room_for
from cicy_utils.models import HodgeNetwork, ModelSpec, build_model


@pytest.fixture
def source():
    random = np.random.default_rng(0)
    matrices = torch.tensor(random.integers(0, 3, (40, 16, 20)), dtype=torch.uint8)
    return steps.Tensors(matrices, matrices.sum(dim=(1, 2))[:, None].repeat(1, 4).short())


def make_step(source, model=None, *, optimizer="adamw", **settings):
    model = model or build_model("LSTM-448", hidden_size=6, seed=1).to(source.hodge.device)
    optimizer = optimizers.build(optimizer, model, 0.01)
    optimizers.set_learning_rate(optimizer, 0.01)
    loss = steps.HodgeLoss().to(source.hodge.device)
    return steps.TrainStep(model, source, loss, optimizer, **settings)


def test_the_default_loss_is_the_papers():
    predictions = torch.tensor([[1.0, 0.0, 30.0, 200.0], [2.0, 0.25, 39.0, 241.5]])
    hodge = torch.tensor([[1, 0, 31, 210], [4, 0, 39, 241]], dtype=torch.int16)
    expected = nn.functional.huber_loss(predictions, hodge.float())
    torch.testing.assert_close(steps.HodgeLoss()(predictions, hodge), expected)


def test_units_weights_and_delta_of_the_loss():
    hodge = torch.zeros(1, 4, dtype=torch.int16)
    units = torch.tensor([1.0, 2.0, 4.0, 8.0])
    loss = steps.HodgeLoss(units, weights=(0, 0, 1, 3), delta=0.5)
    # errors in units: 2 / 4 = 0.5 (quadratic: 0.125) and 16 / 8 = 2 (0.5 (2 - 0.25) = 0.875)
    value = loss(torch.tensor([[9.0, 9.0, 2.0, 16.0]]), hodge)
    assert value.item() == pytest.approx((0.125 + 3 * 0.875) / 4)


def test_shuffling_keeps_the_manifold_and_the_empty_places(cicy4_sample):
    matrices = torch.from_numpy(cicy4_sample.matrices[:50].copy())
    generator = torch.Generator().manual_seed(3)
    shuffled = steps.shuffled(matrices, generator)
    assert not torch.equal(shuffled, matrices)
    for axis in (1, 2):
        assert torch.equal((shuffled != 0).any(axis), (matrices != 0).any(axis))
        sums = [m.sum(axis).sort(dim=1).values for m in (matrices, shuffled)]
        assert torch.equal(*sums)
    again = steps.shuffled(matrices, torch.Generator().manual_seed(3))
    assert torch.equal(shuffled, again)
    for one, other in zip(matrices[:5], shuffled[:5], strict=True):
        rows = [sorted(tuple(sorted(row.tolist())) for row in m) for m in (one, other)]
        assert rows[0] == rows[1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shuffling_ties_keeps_the_sums_where_they_are(cicy4_sample, layout):
    matrices = arrange(cicy4_sample.matrices[:50], layout)
    generator = torch.Generator().manual_seed(3)
    shuffled = steps.shuffled(torch.from_numpy(matrices), generator, ties=True).numpy()
    assert (shuffled != matrices).any(axis=(1, 2)).mean() > 0.9
    for axis in (1, 2):
        np.testing.assert_array_equal(shuffled.sum(axis), matrices.sum(axis))
    np.testing.assert_array_equal(topology.hodge_numbers_batch(shuffled), cicy4_sample.hodge[:50])


def test_every_order_of_ties_is_reached_and_no_other():
    matrix = torch.zeros(16, 20, dtype=torch.uint8)
    matrix[3:6, :3] = torch.tensor([[1, 1, 0], [1, 0, 2], [0, 1, 2]])  # sums 2, 3, 3 and 2, 2, 4
    generator = torch.Generator().manual_seed(5)
    drawn = steps.shuffled(matrix.expand(4000, 16, 20), generator, ties=True)
    found, times = np.unique(drawn[:, 3:6, :3].reshape(-1, 9).numpy(), axis=0, return_counts=True)
    assert found.tolist() == [[1, 1, 0, 0, 1, 2, 1, 0, 2], [1, 1, 0, 1, 0, 2, 0, 1, 2]]
    assert times.min() > 1800  # of 2,000 on average, with a standard deviation of 32


def test_permuting_keeps_manifolds_and_padding(small_list):
    matrices = small_list.matrices[:10]
    permuted = steps.permute_matrices(matrices, seed=1)
    assert permuted.dtype == np.uint8
    np.testing.assert_array_equal(permuted.any(axis=1), matrices.any(axis=1))
    np.testing.assert_array_equal(permuted.any(axis=2), matrices.any(axis=2))
    np.testing.assert_array_equal(topology.hodge_numbers_batch(permuted), small_list.hodge[:10])


def test_permuting_reaches_every_order_of_rows_and_columns_alike():
    matrices = np.zeros((6000, 16, 20), dtype=np.uint8)
    matrices[:, 3:5, :3] = [[1, 2, 0], [3, 0, 4]]
    permuted = steps.permute_matrices(matrices, seed=5)
    assert not permuted[:, :3].any() and not permuted[:, 5:].any() and not permuted[:, :, 3:].any()
    _, counts = np.unique(permuted.reshape(6000, -1), axis=0, return_counts=True)
    assert len(counts) == 2 * 6
    assert counts.min() > 400 and counts.max() < 600  # 500 expected, 4.7 standard deviations


def test_permuting_depends_on_the_seed_alone(cicy4_sample):
    one, again, other = (
        steps.permute_matrices(cicy4_sample.matrices[50:], seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_average_follows_the_weights(source):
    step = make_step(source, averaged=True)
    before = [weight.detach().clone() for weight in step.model.parameters()]
    step.follow.fill_(0.25)
    step(torch.arange(8))
    for old, new, mean in zip(
        before, step.model.parameters(), step.average.parameters(), strict=True
    ):
        torch.testing.assert_close(mean, old + 0.25 * (new - old))


def test_long_gradients_are_clipped(source):
    step = make_step(source, clip_norm=1e-3)
    step(torch.arange(8))
    norms = [weight.grad.norm() for weight in step.model.parameters()]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_is_for_the_feature_blocks_only(source):
    step = make_step(source, precision="bfloat16")
    seen = {}
    step.model.recurrent.register_forward_hook(lambda *a: seen.update(features=a[2].dtype))
    step.model.head.register_forward_hook(lambda *a: seen.update(head=a[2].dtype))
    step(torch.arange(8))
    assert seen == {"features": torch.bfloat16, "head": torch.float32}
    assert {weight.dtype for weight in step.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_muon_multiplies_in_the_precision_of_the_training(source, precision, monkeypatch):
    seen, product = set(), torch.baddbmm

    def seeing(*args, **settings):
        found = product(*args, **settings)
        seen.add(found.dtype)
        return found

    monkeypatch.setattr(torch, "baddbmm", seeing)
    step = make_step(source, optimizer="muon", precision=precision)
    before = [weight.clone() for weight, _ in step.model.hidden_matrices()]
    step(torch.arange(8))
    assert seen == {getattr(torch, precision)}
    for old, (weight, _) in zip(before, step.model.hidden_matrices(), strict=True):
        assert weight.dtype == torch.float32 and not torch.equal(old, weight)


class Recorder:
    """Stands in for CUDA graphs on a CPU: a replay takes the eager step, or something else.

    Where steps cannot be recorded, it fails as PyTorch does: at the first kernel that cannot be,
    and once more at the end.
    """

    def __init__(self, monkeypatch, replay=None, can_record=True):
        self.step, self.replay_as, self.replays = None, replay, 0
        self.can_record = can_record
        self.streams = []  # that something was recorded on
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "Stream", lambda _device: object())
        monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(steps.GraphedStep, "failure", None)

    def graph(self, _graph, stream):
        self.streams.append(stream)
        return contextlib.nullcontext() if self.can_record else self.failing()

    @contextlib.contextmanager
    def failing(self):
        refusing = self.step.model.register_forward_pre_hook(self.refuse)
        try:
            yield
        finally:
            refusing.remove()
            raise RuntimeError("operation failed due to a previous error during capture")

    @staticmethod
    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    def replay(self):
        self.replays += 1
        (self.replay_as or self.step)(self.batch)

    def attach(self, step):
        """What the recorded step is, and the batch it reads."""
        record = steps.GraphedStep._record

        def attached(graphed, *arguments):
            self.step, self.batch = step, graphed.batch
            record(graphed, *arguments)

        return attached


@pytest.mark.parametrize("averaged", [False, True])
def test_recording_changes_no_weight_and_replays_equal_steps(source, monkeypatch, averaged):
    step, eager = (make_step(source, averaged=averaged) for _ in range(2))
    recorder = Recorder(monkeypatch)
    monkeypatch.setattr(steps.GraphedStep, "_record", recorder.attach(step))
    graphed = steps.GraphedStep(step, 8)
    for one, other in zip(step.changing, eager.changing, strict=True):
        assert torch.equal(one, other)
    recorder.replays = 0
    for batch in torch.arange(20).split(8):  # two full ones, and one of four
        graphed(batch)
        eager(batch)
    assert recorder.replays == 2
    for one, other in zip(step.changing, eager.changing, strict=True):
        assert torch.equal(one, other)


def test_each_graph_is_recorded_on_a_stream_of_its_own(source, monkeypatch):
    recorder = Recorder(monkeypatch)
    record = steps.GraphedStep._record
    for step in [make_step(source) for _ in range(2)]:
        monkeypatch.setattr(steps.GraphedStep, "_record", record)
        monkeypatch.setattr(steps.GraphedStep, "_record", recorder.attach(step))
        steps.GraphedStep(step, 8)
    assert len(set(recorder.streams)) == 2


@pytest.mark.parametrize("fault", [None, "another result", "no recording"])
def test_a_graph_network_is_recorded_with_fixed_sizes_and_compared_with_others(
    source, monkeypatch, fault
):
    """On a CPU with what is recorded there: the step, as often as it is replayed."""
    step = make_step(source, build_model("Graph-64", hidden_size=4, num_layers=2, seed=1))
    block, rooms = step.model.graph, []
    block.register_forward_pre_hook(lambda *_: rooms.append(block.room))
    if fault == "another result":
        right = Padded.of_matrices
        monkeypatch.setattr(Padded, "of_matrices", lambda self, x: 5 * right(self, x))
    recorder = Recorder(monkeypatch, can_record=fault != "no recording")
    monkeypatch.setattr(steps.GraphedStep, "_record", recorder.attach(step))
    drawn_from = torch.arange(5, 25)
    with pytest.raises(RuntimeError) if fault else contextlib.nullcontext():
        steps.GraphedStep(step, 8, drawn_from)
    room = room_for(source.matrices, drawn_from, 8)
    assert rooms == [None] * 3 + [room] * (3 if fault == "no recording" else 3 + 1 + 3)
    assert block.room is None


def normed_step(source):
    """Of a network with buffers that a step changes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(320), nn.Linear(320, 4))
    return make_step(source, model, averaged=True)


def test_recording_changes_no_buffer_and_an_average_has_those_of_its_model(source, monkeypatch):
    step, eager = normed_step(source), normed_step(source)
    monkeypatch.setattr(steps.GraphedStep, "_record", Recorder(monkeypatch).attach(step))
    graphed = steps.GraphedStep(step, 8)
    for taken in (0, 1):
        if taken:
            graphed(torch.arange(8))
            eager(torch.arange(8))
        for one, other in ((step.model, eager.model), (step.average, eager.average)):
            assert one[1].num_batches_tracked == taken
            for name, tensor in one.state_dict().items():
                assert torch.equal(tensor, other.state_dict()[name]), name
    for own, buffer in zip(step.average.buffers(), step.model.buffers(), strict=True):
        assert torch.equal(own, buffer)
    assert step.model[1].running_mean.any()


@pytest.fixture
def as_on_a_gpu(source, monkeypatch):
    """A step that takes itself for one on a GPU, for which a graph is to be recorded."""
    step = make_step(source)
    step.device = torch.device("cuda")
    monkeypatch.setattr(devices, "autocast", lambda *_: contextlib.nullcontext())
    return step


@pytest.mark.parametrize(("off", "agrees"), [(5e-4, True), (2e-3, False)])
@pytest.mark.parametrize("learning_rate", [1e-8, 1e-3, 0.01])
def test_replays_agree_within_a_thousandth(
    source, as_on_a_gpu, monkeypatch, off, agrees, learning_rate
):
    """At whatever learning rate a training stands, which keeps it."""
    step = as_on_a_gpu
    optimizers.set_learning_rate(step.optimizer, learning_rate)

    def replay(batch):
        before = step.total.clone()
        step(batch)
        step.total.copy_(before + (step.total - before) * (1 + off))

    monkeypatch.setattr(steps.GraphedStep, "_record", Recorder(monkeypatch, replay).attach(step))
    assert isinstance(steps.fastest_step(step, 8), steps.GraphedStep) == agrees
    assert step.optimizer.param_groups[0]["lr"] == learning_rate


def test_a_replay_that_ignores_the_learning_rate_is_found(source, as_on_a_gpu, monkeypatch):
    step = as_on_a_gpu
    optimizers.set_learning_rate(step.optimizer, 0.01)

    def replay(batch):
        optimizers.set_learning_rate(step.optimizer, 0.01)  # as recorded
        step(batch)

    monkeypatch.setattr(steps.GraphedStep, "_record", Recorder(monkeypatch, replay).attach(step))
    assert steps.fastest_step(step, 8) is step


def test_nothing_is_collected_during_a_recording(source, monkeypatch):
    step, enabled = make_step(source), []
    monkeypatch.setattr(steps.GraphedStep, "_record", Recorder(monkeypatch).attach(step))
    hook = step.model.register_forward_pre_hook(lambda *_: enabled.append(gc.isenabled()))
    steps.GraphedStep(step, 8)
    hook.remove()
    assert enabled == [True] * 3 + [False] + [True] * 3  # eager, recorded, replayed
    assert gc.isenabled()


def test_too_little_memory_is_not_taken_for_a_step_that_cannot_be_recorded(
    source, as_on_a_gpu, monkeypatch
):
    def no_memory(*_):
        raise torch.OutOfMemoryError("no memory for that")

    recorder = Recorder(monkeypatch, can_record=False)
    monkeypatch.setattr(recorder, "refuse", no_memory)
    monkeypatch.setattr(steps.GraphedStep, "_record", recorder.attach(as_on_a_gpu))
    with pytest.raises(torch.OutOfMemoryError, match="no memory for that"):
        steps.fastest_step(as_on_a_gpu, 8)
    assert steps.GraphedStep.failure is None


@pytest.mark.parametrize("fault", ["another result", "no replay", "no capture"])
def test_a_graph_that_fails_gives_way_to_eager_steps_with_a_line(
    source, as_on_a_gpu, monkeypatch, capsys, fault
):
    """The line tells of what came first. Where nothing was recorded, nothing more is tried."""
    step, untouched, wrong = as_on_a_gpu, make_step(source), make_step(source)

    def replay(batch):
        if fault == "no replay":
            raise RuntimeError("an illegal memory access was encountered\nand so on")
        wrong(batch)
        step.total += 1.0

    recorder = Recorder(monkeypatch, replay, can_record=fault != "no capture")
    monkeypatch.setattr(steps.GraphedStep, "_record", recorder.attach(step))
    for _ in range(2):
        assert steps.fastest_step(step, 8) is step
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    reason = {
        "another result": "its losses are [",
        "no replay": "an illegal memory access",
        "no capture": "operation not permitted when stream is capturing",
    }
    for line in lines:
        before, said = line.split(": ", maxsplit=1)
        assert before == "no CUDA graph, so every step is launched from Python"
        assert said.startswith(reason[fault])
    assert len(recorder.streams) == (1 if fault == "no capture" else 2)
    for one, other in zip(step.changing, untouched.changing, strict=True):
        assert torch.equal(one, other)


@pytest.fixture(autouse=True)
def nothing_has_failed(monkeypatch):
    """A recording that failed in one test keeps no other from trying."""
    monkeypatch.setattr(steps.GraphedStep, "failure", None)


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def loss_and_gradients(source, model, device):
    source = steps.Tensors(*(tensor.to(device) for tensor in source))
    step = make_step(source, model.to(device))
    with devices.matrix_precision("float32"):
        step(torch.arange(32, device=device))
    return step.total.item(), [weight.grad.cpu() for weight in step.model.parameters()]


@on_a_gpu
@pytest.mark.parametrize("fixed", [False, True])
def test_on_a_gpu_a_step_of_a_graph_is_that_of_a_cpu(source, fixed):
    model = build_model("Graph-64", hidden_size=16, seed=1)
    expected, here = loss_and_gradients(source, copy.deepcopy(model), torch.device("cpu"))
    room = fixed_sizes(model, source.matrices, torch.arange(40), 32)
    with room if fixed else contextlib.nullcontext():
        loss, there = loss_and_gradients(source, model, torch.device("cuda"))
    assert loss == pytest.approx(expected, rel=1e-5)
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * other.abs().max().item())


@on_a_gpu
@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("hidden_size", [6, 160, 448])
def test_on_a_gpu_a_step_is_that_of_a_cpu(source, recurrent, hidden_size):
    """Of wide networks, too: above 128 and 192 hidden features cuDNN goes over to other algorithms.

    Rounding changes a gradient by a millionth of its largest element, TF32 by 500 times as much.
    """
    source = source._replace(hodge=source.hodge % 3)
    torch.manual_seed(0)
    model = HodgeNetwork("any", ModelSpec(None, recurrent, hidden_size))
    (expected, here), (loss, there) = (
        loss_and_gradients(source, copy.deepcopy(model), torch.device(place))
        for place in ("cpu", "cuda")
    )
    assert loss == pytest.approx(expected, rel=1e-5)
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * other.abs().max().item())


@on_a_gpu
@pytest.mark.parametrize("chosen", config.OPTIMIZERS)
def test_on_a_gpu_a_step_from_trained_weights_is_recorded(chosen):
    """Rounding is a larger share of their losses than of those of fresh ones."""
    *_, folder = reference.find()
    model, metadata = prediction.load_model(folder)
    gpu = torch.device("cuda")
    source = steps.to_device(load_cicy4(layout=metadata["data"]["layout"]), gpu)
    loss = steps.HodgeLoss(source.hodge.float().std(dim=0), (1, 1, 2, 8), 0.003).to(gpu)
    optimizer = optimizers.build(chosen, model.to(gpu), 0.01)
    step = steps.TrainStep(model, source, loss, optimizer)
    with devices.matrix_precision("float32"):
        assert isinstance(steps.fastest_step(step, 128), steps.GraphedStep)


@on_a_gpu
@pytest.mark.parametrize("name", ["LSTM-448", "CNN-LSTM-400", "ResNet-GRU-400", "Graph-64"])
@pytest.mark.parametrize(
    ("averaged", "chosen"), [(False, "adamw"), (True, "adamw"), (True, "muon")]
)
def test_on_a_gpu_replays_agree_with_eager_steps(source, name, averaged, chosen):
    """Losses of 50 steps within a thousandth: sums are taken in another order."""
    gpu = torch.device("cuda")
    source = steps.Tensors(*(tensor.to(gpu) for tensor in source))
    losses, averages, reaches = [], [], []
    for make in (steps.GraphedStep, lambda step, _size: step):
        model = build_model(name, seed=1).to(gpu)
        optimizer = optimizers.build(chosen, model, 0.01)
        step = steps.TrainStep(
            model, source, steps.HodgeLoss().to(gpu), optimizer, averaged=averaged
        )
        batches = [(torch.arange(16, device=gpu) + number) % 40 for number in range(50)]
        with devices.matrix_precision("float32"):
            take = make(step, 16)
            optimizers.set_learning_rate(optimizer, 1e-3)
            # Python waits for nothing within an epoch, but for how much a graph has to compute
            # where that is not recorded.
            waits = name == "Graph-64" and take is step
            torch.cuda.set_sync_debug_mode("default" if waits else "error")
            try:
                for batch in batches:
                    take(batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        losses.append(step.total.item())
        if averaged:
            averages.append([weight.detach().clone() for weight in step.average.parameters()])
            hidden = {id(weight) for weight, _ in model.hidden_matrices() if chosen == "muon"}
            # Of what a weight can move in a step: a learning rate, or what Muon takes for it.
            reaches = [
                optimizers.USUAL_STEP if id(weight) in hidden else 1.0
                for weight in model.parameters()
            ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for one, other, reach in zip(*averages, reaches, strict=True) if averaged else ():
        torch.testing.assert_close(one, other, rtol=0, atol=0.1 * 50 * 1e-3 * reach)
