"""The bilingual lexicon: typed entries of the word tables, each English lemma with its one German.

The tables of the open classes are the text files in ``words/``, each with its columns explained at
its top, read once, when the grammar is first used; the closed classes stand here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal, cast

from regard.corpora import morphology
from regard.corpora.morphology import Case, Gender, NounForms, Person

Frame = Literal[
    "intransitive",
    "weather",
    "position",
    "motion",
    "travel",
    "transitive",
    "dative",
    "belonging",
    "ditransitive",
    "placement",
    "clause",
    "question",
    "measure",
    "copula",
]


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """A noun in both languages; ``kind`` is its meaning's class, ``places`` its prepositions."""

    english: str
    english_plural: str
    gender: Gender
    forms: NounForms
    kind: str
    places: frozenset[str]

    @property
    def mass(self) -> bool:
        """Whether the noun has no plural (water, bread)."""
        return (True, "nominative") not in self.forms


@dataclass(frozen=True, slots=True, eq=False)
class Adjective:
    """An adjective; those of a lower rank stand before those of a higher one in both languages."""

    english: str
    german: str
    stem: str
    rank: int
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """A verb in both languages, with its frame and the nouns that fit its arguments."""

    name: str
    base: str
    third: str
    past: str
    particle: str
    preposition: str
    infinitive: str
    prefix: str
    present: dict[Person, str]
    preterite: dict[Person, str] | None
    participle: str
    auxiliary: str
    frame: Frame
    subjects: frozenset[str]
    objects: frozenset[str]
    manners: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Adverb:
    """An adverb of manner, frequency or time; ``group`` says where and with what it may stand."""

    english: str
    german: str
    group: str


@dataclass(frozen=True, slots=True, eq=False)
class Preposition:
    """A preposition in one of its uses, with the German case it governs."""

    english: str
    german: str
    case: Case


@dataclass(frozen=True, slots=True, eq=False)
class Modal:
    """A modal verb; one without ``auxiliary`` is an English full verb with to (wants to)."""

    english: str
    german: str
    auxiliary: bool


MODALS = (
    Modal("can", "können", True),
    Modal("must", "müssen", True),
    Modal("should", "sollen", True),
    Modal("may", "dürfen", True),
    Modal("will", "werden", True),
    Modal("want", "wollen", False),
    Modal("would like", "möchten", True),
)
PEOPLE = ("Anna", "Maria", "Julia", "Lena", "Paul", "Peter", "Felix", "Jonas")
CITIES = {
    "Berlin": "Berlin",
    "Hamburg": "Hamburg",
    "Munich": "München",
    "Vienna": "Wien",
    "Cologne": "Köln",
    "Zurich": "Zürich",
}
CONJUNCTIONS = {
    "because": "weil",
    "if": "wenn",
    "although": "obwohl",
    "that": "dass",
    "whether": "ob",
    "and": "und",
    "but": "aber",
}

# fmt: off
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on


def plural_of(singular: str) -> str:
    """The regular English plural; a verb's third person is spelled alike."""
    if re.search(r"(s|x|z|ch|sh|o)$", singular):
        return singular + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", singular) + "s"


def past_of(base: str) -> str:
    """The regular English past (doubled consonants are given in the table)."""
    return re.sub(r"(?<=[^aeiou])y$", "i", base).removesuffix("e") + "ed"


