"""Files of a training run that are whole or absent: its state and its best weights."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cicy_utils.files import write_atomically

STATE_FILE = "checkpoint.pt"
WEIGHTS_FILE = "weights.safetensors"
SMALL_WEIGHTS_FILE = "weights.float16.safetensors"  # a copy to be kept with the project
WEIGHTS_FILES = (WEIGHTS_FILE, SMALL_WEIGHTS_FILE)
METADATA_KEY = "cicy_utils"


def save_state(path: Path, state: dict) -> None:
    """Write a training state: nested dicts and lists of tensors, numbers and strings."""
    # Through memory: a full disk is then an OSError, and not torch's own RuntimeError.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_state(path: Path) -> dict:
    """Read a training state onto the CPU; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: the file is damaged or is no training state.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no training state {path}")
    refusal = f"{path} is damaged or is no training state; delete it to train from the beginning"
    # Through memory: what goes wrong after the reading is then the content's fault.
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            if archive.testzip():  # torch does not look at the checksums
                raise ValueError(refusal)
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damage can lead to any
        raise ValueError(refusal) from error
    if not isinstance(state, dict):
        raise ValueError(refusal)
    return state


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict) -> None:
    """Write weights as safetensors with metadata that JSON can express.

    The metadata is one text under one key: safetensors writes several in no fixed order, and the
    same run should give the same bytes.
    """
    text = {METADATA_KEY: json.dumps(metadata)}
    write_atomically(path, lambda file: file.write(safetensors.torch.save(weights, text)))


def find_weights(folder: Path) -> Path | None:
    """The file of weights in a run folder, before the small copy of it; None without any."""
    return next(filter(Path.is_file, (folder / name for name in WEIGHTS_FILES)), None)


def weights_file(folder: Path) -> Path:
    """The same where there must be one.

    Raises:
        FileNotFoundError: there is none; the message names the folders in it, or else beside it,
            that have one.
    """
    if found := find_weights(folder):
        return found
    text = f"there are no weights in {folder}"
    for around in (folder, folder.parent):
        near = (path for name in WEIGHTS_FILES for path in around.glob(f"*/{name}"))
        if names := sorted({path.parent.name for path in near}):
            raise FileNotFoundError(f"{text}; in {around} there are some of {', '.join(names)}")
    raise FileNotFoundError(
        f"{text}: train the model first, or name the folder of a finished run (in a notebook as "
        "CHECKPOINT)"
    )


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read weights and metadata written by :func:`save_weights`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: the file is damaged, or has not the metadata of this package.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no weights file {path}: train the model first, or name a folder of "
            "results/reference that has one"
        )
    content = Path(path).read_bytes()
    try:
        weights = safetensors.torch.load(content)
        # The length of the header, in eight bytes, and the header; safetensors gives it of files
        # only, and takes every error of the disk for damage or a missing file.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return weights, json.loads(header["__metadata__"][METADATA_KEY])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or was not written by this package; train the model again"
        ) from error
