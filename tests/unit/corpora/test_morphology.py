"""German inflection against the tables of any grammar book, written out in full."""

import pytest

from regard.corpora import lexicon, morphology
from regard.corpora.morphology import CASES

GENDERS = ("m", "f", "n", "p")
# One row a case (nominative, accusative, dative, genitive), one column a gender and the plural.
NOUN_PHRASES = {
    "the": """
        der gute Mann   | die gute Frau   | das gute Kind    | die guten Kinder
        den guten Mann  | die gute Frau   | das gute Kind    | die guten Kinder
        dem guten Mann  | der guten Frau  | dem guten Kind   | den guten Kindern
        des guten Mannes | der guten Frau | des guten Kindes | der guten Kinder""",
    "this": """
        dieser gute Mann   | diese gute Frau   | dieses gute Kind   | diese guten Kinder
        diesen guten Mann  | diese gute Frau   | dieses gute Kind   | diese guten Kinder
        diesem guten Mann  | dieser guten Frau | diesem guten Kind  | diesen guten Kindern
        dieses guten Mannes | dieser guten Frau | dieses guten Kindes | dieser guten Kinder""",
    "my": """
        mein guter Mann   | meine gute Frau   | mein gutes Kind   | meine guten Kinder
        meinen guten Mann | meine gute Frau   | mein gutes Kind   | meine guten Kinder
        meinem guten Mann | meiner guten Frau | meinem guten Kind | meinen guten Kindern
        meines guten Mannes | meiner guten Frau | meines guten Kindes | meiner guten Kinder""",
    "our": """
        unser guter Mann   | unsere gute Frau   | unser gutes Kind   | unsere guten Kinder
        unseren guten Mann | unsere gute Frau   | unser gutes Kind   | unsere guten Kinder
        unserem guten Mann | unserer guten Frau | unserem guten Kind | unseren guten Kindern
        unseres guten Mannes | unserer guten Frau | unseres guten Kindes | unserer guten Kinder""",
    "no": """
        kein guter Mann   | keine gute Frau   | kein gutes Kind   | keine guten Kinder
        keinen guten Mann | keine gute Frau   | kein gutes Kind   | keine guten Kinder
        keinem guten Mann | keiner guten Frau | keinem guten Kind | keinen guten Kindern
        keines guten Mannes | keiner guten Frau | keines guten Kindes | keiner guten Kinder""",
    "bare": """
        guter Mann   | gute Frau  | gutes Kind   | gute Kinder
        guten Mann   | gute Frau  | gutes Kind   | gute Kinder
        gutem Mann   | guter Frau | gutem Kind   | guten Kindern
        guten Mannes | guter Frau | guten Kindes | guter Kinder""",
}
NOUNS = {"m": "man", "f": "woman", "n": "child", "p": "child"}


@pytest.mark.parametrize("kind", NOUN_PHRASES)
def test_declension_in_full(kind):
    rows = [row for row in NOUN_PHRASES[kind].splitlines() if row.strip()]
    for case, row in zip(CASES, rows, strict=True):
        for gender, expected in zip(GENDERS, row.split("|"), strict=True):
            article, declension = morphology.determiner(kind, gender, case)
            adjective = morphology.adjective("gut", declension, gender, case)
            noun = lexicon.nouns()[NOUNS[gender]].forms[gender == "p", case]
            assert f"{article} {adjective} {noun}".split() == expected.split()


def test_indefinite_article():
    forms = {
        (gender, case): morphology.determiner("a", gender, case)[0]
        for gender in GENDERS
        for case in CASES
    }
    assert [forms["m", case] for case in CASES] == ["ein", "einen", "einem", "eines"]
    assert [forms["f", case] for case in CASES] == ["eine", "eine", "einer", "einer"]
    assert [forms["n", case] for case in CASES] == ["ein", "ein", "einem", "eines"]
    assert {morphology.determiner("a", "p", case) for case in CASES} == {("", "strong")}


def test_relative_pronouns():
    table = {
        gender: [morphology.RELATIVE[gender, case] for case in CASES[:3]] for gender in GENDERS
    }
    assert table == {
        "m": ["der", "den", "dem"],
        "f": ["die", "die", "der"],
        "n": ["das", "das", "dem"],
        "p": ["die", "die", "denen"],
    }


