"""The networks of arXiv 2405.17406, section 4, and one beyond: feature blocks, a linear head.

A configuration matrix divided by 6 goes in as float32 (B, 16, 20); h11, h21, h31, h22 come out as
float32 (B, 4). A convolutional block sees the matrix as an image of one colour, a recurrent block
as a sequence of 16 rows with 20 features each, and a graph block, which is ours, as what it is: a
graph whose order of rows and columns has no meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from cicy_utils.data import HODGE_NAMES, SHAPE
from cicy_utils.graph import GraphBlock, MessageLayer

ROWS, COLUMNS = SHAPE
OUTPUTS = len(HODGE_NAMES)
HEAD_SIZE = 1024


@dataclass(frozen=True)
class ModelSpec:
    """What distinguishes one network from another.

    Attributes:
        block: the convolutional feature block, "cnn" or "resnet"; "graph" for a graph block, which
            stands alone; or None for a purely recurrent network.
        recurrent: "gru" or "lstm"; None beside a graph block.
        hidden_size: features of the recurrent block, per direction, or of an entry of the matrix
            in a graph block.
        num_layers: recurrent layers, or rounds of messages, on top of each other.
        bidirectional: whether a second recurrence reads the rows from the last to the first.
    """

    block: str | None
    recurrent: str | None
    hidden_size: int
    num_layers: int = 2
    bidirectional: bool = False

    def __post_init__(self) -> None:
        if self.block not in (*FEATURE_BLOCKS, "graph"):
            blocks = [*FEATURE_BLOCKS, "graph"]
            raise ValueError(f"block must be one of {blocks}, not {self.block!r}")
        recurrent = [None] if self.block == "graph" else list(RECURRENT_LAYERS)
        if self.recurrent not in recurrent:
            beside = f" beside the block {self.block!r}" if self.block else ""
            raise ValueError(
                f"recurrent must be one of {recurrent}{beside}, not {self.recurrent!r}"
            )
        for name in ("hidden_size", "num_layers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
            object.__setattr__(self, name, int(value))  # JSON knows no number of NumPy's
        if not isinstance(self.bidirectional, bool):
            raise ValueError(f"bidirectional must be True or False, not {self.bidirectional!r}")
        if self.bidirectional and self.recurrent is None:
            raise ValueError("a graph block has no direction: leave bidirectional False")


class CNNBlock(nn.Sequential):
    """Two convolutions, 384 features; 75,968 weights (paper, Fig. 7).

    As in the reference there is no activation between the convolutions.
    """

    features = 384

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, ROWS)),  # (B, 16, 20) -> (B, 1, 16, 20): one colour
            nn.Conv2d(1, 128, 4),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 64, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
        )


class ResNetBlock(nn.Module):
    """Three convolutions plus a linear short-cut, 256 features; 190,784 weights (Figs. 12 to 14).

    The published 191,168 counts 384 weights of two batch normalisations which the reference
    creates and never calls; they are left out here.
    """

    features = 256

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Unflatten(1, (1, ROWS)),
            nn.Conv2d(1, 128, 4),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(128, 64, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 2),
            nn.Flatten(),
        )
        self.shortcut = nn.Sequential(
            nn.Flatten(), nn.Linear(ROWS * COLUMNS, self.features, bias=False)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.convolutions(inputs) + self.shortcut(inputs)


FEATURE_BLOCKS = {None: None, "cnn": CNNBlock, "resnet": ResNetBlock}
RECURRENT_LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM}

# The paper's twelve, the two ResNet-LSTM whose training it stopped early, and our own.
MODELS: dict[str, ModelSpec] = {
    "CNN-GRU-384": ModelSpec("cnn", "gru", 384),
    "CNN-GRU-416": ModelSpec("cnn", "gru", 416),
    "ResNet-GRU-256": ModelSpec("resnet", "gru", 256),
    "ResNet-GRU-400": ModelSpec("resnet", "gru", 400),
    "CNN-LSTM-256": ModelSpec("cnn", "lstm", 256),
    "CNN-LSTM-384": ModelSpec("cnn", "lstm", 384),
    "CNN-LSTM-400": ModelSpec("cnn", "lstm", 400),
    "CNN-LSTM-416": ModelSpec("cnn", "lstm", 416),
    "LSTM-400": ModelSpec(None, "lstm", 400),
    "LSTM-424": ModelSpec(None, "lstm", 424),
    "LSTM-448": ModelSpec(None, "lstm", 448),
    "LSTM-456": ModelSpec(None, "lstm", 456),
    "ResNet-LSTM-256": ModelSpec("resnet", "lstm", 256),
    "ResNet-LSTM-400": ModelSpec("resnet", "lstm", 400),
    "Graph-64": ModelSpec("graph", None, 64, num_layers=12),
}


class RecurrentBlock(nn.Module):
    """A GRU or LSTM over the 16 rows; its features are the last state of the top layer.

    Read in both directions, the last state of each is taken: after row 16 and after row 1.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.directions = 2 if spec.bidirectional else 1
        self.features = self.directions * spec.hidden_size
        self.layers = RECURRENT_LAYERS[spec.recurrent](
            COLUMNS,
            spec.hidden_size,
            spec.num_layers,
            batch_first=True,
            bidirectional=spec.bidirectional,
        )

    def hidden_matrices(self) -> list[tuple[nn.Parameter, int]]:
        """The weights of its gates, one above the other, but for those that read the matrix."""
        gates = {nn.GRU: 3, nn.LSTM: 4}[type(self.layers)]
        named = self.layers.named_parameters()
        return [
            (weight, gates)
            for name, weight in named
            if name.startswith("weight_") and not name.startswith("weight_ih_l0")
        ]

    def forward(self, inputs: Tensor) -> Tensor:
        _, last = self.layers(inputs)
        if isinstance(last, tuple):  # an LSTM also has the states of its cells
            last, _ = last
        top = last[-self.directions :]  # of (layers * directions, B, hidden_size)
        return top.transpose(0, 1).flatten(1)


