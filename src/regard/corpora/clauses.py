"""Random clauses: a verb, its arguments and its circumstances, in a given mood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from regard.corpora.grammar import (
    Clause,
    ClauseKind,
    Clock,
    Combination,
    Name,
    NounPhrase,
    Phrase,
    Prepositional,
    Pronoun,
    Relative,
    Tense,
    Time,
    person,
    verb_clause,
)
from regard.corpora.lexicon import (
    CITIES,
    MODALS,
    Adverb,
    Modal,
    Noun,
    Verb,
    adjectives,
    adverbs,
    copula,
    nouns,
    prepositions,
    verbs,
)
from regard.corpora.phrases import PLAIN, RICH, PhraseSampler, Style, nouns_of, weighted

_FRAMES = weighted(
    intransitive=13, position=9, motion=9, travel=2, transitive=40, dative=9, ditransitive=9,
    placement=6, belonging=1, copula=9, weather=1,
)  # fmt: skip
_PRONOUNS = tuple(Pronoun(word) for word in ("I", "I", "you", "you", "he", "she", "we", "they"))
_IT = Pronoun("it")
_WEATHER = ("cold", "warm", "hot", "dark")
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


class ClauseSampler:
    """Draws clauses whose combinations of words are all allowed."""

    def __init__(self, random: Random, allowed: Callable[[Combination], bool]) -> None:
        self.random = random
        self.allowed = allowed
        self.phrases = PhraseSampler(random, allowed)
        self.pick, self.chance = self.phrases.pick, self.phrases.chance
        self.frames: dict[str, list[Verb]] = {}
        people = frozenset(["person"])
        self.subjects: dict[Verb, list[Noun]] = {}
        self.objects: dict[Verb, list[Noun]] = {}
        self._receivers: dict[Verb, list[Noun]] = {}
        for verb in verbs().values():
            self.frames.setdefault(verb.frame, []).append(verb)
            self.subjects[verb] = nouns_of("subject-verb", verb, verb.subjects, allowed)
            self.objects[verb] = nouns_of("verb-object", verb, verb.objects, allowed)
            self._receivers[verb] = nouns_of("verb-receiver", verb, people, allowed)
        self.described = [noun for noun in nouns().values() if self.phrases.modifiers[noun]]
        self._adverbs: dict[str, list[Adverb]] = {}
        for adverb in adverbs().values():
            self._adverbs.setdefault(adverb.group, []).append(adverb)
        self._cities = [Name(english, german) for english, german in CITIES.items()]
        self._moods = [a for a in adjectives().values() if "person" in a.kinds]

    def mood(self, kind: ClauseKind, *, tense: Tense | None = None, alone: bool = False) -> Mood:
        """A random mood for a kind of clause, in the tense where one is given."""
        drawn: Tense = tense or ("past" if self.chance(0.35) else "present")
        modal = self.pick(MODALS) if drawn == "present" and self.chance(0.35) else None
        negated = kind != "question" and self.chance(0.16)
        if negated and modal is not None and modal.english in ("must", "would like"):
            negated = False
        return Mood(kind, drawn, modal, negated, alone)

    def verb(self, mood: Mood, frame: str) -> Verb:
        """A verb of the frame that may stand in this kind of clause and tense."""
        while True:
            verb = self.pick(self.frames[frame])
            if self.allowed(verb_clause(verb, mood.kind, mood.tense, mood.modal)):
                return verb

    def clause(
        self,
        mood: Mood,
        verb: Verb | None = None,
        *,
        subject: Phrase | None = None,
        direct: Phrase | None = None,
    ) -> Clause:
        """A clause in the mood; a verb, subject or object that is given is kept."""
        if verb is None:
            frame = _FRAMES.draw(self.random)
            while subject is not None and frame in ("weather", "belonging", "copula"):
                frame = _FRAMES.draw(self.random)
            if frame == "copula":
                return self.description(mood)
            if frame == "weather":
                return self.weather(mood)
            if frame == "belonging":
                mood = replace(mood, modal=None)
            verb = self.verb(mood, frame)
        subject = subject or self.subject(verb, mood)
        tense = "present" if _looks_present(verb, mood, subject) else mood.tense
        direct = direct or self._direct(verb, subject, mood)
        partner, place = self._company(verb, subject, direct, mood)
        return Clause(
            subject,
            verb,
            tense,
            mood.modal,
            mood.negated,
            direct,
            self._indirect(verb, subject, direct, mood),
            None,
            self._goal(verb, subject, direct, mood),
            partner,
            place,
            *self._circumstances(verb, subject, mood, tense),
        )

    def description(self, mood: Mood) -> Clause:
        """A subject and what it is like: the soup was cold."""
        verb = copula()
        tense = mood.tense
        if not self.allowed(verb_clause(verb, mood.kind, tense, None)):
            tense = "present"
        subject: Phrase
        drawn = self.random.random()
        if drawn < 0.22:
            subject, predicate = self.pick(_PRONOUNS), self.pick(self._moods)
        elif drawn < 0.3:
            subject, predicate = _IT, adjectives()[self.pick(_WEATHER)]
        else:
            noun = self.pick(self.described)
            plain = Style(0.15, 0.0)
            sure = mood.negated or mood.kind == "question"
            subject = self.phrases.noun_phrase(noun, "subject", plain, sure=sure)
            predicate = self.pick(self.phrases.modifiers[noun])
            if predicate in subject.adjectives:
                subject = replace(subject, adjectives=())
        calm = Mood(mood.kind, tense, None, mood.negated, mood.alone)
        _, frequency, time = self._circumstances(verb, subject, calm, tense)
        return Clause(
            subject,
            verb,
            tense,
            negated=mood.negated,
            predicate=predicate,
            frequency=frequency,
            time=time,
        )

    def weather(self, mood: Mood) -> Clause:
        """It rains, it will snow."""
        modal = mood.modal if mood.modal and mood.modal.english in ("will", "may") else None
        calm = Mood(mood.kind, mood.tense, modal, mood.negated, mood.alone)
        verb = self.verb(calm, "weather")
        _, frequency, time = self._circumstances(verb, _IT, calm, calm.tense)
        return Clause(_IT, verb, calm.tense, modal, calm.negated, frequency=frequency, time=time)

    def somebody(self, style: Style) -> NounPhrase | Name:
        """One person, by name or by noun."""
        if self.chance(0.25):
            return self.phrases.name()
        noun = self.pick(self.phrases.people)
        phrase = self.phrases.noun_phrase(noun, "subject", style, sure=True)
        return NounPhrase(noun, phrase.determiner, False, phrase.adjectives)

    def subject(self, verb: Verb, mood: Mood) -> Phrase:
        """A subject that fits the verb: a pronoun, a name or a noun."""
        if "person" in verb.subjects:
            drawn = self.random.random()
            if drawn < 0.28:
                return self.pick(_PRONOUNS)
            if drawn < 0.37:
                return self.phrases.name()
        sure = mood.negated or mood.kind == "question"
        noun = self.pick(self.subjects[verb])
        return self.phrases.noun_phrase(noun, "subject", mood.style, sure=sure)

    def _direct(self, verb: Verb, subject: Phrase, mood: Mood) -> Phrase | None:
        fitting = self.objects[verb]
        if not fitting:
            return None
        noun = self._other(fitting, subject)
        drawn = self.random.random()
        if verb.frame != "ditransitive":
            if noun.kind == "person":
                if drawn < 0.26:
                    return self.phrases.object_pronoun(subject)
                if drawn < 0.36:
                    return self._other_name(subject)
            elif drawn < 0.05 and mood.alone:
                return _IT
            elif drawn < 0.08:
                return Pronoun("they")
        return self.phrases.noun_phrase(noun, "object", mood.style, denied=mood.negated)

    def _indirect(
        self, verb: Verb, subject: Phrase, direct: Phrase | None, mood: Mood
    ) -> Phrase | None:
        if verb.frame != "ditransitive":
            return None
        drawn = self.random.random()
        if drawn < 0.34:
            pronoun = self.phrases.object_pronoun(subject)
            # "gives her apples" could also mean her own apples
            while pronoun.word == "she" and _bare(direct):
                pronoun = self.phrases.object_pronoun(subject)
            return pronoun
        if drawn < 0.44:
            return self._other_name(subject)
        noun = self._other(self._receivers[verb], subject)
        return self.phrases.noun_phrase(noun, "governed", PLAIN, sure=mood.negated)

    def _other(self, fitting: list[Noun], but: Phrase | None) -> Noun:
        """A noun other than the phrase's."""
        taken = but.noun if isinstance(but, NounPhrase | Relative) else None
        noun = self.pick(fitting)
        while noun is taken:
            noun = self.pick(fitting)
        return noun

    def _other_name(self, but: Phrase) -> Name:
        name = self.phrases.name()
        while name == but:
            name = self.phrases.name()
        return name

    def _goal(
        self, verb: Verb, subject: Phrase, direct: Phrase | None, mood: Mood
    ) -> Prepositional | None:
        """The place or direction that the verb asks for."""
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

    def _company(
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

    def _circumstances(
        self, verb: Verb, subject: Phrase, mood: Mood, tense: Tense
    ) -> Circumstances:
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
            time = self._time(mood, tense)
        return Circumstances(manner, frequency, time)

    def _time(self, mood: Mood, tense: Tense) -> Time:
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
        group = "future" if mood.modal is not None else tense
        return self.pick(self._adverbs["any" if drawn < 0.66 else group])


def _bare(phrase: Phrase | None) -> bool:
    """Whether the phrase has no determiner in English."""
    if not isinstance(phrase, NounPhrase):
        return False
    return phrase.determiner == "bare" or (phrase.determiner == "a" and phrase.plural)


def _lies(noun: Noun) -> bool:
    return noun.kind in ("text", "cloth", "thing", "dish", "case")


def _alive(phrase: Phrase) -> bool:
    if isinstance(phrase, NounPhrase | Relative):
        return phrase.noun.kind in ("person", "animal")
    return phrase != _IT


def _looks_present(verb: Verb, mood: Mood, subject: Phrase) -> bool:
    """Whether the English past would look like the present (they read, they put)."""
    plain = not mood.negated and (mood.kind != "question" or subject == Pronoun("who"))
    past = mood.tense == "past" and verb.past == verb.base
    return past and plain and person(subject) != "3s"
