"""The pairs of gold.txt, written by hand: the grammar must say them so, and not otherwise.

A meaning is spelled with short English phrases: ``say("the old man", "buy", "a red car")``.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from regard import corpora
from regard.corpora import english, german
from regard.corpora.grammar import (
    Clause,
    Clock,
    Coordinated,
    Existence,
    Measure,
    Name,
    NounPhrase,
    Prepositional,
    Presentation,
    Pronoun,
    Question,
    Relative,
    Statement,
    Subordinated,
    What,
)
from regard.corpora.lexicon import (
    CITIES,
    MODALS,
    PEOPLE,
    adjectives,
    adverbs,
    copula,
    nouns,
    prepositions,
    verbs,
)
from regard.corpora.split import unseen

DETERMINERS = {"the", "a", "this", "every", "no", "my", "your", "his", "her", "our", "their"}
PRONOUNS = {"I", "you", "he", "she", "it", "we", "they", "who"}
SINGULAR = {noun.english: noun for noun in nouns().values()}
PLURAL = {noun.english_plural: noun for noun in nouns().values()}


def phrase(text):
    """A phrase from "she", "Anna", "Vienna" or words for a noun phrase; a ready one stays."""
    if not isinstance(text, str):
        return text
    if text in PRONOUNS:
        return Pronoun(text)
    if text in PEOPLE:
        return Name(text, text)
    return Name(text, CITIES[text]) if text in CITIES else noun_phrase(text)


def noun_phrase(text):
    """A noun phrase from "my 21 old dogs", "an apple", "these cats", "the teacher's dog"."""
    if "'s " in text:
        owner, owned = text.split("'s ")
        return replace(noun_phrase("the " + owned), owner=noun_phrase(owner))
    *words, last = text.split()
    determiner = "bare"
    if words[:2] == ["how", "many"]:
        determiner, words = "how many", words[2:]
    elif words and {"these": "this", "an": "a"}.get(words[0], words[0]) in DETERMINERS:
        first = words.pop(0)
        determiner = {"these": "this", "an": "a"}.get(first, first)
    count = int(words.pop(0)) if words and words[0].isdigit() else None
    noun = SINGULAR.get(last) or PLURAL[last]
    described = tuple(adjectives()[word] for word in words)
    return NounPhrase(noun, determiner, last not in SINGULAR, described, count)


def relative(noun, *, plural=False):
    return Relative(nouns()[noun], plural)


def at(preposition, text, use=None):
    """A prepositional phrase; ``use`` (auf+accusative) where English has one word for several."""
    uses = [found for (word, _), found in prepositions().items() if word == preposition]
    found = uses[0] if use is None else prepositions()[preposition, use]
    return Prepositional(found, phrase(text))


def clause(subject, verb, direct=None, *, to=None, modal=None, is_=None, **more):
    """A clause: ``to`` is its indirect object, ``is_`` its predicate, the rest is Clause's own."""
    for key in ("manner", "frequency", "time"):
        if isinstance(more.get(key), str):
            more[key] = adverbs()[more[key]]
    if is_ is not None:
        more["predicate"] = adjectives()[is_]
    return Clause(
        phrase(subject),
        copula() if verb == "be" else verbs()[verb],
        modal=next((found for found in MODALS if found.english == modal), None),
        direct=phrase(direct) if direct is not None else None,
        indirect=phrase(to) if to is not None else None,
        **more,
    )


def say(*args, front=None, **more):
    return Statement(clause(*args, **more), front)


def ask(*args, word=None, **more):
    return Question(clause(*args, **more), word)


def sub(main, conjunction, minor, *, reverse=False):
    return Subordinated(main, conjunction, minor, reverse)


def this_is(head, minor):
    return Presentation(noun_phrase(head), minor)


WORDS = {
    made.__name__: made
    for made in (
        say, ask, sub, this_is, clause, at, relative, noun_phrase,
        Clock, Coordinated, Existence, Measure, What,
    )
}  # fmt: skip


def gold():
    """The rows of gold.txt: topic, English, German, meaning."""
    rows, topic = [], ""
    for line in Path(__file__).with_name("gold.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            topic = line[2:].partition(":")[0]
        elif line:
            source, target, meaning = line.split(" | ")
            rows.append((topic, source, target, eval(meaning, dict(WORDS))))
    return rows


ROWS = gold()


@pytest.mark.parametrize(
    ("source", "target", "meaning"), [pytest.param(*row[1:], id=row[1]) for row in ROWS]
)
def test_the_grammar_says_the_gold_pair(source, target, meaning):
    assert english.render(meaning) == source
    assert german.render(meaning) == target


def test_there_are_enough_pairs_of_each_topic():
    topics = [topic for topic, *_ in ROWS]
    assert len(ROWS) >= 80
    assert all(topics.count(topic) >= 6 for topic in topics)


def test_showcase_is_gold_and_never_seen_in_training():
    showcase = {tuple(pair) for pair in corpora.showcase("demo")}
    rows = [row for row in ROWS if row[0] == "showcase"]
    assert {(source, target) for _, source, target, _ in rows} == showcase
    assert all(unseen(meaning) for *_, meaning in rows)
