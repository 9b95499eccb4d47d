import pytest
import torch

from cicy_utils import devices


def test_devices_that_are_not_here_are_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=rf"device '{missing}' is not to be had here"):
        devices.resolve_device(missing)
    with pytest.raises(ValueError, match="precision 'tf32' needs an Ampere GPU"):
        devices.resolve_device("cpu", "tf32")
    with pytest.raises(ValueError, match=r"precision must be one of \['float32', .*not 'fp16'"):
        devices.resolve_device("cpu", "fp16")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N, not 'gpu'"):
        devices.resolve_device("gpu")
    assert devices.resolve_device("cpu").type == "cpu"


def test_bfloat16_is_not_for_recurrent_layers_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert devices.resolve_device("cuda", "tf32") == torch.device("cuda", 0)
    with pytest.raises(ValueError, match=r"'bfloat16' needs a processor .*on a GPU use 'tf32'"):
        devices.resolve_device("cuda", "bfloat16")


def test_precision_is_set_for_every_product_and_set_back():
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    for name, setting in (("float32", "ieee"), ("tf32", "tf32")):
        with devices.matrix_precision(name):
            assert [backend.fp32_precision for backend in backends] == [setting] * 3
        assert [backend.fp32_precision for backend in backends] == before


def test_precision_that_is_set_already_is_left_alone(monkeypatch):
    """As in every step of a training, within a block of the same precision."""
    written = []

    class Backend:
        fp32_precision = "none"

        def __setattr__(self, name, value):
            written.append(value)
            super().__setattr__(name, value)

    backend = Backend()
    monkeypatch.setattr(devices, "BACKENDS", (backend,))
    with devices.matrix_precision("float32"):
        with devices.matrix_precision("float32"):
            assert backend.fp32_precision == "ieee"
        assert written == ["ieee"]
        with pytest.raises(KeyboardInterrupt), devices.matrix_precision("tf32"):
            assert backend.fp32_precision == "tf32"
            raise KeyboardInterrupt
        assert backend.fp32_precision == "ieee"
    assert written == ["ieee", "tf32", "ieee", "none"]
