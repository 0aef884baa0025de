"""What a section of a recipe is, and the ranges that its keys share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[tuple[float, float], Field(strict=False)]


class Section(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Open(Section):
    """A table that also holds keys of its kind or task, checked in stage two."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @property
    def own(self) -> dict[str, Any]:
        """The keys that are not everyone's."""
        return dict(self.__pydantic_extra__ or {})
