"""How fast networks are trained and applied here, beside the usual way of doing it.

The usual way is what a tutorial shows: a ``Dataset`` that returns one configuration at a time as
float32, a ``DataLoader`` with its default settings, and the loss fetched with ``.item()`` in every
step. Network, loss, optimizer, precision and threads are the same on both sides.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from cicy_utils import devices, optimizers, steps, training
from cicy_utils.data import MAX_ENTRY, SHAPE, Cicy4, load_cicy4
from cicy_utils.models import ROWS, HodgeNetwork, build_model, layer_outputs
from cicy_utils.paper import SPLIT_SIZES
from cicy_utils.splits import Split
from cicy_utils.stopwatch import Memory, in_new_process, interleaved, median, seconds

MAIN_MODEL, GRAPH_MODEL, PAPER_BATCH = "LSTM-448", "Graph-64", 128
MODELS = (MAIN_MODEL, "CNN-LSTM-400", "ResNet-GRU-400", GRAPH_MODEL)
LEARNING_RATE = 0.001  # it does not change how long a step takes
EPOCHS = 2  # the last is timed: the first warms up
WARM_UP_BATCHES = 3
FULL_EPOCH = SPLIT_SIZES["72"]["train"]
SIDE_BY_SIDE = 4
PRODUCTS = 10  # the best of them tells the peak
SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How much is computed on one kind of device.

    Attributes:
        batches: batch sizes.
        usual, ours: configurations of a training epoch, or as many predictions, on either side;
            a batch more than that gets one step.
        steps: of each variant of a step.
        side: edge of the square matrices whose product gives the peak.
        list_sizes, list_hidden, list_batch: for the growth with the number of configurations, at
            a hidden size that leaves time for the whole list.
        hidden_sizes, batch_sizes: for the growth with these.
        growth: training configurations of an epoch while these grow.
    """

    batches: tuple[int, ...]
    usual: int
    ours: int
    steps: int
    side: int
    list_sizes: tuple[int, ...]
    list_hidden: int
    list_batch: int
    hidden_sizes: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    growth: int


EVERY_SIZE = (10_000, 30_000, 100_000, 300_000, 905_684)
FULL = {
    "cpu": Sizes(
        batches=(128, 1024),
        usual=2048,
        ours=2048,
        steps=8,
        side=2048,
        list_sizes=EVERY_SIZE,
        list_hidden=8,
        list_batch=1024,
        hidden_sizes=(56, 112, 224, 448),
        batch_sizes=(32, 128, 512, 2048),
        growth=2048,
    ),
    "cuda": Sizes(
        batches=(128, 1024),
        usual=12_800,
        ours=32_768,
        steps=300,
        side=8192,
        list_sizes=EVERY_SIZE,
        list_hidden=448,
        list_batch=1024,
        hidden_sizes=(56, 112, 224, 448, 896),
        batch_sizes=(32, 128, 512, 2048, 8192),
        growth=65_536,
    ),
}
QUICK = {
    "cpu": Sizes(
        batches=(128,),
        usual=128,
        ours=128,
        steps=1,
        side=512,
        list_sizes=(10_000, 20_000),
        list_hidden=4,
        list_batch=1024,
        hidden_sizes=(56, 224),
        batch_sizes=(32, 128),
        growth=128,
    ),
    "cuda": Sizes(
        batches=(128,),
        usual=1280,
        ours=12_800,
        steps=30,
        side=4096,
        list_sizes=(10_000, 30_000),
        list_hidden=448,
        list_batch=128,
        hidden_sizes=(112, 448),
        batch_sizes=(128, 512),
        growth=12_800,
    ),
}


@dataclass(frozen=True)
class Case:
    """One network at work in one way on one device ("cpu" or "cuda")."""

    device: str
    precision: str
    model: str
    batch_size: int

    def build(self, hidden_size: int | None = None) -> HodgeNetwork:
        """The network with fresh weights, on the device."""
        model = build_model(self.model, hidden_size=hidden_size, seed=SEED)
        return model.to(self.device)


