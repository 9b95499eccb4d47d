import pytest
import torch

from cicy_utils import devices


def test_devices_that_are_not_here_are_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=rf"device '{missing}' is not to be had here"):
        devices.resolve_device(missing)
    with pytest.raises(ValueError, match="precision 'tf32' needs an Ampere GPU"):
        devices.resolve_device("cpu", "tf32")
    assert devices.resolve_device("cpu").type == "cpu"


def test_precision_is_set_for_every_product_and_set_back():
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    for name, setting in (("float32", "ieee"), ("tf32", "tf32")):
        with devices.matrix_precision(name):
            assert [backend.fp32_precision for backend in backends] == [setting] * 3
        assert [backend.fp32_precision for backend in backends] == before
