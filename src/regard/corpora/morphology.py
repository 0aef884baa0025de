"""German inflection: declension of nouns, determiners and adjectives; conjugation; number words.

Every function is pure and knows rules and closed tables only; the words stand in the lexicon.
Agreement keys are the genders ``m f n`` and ``p`` for the plural of all of them.
"""

from __future__ import annotations

import re
from typing import Literal

Gender = Literal["m", "f", "n"]
Agreement = Literal["m", "f", "n", "p"]
Case = Literal["nominative", "accusative", "dative", "genitive"]
Person = Literal["1s", "2s", "3s", "1p", "3p"]
Declension = Literal["weak", "mixed", "strong"]
NounForms = dict[tuple[bool, Case], str]  # (plural, case) -> form

CASES: tuple[Case, ...] = ("nominative", "accusative", "dative", "genitive")
PERSONS: tuple[Person, ...] = ("1s", "2s", "3s", "1p", "3p")


def _table(**rows: str) -> dict[tuple[Agreement, Case], str]:
    """A row of four endings (in the order of CASES, ``-`` for none) for each agreement key."""
    agreements: tuple[Agreement, ...] = ("m", "f", "n", "p")
    return {
        (agreement, case): ending.replace("-", "")
        for agreement in agreements
        for case, ending in zip(CASES, rows[agreement].split(), strict=True)
    }


DEFINITE = _table(
    m="der den dem des", f="die die der der", n="das das dem des", p="die die den der"
)
RELATIVE = _table(m="der den dem -", f="die die der -", n="das das dem -", p="die die denen -")
DER_ENDINGS = _table(m="er en em es", f="e e er er", n="es es em es", p="e e en er")
EIN_ENDINGS = _table(m="- en em es", f="e e er er", n="- - em es", p="e e en er")
ADJECTIVE_ENDINGS: dict[Declension, dict[tuple[Agreement, Case], str]] = {
    "weak": _table(m="e en en en", f="e e en en", n="e e en en", p="en en en en"),
    "mixed": _table(m="er en en en", f="e e en en", n="es es en en", p="en en en en"),
    "strong": _table(m="er en em en", f="e e er er", n="es es em en", p="e e en er"),
}
# Determiners after which an adjective takes the weak endings, and their stems.
DER_WORDS = {"this": "dies", "every": "jed"}
# Determiners like ein: mixed endings after them.
EIN_WORDS = {
    "a": "ein",
    "no": "kein",
    "my": "mein",
    "your": "dein",
    "his": "sein",
    "her": "ihr",
    "our": "unser",
    "their": "ihr",
}
CONTRACTIONS = {
    ("in", "dem"): "im",
    ("in", "das"): "ins",
    ("an", "dem"): "am",
    ("an", "das"): "ans",
    ("von", "dem"): "vom",
    ("zu", "dem"): "zum",
    ("zu", "der"): "zur",
}


def determiner(kind: str, agreement: Agreement, case: Case) -> tuple[str, Declension]:
    """The German determiner for an English one, with the declension of adjectives after it.

    An indefinite plural (or a mass noun: kind ``bare``) has no determiner, hence strong endings.
    """
    if kind == "the":
        return DEFINITE[agreement, case], "weak"
    if kind in DER_WORDS:
        return DER_WORDS[kind] + DER_ENDINGS[agreement, case], "weak"
    if kind == "bare" or (kind == "a" and agreement == "p"):
        return "", "strong"
    return EIN_WORDS[kind] + EIN_ENDINGS[agreement, case], "mixed"


def adjective(stem: str, declension: Declension, agreement: Agreement, case: Case) -> str:
    """The attributive form; ``stem`` is the form that endings join (teuer: ``teur``)."""
    return stem + ADJECTIVE_ENDINGS[declension][agreement, case]


def genitive(singular: str, gender: Gender) -> str:
    """The regular genitive singular: -es after a single syllable or a hiss, else -s."""
    if gender == "f":
        return singular
    if singular[-1] in "sßzx":
        return singular + "es"
    single = len(re.findall(r"[aeiouäöüy]+", singular.lower())) == 1
    return singular + ("es" if single and singular[-1] not in "aeiou" else "s")