def benchmark_training(
    sizes: dict[str, Sizes], rounds: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Training epochs, the usual way and with ``training.fit``, in alternation.

    An epoch goes through n training configurations and validates on n/9 others, as in the 72 %
    split.

    Args:
        sizes: by kind of device, see ``FULL``.
        rounds: how often; medians are reported.
        notes: gets what is to be told besides.

    Yields:
        One row per case: device, precision, model, batch_size; usual and ours (training
        configurations per second), usual_range and ours_range ([least, most]), ratio (ours over
        usual); share_of_peak (of the floating-point operations per second that a matrix product
        reaches on the same device; None for a graph network); epoch_seconds (ours, for an epoch of
        the complete 72 % split); usual_mib and ours_mib (memory taken besides the list on a GPU;
        None on a CPU, where a process that has trained before uses what it has again).
    """
    for device, size in _here(sizes):
        most = max(size.ours, size.usual, *size.batches)
        data = load_cicy4(subset=_with_validation(most), subset_seed=SEED)
        peaks = {
            precision: matrix_product_peak(device, precision, size.side)
            for precision in _precisions(device)
        }
        for case in cases(device, size):
            alternatives = {
                "usual": partial(_epoch, usual_epoch, case, data, size.usual, notes),
                "ours": partial(
                    _epoch, our_epoch, case, data, size.ours, notes, aside=list_bytes(data)
                ),
            }
            found = interleaved(alternatives, rounds)
            row = _beside(case, {side: [e.rate for e in epochs] for side, epochs in found.items()})
            work = 3 + 1 / 9  # backwards costs twice as much as forwards; and the validation
            row["share_of_peak"] = _share(work * row["ours"], case.build(), peaks[case.precision])
            row["epoch_seconds"] = FULL_EPOCH / row["ours"]
            yield row | {f"{side}_mib": median(e.mib for e in found[side]) for side in found}


def benchmark_inference(sizes: dict[str, Sizes], rounds: int) -> Iterator[dict[str, Any]]:
    """Predictions, the usual way and with ``training.predict``, in alternation; in float32.

    Yields:
        Rows as of :func:`benchmark_training`, in configurations per second, without epoch_seconds
        and memory.
    """
    for device, size in _here(sizes):
        data = load_cicy4(subset=max(size.ours, size.usual, *size.batches), subset_seed=SEED)
        peak = matrix_product_peak(device, "float32", size.side)
        for case in cases(device, size):
            if case.precision != "float32":
                continue
            model = case.build().eval()
            alternatives = {
                "usual": partial(_predict, usual_predict, case, model, data, size.usual),
                "ours": partial(_predict, our_predict, case, model, data, size.ours),
            }
            for warm_up in alternatives.values():
                warm_up()
            row = _beside(case, interleaved(alternatives, rounds))
            row["share_of_peak"] = _share(row["ours"], model, peak)
            yield row


def benchmark_steps(
    sizes: dict[str, Sizes], rounds: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """What each part of the training loop is worth: LSTM-448 at the paper's batch size.

    Yields:
        One row per device, precision and variant, each with what the one above has and one thing
        more: device, precision, variant, rate (configurations per second, median), range, and gain
        (rate over that of the variant above).
    """
    return _variants(MAIN_MODEL, step_variants, _main_precisions, sizes, rounds, notes)


def benchmark_graph(
    sizes: dict[str, Sizes], rounds: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """The same of what is done differently for the graph network only; rows as of the above."""
    return _variants(GRAPH_MODEL, graph_variants, _main_precisions, sizes, rounds, notes)


def benchmark_optimizers(
    sizes: dict[str, Sizes], rounds: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """What Muon costs, beside AdamW and PyTorch's Muon; rows as of the above, and model."""
    for model, precisions in ((GRAPH_MODEL, _main_precisions), (MAIN_MODEL, _precisions)):
        for row in _variants(model, optimizer_variants, precisions, sizes, rounds, notes):
            yield {"model": model} | row


def _variants(
    model: str,
    variants_of: Callable[[Timer, list[str]], dict[str, Callable[[], float]]],
    precisions: Callable[[str], Sequence[str]],
    sizes: dict[str, Sizes],
    rounds: int,
    notes: list[str],
) -> Iterator[dict[str, Any]]:
    for device, size in _here(sizes):
        data = load_cicy4(subset=_with_validation(max(size.ours, 4096)), subset_seed=SEED)
        for precision in precisions(device):
            timer = Timer(Case(device, precision, model, PAPER_BATCH), data, size)
            found = interleaved(variants_of(timer, notes), rounds)
            rates = {name: float(np.median(rates)) for name, rates in found.items()}
            before = None
            for name, rate in rates.items():
                yield {
                    "device": device_name(device),
                    "precision": precision,
                    "variant": name,
                    "rate": rate,
                    "range": [min(found[name]), max(found[name])],
                    "gain": before and rate / before,
                }
                before = rate


class Timer:
    """Measures training steps of one case, on batches drawn from a list."""

    def __init__(self, case: Case, data: Cicy4, size: Sizes) -> None:
        self.case, self.data, self.size = case, data, size
        self.place = torch.device(case.device)
        self.source = steps.to_device(data, self.place)

    def step(
        self,
        *,
        optimizer: Callable[[HodgeNetwork], Optimizer | PlainMuon] | None = None,
        zeros: bool = False,
    ) -> steps.TrainStep:
        """An eager step; by fused AdamW or another, and with or without zeros in a graph."""
        model = self.case.build()
        if zeros:
            model.graph.entries = Everything
        optimizer = (optimizer or partial(_ours, "adamw"))(model)
        loss = steps.HodgeLoss().to(self.place)
        return steps.TrainStep(model, self.source, loss, optimizer, precision=self.case.precision)

    def rate(self, make: Callable[[], Callable[[Tensor], object]]) -> float:
        """Configurations per second of the step that ``make`` makes."""
        batch_size = self.case.batch_size
        with devices.matrix_precision(self.case.precision), _own_stream(self.place):
            step = make()
            warm_up = min(WARM_UP_BATCHES, self.size.steps)
            count = batch_size * (self.size.steps + warm_up)
            # The list is in the order of its sizes, a batch of a training is not.
            order = np.random.default_rng(SEED).permutation(len(self.data))
            order = torch.from_numpy(np.resize(order, count))
            batches = order.to(self.place).split(batch_size)
            for batch in batches[:warm_up]:
                step(batch)
            _synchronise(self.place)
            start = time.perf_counter()
            for batch in batches[warm_up:]:
                step(batch)
            _synchronise(self.place)
            return batch_size * self.size.steps / (time.perf_counter() - start)


def _plain_adamw(model: HodgeNetwork) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)


