"""English sentences from meanings: agreement, do-support, a and an, the order of words."""

from __future__ import annotations

from regard.corpora.grammar import (
    Clause,
    Clock,
    Coordinated,
    Existence,
    Measure,
    Name,
    NounPhrase,
    Phrase,
    Prepositional,
    Presentation,
    Pronoun,
    Question,
    Relative,
    Sentence,
    Statement,
    Subordinated,
    Time,
    What,
    person,
)
from regard.corpora.lexicon import Adverb, number_of
from regard.corpora.morphology import Person

_OBJECTS = {
    "I": "me",
    "you": "you",
    "he": "him",
    "she": "her",
    "it": "it",
    "we": "us",
    "they": "them",
}
_BE_PRESENT: dict[Person, str] = {"1s": "am", "2s": "are", "3s": "is", "1p": "are", "3p": "are"}
_BE_PAST: dict[Person, str] = {"1s": "was", "2s": "were", "3s": "was", "1p": "were", "3p": "were"}


def _with_article(words: list[str]) -> list[str]:
    """``a`` before words, ``an`` where the next begins with the sound of a vowel."""
    return ["an" if words[0][0] in "aeiou" else "a", *words]


def _noun_phrase(phrase: NounPhrase) -> list[str]:
    noun, kind = phrase.noun, phrase.determiner
    words = [number_of(phrase.count)] if phrase.count is not None else []
    words += [adjective.english for adjective in phrase.adjectives]
    words.append(noun.english_plural if phrase.plural else noun.english)
    if phrase.owner is not None:
        owner = _noun_phrase(phrase.owner)
        return [*owner[:-1], owner[-1] + "'s", *words]
    if kind == "bare":
        return words
    if kind == "a":
        return words if phrase.plural else _with_article(words)
    if kind == "this" and phrase.plural:
        return ["these", *words]
    return [*kind.split(), *words]


def _phrase(phrase: Phrase, *, subject: bool) -> list[str]:
    match phrase:
        case Pronoun(word):
            return [word if subject else _OBJECTS[word]]
        case Name(english, _):
            return [english]
        case NounPhrase():
            return _noun_phrase(phrase)
        case Relative(noun, _):
            if noun.kind != "person":
                return ["that"]
            return ["who" if subject else "whom"]
        case What():
            return ["what"]


def _prepositional(place: Prepositional) -> list[str]:
    return [*place.preposition.english.split(), *_phrase(place.phrase, subject=False)]


def _time(time: Time) -> list[str]:
    match time:
        case Adverb(english=words):
            return words.split()
        case Clock(hour):
            return ["at", number_of(hour), "o'clock"]
        case Prepositional():
            return _prepositional(time)


def _be(clause: Clause) -> str:
    return (_BE_PAST if clause.tense == "past" else _BE_PRESENT)[person(clause.subject)]


def _verb(clause: Clause, *, asked: bool) -> tuple[list[str], list[str]]:
    """The auxiliary (none in a plain statement) and the rest of the verb."""
    verb, modal = clause.verb, clause.modal
    third = person(clause.subject) == "3s"
    if verb.frame == "copula" and modal is None:
        return [_be(clause)], []
    base = [verb.base]
    if modal is not None:
        if modal.auxiliary:
            auxiliary, *to = modal.english.split()
            return [auxiliary], ([*to, "to", *base] if to else base)
        base = [modal.english, "to", verb.base]
    if asked or clause.negated:
        if clause.tense == "past":
            return ["did"], base
        return ["does" if third else "do"], base
    if modal is not None:
        return [], ["wants", *base[1:]] if third else base
    if clause.tense == "past":
        return [], [verb.past]
    return [], [verb.third] if third else base


def _predicate(clause: Clause) -> list[str]:
    match clause.predicate:
        case None:
            return []
        case Measure(count, unit):
            return [number_of(count), *(["years", "old"] if unit == "years" else ["euros"])]
        case adjective:
            return [adjective.english]