class HodgeNetwork(nn.Module):
    """Feature blocks side by side, then two linear layers without activation (Figs. 6 and 15).

    The head is float32 also where the feature blocks compute in 16 bits.
    """

    def __init__(self, name: str, spec: ModelSpec) -> None:
        super().__init__()
        self.name = name
        self.spec = spec
        self.recurrent = RecurrentBlock(spec) if spec.recurrent else None
        convolutional = FEATURE_BLOCKS.get(spec.block)
        self.convolutional = convolutional() if convolutional else None
        self.graph = None
        if spec.block == "graph":
            self.graph = GraphBlock(spec.hidden_size, spec.num_layers)
        features = sum(block.features for block in self.blocks)
        self.head = nn.Sequential(nn.Linear(features, HEAD_SIZE), nn.Linear(HEAD_SIZE, OUTPUTS))
        # What the head's zero and one mean as Hodge numbers; as they are here they change nothing.
        self.register_buffer("target_mean", torch.zeros(OUTPUTS))
        self.register_buffer("target_scale", torch.ones(OUTPUTS))

    @property
    def blocks(self) -> list[nn.Module]:
        """The feature blocks, in the order of their features."""
        found = (self.convolutional, self.recurrent, self.graph)
        return [block for block in found if block is not None]

    def hidden_matrices(self) -> list[tuple[nn.Parameter, int]]:
        """The matrices of recurrent layers and of rounds of messages, for ``optimizers.Muon``.

        Returns:
            Weights (m R, C), and of how many matrices (R, C) each is made, one above the other.
        """
        found = [block for block in (self.recurrent, self.graph) if block is not None]
        return [pair for block in found for pair in block.hidden_matrices()]

    @property
    def settings(self) -> dict:
        """Name and structure as plain values: enough for ``build_model`` to make it again."""
        return {"name": self.name, **asdict(self.spec)}

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.cat([block(inputs) for block in self.blocks], dim=1)
        # Hodge numbers reach 1,752, more than 16 bits could tell from their neighbours.
        with torch.autocast(inputs.device.type, enabled=False):
            return self.target_mean + self.target_scale * self.head(features.float())


def specification(name: str, **changes: Any) -> ModelSpec:
    """A network of the table ``MODELS``, with changes; one that is None changes nothing.

    Raises:
        ValueError: unknown name, or a size that is no positive integer.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    return replace(MODELS[name], **{key: v for key, v in changes.items() if v is not None})


def build_model(
    name: str,
    *,
    hidden_size: int | None = None,
    num_layers: int | None = None,
    bidirectional: bool | None = None,
    seed: int | None = None,
) -> HodgeNetwork:
    """A network of the table ``MODELS``, with fresh weights on the CPU.

    Args:
        name: as in the paper, e.g. "LSTM-448".
        hidden_size, num_layers, bidirectional: replace the table's value.
        seed: of the initial weights, which are then the same whatever ran before; torch's global
            generator is left as it was. None draws them from that generator.

    Returns:
        The network: float32 (B, 16, 20), configuration matrices divided by 6, to float32 (B, 4).

    Raises:
        ValueError: unknown name, or a size that is no positive integer.
    """
    spec = specification(
        name, hidden_size=hidden_size, num_layers=num_layers, bidirectional=bidirectional
    )
    if seed is None:
        return HodgeNetwork(name, spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and not those of GPUs, which are not restored
        return HodgeNetwork(name, spec)


def changes(model: HodgeNetwork) -> list[str]:
    """How a network differs from the one of that name in ``MODELS``, in words for a label."""
    here, there = asdict(model.spec), asdict(MODELS[model.name])
    return [
        f"{name.replace('_', ' ')} {value} instead of {there[name]}"
        for name, value in here.items()
        if value != there[name]
    ]


def count_weights(model: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def describe(model: nn.Module) -> pd.DataFrame:
    """The layers of a network in the order in which they run.

    Returns:
        One row per layer with the columns "layer" (its name in the network), "type" (the PyTorch
        layer with its settings), "output" (shape for one configuration matrix, e.g.
        "128 x 13 x 17") and "weights" (trainable weights of that layer).
    """
    names = {layer: name for name, layer in model.named_modules()}
    whole = [layer for layer in names if isinstance(layer, MessageLayer)]
    inside = {part for layer in whole for part in layer.children()}
    shown = [one for one in names if one in whole or not (any(one.children()) or one in inside)]
    rows = []
    for layer, output in layer_outputs(model, shown):
        shape = (output[0] if isinstance(output, tuple) else output).shape[1:]
        size = " x ".join(map(str, shape))
        rows.append((names[layer], repr(layer), size, count_weights(layer)))
    return pd.DataFrame(rows, columns=["layer", "type", "output", "weights"])


def layer_outputs(model: nn.Module, layers: Iterable[nn.Module]) -> list[tuple[nn.Module, Any]]:
    """Layers and what they give for a matrix of zeros, in the order in which they run."""
    found: list[tuple[nn.Module, Any]] = []

    def note(layer: nn.Module, _inputs: object, output: Any) -> None:
        found.append((layer, output))

    hooks = [layer.register_forward_hook(note) for layer in layers]
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            model(torch.zeros(1, ROWS, COLUMNS, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return found