def _ours(name: str, model: HodgeNetwork) -> Optimizer:
    optimizer = optimizers.build(name, model, 0.01)
    optimizers.set_learning_rate(optimizer, LEARNING_RATE)
    return optimizer


class PlainMuon:
    """PyTorch's Muon for hidden matrices, the gates of an LSTM as one, and AdamW for the rest."""

    def __init__(self, model: HodgeNetwork) -> None:
        hidden, others = optimizers.apart(model)
        weights = [weight for weight, _ in hidden]
        self.both = (
            torch.optim.Muon(
                weights, lr=LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=LEARNING_RATE, fused=True),
        )

    def zero_grad(self) -> None:
        for optimizer in self.both:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.both:
            optimizer.step()


def step_variants(timer: Timer, notes: list[str]) -> dict[str, Callable[[], float]]:
    """Variants of a training step, each measured by a function that returns its rate."""

    def fetching() -> Callable[[Tensor], object]:
        step = timer.step(optimizer=_plain_adamw)

        def step_and_fetch(batch: Tensor) -> float:
            step(batch)
            return step.total.item()

        return step_and_fetch

    variants = {
        "list on the device, loss fetched in every step": lambda: timer.rate(fetching),
        "loss fetched once an epoch": lambda: timer.rate(
            lambda: timer.step(optimizer=_plain_adamw)
        ),
        "fused AdamW": lambda: timer.rate(timer.step),
    }
    if timer.place.type == "cuda":
        variants["one CUDA graph"] = lambda: timer.rate(lambda: _recorded(timer, notes))
        variants["validating and saving once an epoch"] = partial(_epochs_rate, timer, notes, 1)
        variants[f"{SIDE_BY_SIDE} models side by side, together"] = partial(
            _epochs_rate, timer, notes, SIDE_BY_SIDE
        )
    return variants


