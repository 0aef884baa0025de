"""Meanings: what a sentence says, before it is English or German.

A meaning is a small tree of frozen values. ``regard.corpora.english`` and ``regard.corpora.german``
each put it into words, so a pair of sentences is two readings of one tree, and the German of an
English sentence is fixed by rule. `combinations` lists which words a meaning brings together: the
test split is defined on them (see `regard.corpora.split`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from regard.corpora.lexicon import Adjective, Adverb, Modal, Noun, Preposition, Verb
from regard.corpora.morphology import Agreement, Person

Tense = Literal["present", "past"]
QuestionWord = Literal["why", "when", "where"]
ClauseKind = Literal["statement", "question", "subordinate"]
Combination = tuple[str, str, str]  # (relation, word, word)


@dataclass(frozen=True, slots=True)
class Pronoun:
    """A personal pronoun, by its English subject form."""

    word: Literal["I", "you", "he", "she", "it", "we", "they", "who"]


@dataclass(frozen=True, slots=True)
class Name:
    """A person's or a city's name."""

    english: str
    german: str


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun with its determiner, number and adjectives.

    Args:
        determiner: ``the a bare this every no my your his her our their`` or ``how many``;
            ``bare`` is a mass noun or a plural without one.
        count: the cardinal before the noun, 2 to 99.
        owner: a person in the genitive, who takes the place of ``the`` (the teacher's dog).
    """

    noun: Noun
    determiner: str
    plural: bool = False
    adjectives: tuple[Adjective, ...] = ()
    count: int | None = None
    owner: NounPhrase | None = None


@dataclass(frozen=True, slots=True)
class Relative:
    """A relative pronoun, agreeing with the noun before it."""

    noun: Noun
    plural: bool


@dataclass(frozen=True, slots=True)
class What:
    """The object of a question: what, was."""


Phrase = Pronoun | Name | NounPhrase | Relative | What


