"""The picture of a model's attention over one example: a page, an image, or a notebook's cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from regard.errors import InputError, RegardError
from regard.look.overlay import Shown
from regard.look.positions import Positions, positions
from regard.look.rollout import rollout as rolled
from regard.look.trace import Trace, trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".html", ".png")


class Predictor(Protocol):
    """What `look` asks of an opened run."""

    @property
    def model(self) -> nn.Module:
        """The trained module."""
        ...

    def look_inputs(self, text: Any, target: str | None = None, **more: str) -> Mapping[str, Any]:
        """One example, ready for the model; ``more`` is a prefix, where the run reads one.

        Returns:
            ``inputs``: the model's keyword arguments, tensors [1, …]; ``tokens``: the tokens that
            each stack reads, by its name; and where the task has them ``labels`` [1, T],
            ``predicts`` (their names), ``target`` (the text; the model's own where none was given)
            and of a picture ``pixels`` [H, W, C], ``grid`` and ``before``, as `Shown` has them.
        """
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """What a model looks at, ready to be drawn.

    Attributes:
        trace: the attention; None where only positions are drawn.
        text, target: the example in words.
        own: whether the target is the model's own answer; else it was given.
        positions: of the stacks, where they were asked for.
        shown: the picture that was read, where the model reads pictures.
    """

    trace: Trace | None
    text: str = ""
    target: str = ""
    own: bool = False
    positions: Sequence[Positions] = ()
    shown: Shown | None = None

    @property
    def told(self) -> str:
        """The target, and where it is not the model's own, that it was given."""
        return self.target if self.own or not self.target else f"{self.target} (given)"

    def save(
        self, path: str | Path, *, view: str | None = None, layer: int = 0, head: int | None = None
    ) -> Path:
        """Write a page (.html) or an image (.png).

        Args:
            path: a file; one that exists is replaced.
            view, layer, head: for an image of one head alone: ``encoder``, ``decoder`` or
                ``cross``, and numbers from 0. Of a model of pictures it is laid over the picture.

        Raises:
            RegardError: for another suffix, a head that there is not, or a file that cannot be
                written.
        """
        path = Path(path)
        check_suffix(path)
        try:
            if path.suffix.lower() == ".html":
                path.write_text(self.html(), encoding="utf-8")
            else:
                from regard.look.heatmap import write

                write(self.figure(view=view, layer=layer, head=head), path)
        except OSError as error:
            raise RegardError(f"cannot be written: {error.strerror}", where=str(path)) from None
        return path

    def html(self) -> str:
        """The page, one self-contained document."""
        from regard.look.page import page

        return page(self)

    def figure(self, *, view: str | None = None, layer: int = 0, head: int | None = None) -> Figure:
        """The image as a matplotlib figure; see `save`."""
        from regard.look import heatmap, overlay, schemes

        if self.trace is None:
            return schemes.draw(self.positions)
        if self.shown is not None:
            if view is not None:
                heatmap.known(view, view_names(self.trace))
            return overlay.draw(self) if head is None else overlay.draw_head(self, layer, head)
        if head is None:
            return heatmap.draw(self, view=view)
        return heatmap.draw_head(self, view or next(iter(view_names(self.trace))), layer, head)

    def to_dict(self) -> dict[str, Any]:
        """The numbers behind the picture, ready for JSON: entropies, importance, weights."""
        from regard.look.page import data

        return data(self)

    def _repr_html_(self) -> str:
        from regard.look.page import frame

        return frame(self)


def look(
    model: nn.Module | Predictor,
    text: Any = None,
    *,
    target: str | None = None,
    prefix: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    tokens: Mapping[str, Sequence[str]] | None = None,
    labels: Tensor | None = None,
    positions: bool = False,
    rollout: bool = False,
) -> Picture:
    """See where a model looks.

    Either an opened run and a text, or any model of `regard.nn` parts with its inputs.

    Args:
        model: what `regard.load` gives, or a module.
        text: the example, for an opened run; a tuple where it reads pairs, a picture or its path
            where it reads such.
        target: the right answer; each head is then switched off in turn to tell what it is worth.
        prefix: of a run that reads one: what says the task, or what a translation begins with.
        inputs, tokens, labels: for a module; see `regard.look.trace`.
        positions: draw the position encoding too.
        rollout: one picture a layer, how much of each input has come up to it, in place of heads.

    Raises:
        InputError: when neither a text nor inputs with tokens are given.
    """
    module = model if isinstance(model, nn.Module) else model.model
    drawn = tuple(_positions(module)) if positions else ()
    if not isinstance(model, nn.Module):
        if text is None:
            if not positions:
                raise InputError("there is no text to look at")
            return Picture(None, positions=drawn)
        more = {} if prefix is None else {"prefix": prefix}
        found = dict(model.look_inputs(text, target, **more))
        result = trace(
            module,
            found["inputs"],
            found["tokens"],
            labels=found.get("labels"),
            logits=found.get("logits"),
            predicts=found.get("predicts", ()),
            importance=target is not None and not rollout,
        )
        if rollout:
            result = rolled(result)
        answer = str(found.get("target", target) or "")
        shown = _shown(found)
        read = _said(text, shown is not None)
        return Picture(result, read, answer, own=target is None, positions=drawn, shown=shown)
    if inputs is None or tokens is None:
        if not positions:
            raise InputError("a module needs inputs, and tokens to name them by")
        return Picture(None, positions=drawn)
    importance = labels is not None and not rollout
    result = trace(module, inputs, tokens, labels=labels, importance=importance)
    if rollout:
        result = rolled(result)
    words = [" ".join(stack) for stack in tokens.values()]
    return Picture(result, words[0], words[1] if len(words) > 1 else "", positions=drawn)


def _shown(found: Mapping[str, Any]) -> Shown | None:
    """The picture that was read, if it was one."""
    if "pixels" not in found:
        return None
    return Shown(found["pixels"], found["grid"], found["before"])


def _said(example: Any, picture: bool) -> str:
    """What was read, in words."""
    if picture:
        return Path(example).name if isinstance(example, str | Path) else "a picture"
    return " | ".join(example) if isinstance(example, tuple) else str(example)


_positions = positions


def view_names(found: Trace) -> dict[str, tuple[str, str]]:
    """The short name of each view, ``encoder``, ``decoder`` or ``cross``, to (stack, kind)."""
    names: dict[str, tuple[str, str]] = {}
    for stack, kind in found.views():
        name = stack if kind == "self" else "cross"
        names[name if name not in names else f"{stack}-{kind}"] = (stack, kind)
    order = sorted(names, key=lambda name: names[name][1] == "cross")
    return {name: names[name] for name in order}


def check_suffix(path: Path) -> None:
    """Refuse what is neither a page nor an image.

    Raises:
        RegardError: for another suffix than .html and .png.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise RegardError(
            f"{path.suffix or 'no suffix'} is no kind of picture",
            where=str(path),
            hint="end the name in .html (a page to explore) or .png (an image)",
        )
