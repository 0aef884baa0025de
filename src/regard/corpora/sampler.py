"""Random sentences: meanings drawn from the grammar, one seeded choice at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from regard.corpora.circumstances import Mood
from regard.corpora.clauses import ClauseSampler
from regard.corpora.grammar import (
    Clause,
    Combination,
    Coordinated,
    Existence,
    Measure,
    NounPhrase,
    Presentation,
    Pronoun,
    Question,
    QuestionWord,
    Relative,
    Sentence,
    Statement,
    Subordinated,
    Tense,
    What,
)
from regard.corpora.lexicon import Verb, copula, verbs
from regard.corpora.phrases import PLAIN, RICH, Style, weighted

_SENTENCES = weighted(
    statement=41, question=13, subordinated=20, reported=7, coordinated=6, presentation=7,
    existence=4, measure=2,
)  # fmt: skip
_RELATIVE_FRAMES = weighted(
    intransitive=14, position=10, motion=10, transitive=42, dative=10, ditransitive=9, placement=5
)
_ASKED_FRAMES = weighted(transitive=4, dative=1)
_QUESTION_WORDS: tuple[QuestionWord, ...] = ("why", "when", "where")
_MOVING = frozenset(["motion", "travel", "placement", "copula", "weather"])


class Sampler:
    """Draws sentences in which every combination of words is allowed.

    Args:
        seed: the same seed gives the same sentences on every machine and Python.
        allowed: says of a combination whether it may occur; all do where it is left out.
    """

    def __init__(self, seed: int, allowed: Callable[[Combination], bool] = lambda _: True) -> None:
        self.random = Random(seed)
        self.clauses = ClauseSampler(self.random, allowed)
        self.phrases = self.clauses.phrases
        self.pick, self.chance = self.phrases.pick, self.phrases.chance

    # ---- whole sentences -------------------------------------------------------------------

    def sentence(self) -> Sentence:
        """The next random sentence."""
        match _SENTENCES.draw(self.random):
            case "statement":
                return self._statement()
            case "question":
                return self._question()
            case "subordinated":
                return self._subordinated()
            case "reported":
                return self._reported()
            case "coordinated":
                return self._coordinated()
            case "presentation":
                return self._presentation()
            case "existence":
                return self._existence()
            case _:
                return self._measure()

    def _statement(self) -> Statement:
        clause = self.clauses.clause(self.clauses.mood("statement", alone=True))
        if clause.time is not None and (clause.negated or self.chance(0.5)):
            return Statement(clause, "time")
        if clause.place is not None and clause.time is None and self.chance(0.4):
            return Statement(clause, "place")
        return Statement(clause)

    def _question(self) -> Question:
        mood = self.clauses.mood("question", alone=True)
        drawn = self.random.random()
        if drawn < 0.12:
            return Question(self.clauses.clause(mood, subject=Pronoun("who")))
        if drawn < 0.26:
            verb = self.clauses.verb(mood, "transitive")
            return Question(self._object_question(verb, mood))
        if drawn < 0.5:
            return self._circumstance_question(mood)
        return Question(self.clauses.clause(mood))

    def _object_question(self, verb: Verb, mood: Mood) -> Clause:
        """What does he buy? How many books does he buy?"""
        noun = self.pick(self.clauses.objects[verb])
        if noun.kind in ("person", "animal") or (not noun.mass and self.chance(0.5)):
            style = Style(0.3, 0.0)
            words = self.phrases.adjectives(noun, style)
            return self.clauses.clause(mood, verb, direct=NounPhrase(noun, "how many", True, words))
        return self.clauses.clause(mood, verb, direct=What())

    def _circumstance_question(self, mood: Mood) -> Question:
        word: QuestionWord = self.pick(_QUESTION_WORDS)
        clause = self.clauses.clause(mood)
        if word == "where" and clause.verb.frame in _MOVING:
            word = "why"
        if word == "where":
            clause = replace(clause, goal=None, place=None, frequency=None)
        elif word == "when":
            clause = replace(clause, manner=None, frequency=None, time=None)
        return Question(clause, word)

    def _subordinated(self) -> Subordinated:
        conjunction = self.pick(("because", "because", "if", "although"))
        reverse = self.chance(0.5)
        tense: Tense = "past" if conjunction != "if" and self.chance(0.35) else "present"
        main = self.clauses.clause(self.clauses.mood("statement", tense=tense))
        minor = self.clauses.mood("subordinate", tense=tense)
        if conjunction == "if" and minor.modal is not None and minor.modal.english == "will":
            minor = replace(minor, modal=None)
        if self.chance(0.12):
            return Subordinated(main, conjunction, self.clauses.weather(minor), reverse)
        return Subordinated(main, conjunction, self.clauses.clause(minor), reverse)

    def _reported(self) -> Subordinated:
        """The man knows that ...; the woman asks whether ..."""
        asks = self.chance(0.25)
        mood = self.clauses.mood("statement", tense="present")
        plain = Mood("statement", "present", None, mood.negated and not asks, False)
        verb = self.pick(self.clauses.frames["question" if asks else "clause"])
        main = Clause(self.clauses.subject(verb, plain), verb, negated=plain.negated)
        minor = self.clauses.clause(self.clauses.mood("subordinate"))
        return Subordinated(main, "whether" if asks else "that", minor)

    def _coordinated(self) -> Coordinated:
        tense: Tense = "past" if self.chance(0.35) else "present"
        first = self.clauses.clause(self.clauses.mood("statement", tense=tense))
        second = self.clauses.clause(self.clauses.mood("statement", tense=tense))
        return Coordinated(first, self.pick(("and", "but")), second)

    def _presentation(self) -> Presentation:
        """This is the man who ..., these are the books that ..."""
        mood = self.clauses.mood("subordinate")
        asked = self.chance(0.45)
        frame = (_ASKED_FRAMES if asked else _RELATIVE_FRAMES).draw(self.random)
        verb = self.clauses.verb(mood, frame)
        noun = self.pick((self.clauses.objects if asked else self.clauses.subjects)[verb])
        plural = not noun.mass and self.chance(0.3)
        relative = Relative(noun, plural)
        kind = self.pick(("the", "the", "a" if not noun.mass else "the", "my", "her", "his"))
        head = NounPhrase(noun, kind, plural, self.phrases.adjectives(noun, RICH))
        if asked:
            return Presentation(head, self.clauses.clause(mood, verb, direct=relative))
        return Presentation(head, self.clauses.clause(mood, verb, subject=relative))

    def _existence(self) -> Existence:
        place = self.phrases.place(self.phrases.rest, PLAIN)
        there = place.phrase.noun if isinstance(place.phrase, NounPhrase) else None
        noun = self.pick(self.clauses.described)
        while noun.mass or noun is there or noun.kind in ("event", "building", "land", "room"):
            noun = self.pick(self.clauses.described)
        words = self.phrases.adjectives(noun, RICH)
        if self.chance(0.65):
            what = NounPhrase(noun, "bare", True, words, self.phrases.count(noun))
        else:
            what = NounPhrase(noun, self.pick(("a", "no")), self.chance(0.3), words)
        return Existence(what, place, self.chance(0.5))

    def _measure(self) -> Statement:
        """My uncle is forty-two years old; the car costs ninety euros."""
        if self.chance(0.5):
            subject = self.clauses.somebody(RICH)
            count = 2 + int(self.random.random() * 98)
            return Statement(Clause(subject, copula(), predicate=Measure(count, "years")))
        verb = verbs()["cost"]
        noun = self.pick(self.clauses.subjects[verb])
        thing = self.phrases.noun_phrase(noun, "subject", RICH, sure=True)
        count = 2 + int(self.random.random() * 98)
        return Statement(Clause(thing, verb, predicate=Measure(count, "euros")))
