"""Pictures with boxes: Pascal VOC's folders (or archives of them), and COCO's JSON.

A source yields the name of each picture with a line of JSON: ``size`` [width, height] and
``boxes``, each [left, top, right, bottom, name, crowd] in pixels, crowd 1 where many are meant or
it is marked difficult: such a box is neither learned nor scored.

=====================  ============================================================================
what is met            what happens
=====================  ============================================================================
box without area       left out and counted
box over the edge      cut off there
picture without boxes  kept: there is nothing to see
annotation without a   ``DataError`` with the annotation's file
picture, a size, or
four numbers; not one
for one picture
=====================  ============================================================================
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from regard.data.readers.layout import ENDINGS
from regard.data.readers.lines import check_file
from regard.data.readers.pictures import Files, Folder, PictureSource, files_of
from regard.data.readers.source import check_keys
from regard.errors import DataError, RecipeError

KEYS = {
    "part": "Pascal VOC: the list of pictures, of ImageSets/Main, e.g. train; default: all",
    "pictures": "COCO: the folder or archive of the pictures; default: beside the file",
}
"""Of a split's data, beside its file, and what they say."""

NO_AREA = "boxes without area"
_BESIDE = ("JPEGImages", "images")
"""Folders of pictures, beside that of the annotations."""

_SETS = "ImageSets/Main"
_FORMS = (
    "give a folder, .zip or .tar in Pascal VOC's form (Annotations/*.xml beside JPEGImages), or "
    "the .json file of COCO's form"
)

Box = tuple[float, float, float, float, str, int]


class BoxSource(PictureSource):
    """Pictures of a folder or archive, with what stands in annotations about them."""

    def __init__(self, path: Path, files: Files) -> None:
        super().__init__(path)
        self._files = files

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return self._files.read(name)

    def origin(self, name: str) -> str:
        """As the folder or archive calls it."""
        return self._files.origin(name)

    def _line(self, size: tuple[float, float], boxes: Iterable[Box]) -> str:
        """Size and boxes as JSON."""
        kept = []
        for left, top, right, bottom, name, crowd in boxes:
            left, right = (min(max(x, 0.0), size[0]) for x in (left, right))
            top, bottom = (min(max(y, 0.0), size[1]) for y in (top, bottom))
            if right > left and bottom > top:
                kept.append([left, top, right, bottom, " ".join(name.split()), crowd])
            else:
                self.left_out[NO_AREA] += 1
        return json.dumps({"size": size, "boxes": kept}, ensure_ascii=False)


