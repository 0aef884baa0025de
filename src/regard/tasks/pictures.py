"""What tasks on pictures share: prepared data, what makes numbers of pixels, batches.

A task says how its pictures have answers; see `PictureTask`.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data import BatchSettings, BatchSource, PreparedData, PrepareSettings, prepare
from regard.data.augment import Augmentation, RandAugmentSettings
from regard.data.batching import Collate
from regard.data.codecs import Codec, CodecError
from regard.data.picture_batches import statistics_of
from regard.data.pictures import Form, Names, Pictures
from regard.data.prepared import NAME
from regard.data.readers.pictures import LABEL, PICTURE, PictureSource, open_pictures
from regard.errors import DataError, RecipeError
from regard.recipe import Recipe
from regard.recipe.augmentation import Augmentation as Section
from regard.tasks.labels import Labeled
from regard.tasks.stored import Picture, Stored, decoded
from regard.tasks.task import Examples, Report, Splits, Task
from regard.tasks.text import DEFAULT_BATCH_TOKENS, left_out, objective_of, shuffled

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureTask(Task):
    """A task on pictures under one recipe; see `regard.tasks.task.Task`.

    Attributes:
        recipe, directory: of the run.
    """

    family: ClassVar[str] = "vit"
    uses: ClassVar[tuple[str, ...]] = ("augmentation", "data.broken")
    inputs: ClassVar[str] = "pictures"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()
        self._learned: dict[str, list[float]] = {}

    # What a task says

    @abstractmethod
    def codecs(self) -> Mapping[str, Codec]:
        """Of each column beside the pictures."""

    @abstractmethod
    def collate(self) -> Collate:
        """How prepared pictures become batches."""

    @abstractmethod
    def learn(self, train: PictureSource) -> None:
        """What the task learns from the training data, such as labels."""

    @abstractmethod
    def recall(self) -> None:
        """Read what `learn` wrote into the run."""

    @abstractmethod
    def counted(self, data: PreparedData) -> list[str]:
        """Lines that say which answers there are."""

    # Data

    def source(self, data: Mapping[str, Any]) -> PictureSource:
        """The pictures that data in the recipe's words describe."""
        return open_pictures(data)

    def prepare(self, run: Path, report: Report) -> Splits:
        """Decode the pictures once, learn what their pixels are like, give the batches."""
        self.directory = run
        self._check_patches()
        splits = {"train": self.of_split("train")}
        if self.recipe.data.valid is not None:
            splits["valid"] = self.of_split("valid")
        self.learn(splits["train"])
        report("preparing the data")
        data = {name: self.prepared(source) for name, source in splits.items()}
        if not self.augmentation.mean:
            self._learned = self._statistics(data["train"])
        notes = list[str]()
        for name, one in data.items():
            use = "train on" if name == "train" else "validate with"
            notes += [f"{len(one):,} pictures to {use}", *self.counted(one), *left_out(one)]
        watched = self.in_order(data["valid"]) if "valid" in data else None
        digests = {name: one.digest() for name, one in data.items()}
        threads = max(self.recipe.training.workers, 1)  # decoding large pictures takes time
        batches = shuffled(self.recipe, data["train"], self.collate(), threads=threads)
        return Splits(batches, watched, tuple(notes), digests)

    def _check_patches(self) -> None:
        """What is trained shall see its pictures whole."""
        patch, form = self._config.patch_size, self.form
        for key, size in (("image_size", form.height), ("image_width", form.width)):
            if size % patch:
                raise RecipeError(
                    f"is {patch}, and model.{key} = {size} is no multiple of it",
                    where=self.recipe.place("model.patch_size"),
                    hint=f"model.{key} = {size - size % patch} has as many patches",
                )

    def _statistics(self, train: PreparedData) -> dict[str, list[float]]:
        """Mean and deviation: of the run that weights come from, or of the training data."""
        start = self.recipe.model.get("start_from")
        theirs = None if start is None else Recipe.load(str(start), settled=True).augmentation
        if theirs is not None and theirs.mean is not None and theirs.std is not None:
            return {"mean": theirs.mean, "std": theirs.std}
        mean, std = statistics_of(train, self.form)
        return {"mean": list(mean), "std": list(std)}

    def open(self, run: Path) -> None:
        """Read what the run learned."""
        self.directory = run
        self.recall()

    def of_split(self, split: str) -> PictureSource:
        """What reads a split of the recipe."""
        return self.source(self.recipe.data_of(split).settings())

    def prepared(self, source: PictureSource) -> PreparedData:
        """A source's pictures, decoded where they are small."""
        broken = self.recipe.data.broken or "error"
        pictures: dict[str, Codec] = {PICTURE: Pictures(source, self.form, broken), NAME: Names()}
        return prepare(
            source,
            {**pictures, **self.codecs()},
            cache=Path(self.recipe.data.cache or self.directory / "data"),
            fields={NAME: PICTURE},
            settings=PrepareSettings(None, "keep"),
        )

    def in_order(self, data: PreparedData) -> BatchSource:
        """Batches to score."""
        settings = BatchSettings(self.at_once, "sentences", shuffle=False)
        return BatchSource(data, self.collate(), settings)

    @property
    def at_once(self) -> int:
        """Pictures answered together."""
        return max(1, 4 * DEFAULT_BATCH_TOKENS // self.tokens)

    def check_inputs(self, count: int) -> str:
        """Whether pictures of the training data can be read; says what they become."""
        form, source = self.form, self.of_split("train")
        few = list(itertools.islice(source.named(), count))
        read = sum(self._sound(Stored(source, name)) for name, _ in few)
        color = "red, green, blue" if form.channels == 3 else "grey"
        mean, std = (" ".join(f"{v:.3f}" for v in one) for one in self._normalization())
        return (
            f"{read} of {len(few)} can be read; {form.height} × {form.width} pixels, {color}, mean "
            f"{mean}, deviation {std}; {self.tokens:,} tokens each"
        )

    # Pixels

    @property
    def _config(self) -> Any:
        return self.recipe.model_config_for(self.model_settings())

    @property
    def form(self) -> Form:
        """What the model reads.

        Raises:
            RecipeError: it reads no pictures.
        """
        config, given = self._config, self.recipe.augmentation or Section()
        if not hasattr(config, "image_size") or config.num_frames is not None:
            what = "clips" if hasattr(config, "image_size") else "no pictures"
            raise RecipeError(
                f"this model reads {what}, and {self.name} is for pictures",
                where=self.recipe.place("model"),
                hint='model.family = "vit", without num_frames',
            )
        if config.channels not in (1, 3):
            raise RecipeError(
                f"is {config.channels}: a picture has 1 (grey) or 3 (red, green, blue)",
                where=self.recipe.place("model.channels"),
            )
        width = config.image_width or config.image_size
        return Form(config.image_size, width, config.channels, given.fit)

    @property
    def tokens(self) -> int:
        """That the model makes of a picture, as batches count them."""
        return int(self._config.tokens)

    @property
    def augmentation(self) -> Augmentation:
        """The recipe's, with what was learned of the pixels."""
        given = self.recipe.augmentation or Section()
        held = given.model_dump(exclude_none=True, exclude={"mean", "std", "randaugment"})
        mean, std = self._normalization()
        operations = RandAugmentSettings(**given.randaugment.model_dump())
        return replace(
            Augmentation(**held), mean=tuple(mean), std=tuple(std), randaugment=operations
        )

    def _normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and deviation of each channel; nothing before they are known.

        Raises:
            RecipeError: the recipe gives one alone, or not one for each channel.
        """
        given, channels = self.recipe.augmentation or Section(), self.form.channels
        pair = given.mean, given.std
        if pair == (None, None):
            return self._learned.get("mean", ()), self._learned.get("std", ())
        if any(one is None or len(one) != channels for one in pair):
            raise RecipeError(
                f"mean and std are lists of {channels}, one number for each channel, both given",
                where=self.recipe.place("augmentation"),
                hint="leave both out: they are taken from the training data",
            )
        return pair[0] or (), pair[1] or ()

    def said(self) -> dict[str, Any]:
        """What was learned of the pixels."""
        return {f"augmentation.{key}": held for key, held in self._learned.items()}

    def pixels(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """A picture as the model sees it, [C, H, W]; see `decoded`."""
        return self.sized(picture)[0]

    def sized(self, picture: Picture) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        """The same, and the width and height that it came with."""
        held = self.decoded(picture)
        return self.form.pixels(held), held.size

    def decoded(self, picture: Picture) -> Image:
        """A picture whole, grey or of three colors as the model reads it.

        Raises:
            DataError: it is broken.
            InputError: it is none, or no file is there.
        """
        return decoded(picture, self.form.channels)

    def numbers(self, pictures: Sequence[Picture]) -> Tensor:
        """Pictures as the model gets them, [B, C, H, W]."""
        return self.normalized([self.pixels(one) for one in pictures])

    def normalized(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        """The same of their `pixels`."""
        return torch.from_numpy(self.augmentation.normalized(np.stack(pixels)))

    def batched(self, pictures: Sequence[Picture]) -> Iterator[Tensor]:
        """Many of them, some at a time."""
        for start in range(0, len(pictures), self.at_once):
            yield self.numbers(pictures[start : start + self.at_once])

    def examples(
        self, source: PictureSource, count: int | None = None, *, broken: str | None = None
    ) -> Examples:
        """Pictures with their labels.

        Args:
            source: what reads them.
            count: of the first few alone; None = all.
            broken: ``error`` or ``skip``; None = as the recipe says.

        Raises:
            DataError: there is no picture that can be read.
        """
        place, skip = source.columns.index(LABEL), (broken or self.recipe.data.broken) == "skip"
        pictures, labels, origins = list[Stored](), list[str](), list[str]()
        left = 0
        for example in source:
            if len(pictures) == count:
                break
            found = Stored(source, example.fields[0])
            if skip and not self._sound(found):
                left += 1
                continue
            pictures.append(found)
            labels.append(" ".join(example.fields[place].split()))
            origins.append(example.origin)
        if not pictures:
            what = f"none of its {left:,} pictures can be read" if left else "it holds no picture"
            raise DataError(what, where=str(source.path))
        return Examples(pictures, labels, origins, left_out=left)

    def _sound(self, picture: Stored) -> bool:
        try:
            self.pixels(picture)
        except DataError:
            return False
        return True

    def look_inputs(self, picture: Picture, device: torch.device) -> dict[str, Any]:
        """What a picture is to a model, for `regard.look.look`.

        Returns:
            ``inputs`` of the model [1, C, H, W], ``tokens``, and the seen ``pixels`` [H, W, C] with
            ``grid``, its rows and columns of patches, and ``before``, the tokens before them.
        """
        config = self._config
        rows, columns = config.grid
        seen = self.pixels(picture)[:, : rows * config.patch_size, : columns * config.patch_size]
        first = ["[CLS]"] if config.pooling == "class" else []
        places = itertools.product(range(1, rows + 1), range(1, columns + 1))
        patches = [f"{row}·{column}" for row, column in places]
        last = [f"[DET {number}]" for number in range(1, config.detections + 1)]
        return {
            "inputs": {"pixels": self.numbers([picture]).to(device)},
            "tokens": {"encoder": [*first, *patches, *last]},
            "pixels": seen.transpose(1, 2, 0),
            "grid": (rows, columns),
            "before": len(first),
        }

    # Model

    def objective(self) -> Any:
        """The recipe's loss."""
        return objective_of(self.recipe)


class LabeledPictures(Labeled, PictureTask):
    """A task on pictures whose answers have names."""

    @property
    def label_column(self) -> str:
        """Of what is right."""
        return LABEL

    @property
    def label_hint(self) -> str:
        """Where a user finds the labels."""
        return f"each class is a folder of pictures; in a table, {super().label_hint}"

    def codecs(self) -> dict[str, Codec]:
        """What is right."""
        return {LABEL: self.target}

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """Pictures and what is right of a split, or of ``data``.

        Args:
            data: in the recipe's words; with ``broken`` as `PictureTask.examples` has it, which
                may stand alone.
            split: where ``data`` say no more.

        Raises:
            DataError: a label is not known.
            RecipeError: ``broken`` is something else.
        """
        given = dict(data or {})
        if (broken := given.pop("broken", None)) not in (None, "error", "skip"):
            raise RecipeError(f"is {broken!r}: error or skip", where="data.broken")
        source = self.source(given) if given else self.of_split(split)
        found = self.examples(source, broken=broken)
        try:
            self.target.encode_batch(found.references)
        except CodecError as error:
            where = found.origins[error.number]
            raise DataError(error.what, where=where, hint=error.hint) from None
        return found
