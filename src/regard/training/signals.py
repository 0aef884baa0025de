"""Ctrl-C and SIGTERM: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

REASONS = {int(signal.SIGINT): "interrupt", int(signal.SIGTERM): "terminate"}


class Interrupted(BaseException):
    """Raised inside an evaluation when a signal arrives: it can be made again later."""


class Signals:
    """While open, notes SIGINT and SIGTERM; a second Ctrl-C interrupts at once, as ever.

    Attributes:
        received: the signal's number, 0 before there is one.
    """

    def __init__(self) -> None:
        self.received = 0
        self._raising = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python lets handlers be set in the main thread alone.
        if threading.current_thread() is threading.main_thread():
            for number in REASONS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def interrupting(self, allowed: bool) -> Iterator[None]:
        """In the block, a signal raises `Interrupted` at once, if allowed."""
        if allowed and self.received:
            raise Interrupted
        self._raising = allowed
        try:
            yield
        finally:
            self._raising = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if self._raising:
            raise Interrupted
