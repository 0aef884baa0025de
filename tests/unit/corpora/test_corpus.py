"""Laws of the English-German corpus at its full size: its splits, its words, its bytes."""

import re
from collections import Counter
from hashlib import sha256
from itertools import pairwise

import pytest

from regard import corpora
from regard.corpora import corpus, lexicon, split
from regard.corpora.grammar import combinations
from regard.corpora.sampler import Sampler
from regard.corpora.split import held_out, unseen
from regard.errors import RegardError

SEED = 2017


@pytest.fixture(scope="module")
def demo():
    return corpora.make("demo", seed=SEED)


@pytest.fixture(scope="module")
def sources(demo):
    return corpus.count_words(pair.source for pair in demo.train)


@pytest.fixture(scope="module")
def targets(demo):
    return corpus.count_words(pair.target for pair in demo.train)


def test_sizes(demo):
    assert {name: len(pairs) for name, pairs in demo.splits().items()} == {
        "train": 100_000,
        "valid": 1_000,
        "test": 1_000,
    }


def test_sentences_are_distinct_within_and_between_the_splits(demo):
    pairs = [pair for found in demo.splits().values() for pair in found]
    assert len({pair.source for pair in pairs}) == len(pairs)


def test_ten_words_on_average(demo):
    def mean(side):
        return sum(len(pair[side].split()) for pair in demo.train) / len(demo.train)

    assert 10.0 <= mean(0) <= 11.0
    assert 10.0 <= mean(1) <= 11.0


def test_training_and_validation_have_no_held_out_combination(demo):
    """The same draws again, with their meanings at hand."""
    sampler = Sampler(SEED, lambda combination: not held_out(combination))
    sources = {pair.source for pair in demo.train + demo.valid}
    for draw in range(int(1.05 * len(sources))):  # more than made the corpus: some came twice
        sentence = sampler.sentence()
        assert not unseen(sentence)
        if draw % 20 == 0 and draw < len(sources):  # to see that these are the corpus's sentences
            assert corpus.translate(sentence).source in sources


def test_held_out_phrases_are_nowhere_in_the_training_text(demo):
    """Against the text alone: no held-out adjective or number stands before its noun.

    (Clean is left out: they clean shoes.)
    """
    seen = set()
    for pair in demo.train + demo.valid:
        words = re.split(r"[ ,.?]+", pair.source.lower())
        seen.update(pairwise(words))
    numbers = {str(value): lexicon.number_of(value) for value in range(2, 100)}
    checked = 0
    for noun in lexicon.nouns().values():
        for relation, words in (
            (
                "adjective-noun",
                {word: word for word in lexicon.adjectives() if word not in lexicon.verbs()},
            ),
            ("number-noun", numbers),
        ):
            for word, text in words.items():
                if held_out((relation, word, noun.english)):
                    assert (text, noun.english) not in seen
                    assert (text, noun.english_plural) not in seen
                    checked += 1
    assert checked > 1000


def test_every_test_sentence_has_a_held_out_combination(demo):
    sampler = Sampler(SEED ^ corpus._TEST_SEED)
    wanted = {pair.source for pair in demo.test}
    relations = Counter()
    while wanted:
        sentence = sampler.sentence()
        source = corpus.translate(sentence).source
        if source in wanted:
            found = unseen(sentence)
            assert found, source
            relations.update({relation for relation, *_ in found})
            wanted.remove(source)
    # each relation is tested by many sentences
    assert set(relations) == {
        "subject-verb", "verb-object", "verb-receiver", "adjective-noun", "preposition-noun",
        "number-noun", "verb-clause",
    }  # fmt: skip
    assert min(relations.values()) >= 10
    assert relations["adjective-noun"] >= 200


def test_every_word_of_the_test_is_well_known_from_training(demo, sources, targets):
    for source, target in demo.test:
        assert min(sources[word] for word in corpus.split_words(source)) >= 10
        assert min(targets[word] for word in corpus.split_words(target)) >= 10


def test_every_word_of_the_lexicon_is_in_training(sources, targets):
    lower = Counter()
    for word, count in sources.items():
        lower[word.lower()] += count
    for noun in lexicon.nouns().values():
        assert lower[noun.english] + lower[noun.english_plural] >= 200, noun.english
    for adjective in lexicon.adjectives():
        assert lower[adjective] >= 200, adjective
    for verb in lexicon.verbs().values():
        assert targets[verb.participle] + targets[verb.infinitive] >= 50, verb.name
    for value in range(2, 100):
        assert lower[lexicon.number_of(value)] >= 30, value
        assert targets[corpus.german.morphology.number(value)] >= 20, value


