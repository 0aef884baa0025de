"""German sentences from meanings: case, agreement, verb-second and verb-final order.

The order of the middle field is one fixed rule, so that a sentence has one translation: pronouns,
time or frequency, dative, accusative, nicht, manner, companion, place, direction, predicate.
"""

from __future__ import annotations

from regard.corpora import morphology
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
    agreement,
    person,
)
from regard.corpora.lexicon import CONJUNCTIONS, Adverb, Preposition
from regard.corpora.morphology import IRREGULAR_PRESENT, Case

_PRONOUNS: dict[str, dict[Case, str]] = {
    "I": {"nominative": "ich", "accusative": "mich", "dative": "mir"},
    "you": {"nominative": "du", "accusative": "dich", "dative": "dir"},
    "he": {"nominative": "er", "accusative": "ihn", "dative": "ihm"},
    "she": {"nominative": "sie", "accusative": "sie", "dative": "ihr"},
    "it": {"nominative": "es", "accusative": "es", "dative": "ihm"},
    "we": {"nominative": "wir", "accusative": "uns", "dative": "uns"},
    "they": {"nominative": "sie", "accusative": "sie", "dative": "ihnen"},
    "who": {"nominative": "wer", "accusative": "wen", "dative": "wem"},
}
_QUESTION_WORDS = {"why": "warum", "when": "wann", "where": "wo"}


def _noun_phrase(phrase: NounPhrase, case: Case, *, none: bool = False) -> list[str]:
    """A noun phrase in a case; ``none`` makes an indefinite one negative (kein)."""
    key = agreement(phrase)
    if none:
        article, declension = morphology.determiner("no", key, case)
    elif phrase.determiner == "how many":
        article, declension = "wie viele", "strong"
    else:
        article, declension = morphology.determiner(phrase.determiner, key, case)
    words = article.split()
    if phrase.count is not None:
        words.append(morphology.number(phrase.count))
    words += [
        morphology.adjective(adjective.stem, declension, key, case)
        for adjective in phrase.adjectives
    ]
    words.append(phrase.noun.forms[phrase.plural, case])
    return words if phrase.owner is None else words + _noun_phrase(phrase.owner, "genitive")


def _phrase(phrase: Phrase, case: Case, *, none: bool = False) -> list[str]:
    match phrase:
        case Pronoun(word):
            return [_PRONOUNS[word][case]]
        case Name(_, german):
            return [german]
        case NounPhrase():
            return _noun_phrase(phrase, case, none=none)
        case Relative():
            return [morphology.RELATIVE[agreement(phrase), case]]
        case What():
            return ["was"]


def _prepositional(place: Prepositional, *, none: bool = False) -> list[str]:
    """A preposition and its phrase, contracted with a definite article (in dem: im)."""
    preposition: Preposition = place.preposition
    words = _phrase(place.phrase, preposition.case, none=none)
    if isinstance(place.phrase, NounPhrase) and place.phrase.determiner == "the":
        joined = morphology.CONTRACTIONS.get((preposition.german, words[0]))
        if joined is not None:
            return [joined, *words[1:]]
    return [preposition.german, *words]


def _time(time: Time) -> list[str]:
    match time:
        case Adverb(german=words):
            return words.split()
        case Clock(hour):
            return ["um", "ein" if hour == 1 else morphology.number(hour), "Uhr"]
        case Prepositional():
            return _prepositional(time)


def _indefinite(phrase: Phrase | None) -> bool:
    return isinstance(phrase, NounPhrase) and phrase.determiner in ("a", "bare")


def _predicate(clause: Clause) -> list[str]:
    match clause.predicate:
        case None:
            return []
        case Measure(count, "years"):
            return [morphology.number(count), "Jahre", "alt"]
        case Measure(count, _):
            return [morphology.number(count), "Euro"]
        case adjective:
            return [adjective.german]


def _objects(clause: Clause) -> tuple[list[str], list[str]]:
    """The objects that are pronouns (accusative first), and the others (dative first)."""
    light: list[str] = []
    heavy: list[str] = []
    case: Case = "dative" if clause.verb.frame in ("dative", "belonging") else "accusative"
    if isinstance(clause.direct, Pronoun):
        light += _phrase(clause.direct, case)
    if isinstance(clause.indirect, Pronoun):
        light += _phrase(clause.indirect, "dative")
    elif clause.indirect is not None and not isinstance(clause.indirect, Relative):
        heavy += _phrase(clause.indirect, "dative")
    if isinstance(clause.direct, Name | NounPhrase) and not _asked_for(clause.direct):
        none = clause.negated and _indefinite(clause.direct)
        heavy += _phrase(clause.direct, case, none=none)
    return light, heavy