def number_of(value: int) -> str:
    """The English word of 1 to 99 (twenty-one)."""
    if value < 20:
        return _UNITS[value]
    tens, unit = _TENS[value // 10], value % 10
    return f"{tens}-{_UNITS[unit]}" if unit else tens


def _rows(table: str) -> list[list[str]]:
    """The rows of ``words/TABLE.txt``, split into their columns."""
    text = files("regard.corpora").joinpath("words", f"{table}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def _names(cell: str) -> frozenset[str]:
    return frozenset(cell.replace('"', "").split())


@lru_cache(maxsize=1)
def nouns() -> dict[str, Noun]:
    """All nouns by their English singular."""
    found = {}
    for english, german, kind, places in _rows("nouns"):
        singular, *rest = english.split()
        german_singular, letter, german_plural, *of = german.split()
        gender = cast(Gender, "m" if letter == "w" else letter)
        forms = morphology.decline(
            german_singular,
            gender,
            None if german_plural == "-" else german_plural,
            weak=letter == "w",
            of=of[0] if of else None,
        )
        plural = rest[0] if rest else plural_of(singular)
        found[singular] = Noun(singular, plural, gender, forms, kind, frozenset(places.split()))
    return found


def _verb(english: str, german: str, frame: str, subjects: str, objects: str, manners: str) -> Verb:
    base, *rest = english.split()
    last = rest.pop() if len(rest) == 2 or (rest and rest[0].startswith("+")) else ""
    preposition = last[1:] if last.startswith("+") else ""
    particle = "" if preposition else last
    infinitive, *more = german.split()
    prefix, _, infinitive = infinitive.rpartition("+")
    infinitive, _, changed = infinitive.partition("/")
    strong = more[0] if more and more[0] != "-" else None
    return Verb(
        name=f"{base} {last.lstrip('+')}".strip() + (f" ({frame})" if frame in _DOUBLES else ""),
        base=base,
        third={"have": "has"}.get(base) or plural_of(base),
        past=rest[0] if rest else past_of(base),
        particle=particle,
        preposition=preposition,
        infinitive=prefix + infinitive,
        prefix=prefix,
        present=morphology.IRREGULAR_PRESENT.get(infinitive)
        or morphology.conjugate(infinitive, changed or None),
        preterite=morphology.PRETERITE.get(infinitive),
        participle=strong or morphology.participle(infinitive, prefix),
        auxiliary="sein" if "sein" in more[1:] else "haben",
        frame=cast(Frame, frame),
        subjects=_names(subjects),
        objects=_names(objects),
        manners=_names(manners),
    )


# Frames whose verbs repeat an English verb of another frame (knows him, knows that ...).
_DOUBLES = ("clause", "placement")


@lru_cache(maxsize=1)
def verbs() -> dict[str, Verb]:
    """All verbs by their English name, its particle included (``call``, ``throw away``)."""
    found = [_verb(*row) for row in _rows("verbs")]
    return {verb.name: verb for verb in found}


@lru_cache(maxsize=1)
def copula() -> Verb:
    """To be, sein."""
    nothing: frozenset[str] = frozenset()
    forms = {"present": morphology.IRREGULAR_PRESENT["sein"], "past": morphology.PRETERITE["sein"]}
    return Verb(
        name="be",
        base="be",
        third="is",
        past="was",
        particle="",
        preposition="",
        infinitive="sein",
        prefix="",
        present=forms["present"],
        preterite=forms["past"],
        participle="gewesen",
        auxiliary="sein",
        frame="copula",
        subjects=nothing,
        objects=nothing,
        manners=nothing,
    )


@lru_cache(maxsize=1)
def adjectives() -> dict[str, Adjective]:
    """All adjectives by their English form."""
    found = {}
    for english, german, rank, kinds in _rows("adjectives"):
        plain, *stem = german.split()
        found[english] = Adjective(
            english, plain, stem[0] if stem else plain, int(rank), _names(kinds)
        )
    return found


@lru_cache(maxsize=1)
def adverbs() -> dict[str, Adverb]:
    """All adverbs by their English form."""
    return {row[0]: Adverb(*row) for row in _rows("adverbs")}


@lru_cache(maxsize=1)
def prepositions() -> dict[tuple[str, str], Preposition]:
    """All uses of prepositions, by English word and German with case: ``("in", "in+dative")``."""
    return {
        (english, f"{german}+{case}"): Preposition(english, german, cast(Case, case))
        for english, german, case in _rows("prepositions")
    }
