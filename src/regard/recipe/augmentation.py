"""The section of a recipe that is for pictures alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regard.recipe.section import Count, Probability, Section


class RandAugment(Section):
    """Random operations on training pictures (Cubuk et al., 2019)."""

    layers: Count = Field(0, description="operations of each picture; 0 = none")
    magnitude: Annotated[float, Field(ge=0, le=30)] = Field(9.0, description="their strength")


class Augmentation(Section):
    """What is changed in training pictures, and how the pixels of all become numbers."""

    mean: list[float] | None = Field(
        None, description="of each channel, of pixels in 0 to 1; default: the training data's"
    )
    std: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description="deviation of each channel; default: the training data's"
    )
    fit: Literal["stretch", "crop"] = Field(
        "stretch",
        description="how a picture of another shape becomes the model's: stretch, or crop (its "
        "middle)",
    )
    pad: Count = Field(
        0, description="a random window of the picture with so many black pixels around it"
    )
    smallest: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="a random part of at least this share of the area, brought to the whole size; "
        "1 = the whole",
    )
    flip: Probability = Field(0.0, description="how probably left and right change places")
    upend: Probability = Field(0.0, description="how probably top and bottom change places")
    randaugment: RandAugment = Field(
        default_factory=RandAugment, description="random operations (Cubuk et al., 2019)"
    )
    erase: Probability = Field(
        0.0, description="how probably a random box becomes the mean color (Zhong et al., 2017)"
    )
    mixup: Annotated[float, Field(ge=0)] = Field(
        0.0, description="alpha of the mixture of two pictures (Zhang et al., 2018); 0 = none"
    )
    cutmix: Annotated[float, Field(ge=0)] = Field(
        0.0, description="alpha of a box from another picture (Yun et al., 2019); 0 = none"
    )
