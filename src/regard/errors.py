"""The errors a user can mend: each says what is wrong, where, and what to do."""

from __future__ import annotations


class RegardError(Exception):
    """Base of every error that is the user's to mend; the command line exits with 2.

    Args:
        what: what is wrong, in one sentence.
        where: a file and line, a recipe key or a tensor's name.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.hint}" if self.hint else text


class RecipeError(RegardError):
    """A recipe's key or value is wrong."""


class DataError(RegardError):
    """A data file cannot be read as what it should be."""


class CheckpointError(RegardError):
    """A checkpoint is missing, damaged or does not fit the model."""


class RunError(RegardError):
    """A run directory is missing, in use, or belongs to something else."""


class InputError(RegardError):
    """An input given for prediction cannot be used."""


def missing_extra(package: str, extra: str) -> RegardError:
    """The error for an optional library that is not installed."""
    return RegardError(
        f"the package {package!r} is not installed",
        hint=f"install it with: pip install 'regard[{extra}]'",
    )