def _objects(clause: Clause) -> list[str]:
    """Objects with the verb's particle: picks up the child, but picks him up."""
    verb = clause.verb
    direct = clause.direct
    moved = direct is None or isinstance(direct, Relative | What) or _asks_how_many(direct)
    named = [] if moved or direct is None else _phrase(direct, subject=False)
    receiver = [] if clause.indirect is None else _phrase(clause.indirect, subject=False)
    if isinstance(clause.indirect, Relative):
        receiver = []
    if verb.frame == "ditransitive":
        if verb.preposition:
            return [*named, verb.preposition, *receiver]
        return [*receiver, *named]
    link = [verb.preposition] if verb.preposition else []
    particle = [verb.particle] if verb.particle else []
    if isinstance(direct, Pronoun):
        return [*link, *named, *particle]
    return [*particle, *link, *named]


def _asks_how_many(phrase: Phrase | None) -> bool:
    return isinstance(phrase, NounPhrase) and phrase.determiner == "how many"


def _tail(clause: Clause, *, front: str | None) -> list[str]:
    """All that follows the verb: objects, predicate, manner, direction, companion, place, time."""
    words = [*_objects(clause), *_predicate(clause)]
    if clause.verb.frame in ("motion", "travel", "placement", "position"):
        places = (clause.goal, clause.partner, clause.place)
    else:
        places = (clause.partner, clause.place, clause.goal)
    if clause.manner is not None:
        words += clause.manner.english.split()
    for place in places:
        if place is not None and not (place is clause.place and front == "place"):
            words += _prepositional(place)
    if clause.time is not None and front != "time":
        words += _time(clause.time)
    return words


def _clause(clause: Clause, *, front: str | None = None) -> list[str]:
    """A clause in the order of statements, which is also that of subordinate clauses."""
    auxiliary, rest = _verb(clause, asked=False)
    if clause.negated:
        auxiliary = ["cannot"] if auxiliary == ["can"] else [*auxiliary, "not"]
    often = [clause.frequency.english] if clause.frequency is not None else []
    subject = _phrase(clause.subject, subject=True)
    for moved in (clause.direct, clause.indirect):
        if isinstance(moved, Relative):
            subject = _phrase(moved, subject=False) + subject
    return [*subject, *auxiliary, *often, *rest, *_tail(clause, front=front)]


def _question(question: Question) -> list[str]:
    clause = question.clause
    if isinstance(clause.subject, Pronoun) and clause.subject.word == "who":
        return _clause(clause)
    auxiliary, rest = _verb(clause, asked=True)
    opening: list[str] = [question.word] if question.word else []
    if clause.direct is not None and (
        isinstance(clause.direct, What) or _asks_how_many(clause.direct)
    ):
        opening = _phrase(clause.direct, subject=False)
    often = [clause.frequency.english] if clause.frequency is not None else []
    subject = _phrase(clause.subject, subject=True)
    return [*opening, *auxiliary, *subject, *often, *rest, *_tail(clause, front=None)]


def _statement(statement: Statement) -> list[str]:
    clause = statement.clause
    words = _clause(clause, front=statement.front)
    if statement.front == "time" and clause.time is not None:
        comma = isinstance(clause.time, Prepositional)
        return _opened(_time(clause.time), words, comma=comma)
    if statement.front == "place" and clause.place is not None:
        return _opened(_prepositional(clause.place), words, comma=True)
    return words


def _opened(opening: list[str], words: list[str], *, comma: bool) -> list[str]:
    return [*opening[:-1], opening[-1] + ("," if comma else ""), *words]


def _existence(sentence: Existence) -> list[str]:
    there = ["there", "are" if sentence.what.plural else "is", *_noun_phrase(sentence.what)]
    place = _prepositional(sentence.place)
    return _opened(place, there, comma=True) if sentence.place_first else [*there, *place]


def render(sentence: Sentence) -> str:
    """The English of a meaning, with its capital and its full stop or question mark."""
    end = "."
    match sentence:
        case Statement():
            words = _statement(sentence)
        case Question():
            words, end = _question(sentence), "?"
        case Subordinated(main, conjunction, subordinate, reverse):
            minor = [conjunction, *_clause(subordinate)]
            words = _opened(minor, _clause(main), comma=True) if reverse else _clause(main) + minor
        case Coordinated(first, conjunction, second):
            words = _opened(_clause(first), [conjunction, *_clause(second)], comma=True)
        case Presentation(head, clause):
            words = ["these", "are"] if head.plural else ["this", "is"]
            words = [*words, *_noun_phrase(head), *_clause(clause)]
        case Existence():
            words = _existence(sentence)
    text = " ".join(words)
    return text[0].upper() + text[1:] + end