class Everything:
    """What ``graph.Filled`` is for entries that are not zero, for all 320 of B matrices.

    There is more to compute and less to look up. What is known is in tensors (B, 16, 20, F) for
    entries, (B, 16, 1, F) for rows, (B, 1, 20, F) for columns, and (B, F) for matrices.
    """

    def __init__(self, matrices: Tensor) -> None:
        self.values = matrices
        self.present = (matrices != 0)[..., None]

    def row_sums(self, x: Tensor) -> Tensor:
        return (x * self.present).sum(2, keepdim=True)

    def column_sums(self, x: Tensor) -> Tensor:
        return (x * self.present).sum(1, keepdim=True)

    def sum_of_rows(self, x: Tensor) -> Tensor:
        return x.sum((1, 2))

    sum_of_columns = sum_of_rows

    def sum_of_entries(self, x: Tensor) -> Tensor:
        return (x * self.present).sum((1, 2))

    def of_matrices(self, x: Tensor) -> Tensor:
        return x

    def of_matrix(self, whole: Tensor) -> Tensor:
        return whole[:, None, None]

    def of_row(self, known: Tensor) -> Tensor:
        return known.expand(-1, *SHAPE, -1)

    of_column = of_row


def graph_variants(timer: Timer, notes: list[str]) -> dict[str, Callable[[], float]]:
    """The same of the graph network."""
    everything, filled = "all 320 entries", "those that are not zero"
    eager = {everything: lambda: timer.rate(lambda: timer.step(zeros=True))}
    if timer.place.type == "cpu":
        return eager | {filled: lambda: timer.rate(timer.step)}
    return eager | {
        f"{entries}, one CUDA graph": partial(
            timer.rate, partial(_recorded, timer, notes, zeros=zeros)
        )
        for entries, zeros in ((everything, True), (filled, False))
    }


def optimizer_variants(timer: Timer, notes: list[str]) -> dict[str, Callable[[], float]]:
    """The same of the optimizers: ours in a CUDA graph on a GPU, PyTorch's Muon step by step.

    That one takes the learning rate as a number, which a graph would keep as it was.
    """
    made = {
        "AdamW": partial(_ours, "adamw"),
        "Muon as PyTorch has it": PlainMuon,
        "Muon as it is here": partial(_ours, "muon"),
    }

    def make(optimizer: Callable[[HodgeNetwork], Any]) -> Callable[[Tensor], object]:
        if optimizer is PlainMuon:
            return timer.step(optimizer=optimizer)
        return _recorded(timer, notes, optimizer=optimizer)

    return {name: partial(timer.rate, partial(make, chosen)) for name, chosen in made.items()}


def _epochs_rate(timer: Timer, notes: list[str], models: int) -> float:
    """Configurations per second of whole epochs of so many models side by side, together."""
    n = timer.size.ours
    return models * n / many_epochs(timer.case, timer.data, epoch_split(n), notes, models)


def _recorded(timer: Timer, notes: list[str], **how: Any) -> Callable[[Tensor], object]:
    with _listening(notes, timer.case):
        return steps.fastest_step(timer.step(**how), timer.case.batch_size)


