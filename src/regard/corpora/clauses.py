"""Random clauses: a verb, its arguments and its circumstances, in a given mood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from regard.corpora.circumstances import CircumstanceSampler, Mood
from regard.corpora.grammar import (
    Clause,
    ClauseKind,
    Combination,
    Name,
    NounPhrase,
    Phrase,
    Pronoun,
    Relative,
    Tense,
    person,
    verb_clause,
)
from regard.corpora.lexicon import (
    MODALS,
    Noun,
    Verb,
    adjectives,
    copula,
    nouns,
    verbs,
)
from regard.corpora.phrases import PLAIN, PhraseSampler, Style, nouns_of, weighted

_FRAMES = weighted(
    intransitive=13, position=9, motion=9, travel=2, transitive=40, dative=9, ditransitive=9,
    placement=6, belonging=1, copula=9, weather=1,
)  # fmt: skip
_PRONOUNS = tuple(Pronoun(word) for word in ("I", "I", "you", "you", "he", "she", "we", "they"))
_IT = Pronoun("it")
_WEATHER = ("cold", "warm", "hot", "dark")


class ClauseSampler:
    """Draws clauses whose combinations of words are all allowed."""

    def __init__(self, random: Random, allowed: Callable[[Combination], bool]) -> None:
        self.random = random
        self.allowed = allowed
        self.phrases = PhraseSampler(random, allowed)
        self.around = CircumstanceSampler(self.phrases)
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
        free = verb is None and subject is None and direct is None
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
        while _same_noun(subject, direct):
            subject = self.subject(verb, mood)
        if _looks_present(verb, mood, subject):
            if free:
                return self.clause(mood)
            mood = replace(mood, tense="present")
        direct = direct or self._direct(verb, subject, mood)
        partner, place = self.around.company(verb, subject, direct, mood)
        return Clause(
            subject,
            verb,
            mood.tense,
            mood.modal,
            mood.negated,
            direct,
            self._indirect(verb, subject, direct, mood),
            None,
            self.around.goal(verb, subject, direct, mood),
            partner,
            place,
            *self.around.circumstances(verb, subject, mood),
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
        _, frequency, time = self.around.circumstances(verb, subject, calm)
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
        _, frequency, time = self.around.circumstances(verb, _IT, calm)
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


def _same_noun(one: Phrase | None, other: Phrase | None) -> bool:
    nouns_in = (NounPhrase, Relative)
    return isinstance(one, nouns_in) and isinstance(other, nouns_in) and one.noun is other.noun


def _bare(phrase: Phrase | None) -> bool:
    """Whether the phrase has no determiner in English."""
    if not isinstance(phrase, NounPhrase):
        return False
    return phrase.determiner == "bare" or (phrase.determiner == "a" and phrase.plural)


def _looks_present(verb: Verb, mood: Mood, subject: Phrase) -> bool:
    """Whether the English past would look like the present (they read, they put)."""
    plain = not mood.negated and (mood.kind != "question" or subject == Pronoun("who"))
    past = mood.tense == "past" and verb.past == verb.base
    return past and plain and person(subject) != "3s"
