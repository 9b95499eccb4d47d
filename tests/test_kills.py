"""Training in processes that are killed: started again, they end where the others do.

A run that was killed again and again, at random moments and in the middle of its saves, has the
history and the weights of one that was left alone, bit for bit.
"""

import itertools
import multiprocessing
import random
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_training

from cicy_utils import checkpoint, lease, records

STATE = checkpoint.STATE_FILE


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have PyTorch imported already, and one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_training"])

    def start(*arguments) -> multiprocessing.Process:
        process = context.Process(target=small_training.train, args=arguments)
        process.start()
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        # The server of Python 3.11 looks for what it imports nowhere else.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        first = context.Process(target=small_training.small_list)
        first.start()  # the server imports what it was told to
        first.join()
        assert first.exitcode == 0
        yield start


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    """Folder and seconds of an uninterrupted training, by recipe."""
    found = {}
    for recipe in small_training.RECIPES:
        folder = tmp_path_factory.mktemp(recipe)
        # It never saves inside an epoch; whoever does so ends in the same place.
        process, started = processes(folder, recipe, 1e9), time.monotonic()
        process.join()
        assert process.exitcode == 0
        found[recipe] = folder, time.monotonic() - started
    return found


def history(folder: Path) -> pd.DataFrame:
    return records.read_history(folder).drop(columns="seconds")


def assert_same(folder: Path, other: Path) -> None:
    pd.testing.assert_frame_equal(history(folder), history(other), check_exact=True)
    for name in (checkpoint.WEIGHTS_FILE, records.TRAINED_ON_FILE):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    ours, theirs = (checkpoint.load_state(path / STATE) for path in (folder, other))
    for name, weight in ours["weights"].items():
        np.testing.assert_array_equal(weight, theirs["weights"][name])
    assert ours["stop_reason"] == theirs["stop_reason"]
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


def saved(folder: Path) -> int:
    """When the state was last saved."""
    try:
        return (folder / STATE).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_at_random(processes, folder: Path, recipe: str, seconds: float, seed: int) -> int:
    """Start a training until it reaches its end, killing it on the way; returns how often."""
    chance, kills = random.Random(seed), 0
    while True:
        before, started = saved(folder), time.monotonic()
        process = processes(folder, recipe)
        # Mostly some time after it has gone on, sometimes wherever it is just now.
        if chance.random() < 0.8:
            while saved(folder) == before and process.is_alive():
                time.sleep(0.002)
            pause = chance.uniform(0, seconds / 3)
        else:
            pause = chance.uniform(0, seconds / 3) - (time.monotonic() - started)
        if kills < 5:
            process.join(max(0.0, pause))
            process.kill()
        process.join()
        code = process.exitcode
        process.close()
        if code == 0:
            return kills
        assert code == -signal.SIGKILL, "the training failed by itself"
        kills += 1


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 20))]
)
def test_killed_at_random_moments(processes, undisturbed, tmp_path, seed):
    recipe = sorted(undisturbed)[seed % 2]
    other, seconds = undisturbed[recipe]
    for number in itertools.count():
        folder = tmp_path / str(number)
        # Where the machine is faster now than it was before, moments come too late: sooner then.
        if kill_at_random(processes, folder, recipe, seconds / 2**number, seed) >= 2:
            break
    assert_same(folder, other)


@pytest.mark.parametrize("recipe", small_training.RECIPES)
def test_killed_in_the_middle_of_saving(processes, undisturbed, tmp_path, recipe):
    """Before and after every flush and every renaming of the files of one save, in turn."""
    other, _ = undisturbed[recipe]
    deaths = 0
    for moment in range(1, 17):
        process = processes(tmp_path, recipe, small_training.EVERY_STEP, moment)
        process.join()
        code = process.exitcode
        process.close()
        assert code in (0, -signal.SIGKILL)
        deaths += code != 0
    assert deaths >= 8
    process = processes(tmp_path, recipe)
    process.join()
    assert process.exitcode == 0
    assert_same(tmp_path, other)


def test_a_second_training_in_the_folder_is_refused(processes, tmp_path):
    recipe = next(iter(small_training.RECIPES))
    with lease.hold(tmp_path):
        process = processes(tmp_path, recipe)
        process.join()
        assert process.exitcode == 1
        assert [path.name for path in tmp_path.iterdir()] == [lease.lease_file(tmp_path).name]