def test_one_german_for_each_english(demo):
    german = {}
    for pairs in demo.splits().values():
        for source, target in pairs:
            assert german.setdefault(source, target) == target
    sampler = Sampler(5)
    for _ in range(20_000):
        source, target = corpus.translate(sampler.sentence())
        assert german.setdefault(source, target) == target


def test_the_text_is_tidy(demo):
    for source, target in demo.train:
        for text in (source, target):
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert "  " not in text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", source)
        # contractions are always made
        assert not re.search(r"\b([IiAa]n|[Vv]on|[Zz]u) (dem|das)\b|\b[Zz]u der\b", target)


def test_each_phenomenon_has_its_share(demo):
    """Per mille of the training sentences, at least."""
    patterns = {
        "verb last": (1, r", (weil|dass|ob|wenn|obwohl) |^(Weil|Wenn|Obwohl) ", 200),
        "relative clause": (1, r"^Das (ist|sind) .*, (der|die|das|den|dem|denen) ", 40),
        "verb second after a circumstance": (
            1,
            r"^(Am|Heute|Jeden|Gestern|Morgen|Im|Um|Nach) ",
            70,
        ),
        "separable": (1, r" (an|auf|ab|ein|aus|mit|weg|zu|zurück|fern)[,.?]", 40),
        "number": (0, r"-(one|two|three|four|five|six|seven|eight|nine)\b", 40),
        "nicht": (1, r"\bnicht\b", 80),
        "kein": (1, r"\b[Kk]ein(e|en|em|er|es)?\b", 30),
        "question": (0, r"\?$", 100),
        "genitive": (0, r"'s ", 20),
    }
    for name, (side, pattern, least) in patterns.items():
        found = sum(re.search(pattern, pair[side]) is not None for pair in demo.train)
        assert found >= least * len(demo.train) / 1000, (name, found)


def test_same_bytes_on_every_machine():
    """A change of these digests is a new version of the corpus: count it up in __init__.py."""
    small = corpora.make("demo", seed=SEED, size=2000)
    digests = {
        name: sha256("\n".join(map("\t".join, pairs)).encode()).hexdigest()[:16]
        for name, pairs in small.splits().items()
    }
    assert digests == {
        "train": "dcf33a5d3f9f22f8",
        "valid": "d41a324e797ce38e",
        "test": "77e31e2166738ed5",
    }


def test_another_seed_gives_other_sentences():
    one, two = (corpora.make("demo", seed=seed, size=1000) for seed in (1, 2))
    common = {pair.source for pair in one.train} & {pair.source for pair in two.train}
    assert len(common) < 50


def test_a_verb_loses_one_kind_of_clause_at_most_and_never_a_statement():
    for verb in lexicon.verbs():
        kinds = [
            f"{kind} {tense}"
            for kind in ("statement", "question", "subordinate")
            for tense in ("present", "past", "modal")
        ]
        lost = [kind for kind in kinds if held_out(("verb-clause", verb, kind))]
        assert len(lost) <= 1
        assert all(kind in split.VERB_CLAUSES for kind in lost)


def test_held_out_is_about_eight_per_cent():
    pairs = [("adjective-noun", a, n) for a in lexicon.adjectives() for n in lexicon.nouns()]
    share = sum(map(held_out, pairs)) / len(pairs)
    assert 0.07 < share < 0.09


def test_combinations_name_their_words():
    """A meaning's combinations are the pairs of its own lemmas."""
    sampler = Sampler(3)
    relations = Counter()
    for _ in range(500):
        for relation, first, second in combinations(sampler.sentence()):
            relations[relation] += 1
            if relation in ("adjective-noun", "preposition-noun", "number-noun"):
                assert second in lexicon.nouns()
            elif relation == "subject-verb":
                assert first in lexicon.nouns()
                assert second in lexicon.verbs()
            elif relation in ("verb-object", "verb-receiver"):
                assert first in lexicon.verbs()
                assert second in lexicon.nouns()
    assert len(relations) == 7


@pytest.mark.parametrize("name", ["demo", "copy-digits"])
def test_too_small_a_corpus_is_refused(name):
    with pytest.raises(RegardError, match="too small"):
        corpora.make(name, size=10)
