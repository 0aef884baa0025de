"""What is told of a step."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from regard.training.events import StepDone
from regard.training.progress import Interval, Progress
from regard.training.window import Window

EARLY = 10
"""Steps between two lines before the first usual one."""

_LAYER = re.compile(r"^(?:.*?layers\.\d+|[^.]+)")


class Reporter:
    """Turns a step's figures into its event.

    Args:
        names: of the trained parameters, in the order of the norms.
        log_every: steps between two lines of metrics; the first ones come closer.
        horizon: the last step, which has a line too, where it is known.
    """

    def __init__(self, names: Sequence[str], log_every: int, horizon: int | None = None) -> None:
        self.log_every = log_every
        self.horizon = horizon
        self.layers: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            match = _LAYER.match(name)
            self.layers.setdefault(match[0] if match else name, []).append(index)

    def __call__(
        self,
        progress: Progress,
        window: Window,
        sums: Sequence[float],
        norms: Sequence[float],
        rate: float,
        seconds: float,
    ) -> StepDone:
        """The event of the step just made; a line of metrics begins a new interval.

        Args:
            progress: counts the step already; takes in its figures here.
            window: of the step.
            sums: of each term over the window.
            norms: of each parameter's gradient.
            rate: learning rate.
            seconds: that the step took.
        """
        interval = progress.interval
        interval.add(
            dict(zip(window.totals, sums, strict=True)), window.totals, window.tokens, seconds
        )
        progress.tokens += window.tokens
        layers: dict[str, float] = {}
        logged = self._is_logged(progress.step)
        if logged:
            progress.interval = Interval()
            for name, own in self.layers.items():
                layers[name] = math.hypot(*(norms[i] for i in own))
        return StepDone(
            step=progress.step,
            epoch=window.epoch + window.end / window.of,
            terms=interval.means(),
            tokens=window.tokens,
            tokens_per_second=interval.tokens / max(interval.seconds, 1e-9),
            rate=rate,
            gradient_norm=math.hypot(*norms),
            layer_norms=layers,
            skipped=progress.skipped,
            logged=logged,
        )

    def _is_logged(self, step: int) -> bool:
        early = step == 1 or (step < self.log_every and step % EARLY == 0)
        return early or step % self.log_every == 0 or step == self.horizon
