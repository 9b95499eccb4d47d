import errno
from pathlib import Path, PurePosixPath

import pytest
import safetensors.torch
import torch

from cicy_utils import checkpoint

UNREADABLE = Path("/proc/self/mem")  # its first byte cannot be read, as on a disk that fails


def test_state_comes_back_as_it_was(tmp_path):
    path = tmp_path / "checkpoint.pt"
    state = {"weights": {"w": torch.rand(3)}, "history": [{"loss": 0.1}], "stop_reason": None}
    checkpoint.save_state(path, state)
    loaded = checkpoint.load_state(path)
    assert torch.equal(loaded.pop("weights")["w"], state.pop("weights")["w"])
    assert loaded == state
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("content", [b"", b"not a training state", None])
def test_a_damaged_state_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    if content is None:  # cut short
        checkpoint.save_state(path, {"weights": torch.rand(1000)})
        content = path.read_bytes()[:2000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged .* delete it"):
        checkpoint.load_state(path)


def test_one_wrong_byte_of_a_weight_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    weights = torch.arange(1000.0)
    checkpoint.save_state(path, {"weights": weights})
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 2001] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged .* delete it"):
        checkpoint.load_state(path)


def test_something_else_than_a_state_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(torch.ones(3), path)
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged or is no training state"):
        checkpoint.load_state(path)


def test_a_state_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": PurePosixPath("folder")}, path)
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged or is no training state"):
        checkpoint.load_state(path)


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="there is no file that cannot be read")
@pytest.mark.parametrize("load", [checkpoint.load_state, checkpoint.load_weights])
def test_what_cannot_be_read_is_not_called_damaged(load):
    with pytest.raises(OSError) as error:
        load(UNREADABLE)
    assert error.value.errno == errno.EIO


def test_a_state_for_which_there_is_no_memory_is_not_called_damaged(tmp_path, monkeypatch):
    def load(*_, **__):
        raise MemoryError

    path = tmp_path / "checkpoint.pt"
    checkpoint.save_state(path, {})
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MemoryError):
        checkpoint.load_state(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no training state .*checkpoint.pt"):
        checkpoint.load_state(tmp_path / "checkpoint.pt")
    with pytest.raises(FileNotFoundError, match=r"no weights file .*train the model first"):
        checkpoint.load_weights(tmp_path / "weights.safetensors")


def test_weights_and_metadata_come_back(tmp_path):
    path = tmp_path / "weights.safetensors"
    weights = {"a": torch.rand(2, 3), "b": torch.arange(4)}
    metadata = {"model": {"name": "LSTM-448", "bidirectional": False}, "loss": 0.1}
    checkpoint.save_weights(path, weights, metadata)
    loaded, text = checkpoint.load_weights(path)
    assert text == metadata
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_foreign_and_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="is damaged or was not written by this package"):
        checkpoint.load_weights(path)
    for metadata in (None, {"format": "pt"}, {checkpoint.METADATA_KEY: "not json"}):
        safetensors.torch.save_file({"a": torch.rand(2)}, path, metadata)
        with pytest.raises(ValueError, match="is damaged or was not written by this package"):
            checkpoint.load_weights(path)
