"""What a long computation says while it runs."""

from __future__ import annotations

import math
import os
import sys
import time

from tqdm import tqdm

from cicy_utils import places, provenance, records
from cicy_utils.durations import duration


class Progress:
    """What a long computation says: a bar to someone who watches, plain lines to a log.

    Someone watches in a terminal or in Jupyter, unless the environment variable CICY_BATCH is 1.
    A log is read as a report in the end, so it gets fewer lines the longer it takes: a line per
    epoch, at most one every few seconds or every twentieth of the time so far, and a line from
    inside an epoch when nothing else was said for a while, which doubles with each such line.
    """

    LINE_SECONDS = 5.0  # between the lines of two epochs, at least
    LINE_SHARE = 0.05  # of the time so far, at least between them
    LOG_SECONDS = 20.0  # before the first line from inside an epoch
    BAR_SECONDS = 2.0  # between losses beside the bar; each makes a GPU wait

    def __init__(
        self, max_epochs: int | None = None, history: list[dict] | None = None, name: str = ""
    ) -> None:
        """max_epochs: None for something without epochs; name: of one run among several."""
        self.max_epochs = max_epochs
        self.name = f"{name}: " if name else ""
        self.watched = someone_watches()
        self.bar: tqdm | None = None
        self.epoch: int | None = None
        self.done = self.first = self.total = 0
        self.pause = self.BAR_SECONDS if self.watched else self.LOG_SECONDS
        self.begun = self.started = self.spoke = time.monotonic()
        self.last_line = -math.inf
        self.summary = self.summarise(history) if history else ""
        if history and not self.watched:
            print(f"{self.name}going on after {self.summary}", flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.delay = 0  # or tqdm leaves it there where an epoch has only just begun
            self.bar.close()

    def start(self, epoch: int | None, total: int, done: int = 0) -> None:
        """Begin an epoch (None: something that has no epochs), or go on after its first steps."""
        self.epoch, self.done, self.total = epoch, done, total
        self.first = done
        self.started = time.monotonic()
        if self.watched:
            if self.bar is None:
                self.bar = tqdm(
                    total=total,
                    file=sys.stdout,  # what goes to stderr is red in Jupyter
                    leave=False,
                    delay=1.0,
                    dynamic_ncols=True,
                    bar_format="{desc}{percentage:.0f}%|{bar:10}| {elapsed}<{remaining}{postfix}",
                )
            else:
                self.bar.reset(total)
            self.bar.update(done)
            self.bar.set_description(self.label, refresh=False)
            self.bar.set_postfix_str(self.summary, refresh=False)

    @property
    def label(self) -> str:
        """What is being done: which epoch of which run."""
        if self.epoch is None:
            return "predicting"
        return f"{self.name}epoch {self.epoch}/{self.max_epochs}"

    def step(self) -> bool:
        """Count a step; True when it is time to say something."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        return time.monotonic() - self.spoke >= self.pause

    def say(self, text: str = "") -> None:
        """Say how far it is, and something more, from inside an epoch."""
        self.spoke = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(filter(None, (text, self.summary))))
            return
        self.pause *= 2
        left = (self.spoke - self.started) / (self.done - self.first) * (self.total - self.done)
        step = f"{self.label}, step {self.done:,} of {self.total:,}" + (text and f": {text}")
        print(f"{step}, about {duration(left)} to go", flush=True)

    def finish(self, history: list[dict], stop_reason: str | None) -> None:
        """Report an epoch, and the end of the run if it is its last."""
        now = time.monotonic()
        self.summary = self.summarise(history)
        pause = max(self.LINE_SECONDS, self.LINE_SHARE * (now - self.begun))
        due = now - self.last_line >= pause or len(history) == 1 or stop_reason
        if due and not self.watched:
            self.spoke = self.last_line = now
            print(f"{self.name}{self.summary}", flush=True)
        if stop_reason:
            self.stopped(history, stop_reason)

    def stopped(self, history: list[dict], stop_reason: str) -> None:
        """Report the end of the run, and whether another call would take it further."""
        self.close()
        number = len(history)
        text = f"{self.name}stopped ({stop_reason}) after {number} epoch{'s' * (number != 1)}"
        if history:
            best = records.best_epoch(history)
            text += f"; best validation loss {best['validation_loss']:.4g} in epoch {best['epoch']}"
        on_kaggle = places.how_to_go_on() if stop_reason == "time_limit" else ""
        if stop_reason in provenance.STOPPED_BY and not on_kaggle:
            text += "; run this again to go on"
        print(text, flush=True)
        if on_kaggle:
            print(on_kaggle, flush=True)

    def summarise(self, history: list[dict]) -> str:
        """The last epoch in a line, and how long the run can still take."""
        row = history[-1]
        recent = [row["seconds"] for row in history[-5:]]
        left = (self.max_epochs - row["epoch"]) * sum(recent) / len(recent)
        losses = f"{row['train_loss']:.4g} training, {row['validation_loss']:.4g} validation"
        rate, left = f"{row['learning_rate']:.3g}", duration(left) if left else ""
        if self.watched:
            return f"before {losses}, rate {rate}" + (f", at most {left} left" if left else "")
        return (
            f"epoch {row['epoch']}/{self.max_epochs}: losses {losses}, learning rate {rate}, "
            f"{duration(row['seconds'])}" + (f", at most {left} left" if left else "")
        )


def someone_watches() -> bool:
    """Whether output goes to a terminal or to Jupyter, and not to a log."""
    if os.environ.get("CICY_BATCH") == "1":
        return False
    in_jupyter = type(sys.stderr).__module__.startswith("ipykernel")
    return in_jupyter or (sys.stderr.isatty() and sys.stdout.isatty())
