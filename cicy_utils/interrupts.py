"""Ctrl-C, and Jupyter's Interrupt, taken at a moment when everything can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Interrupt:
    """Whether somebody has asked to stop."""

    asked: bool = False


@contextlib.contextmanager
def deferred() -> Iterator[Interrupt]:
    """Within it a first Ctrl-C only sets ``asked``; a second one raises KeyboardInterrupt at once.

    Nothing changes where Python gives no signals, which is in every thread but the main one, and
    where somebody else handles Ctrl-C already.
    """
    interrupt = Interrupt()

    def note(number: int, frame: object) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
