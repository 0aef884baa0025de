"""What a folder or archive of pictures by class must not be: empty, or data of another kind.

======================================  ===========================================================
what is met                             what happens
======================================  ===========================================================
no picture in it                        ``DataError``
``train/`` beside ``valid/``, ``val/``  ``DataError``: parts of the data are no classes; wherever
or ``test/``                            the paths part first
``Annotations/*.xml``                   ``DataError``: boxes, whose folders of pictures are no
                                        classes
======================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from regard.errors import DataError

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".pbm", ".pnm", ".avif", ".jp2", ".ico"),
)
FORMS = (
    "give a folder that holds a folder for each class, the same as .zip or .tar, a table (.csv, "
    ".tsv, .jsonl, .parquet) with the columns picture (a path) and label, or IDX files as source "
    "(pictures) and target (labels)"
)

TRAIN = ("train", "training")
OTHERS = ("valid", "validation", "val", "dev", "test", "testing")
ANNOTATIONS = "Annotations"


def check_layout(path: str, names: Sequence[str]) -> None:
    """Refuse what would be read as classes that nobody meant.

    Args:
        path: of the folder or archive.
        names: of its files.

    Raises:
        DataError: naming the folder or archive.
    """
    files = [PurePosixPath(name) for name in names]
    found = [one for one in files if one.suffix.lower() in ENDINGS]
    if not found:
        others = f", but {len(files):,} other file(s)" if files else ""
        raise DataError(f"there is no picture in it{others}", where=path, hint=FORMS)
    if any(one.suffix.lower() == ".xml" and one.parent.name == ANNOTATIONS for one in files):
        raise DataError(
            f"it holds boxes ({ANNOTATIONS}/*.xml), not a folder of pictures for each class",
            where=path,
            hint='for finding objects: task = "object-detection", or regard new object-detection',
        )
    parts = _parts(found)
    train = next((name for name in parts if name.lower() in TRAIN), None)
    other = next((name for name in parts if name.lower() in OTHERS), None)
    if train is not None and other is not None:
        raise DataError(
            f"it holds the folders {', '.join(parts)}: parts of the data, not classes",
            where=path,
            hint=f"name each part by itself, an archive unpacked: .../{train} as data.train.file "
            f"(--train), .../{other} as data.valid.file (--valid)",
        )


def _parts(found: Sequence[PurePosixPath]) -> list[str]:
    """Names of the folders at which the paths part first, sorted; none for one folder alone."""
    folders = {one.parts[:-1] for one in found}
    for held in zip(*folders, strict=False):
        if len(names := sorted(set(held))) > 1:
            return names
    return []
