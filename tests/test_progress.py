import time

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
