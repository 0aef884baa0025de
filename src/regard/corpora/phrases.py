"""Random noun phrases and prepositional phrases from the lexicon."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Generic, Literal, TypeVar, cast

from regard.corpora.grammar import Combination, Name, NounPhrase, Phrase, Prepositional, Pronoun
from regard.corpora.lexicon import (
    PEOPLE,
    Adjective,
    Noun,
    Preposition,
    Verb,
    adjectives,
    nouns,
    prepositions,
)

T = TypeVar("T")
Role = Literal["subject", "object", "governed"]

# (preposition, use) for each place letter of the nouns.
REST = {
    "i": ("in", "in+dative"),
    "c": ("in", "in+dative"),
    "o": ("on", "auf+dative"),
    "a": ("at", "an+dative"),
    "u": ("under", "unter+dative"),
    "b": ("behind", "hinter+dative"),
    "n": ("next to", "neben+dative"),
    "f": ("in front of", "vor+dative"),
}
MOTION = {
    "i": ("into", "in+accusative"),
    "o": ("onto", "auf+accusative"),
    "a": ("to", "zu+dative"),
    "u": ("under", "unter+accusative"),
    "b": ("behind", "hinter+accusative"),
    "t": ("through", "durch+accusative"),
    "r": ("around", "um+accusative"),
    "v": ("over", "über+accusative"),
}
SOURCES = {"i": ("out of", "aus+dative"), "a": ("from", "von+dative")}
PLACING = {
    "c": ("into", "in+accusative"),
    "o": ("on", "auf+accusative"),
    "u": ("under", "unter+accusative"),
    "b": ("behind", "hinter+accusative"),
    "n": ("next to", "neben+accusative"),
}
_SCENES = frozenset(["building", "room", "land"])
_POSSESSIVES = ("my", "your", "his", "her", "our", "their")
_OWNED = frozenset(["animal", "cloth", "case", "device", "vehicle", "text", "thing"])


def weighted(**weights: int) -> Weighted[str]:
    """A distribution over names; an underscore stands for a space."""
    return Weighted([name.replace("_", " ") for name in weights], list(weights.values()))


class Weighted(Generic[T]):
    """A distribution over a few values, drawn with one uniform number."""

    def __init__(self, values: Sequence[T], weights: Sequence[int]) -> None:
        self.values = list(values)
        self._bounds = list(accumulate(weights))

    def draw(self, random: Random) -> T:
        return self.values[bisect(self._bounds, random.random() * self._bounds[-1])]


def pick(random: Random, values: Sequence[T]) -> T:
    """One of the values, equally likely; by `Random.random` alone, whose numbers never change."""
    return values[int(random.random() * len(values))]


_DETERMINERS = {
    "subject": weighted(the=46, my=26, this=9, a=8, every=4, no=3, count=4),
    "object": weighted(the=34, a=30, my=19, this=7, every=1, count=9),
    "governed": weighted(the=60, my=24, this=9, a=7),
}
_SURE_DETERMINERS = weighted(the=60, my=28, this=12)
# Places that nobody calls their own.
_PUBLIC_KINDS = frozenset(["building", "land", "transport"])
_PRIVATE = frozenset(["house", "school", "store", "restaurant", "hotel", "garden"])
_DENIED_DETERMINERS = weighted(the=30, my=18, this=8, a=44)
_PLURAL = {"the": 0.3, "my": 0.25, "this": 0.3, "a": 0.4, "every": 0.0, "no": 0.2, "count": 1.0}


@dataclass(frozen=True, slots=True)
class Style:
    """How rich phrases are: the chances of an adjective and, given one, of a second."""

    adjective: float
    second: float


RICH = Style(0.6, 0.18)
PLAIN = Style(0.46, 0.08)


class PhraseSampler:
    """Draws phrases whose combinations of words are all allowed.

    Args:
        random: the source of every choice.
        allowed: says of a combination whether it may occur.
    """

    def __init__(self, random: Random, allowed: Callable[[Combination], bool]) -> None:
        self.random = random
        self.allowed = allowed
        everything = list(nouns().values())
        self.people = [noun for noun in everything if noun.kind == "person"]
        self.modifiers = {
            noun: [
                adjective
                for adjective in adjectives().values()
                if {noun.kind, noun.english} & adjective.kinds
                and allowed(("adjective-noun", adjective.english, noun.english))
            ]
            for noun in everything
        }
        self.counts = {noun: self._counts(noun) for noun in everything if not noun.mass}
        self.rest = self._places(REST, "iioooaaubnf")
        self.spots = self._places(REST, "ccoooubn")
        self.scenes = self._places(REST, "iiiooaabnf", _SCENES)
        self.homes = self._places(REST, "iiiiobna", _SCENES - {"room"})
        self.motion = self._places(MOTION, "iiioaautrvb")
        self.roads = self._places(MOTION, "iiaatrv", _SCENES - {"room"})
        self.sources = self._places(SOURCES, "ia")
        self.placing = self._places(PLACING, "ccooubn")
        self.with_people = {
            word: self._fitting(word, self.people) for word in ("with", "without", "for", "to")
        }
        mass = [noun for noun in everything if noun.kind == "drink" or noun.english in _ADDED]
        self.with_food = {word: self._fitting(word, mass) for word in ("with", "without")}
        events = [noun for noun in everything if noun.kind == "event"]
        self.events = {word: self._fitting(word, events) for word in ("before", "after", "during")}

    def _counts(self, noun: Noun) -> tuple[list[int], list[int]]:
        fits = [n for n in range(2, 100) if self.allowed(("number-noun", str(n), noun.english))]
        return [n for n in fits if n <= 12], [n for n in fits if n > 12]

    def _fitting(self, word: str, candidates: Iterable[Noun]) -> list[Noun]:
        return [n for n in candidates if self.allowed(("preposition-noun", word, n.english))]

    def _places(
        self,
        uses: dict[str, tuple[str, str]],
        letters: str,
        kinds: frozenset[str] | None = None,
    ) -> list[tuple[Preposition, list[Noun]]]:
        """Prepositions with their nouns; a letter given more than once is drawn more often."""
        found = []
        for letter in letters:
            fitting = [
                noun
                for noun in nouns().values()
                if letter in noun.places and (kinds is None or noun.kind in kinds)
            ]
            found.append((prepositions()[uses[letter]], self._fitting(uses[letter][0], fitting)))
        return found

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, values: Sequence[T]) -> T:
        return pick(self.random, values)

    def adjectives(self, noun: Noun, style: Style) -> tuple[Adjective, ...]:
        """None, one or two adjectives, in the order that both languages give them."""
        fitting = self.modifiers[noun]
        if not fitting or not self.chance(style.adjective):
            return ()
        first = self.pick(fitting)
        if not self.chance(style.second):
            return (first,)
        second = self.pick(fitting)
        if second.rank == first.rank:
            return (first,)
        return (first, second) if first.rank < second.rank else (second, first)

    def count(self, noun: Noun, *, small: bool = False) -> int:
        """A number of two or more for the noun; half of them small ones."""
        low, high = self.counts[noun]
        return self.pick(low if small or self.chance(0.4) else high)

    def noun_phrase(
        self, noun: Noun, role: Role, style: Style, *, denied: bool = False, sure: bool = False
    ) -> NounPhrase:
        """A phrase around the noun.

        Args:
            denied: it is the object of a negated clause (no numbers, no every).
            sure: it must be definite, as beside a negated verb.
        """
        table = _DETERMINERS[role]
        if sure:
            table = _SURE_DETERMINERS
        elif denied:
            table = _DENIED_DETERMINERS
        kind = table.draw(self.random)
        if noun.mass:
            return self._mass_phrase(noun, role, kind, style)
        public = noun.kind in _PUBLIC_KINDS and noun.english not in _PRIVATE
        if kind == "my" and public:
            kind = "the"
        plural = self.chance(_PLURAL[kind] * (0.4 if role == "governed" and public else 1.0))
        if role == "subject" and kind == "a":
            plural = False
        count = None
        if kind == "count":
            kind = "bare" if role == "object" or self.chance(0.7) else "the"
            count = self.count(noun, small=role == "subject")
        words = self.adjectives(noun, style)
        if kind == "my":
            kind = self.pick(_POSSESSIVES)
        elif kind == "the" and count is None and noun.kind in _OWNED and self.chance(0.22):
            return NounPhrase(noun, "the", plural, words[:1], owner=self.owner())
        return NounPhrase(noun, kind, plural, words, count)

    def _mass_phrase(self, noun: Noun, role: Role, kind: str, style: Style) -> NounPhrase:
        """Water, cold water, the cold water; a subject has its article."""
        if kind in ("a", "every", "count", "no"):
            if role != "subject":
                rich = Style(0.6, 0.1) if style is RICH else style
                return NounPhrase(noun, "bare", False, self.adjectives(noun, rich))
            kind = "the"
        kind = self.pick(_POSSESSIVES) if kind == "my" else kind
        return NounPhrase(noun, kind, False, self.adjectives(noun, style))

    def owner(self) -> NounPhrase:
        """A person in the genitive: the teacher's, my sister's."""
        kind = "the" if self.chance(0.5) else self.pick(_POSSESSIVES)
        return NounPhrase(self.pick(self.people), kind)

    def name(self) -> Name:
        person = self.pick(PEOPLE)
        return Name(person, person)

    def place(
        self,
        uses: Sequence[tuple[Preposition, list[Noun]]],
        style: Style,
        *,
        sure: bool = False,
        but: Noun | None = None,
    ) -> Prepositional:
        """A prepositional phrase of one of the uses, around another noun than ``but``."""
        preposition, fitting = self.pick(uses)
        noun = self.pick(fitting)
        while noun is but:
            noun = self.pick(fitting)
        return Prepositional(preposition, self.noun_phrase(noun, "governed", style, sure=sure))

    def partner(self, word: str, style: Style, but: Phrase, *, sure: bool) -> Prepositional:
        """With, without or for somebody other than the subject."""
        preposition = prepositions()[word, _PARTNERS[word]]
        drawn = self.random.random()
        if drawn < 0.2:
            return Prepositional(preposition, self.object_pronoun(but))
        if drawn < 0.3:
            return Prepositional(preposition, self.name())
        noun = self.pick(self.with_people[word])
        return Prepositional(preposition, self.noun_phrase(noun, "governed", style, sure=sure))

    def side_dish(self, word: str, but: Noun) -> Prepositional | None:
        """With cold milk, without butter."""
        noun = self.pick(self.with_food[word])
        if noun is but:
            return None
        phrase = NounPhrase(noun, "bare", False, self.adjectives(noun, Style(0.7, 0.05)))
        return Prepositional(prepositions()[word, _PARTNERS[word]], phrase)

    def object_pronoun(self, subject: Phrase) -> Pronoun:
        """A person's pronoun that does not point back at the subject."""
        first = subject in (Pronoun("I"), Pronoun("we"))
        words = ["he", "she", "they"] if first else ["I", "he", "she", "we", "they"]
        if subject != Pronoun("you"):
            words.append("you")
        fitting = [word for word in words if Pronoun(cast(_Word, word)) != subject]
        return Pronoun(cast(_Word, self.pick(fitting)))


_Word = Literal["I", "you", "he", "she", "it", "we", "they", "who"]
_ADDED = frozenset(["butter", "honey", "cheese", "bread"])
_PARTNERS = {
    "with": "mit+dative",
    "without": "ohne+accusative",
    "for": "für+accusative",
    "to": "zu+dative",
}


def nouns_of(
    relation: str, verb: Verb, kinds: frozenset[str], allowed: Callable[[Combination], bool]
) -> list[Noun]:
    """The nouns of the kinds (or named among them) that the verb may have in the relation."""
    found = []
    for noun in nouns().values():
        pair = (noun.english, verb.name)
        combination = (relation, *(pair if relation == "subject-verb" else pair[::-1]))
        if {noun.kind, noun.english} & kinds and allowed(combination):
            found.append(noun)
    return found
