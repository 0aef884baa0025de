"""Random circumstances of a clause: where, with whom, how, how often and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from regard.corpora.grammar import (
    ClauseKind,
    Clock,
    Name,
    NounPhrase,
    Phrase,
    Prepositional,
    Pronoun,
    Relative,
    Tense,
    Time,
)
from regard.corpora.lexicon import (
    CITIES,
    Adverb,
    Modal,
    Noun,
    Verb,
    adverbs,
    prepositions,
)
from regard.corpora.phrases import PLAIN, RICH, PhraseSampler, Style

# Verbs of states, told without a time, a place or a companion.
_STATES = frozenset(
    [
        "live",
        "need",
        "have",
        "know",
        "love",
        "trust",
        "believe",
        "understand",
        "belong",
        "forget",
        "lose",
    ]
)
_WITHOUT_PLACE = frozenset(["get up", "come back", "depart", "rain", "snow", "send", "bring back"])
_COMPANY = frozenset(
    [
        "cook",
        "eat",
        "drink",
        "visit",
        "clean",
        "repair",
        "read",
        "order",
        "wash",
        "write",
        "tidy up",
    ]
)
_FOR = frozenset(
    [
        "buy",
        "cook",
        "order",
        "write",
        "carry",
        "sing",
        "work",
        "repair",
        "wash",
        "steal",
        "clean",
        "open",
        "bring back",
        "pick up",
    ]
)
_MEALS = frozenset(["eat", "drink", "order", "cook"])


@dataclass(frozen=True, slots=True)
class Mood:
    """What a clause is drawn for.

    Args:
        alone: it is the only clause of its sentence: richer, and free to say "it".
    """

    kind: ClauseKind
    tense: Tense
    modal: Modal | None
    negated: bool
    alone: bool

    @property
    def style(self) -> Style:
        return RICH if self.alone else PLAIN


class Circumstances(NamedTuple):
    """Manner, frequency and time of a clause."""

    manner: Adverb | None
    frequency: Adverb | None
    time: Time | None


class CircumstanceSampler:
    """Draws what surrounds a verb and its objects."""

    def __init__(self, phrases: PhraseSampler) -> None:
        self.phrases = phrases
        self.random = phrases.random
        self.pick, self.chance = phrases.pick, phrases.chance
        self._cities = [Name(english, german) for english, german in CITIES.items()]
        self._adverbs: dict[str, list[Adverb]] = {}
        for adverb in adverbs().values():
            self._adverbs.setdefault(adverb.group, []).append(adverb)

    def goal(
        self, verb: Verb, subject: Phrase, direct: Phrase | None, mood: Mood
    ) -> Prepositional | None:
        """The place or direction that the verb asks for, if it does."""
        if verb.frame not in ("position", "motion", "travel", "placement"):
            return None
        phrases = self.phrases
        drawn = self.random.random()
        moves = verb.frame in ("motion", "travel")
        city = {"live": 0.35, "travel": 0.65, "drive": 0.2}.get(verb.name, 0.0)
        if drawn < city:
            use = ("to", "nach+dative") if moves else ("in", "in+dative")
            return Prepositional(prepositions()[use], self.pick(self._cities))
        noun = direct.noun if isinstance(direct, NounPhrase | Relative) else None
        if noun is None and isinstance(subject, NounPhrase | Relative):
            noun = subject.noun
        if verb.frame == "motion" and drawn > 0.84:
            return phrases.partner("to", PLAIN, subject, sure=mood.negated)
        if verb.frame == "motion" and drawn > 0.72:
            uses = phrases.sources
        elif verb.frame == "placement":
            uses = phrases.placing
        elif verb.frame == "position":
            uses = phrases.homes if verb.name == "live" else phrases.rest
            if isinstance(subject, NounPhrase | Relative) and _lies(subject.noun):
                uses = phrases.spots
        else:
            uses = phrases.roads if verb.name in ("drive", "travel") else phrases.motion
        return phrases.place(uses, mood.style, sure=mood.negated, but=noun)

    def company(
        self, verb: Verb, subject: Phrase, direct: Phrase | None, mood: Mood
    ) -> tuple[Prepositional | None, Prepositional | None]:
        """A companion, a purpose or what goes with a meal; else, sometimes, a place."""
        if verb.base in _STATES or verb.frame == "belonging":
            return None, None
        phrases, sure = self.phrases, mood.negated
        drawn = self.random.random() * (1.0 if mood.alone else 2.0)
        if verb.name in _MEALS and isinstance(direct, NounPhrase) and drawn < 0.35:
            word = "with" if self.chance(0.7) else "without"
            return phrases.side_dish(word, direct.noun), None
        if drawn < 0.2:
            if verb.name in _FOR and self.chance(0.5):
                return phrases.partner("for", PLAIN, subject, sure=sure), None
            still = verb.frame in ("intransitive", "position", "motion", "travel")
            if _alive(subject) and (still or verb.name in _COMPANY):
                word = "with" if self.chance(0.65) else "without"
                return phrases.partner(word, PLAIN, subject, sure=sure), None
        settled = ("position", "motion", "travel", "placement")
        if drawn < 0.45 and verb.frame not in settled and verb.name not in _WITHOUT_PLACE:
            taken = direct.noun if isinstance(direct, NounPhrase | Relative) else None
            return None, phrases.place(phrases.scenes, mood.style, sure=sure, but=taken)
        return None, None

    def circumstances(self, verb: Verb, subject: Phrase, mood: Mood) -> Circumstances:
        """Manner, frequency and time, as far as they agree with each other and with nicht."""
        manner = frequency = time = None
        if verb.manners and not mood.negated and self.chance(0.3):
            manner = self.pick([a for group in sorted(verb.manners) for a in self._adverbs[group]])
        if verb.base in _STATES:
            return Circumstances(manner, None, None)
        wishes = mood.modal is not None and mood.modal.english in ("want", "would like")
        nobody = isinstance(subject, NounPhrase) and subject.determiner == "no"
        if not mood.negated and not wishes and not nobody and self.chance(0.1):
            return Circumstances(manner, self.pick(self._adverbs["frequency"]), None)
        # "kommt heute früh an" would mean this morning; nicht and a time compete for one place
        hour = manner is not None and manner.group == "hour"
        crowded = hour or (mood.negated and not (mood.alone and mood.kind == "statement"))
        if not crowded and self.chance(0.48 if mood.alone else 0.14):
            time = self._time(mood)
        return Circumstances(manner, frequency, time)

    def _time(self, mood: Mood) -> Time:
        drawn = self.random.random()
        if drawn < 0.12:
            return Clock(1 + int(self.random.random() * 12))
        if drawn < 0.3 and mood.alone:
            word = self.pick(("before", "after", "during"))
            uses = {"before": "vor+dative", "after": "nach+dative", "during": "während+genitive"}
            noun = self.pick(self.phrases.events[word])
            drawn_phrase = self.phrases.noun_phrase(noun, "governed", PLAIN, sure=True)
            phrase = replace(drawn_phrase, plural=False)
            return Prepositional(prepositions()[word, uses[word]], phrase)
        group = "future" if mood.modal is not None else mood.tense
        return self.pick(self._adverbs["any" if drawn < 0.66 else group])


def _lies(noun: Noun) -> bool:
    return noun.kind in ("text", "cloth", "thing", "dish", "case")


def _alive(phrase: Phrase) -> bool:
    if isinstance(phrase, NounPhrase | Relative):
        return phrase.noun.kind in ("person", "animal")
    return phrase != Pronoun("it")