def _asked_for(phrase: Phrase | None) -> bool:
    if isinstance(phrase, NounPhrase):
        return phrase.determiner == "how many"
    return isinstance(phrase, What)


def _middle(clause: Clause, *, front: str | None) -> list[str]:
    """The middle field, between the finite verb and the end of the clause."""
    light, words = _objects(clause)
    if clause.frequency is not None:
        words = [*clause.frequency.german.split(), *words]
    if clause.time is not None and front != "time":
        words = [*_time(clause.time), *words]
    words = light + words
    if clause.negated and not _indefinite(clause.direct):
        words.append("nicht")
    if clause.manner is not None:
        words.append(clause.manner.german)
    for place in (clause.partner, clause.place, clause.goal):
        if place is not None and not (place is clause.place and front == "place"):
            words += _prepositional(place)
    return words + _predicate(clause)


def _verb(clause: Clause) -> tuple[str, list[str], list[str]]:
    """The finite verb, what ends a main clause beside it, and what ends a subordinate clause."""
    verb, who = clause.verb, person(clause.subject)
    if clause.modal is not None:
        finite = IRREGULAR_PRESENT[clause.modal.german][who]
        return finite, [verb.infinitive], [verb.infinitive, finite]
    if clause.tense == "past" and verb.preterite is None:
        finite = IRREGULAR_PRESENT[verb.auxiliary][who]
        return finite, [verb.participle], [verb.participle, finite]
    forms = verb.present if clause.tense == "present" or verb.preterite is None else verb.preterite
    prefix = [verb.prefix] if verb.prefix else []
    return forms[who], prefix, [verb.prefix + forms[who]]


def _main(
    clause: Clause, opening: list[str] | None = None, *, front: str | None = None
) -> list[str]:
    """A main clause: the verb second, after ``opening`` or, without one, after the subject."""
    finite, end, _ = _verb(clause)
    subject = _phrase(clause.subject, "nominative")
    head = [*subject, finite] if opening is None else [*opening, finite, *subject]
    return [*head, *_middle(clause, front=front), *end]


def _subordinate(clause: Clause) -> list[str]:
    """A subordinate clause: the verbs at its end, a relative pronoun at its beginning."""
    _, _, verbs = _verb(clause)
    words = [*_phrase(clause.subject, "nominative"), *_middle(clause, front=None), *verbs]
    dative = clause.verb.frame in ("dative", "belonging")
    if isinstance(clause.direct, Relative):
        return _phrase(clause.direct, "dative" if dative else "accusative") + words
    if isinstance(clause.indirect, Relative):
        return _phrase(clause.indirect, "dative") + words
    return words


def _question(question: Question) -> list[str]:
    clause = question.clause
    if isinstance(clause.subject, Pronoun) and clause.subject.word == "who":
        return _main(clause)
    if question.word:
        return _main(clause, [_QUESTION_WORDS[question.word]])
    if clause.direct is not None and _asked_for(clause.direct):
        return _main(clause, _phrase(clause.direct, "accusative"))
    return _main(clause, [])


def _statement(statement: Statement) -> list[str]:
    clause = statement.clause
    opening = None
    if statement.front == "time" and clause.time is not None:
        opening = _time(clause.time)
    elif statement.front == "place" and clause.place is not None:
        opening = _prepositional(clause.place)
    return _main(clause, opening, front=statement.front)


def _comma(words: list[str]) -> list[str]:
    return [*words[:-1], words[-1] + ","]


def _subordinated(sentence: Subordinated) -> list[str]:
    minor = [CONJUNCTIONS[sentence.conjunction], *_subordinate(sentence.subordinate)]
    if sentence.reverse:
        return _main(sentence.main, _comma(minor))
    return [*_comma(_main(sentence.main)), *minor]


def _existence(sentence: Existence) -> list[str]:
    what, place = _noun_phrase(sentence.what, "accusative"), _prepositional(sentence.place)
    if sentence.place_first:
        return [*place, "gibt", "es", *what]
    return ["es", "gibt", *what, *place]


def render(sentence: Sentence) -> str:
    """The German of a meaning, with its capital and its full stop or question mark."""
    end = "."
    match sentence:
        case Statement():
            words = _statement(sentence)
        case Question():
            words, end = _question(sentence), "?"
        case Subordinated():
            words = _subordinated(sentence)
        case Coordinated(first, conjunction, second):
            words = [*_comma(_main(first)), CONJUNCTIONS[conjunction], *_main(second)]
        case Presentation(head, clause):
            words = ["das", "sind" if head.plural else "ist"]
            words += [*_comma(_noun_phrase(head, "nominative")), *_subordinate(clause)]
        case Existence():
            words = _existence(sentence)
    text = " ".join(words)
    return text[0].upper() + text[1:] + end
