"""What is said meanwhile, and what happens when somebody has seen enough."""

import itertools
import math
import os
import re
import tempfile
import time
from pathlib import Path

import pytest
from jupyter_client import KernelManager

from cicy_utils.progress import Progress


def test_a_long_epoch_gives_signs_of_life(capsys, monkeypatch):
    monkeypatch.setenv("CICY_BATCH", "1")
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    progress = Progress(max_epochs=4)
    progress.start(3, 10)
    due = [progress.step() for _ in range(5)]
    progress.say("training loss 0.5 so far")
    assert not progress.step()
    assert due == [False, False, True, True, True]
    line = capsys.readouterr().out
    assert line.startswith("epoch 3/4, step 5 of 10: training loss 0.5 so far, about ")
    progress.start(None, 4)
    progress.step()
    progress.say()
    assert capsys.readouterr().out.startswith("predicting, step 1 of 4, about ")


def test_a_long_training_leaves_a_log_that_can_be_read(capsys, monkeypatch):
    monkeypatch.setenv("CICY_BATCH", "1")
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress, history = Progress(max_epochs=300), []
    for epoch in range(1, 301):
        progress.start(epoch, 30)
        for _ in range(30):
            now += 10
            if progress.step():
                progress.say()
        losses = {"train_loss": 0.5, "validation_loss": 0.25, "learning_rate": 0.001}
        history.append({"epoch": epoch, "seconds": 300.0, **losses})
        progress.finish(history, "max_epochs" if epoch == 300 else None)
    *lines, end = capsys.readouterr().out.splitlines()
    within = [line for line in lines if "step" in line]
    # The first after 20 seconds, and then 40, 80, ... after the one before.
    assert [line.split(" of ")[0] for line in within[:4]] == [
        f"epoch 1/300, step {step}" for step in (2, 6, 14, 30)
    ]
    assert len(within) <= math.log2(now / 20)
    told = [int(re.match(r"epoch (\d+)/300: ", line)[1]) for line in lines if line not in within]
    assert told[:20] == list(range(1, 21))
    assert told[-1] == 300
    assert all(0 < b - a <= 1 + 0.05 * b for a, b in itertools.pairwise(told))
    assert len(told) < 90
    assert end.startswith("stopped (max_epochs) after 300 epochs")


SETUP = """
import torch
from cicy_utils import data, records, seeds, splits, tables, training
torch.set_num_threads(1)
cicy4 = data.load_cicy4(subset=300)
split = splits.split_72(len(cicy4))
config = training.TrainConfig(device="cpu", batch_size=32, max_epochs=100_000, patience=100_000)
"""
TRAIN = """
runs = dict(seeds=[1, 2], run_dir={!r}, notebook="11_lstm_448", hidden_size=4)
folders = seeds.train("LSTM-448", cicy4, split, config, **runs)
record = records.read_metrics(runs["run_dir"])
"""
SHOW = """
tables.headline(record), tables.seeds(list(folders.values()))
print(record["training"]["epochs"], record["training"]["stop_reason"], list(folders))
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Somebody's kernel: runs a cell, interrupts it at some output; returns all of its output."""
    monkeypatch.delenv("CICY_BATCH", raising=False)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory(prefix="cicy-") as private:  # short, as sockets want it
        manager = KernelManager(
            kernel_name="python3", transport="ipc", connection_file=f"{private}/kernel.json"
        )
        manager.start_kernel(env=os.environ | {"IPYTHONDIR": private}, cwd=tmp_path)
        client = manager.blocking_client()
        client.start_channels()

        def run(code: str, interrupt_at: str = "") -> list[tuple[str, str]]:
            said = []

            def hear(message):
                nonlocal interrupt_at
                content = message["content"]
                if message["msg_type"] == "stream":
                    said.append((content["name"], content["text"]))
                if message["msg_type"] == "error":
                    said.append(("error", f"{content['ename']}: {content['evalue']}"))
                if interrupt_at and any(interrupt_at in text for _, text in said):
                    interrupt_at = ""
                    manager.interrupt_kernel()

            client.execute_interactive(code, timeout=None, output_hook=hear)
            return said

        try:
            client.wait_for_ready(timeout=None)
            yield run
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def printed(said: list[tuple[str, str]]) -> str:
    """What a cell printed and nothing else, in however many pieces it came."""
    assert {name for name, _ in said} == {"stdout"}
    return "".join(text for _, text in said).strip()


@pytest.mark.notebooks
def test_a_training_interrupted_in_jupyter_is_saved_and_the_next_cells_work(kernel, tmp_path):
    assert kernel(SETUP) == []
    train = TRAIN.format(str(tmp_path / "seed-1"))
    said = kernel(train, interrupt_at="epoch 3/")
    assert {name for name, _ in said} == {"stdout"}  # a bar of plain text, which is not red
    text = "".join(text for _, text in said)
    assert "%|" in text
    (line,) = re.findall(r"stopped \(interrupted\)[^\n]*", text)
    assert re.fullmatch(
        r"stopped \(interrupted\) after \d+ epochs; best validation loss [\d.]+ in epoch \d+; "
        "run this again to go on",
        line,
    )
    epochs, reason, seeds = printed(kernel(SHOW)).split(" ", 2)
    assert (reason, seeds) == ("interrupted", "[1]")  # the other has not begun
    assert int(epochs) >= 2

    again = kernel(train, interrupt_at=f"epoch {int(epochs) + 3}/")
    assert {name for name, _ in again} == {"stdout"}
    more, reason, _ = printed(kernel(SHOW)).split(" ", 2)
    assert reason == "interrupted"
    assert int(more) >= int(epochs) + 2


@pytest.mark.notebooks
def test_without_weights_the_cell_says_so_and_the_kernel_lives(kernel, tmp_path):
    kernel(SETUP)
    code = SETUP.replace("batch_size=32", "batch_size=1") + TRAIN.format(str(tmp_path / "seed-1"))
    code = code.replace("subset=300", "subset=20_000")  # epochs of many seconds
    said = kernel(code, interrupt_at="epoch 1/")
    assert "stopped (interrupted) after 0 epochs; run this again to go on\n" in said[-2][1]
    assert said[-1][0] == "error"
    assert said[-1][1].startswith("KeyboardInterrupt: before the first epoch in ")
    assert (tmp_path / "seed-1" / "checkpoint.pt").is_file()
    assert kernel("print(1 + 1)") == [("stdout", "2\n")]