def benchmark_growth(
    sizes: dict[str, Sizes], rounds: int, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Time and memory of a training epoch against the size of the list, of the network, of a batch.

    Each point is measured in processes of its own, one in every round.

    Yields:
        One row per series: device, what (what an epoch is of), grows ("configurations", "hidden
        size" or "batch size"), sizes, seconds and mib (memory, the copy of the list included).
    """
    for device, size in _here(sizes):
        named = {"what": "epoch", "device": device}
        fixed = named | {"training configurations": size.growth, "batch size": PAPER_BATCH}
        fixed["hidden size"] = 448
        least = named | {"hidden size": size.list_hidden, "batch size": size.list_batch}
        for grows, values, others in (
            ("configurations", size.list_sizes, least),
            ("hidden size", size.hidden_sizes, fixed),
            ("batch size", size.batch_sizes, fixed),
        ):
            words = [f"{k} {v:,}" for k, v in others.items() if k not in (*named, grows)]
            what = f"training epoch ({', '.join(words)})"
            points = [others | {grows: value} for value in values]
            yield growth(device_name(device), what, grows, points, rounds, notes)


def growth(
    device: str,
    what: str,
    grows: str,
    points: Sequence[dict[str, Any]],
    rounds: int,
    notes: list[str],
) -> dict[str, Any]:
    """Measure some points, each in a process of its own, round after round: medians."""
    found = [
        [in_new_process("cicy_utils.benchmark", point) for point in points] for _ in range(rounds)
    ]
    for note in (note for one in found for point in one for note in point["notes"]):
        if note not in notes:
            notes.append(note)
    of_each = list(zip(*found, strict=True))
    return {
        "device": device,
        "what": what,
        "grows": grows,
        "sizes": [point[grows] for point in points],
        "seconds": [median(one["seconds"] for one in times) for times in of_each],
        "mib": [median(one["mib"] for one in times) for times in of_each],
    }


def epoch_point(point: dict[str, Any]) -> dict[str, Any]:
    """An epoch of LSTM-448 on so many configurations: seconds, MiB, and notes.

    point: "device", "hidden size", "batch size", and "configurations", of which nine in ten are
    trained on, or "training configurations".
    """
    n = point.get("training configurations") or (point["configurations"] - 1) * 9 // 10
    case = Case(point["device"], "float32", MAIN_MODEL, point["batch size"])
    data = load_cicy4(subset=_with_validation(n), subset_seed=SEED)
    notes: list[str] = []
    our_epoch(case, data, epoch_split(min(n, 32)), notes, hidden_size=4)  # what is taken but once
    memory = Memory(case.device)
    took = our_epoch(case, data, epoch_split(n), notes, hidden_size=point["hidden size"])
    return {"seconds": took, "mib": memory.peak(), "notes": notes}


def list_bytes(data: Cicy4) -> int:
    """Bytes of the copy of the list that ``training.fit`` makes on its device."""
    return data.matrices.nbytes + data.hodge.nbytes


def matrix_product_peak(device: str, precision: str, side: int) -> float:
    """Floating-point operations per second of the best of some products of square matrices."""
    place = torch.device(device)
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    generator = torch.Generator().manual_seed(SEED)
    left, right = (torch.randn(side, side, generator=generator).to(place, kind) for _ in range(2))
    best = np.inf
    with devices.matrix_precision(precision):
        for _ in range(PRODUCTS):
            _synchronise(place)
            start = time.perf_counter()
            left @ right
            _synchronise(place)
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _share(rate: float, model: HodgeNetwork, peak: float) -> float | None:
    """Of the peak, by so many predictions per second; None where each matrix costs its own."""
    return None if model.graph is not None else rate * operations_per_configuration(model) / peak


def operations_per_configuration(model: nn.Module) -> float:
    """Floating-point operations of a prediction: two for each weight each time it is used."""
    leaves = [layer for layer in model.modules() if not any(layer.children())]
    operations = 0
    for layer, output in layer_outputs(model, leaves):
        matrices = sum(w.numel() for name, w in layer.named_parameters() if "weight" in name)
        if isinstance(layer, nn.RNNBase):
            matrices *= ROWS
        elif isinstance(layer, nn.Conv2d):
            matrices *= output.shape[-2] * output.shape[-1]
        operations += 2 * matrices
    return float(operations)


class OneByOne(Dataset):
    """Configurations as the usual way has them: one at a time, as float32."""

    def __init__(self, data: Cicy4, indices: np.ndarray) -> None:
        self.matrices, self.hodge = data.matrices[indices], data.hodge[indices]

    def __len__(self) -> int:
        return len(self.hodge)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        matrix = torch.tensor(self.matrices[index], dtype=torch.float32) / MAX_ENTRY
        return matrix, torch.tensor(self.hodge[index], dtype=torch.float32)


def usual_epoch(case: Case, data: Cicy4, split: Split, _notes: list[str]) -> float:
    """Seconds of an epoch, validation included, written as tutorials write it."""
    train = DataLoader(OneByOne(data, split.train), batch_size=case.batch_size, shuffle=True)
    validation = DataLoader(OneByOne(data, split.validation), batch_size=case.batch_size)
    model, place = case.build(), torch.device(case.device)
    criterion = nn.HuberLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def train_on(matrices: Tensor, hodge: Tensor) -> float:
        matrices, hodge = matrices.to(place), hodge.to(place)
        optimizer.zero_grad()
        with devices.autocast(place, case.precision):
            outputs = model(matrices)
        loss = criterion(outputs, hodge)
        loss.backward()
        optimizer.step()
        return loss.item()

    with devices.matrix_precision(case.precision):
        for number, batch in enumerate(train, start=1):
            train_on(*batch)
            if number == WARM_UP_BATCHES:
                break
        start = time.perf_counter()
        model.train()
        running = 0.0
        for matrices, hodge in train:
            running += train_on(matrices, hodge)
        model.eval()
        with torch.no_grad():
            for matrices, hodge in validation:
                with devices.autocast(place, case.precision):
                    outputs = model(matrices.to(place))
                running += criterion(outputs, hodge.to(place)).item()
        return time.perf_counter() - start


def our_epoch(
    case: Case, data: Cicy4, split: Split, notes: list[str], hidden_size: int | None = None
) -> float:
    """Seconds of the last epoch of a short training by ``training.fit``, validation included."""
    config = _config(case)
    model = case.build(hidden_size)
    with tempfile.TemporaryDirectory() as folder, _listening(notes, case):
        result = training.fit(model, data, split, config, Path(folder) / "run")
    return float(result.history["seconds"].iloc[-1])


def many_epochs(case: Case, data: Cicy4, split: Split, notes: list[str], models: int) -> float:
    """Seconds of the last epoch of several models trained side by side, the slowest included.

    They begin when every model has trained, validated and saved in the epoch before, and end when
    every one has in this.
    """
    ended: dict[int, float] = {}  # when the last model was done with an epoch

    def note(row: dict) -> None:
        ended[row["epoch"]] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder, _listening(notes, case):
        runs = [
            training.Run(
                case.build(), data, split, _config(case), Path(folder) / str(number), on_epoch=note
            )
            for number in range(models)
        ]
        training.fit_many(runs)
    return ended[EPOCHS] - ended[EPOCHS - 1]


def our_predict(case: Case, model: nn.Module, data: Cicy4) -> np.ndarray:
    """Predictions for all of these configurations by ``training.predict``."""
    return training.predict(model, data.matrices, batch_size=case.batch_size, device=case.device)


def usual_predict(case: Case, model: nn.Module, data: Cicy4) -> np.ndarray:
    """Predictions for all of these configurations, written as tutorials write it."""
    loader = DataLoader(OneByOne(data, np.arange(len(data))), batch_size=case.batch_size)
    place, outputs = torch.device(case.device), []
    model.eval()
    with torch.no_grad(), devices.matrix_precision(case.precision):
        for matrices, _ in loader:
            outputs.append(model(matrices.to(place)).cpu().numpy())
    return np.concatenate(outputs)


def available_devices() -> list[str]:
    """ "cpu", and "cuda" where there is a GPU."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _here(sizes: dict[str, Sizes]) -> list[tuple[str, Sizes]]:
    """The devices to measure on, those that are here and have sizes, with these."""
    return [(device, sizes[device]) for device in available_devices() if device in sizes]


def device_name(device: str) -> str:
    """ "cpu", or the GPU as its maker calls it."""
    return devices.device_name(torch.device(device))


def cases(device: str, size: Sizes) -> list[Case]:
    """What is timed on a device: on a CPU other precisions than float32 for one network only."""
    found = [
        Case(device, precision, model, batch)
        for precision in _precisions(device)
        for model in MODELS
        for batch in size.batches
    ]
    main = (MAIN_MODEL, size.batches[0])
    return [
        case
        for case in found
        if device != "cpu" or case.precision == "float32" or (case.model, case.batch_size) == main
    ]


def epoch_split(n: int) -> Split:
    """A split that trains on n configurations, in the proportions of the 72 % split."""
    end = _with_validation(n)
    return Split("benchmark", SEED, *np.split(np.arange(end), [n, end - 1]))


def _with_validation(n: int) -> int:
    """How many configurations ``epoch_split(n)`` needs; the last one stands for a test set."""
    return n + max(n // 9, 1) + 1


def _config(case: Case) -> training.TrainConfig:
    return training.TrainConfig(
        learning_rate=LEARNING_RATE,
        batch_size=case.batch_size,
        max_epochs=EPOCHS,
        device=case.device,
        precision=case.precision,
        seed=SEED,
    )


def _precisions(device: str) -> Sequence[str]:
    return devices.native_precisions(torch.device(device))


def _main_precisions(device: str) -> Sequence[str]:
    """All of a GPU, and float32 only of a CPU, where most parts are worth as little in any."""
    return ("float32",) if device == "cpu" else _precisions(device)


def _beside(case: Case, found: dict[str, list[float]]) -> dict[str, Any]:
    """The row of a case, from the rates on both sides."""
    rates = {side: float(np.median(values)) for side, values in found.items()}
    ranges = {f"{side}_range": [min(values), max(values)] for side, values in found.items()}
    named = asdict(case) | {"device": device_name(case.device)}
    return named | rates | ranges | {"ratio": rates["ours"] / rates["usual"]}


class Epoch(NamedTuple):
    """Training configurations per second, and on a GPU MiB besides the list."""

    rate: float
    mib: float | None


def _epoch(
    take: Callable[..., float],
    case: Case,
    data: Cicy4,
    n: int,
    notes: list[str],
    aside: int = 0,
) -> Epoch:
    n = max(n, case.batch_size)
    memory = Memory(case.device, aside) if case.device != "cpu" else None
    rate = n / take(case, data, epoch_split(n), notes)
    return Epoch(rate, memory and memory.peak())


def _predict(
    take: Callable[..., np.ndarray], case: Case, model: nn.Module, data: Cicy4, n: int
) -> float:
    """Predictions per second."""
    n = max(n, case.batch_size)
    some = replace(data, matrices=data.matrices[:n], hodge=data.hodge[:n])
    with _listening([], case):
        return n / seconds(lambda: take(case, model, some))


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """Give work on a GPU a stream of its own, as a training has."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield


def _synchronise(device: torch.device) -> None:
    """Wait for a GPU to finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _listening(notes: list[str], case: Case) -> Iterator[None]:
    """Keep what a training says from the screen; that it fell back to eager steps goes to notes.

    Once for each case, as a second reason may differ in a digit.
    """
    whose = f"{case.model}, {case.precision}, batch {case.batch_size:,}: "
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            known = any(note.startswith(whose) for note in notes)
            if line.startswith("no CUDA graph") and not known:
                notes.append(whose + line)