def decline(
    singular: str, gender: Gender, plural: str | None, *, weak: bool = False, of: str | None = None
) -> NounForms:
    """All forms of a noun; a weak masculine takes its plural everywhere but in the nominative.

    Args:
        plural: nominative plural; None for a mass noun, which has no plural forms.
        weak: whether this is a weak masculine (der Junge, den Jungen).
        of: an irregular genitive singular.
    """
    forms: NounForms = {(False, case): singular for case in CASES}
    forms[False, "genitive"] = of or genitive(singular, gender)
    if weak and plural is not None:
        forms.update({(False, case): plural for case in CASES[1:]})
    if plural is not None:
        forms.update({(True, case): plural for case in CASES})
        forms[True, "dative"] = plural if plural[-1] in "ns" else plural + "n"
    return forms


def stem_of(infinitive: str) -> str:
    """The present stem: kauf-en, lächel-n."""
    return infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]


def needs_e(stem: str) -> bool:
    """Whether an e stands before st and t: arbeitest, öffnet (but lernt, filmt)."""
    return stem[-1] in "td" or re.search(r"[^aeiouäöülrhmn][mn]$", stem) is not None


def conjugate(infinitive: str, changed: str | None = None) -> dict[Person, str]:
    """The present tense of a regular or strong verb (its separable prefix left out).

    Args:
        changed: the stem after du and er where the vowel changes (geben: ``gib``).
    """
    stem = stem_of(infinitive)
    first = stem[:-2] + stem[-1] + "e" if stem.endswith("el") else stem + "e"
    link = "e" if changed is None and needs_e(stem) else ""
    base = changed or stem
    third = base if changed and base.endswith("t") else base + link + "t"
    second = base + ("t" if base[-1] in "sßzx" else link + "st")
    return {"1s": first, "2s": second, "3s": third, "1p": infinitive, "3p": infinitive}


def participle(infinitive: str, prefix: str = "") -> str:
    """The regular past participle: gekauft, eingekauft, verkauft, repariert."""
    stem = stem_of(infinitive)
    inseparable = re.match(r"(be|ent|er|ge|ver|zer)[^aeiouäöü]*[aeiouäöü].*en$", infinitive)
    ge = "" if infinitive.endswith("ieren") or inseparable else "ge"
    return prefix + ge + stem + ("et" if needs_e(stem) else "t")


def _paradigm(forms: str) -> dict[Person, str]:
    return dict(zip(PERSONS, forms.split(), strict=True))


IRREGULAR_PRESENT = {
    "sein": _paradigm("bin bist ist sind sind"),
    "haben": _paradigm("habe hast hat haben haben"),
    "wissen": _paradigm("weiß weißt weiß wissen wissen"),
    "werden": _paradigm("werde wirst wird werden werden"),
    "können": _paradigm("kann kannst kann können können"),
    "müssen": _paradigm("muss musst muss müssen müssen"),
    "wollen": _paradigm("will willst will wollen wollen"),
    "sollen": _paradigm("soll sollst soll sollen sollen"),
    "dürfen": _paradigm("darf darfst darf dürfen dürfen"),
    "möchten": _paradigm("möchte möchtest möchte möchten möchten"),
}
# Verbs whose past is told in the simple form (war, hatte), all others in the perfect.
PRETERITE = {
    "sein": _paradigm("war warst war waren waren"),
    "haben": _paradigm("hatte hattest hatte hatten hatten"),
}

# fmt: off
_UNITS = (
    "null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn",
    "elf", "zwölf",
)
_TEENS = {16: "sechzehn", 17: "siebzehn"}
_TENS = (
    "", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig",
)
# fmt: on


def number(value: int) -> str:
    """The German word of 1 to 99: the unit before the ten, in one word (einundzwanzig).

    Raises:
        ValueError: the number is outside 1 to 99.
    """
    if not 1 <= value <= 99:
        raise ValueError(f"no word for {value}: the grammar counts from 1 to 99")
    if value < len(_UNITS):
        return _UNITS[value]
    if value < 20:
        return _TEENS.get(value, _UNITS[value % 10] + "zehn")
    tens, unit = _TENS[value // 10], value % 10
    return tens if unit == 0 else ("ein" if unit == 1 else _UNITS[unit]) + "und" + tens