@pytest.mark.parametrize(
    ("english", "forms"),
    [
        # accusative, dative, genitive singular; nominative, dative plural
        ("boy", "Jungen Jungen Jungen Jungen Jungen"),
        ("neighbor", "Nachbarn Nachbarn Nachbarn Nachbarn Nachbarn"),
        ("friend", "Freund Freund Freundes Freunde Freunden"),
        ("teacher", "Lehrer Lehrer Lehrers Lehrer Lehrern"),
        ("mother", "Mutter Mutter Mutter Mütter Müttern"),
        ("girl", "Mädchen Mädchen Mädchens Mädchen Mädchen"),
        ("car", "Auto Auto Autos Autos Autos"),
        ("house", "Haus Haus Hauses Häuser Häusern"),
        ("garden", "Garten Garten Gartens Gärten Gärten"),
        ("cookie", "Keks Keks Kekses Kekse Keksen"),
    ],
)
def test_noun_forms(english, forms):
    found = lexicon.nouns()[english].forms
    singular = [found[False, case] for case in CASES[1:]]
    assert [*singular, found[True, "nominative"], found[True, "dative"]] == forms.split()


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        # ich, du, er, wir without the prefix; auxiliary and participle
        ("buy", "kaufe kaufst kauft kaufen haben gekauft"),
        ("work", "arbeite arbeitest arbeitet arbeiten haben gearbeitet"),
        ("open", "öffne öffnest öffnet öffnen haben geöffnet"),
        ("smile", "lächle lächelst lächelt lächeln haben gelächelt"),
        ("climb", "klettere kletterst klettert klettern sein geklettert"),
        ("dance", "tanze tanzt tanzt tanzen haben getanzt"),
        ("repair", "repariere reparierst repariert reparieren haben repariert"),
        ("visit", "besuche besuchst besucht besuchen haben besucht"),
        ("belong to", "gehöre gehörst gehört gehören haben gehört"),
        ("read", "lese liest liest lesen haben gelesen"),
        ("eat", "esse isst isst essen haben gegessen"),
        ("take", "nehme nimmst nimmt nehmen haben genommen"),
        ("run", "laufe läufst läuft laufen sein gelaufen"),
        ("wash", "wasche wäschst wäscht waschen haben gewaschen"),
        ("find", "finde findest findet finden haben gefunden"),
        ("have", "habe hast hat haben haben gehabt"),
        ("know (clause)", "weiß weißt weiß wissen haben gewusst"),
        ("invite", "lade lädst lädt einladen haben eingeladen"),
        ("get up", "stehe stehst steht aufstehen sein aufgestanden"),
        ("pick up", "hole holst holt abholen haben abgeholt"),
        ("try on", "probiere probierst probiert anprobieren haben anprobiert"),
        ("take along", "nehme nimmst nimmt mitnehmen haben mitgenommen"),
    ],
)
def test_verb_forms(name, forms):
    verb = lexicon.verbs()[name]
    present = [verb.present["1s"], verb.present["2s"], verb.present["3s"], verb.infinitive]
    assert [*present, verb.auxiliary, verb.participle] == forms.split()


@pytest.mark.parametrize(
    ("value", "german", "english"),
    [
        (1, "eins", "one"),
        (2, "zwei", "two"),
        (12, "zwölf", "twelve"),
        (13, "dreizehn", "thirteen"),
        (16, "sechzehn", "sixteen"),
        (17, "siebzehn", "seventeen"),
        (20, "zwanzig", "twenty"),
        (21, "einundzwanzig", "twenty-one"),
        (30, "dreißig", "thirty"),
        (47, "siebenundvierzig", "forty-seven"),
        (66, "sechsundsechzig", "sixty-six"),
        (77, "siebenundsiebzig", "seventy-seven"),
        (99, "neunundneunzig", "ninety-nine"),
    ],
)
def test_numbers(value, german, english):
    assert morphology.number(value) == german
    assert lexicon.number_of(value) == english


def test_numbers_are_all_different_and_bounded():
    assert len({morphology.number(value) for value in range(1, 100)}) == 99
    assert len({lexicon.number_of(value) for value in range(1, 100)}) == 99
    for value in (0, 100):
        with pytest.raises(ValueError, match="from 1 to 99"):
            morphology.number(value)


@pytest.mark.parametrize(
    ("base", "third", "past"),
    [
        ("buy", "buys", "bought"),
        ("wash", "washes", "washed"),
        ("carry", "carries", "carried"),
        ("go", "goes", "went"),
        ("have", "has", "had"),
        ("love", "loves", "loved"),
        ("cry", "cries", "cried"),
    ],
)
def test_english_verbs(base, third, past):
    verb = lexicon.verbs()[base]
    assert (verb.third, verb.past) == (third, past)


def test_english_plurals():
    plurals = {noun.english: noun.english_plural for noun in lexicon.nouns().values()}
    expected = {
        "dog": "dogs", "story": "stories", "church": "churches", "glass": "glasses", "key": "keys",
        "child": "children", "knife": "knives", "potato": "potatoes", "radio": "radios",
    }  # fmt: skip
    assert {word: plurals[word] for word in expected} == expected


def test_lexicon_is_a_dictionary():
    """A German word has one English word, or a translator could not know which is meant."""
    german = [noun.forms[False, "nominative"] for noun in lexicon.nouns().values()]
    assert len(set(german)) == len(german)
    for table in (lexicon.adjectives(), lexicon.adverbs()):
        assert len({word.german for word in table.values()}) == len(table)
    kinds = {noun.kind for noun in lexicon.nouns().values()}
    known = kinds | set(lexicon.nouns())
    for verb in lexicon.verbs().values():
        assert verb.subjects <= known
        assert verb.objects <= known
    for adjective in lexicon.adjectives().values():
        assert adjective.kinds <= known