@dataclass(frozen=True, slots=True)
class Prepositional:
    """A preposition with what it governs."""

    preposition: Preposition
    phrase: Phrase


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day on the hour."""

    hour: int


@dataclass(frozen=True, slots=True)
class Measure:
    """A predicate with a number: is thirty years old, costs twenty-one euros."""

    count: int
    unit: Literal["years", "euros"]


Time = Adverb | Clock | Prepositional


@dataclass(frozen=True, slots=True)
class Clause:
    """A verb with its arguments and circumstances.

    Args:
        direct, indirect: objects; the German case follows from the verb's frame.
        goal: the place or direction that the verb itself asks for.
        partner: a companion or purpose (with my brother, for the guest).
        place: where all of it happens, always the dative of rest.
    """

    subject: Phrase
    verb: Verb
    tense: Tense = "present"
    modal: Modal | None = None
    negated: bool = False
    direct: Phrase | None = None
    indirect: Phrase | None = None
    predicate: Adjective | Measure | None = None
    goal: Prepositional | None = None
    partner: Prepositional | None = None
    place: Prepositional | None = None
    manner: Adverb | None = None
    frequency: Adverb | None = None
    time: Time | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A main clause; ``front`` says which circumstance opens it, before the verb in German."""

    clause: Clause
    front: Literal["time", "place"] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question: yes or no, or opened by ``word`` or by the object that is asked for."""

    clause: Clause
    word: QuestionWord | None = None


@dataclass(frozen=True, slots=True)
class Subordinated:
    """A main clause with a subordinate one, which may come first (because, if, although)."""

    main: Clause
    conjunction: str
    subordinate: Clause
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Coordinated:
    """Two main clauses joined by and or but."""

    first: Clause
    conjunction: str
    second: Clause


@dataclass(frozen=True, slots=True)
class Presentation:
    """This is the man who bought the car."""

    head: NounPhrase
    clause: Clause


@dataclass(frozen=True, slots=True)
class Existence:
    """There are five chairs in the kitchen."""

    what: NounPhrase
    place: Prepositional
    place_first: bool = False


Sentence = Statement | Question | Subordinated | Coordinated | Presentation | Existence


def agreement(phrase: NounPhrase | Relative) -> Agreement:
    """Gender in the singular, ``p`` in the plural."""
    return "p" if phrase.plural else phrase.noun.gender


_PRONOUN_PERSONS: dict[str, Person] = {"I": "1s", "you": "2s", "we": "1p", "they": "3p"}


def person(subject: Phrase) -> Person:
    """Which form of the verb a subject asks for; "you" is one friend."""
    if isinstance(subject, Pronoun):
        return _PRONOUN_PERSONS.get(subject.word, "3s")
    if isinstance(subject, NounPhrase | Relative) and subject.plural:
        return "3p"
    return "3s"


def clauses(sentence: Sentence) -> list[tuple[ClauseKind, Clause]]:
    """The clauses of a sentence with their kinds."""
    match sentence:
        case Statement(clause):
            return [("statement", clause)]
        case Question(clause):
            return [("question", clause)]
        case Subordinated(main, _, subordinate):
            return [("statement", main), ("subordinate", subordinate)]
        case Coordinated(first, _, second):
            return [("statement", first), ("statement", second)]
        case Presentation(_, clause):
            return [("subordinate", clause)]
        case Existence():
            return []


def verb_clause(verb: Verb, kind: ClauseKind, tense: Tense, modal: Modal | None) -> Combination:
    """The combination of a verb with a kind of clause and a tense."""
    return ("verb-clause", verb.name, f"{kind} {'modal' if modal else tense}")


def _in_phrase(phrase: Phrase | None) -> Iterator[Combination]:
    if not isinstance(phrase, NounPhrase):
        return
    for adjective in phrase.adjectives:
        yield ("adjective-noun", adjective.english, phrase.noun.english)
    if phrase.count is not None:
        yield ("number-noun", str(phrase.count), phrase.noun.english)
    yield from _in_phrase(phrase.owner)


def _in_place(place: Prepositional | None) -> Iterator[Combination]:
    if place is None:
        return
    word = place.preposition.english
    if isinstance(place.phrase, NounPhrase):
        yield ("preposition-noun", word, place.phrase.noun.english)
    yield from _in_phrase(place.phrase)


def _in_clause(kind: ClauseKind, clause: Clause) -> Iterator[Combination]:
    verb = clause.verb
    yield verb_clause(verb, kind, clause.tense, clause.modal)
    for relation, phrase in (
        ("subject-verb", clause.subject),
        ("verb-object", clause.direct),
        ("verb-receiver", clause.indirect),
    ):
        yield from _in_phrase(phrase)
        if isinstance(phrase, NounPhrase | Relative) and verb.frame != "copula":
            noun = phrase.noun.english
            pair = (noun, verb.name) if relation == "subject-verb" else (verb.name, noun)
            yield (relation, *pair)
    if isinstance(clause.predicate, Adjective) and isinstance(
        clause.subject, NounPhrase | Relative
    ):
        yield ("adjective-noun", clause.predicate.english, clause.subject.noun.english)
    for place in (clause.goal, clause.partner, clause.place):
        yield from _in_place(place)
    if isinstance(clause.time, Prepositional):
        yield from _in_place(clause.time)


def combinations(sentence: Sentence) -> Iterator[Combination]:
    """Every pair of words that the sentence brings together in one of the relations.

    Relations: subject-verb, verb-object, verb-receiver (the indirect object), adjective-noun (also
    as a predicate), preposition-noun, number-noun, and verb-clause (a verb in a kind of clause and
    tense).
    Words are lemmas, so a pair is the same in every number, case and tense.
    """
    for kind, clause in clauses(sentence):
        yield from _in_clause(kind, clause)
    match sentence:
        case Presentation(head, _):
            yield from _in_phrase(head)
        case Existence(what, place, _):
            yield from _in_phrase(what)
            yield from _in_place(place)
        case _:
            pass