class Voc(BoxSource):
    """Pascal VOC: ``Annotations/*.xml`` beside ``JPEGImages`` (Everingham et al., 2010).

    An annotation's picture has its stem, and stands in its folder or in ``JPEGImages`` or
    ``images`` beside that.

    Args:
        path: the folder or archive that holds both, at any depth, also more than once.
        part: the list in ``ImageSets/Main`` that names the pictures; none: all with annotations.
    """

    def __init__(self, path: Path, part: str | None) -> None:
        files = files_of(path)
        if files is None:
            raise DataError(
                "is no folder, zip or tar archive, and no COCO .json", where=str(path), hint=_FORMS
            )
        super().__init__(path, files)
        self.identity = {"format": type(self).__name__, "part": part}
        self._part = part
        self._notes: dict[str, str] = {}  # where a picture's annotation stands

    def named(self) -> Iterator[tuple[str, str]]:
        """In the order of the list, or of their annotations."""
        notes, lists = dict[PurePosixPath, str](), dict[PurePosixPath, str]()
        pictures = defaultdict[PurePosixPath, list[str]](list)  # by path without ending
        for name in self._files.names():
            path = PurePosixPath(name)
            if path.suffix.lower() == ".xml":
                notes[path] = name
            elif path.suffix.lower() in ENDINGS:
                pictures[path.with_suffix("")].append(name)
            elif path.suffix == ".txt" and path.parent.as_posix().endswith(_SETS):
                lists[path] = name
        if not notes:
            by_class = "; pictures by class are for image-classification" if pictures else ""
            raise DataError(
                "there is no annotation (.xml) in it", where=str(self.path), hint=_FORMS + by_class
            )
        for note in notes if self._part is None else self._listed(self._part, lists, notes):
            folders = {note.parent, *(note.parent.parent / name for name in _BESIDE)}
            found = [name for folder in folders for name in pictures.get(folder / note.stem, ())]
            where = self.origin(notes[note])
            if len(found) != 1:
                raise DataError(
                    f"there are several pictures of it: {', '.join(sorted(found))}"
                    if found
                    else f"there is no picture {note.stem} (.jpg, .png …)",
                    where=where,
                    hint="it stands in the annotation's folder, or in JPEGImages beside that",
                )
            if (other := self._notes.setdefault(found[0], where)) != where:
                raise DataError(f"its picture has another annotation, {other}", where=where)
            yield found[0], self._annotation(notes[note], where)

    def labeled_at(self, name: str) -> str:
        """In its annotation."""
        return self._notes[name]

    def _listed(
        self, part: str, lists: Mapping[PurePosixPath, str], notes: Iterable[PurePosixPath]
    ) -> Iterator[PurePosixPath]:
        """Annotations that the lists of a part name, each beneath the folder of its list."""
        if part not in (known := {path.stem for path in lists}):
            raise RecipeError(
                f"there is no part {part!r} in {_SETS}",
                where=str(self.path),
                hint=f"known: {', '.join(sorted(known)) or 'none: leave part out'}",
            )
        named = defaultdict[str, list[PurePosixPath]](list)
        for note in notes:
            named[note.stem].append(note)
        for path in (one for one in lists if one.stem == part):
            raw = self._files.read(lists[path])
            lines = raw.decode("utf-8", "replace").splitlines()
            for stem in dict.fromkeys(line.split()[0] for line in lines if line.strip()):
                found = [note for note in named.get(stem, ()) if path.parents[2] in note.parents]
                if len(found) != 1:
                    there = f"are {len(found)} annotations" if found else "is no annotation"
                    where = self.origin(lists[path])
                    raise DataError(f"there {there} {stem}.xml", where=where)
                yield found[0]

    def _annotation(self, name: str, where: str) -> str:
        raw = self._files.read(name)
        try:
            root = ElementTree.fromstring(raw, ElementTree.XMLParser(target=_Builder()))
            size = float(root.findtext("size/width", "")), float(root.findtext("size/height", ""))
            boxes = [_voc_box(one) for one in root.iter("object")]
        except (ElementTree.ParseError, ValueError) as error:
            raise DataError(f"this is no annotation: {error}", where=where) from error
        if min(size) <= 0:
            raise DataError("the annotation says no size of the picture", where=where)
        return self._line(size, boxes)


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refused: its entities could grow without end."""
        raise ValueError("declarations are not read")


def _voc_box(found: ElementTree.Element) -> Box:
    edges = [float(found.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = edges
    crowd = int(found.findtext("difficult", "0") or 0)
    return left, top, right, bottom, found.findtext("name", ""), crowd


class Coco(BoxSource):
    """COCO: a JSON file of pictures, categories and boxes (Lin et al., 2014).

    Args:
        path: the file.
        pictures: folder of the pictures, seen from the file's; none: beside it.
    """

    def __init__(self, path: Path, pictures: str | None) -> None:
        folder = path.parent / (pictures or "")
        super().__init__(path, Folder(folder))
        held = {check_file(folder / name, str(path)) for name, _ in self.named()}
        self.files = (path, *sorted(held))

    def named(self) -> Iterator[tuple[str, str]]:
        """In the order of the file."""
        place = "the whole"
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
            categories = {one["id"]: str(one["name"]) for one in held["categories"]}
            boxes: dict[Any, list[Box]] = {one["id"]: [] for one in held["images"]}
            for number, one in enumerate(held["annotations"]):
                place = f"annotations[{number}]"
                left, top, width, height = map(float, one["bbox"])
                name, crowd = categories[one["category_id"]], int(one.get("iscrowd", 0))
                edges = left, top, left + width, top + height
                boxes[one["image_id"]].append((*edges, name, crowd))
            place = "images"
            rows = [
                (str(one["file_name"]), (float(one["width"]), float(one["height"])), one["id"])
                for one in held["images"]
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"this is no COCO file of boxes: of {place}, {what}", where=str(self.path)
            ) from error
        for name, size, number in rows:
            yield name, self._line(size, boxes[number])

    def labeled_at(self, name: str) -> str:
        """In the file."""
        return f"{self.path}: {name}"


def open_boxes(data: Mapping[str, Any]) -> BoxSource:
    """The source that a recipe's ``data.train``, ``data.valid`` or ``data.test`` describes.

    Args:
        data: ``{"file": F}`` with F a folder, a zip or tar archive in Pascal VOC's form, perhaps
            with ``part``, or a COCO ``.json``, perhaps with ``pictures``.

    Raises:
        RecipeError: an unknown or missing key.
        DataError: a file is missing or of an unknown kind.
    """
    check_keys(data, ("file", *KEYS), missing=False)
    if "file" not in data:
        raise RecipeError(
            "file is needed: a folder or archive in Pascal VOC's form, or a COCO .json",
            where="data",
        )
    path = Path(str(data["file"]))
    coco = path.suffix.lower() == ".json"
    strange = "part" if coco else "pictures"
    if strange in data:
        raise RecipeError(f"{strange} means nothing here", where=str(path))
    return Coco(check_file(path), data.get("pictures")) if coco else Voc(path, data.get("part"))


def boxes_of(line: str) -> tuple[tuple[float, float], list[Box]]:
    """Size and boxes of a source's line."""
    held = json.loads(line)
    width, height = held["size"]
    return (width, height), [(*box[:4], str(box[4]), int(box[5])) for box in held["boxes"]]
