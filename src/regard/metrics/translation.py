"""BLEU and chrF, and tests between systems: sacreBLEU's own, behind a small face."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

from regard.errors import RegardError
from regard.metrics.score import Comparison, Score, alternatives, check_sizes
from regard.registry import nearest

SAMPLES = 1000
_TESTS = {"bootstrap": "bs", "randomization": "ar"}


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    samples: int = 0,
) -> Score:
    """Corpus BLEU (Papineni et al. 2002; Post 2018).

    Args:
        hypotheses: the system's texts.
        references: the right ones; a list where several are.
        tokenize: sacreBLEU's tokenizer; ``none`` for text whose tokens stand apart already.
        lowercase: compare without case.
        samples: bootstrap resamples for the 95 % interval; 0: no interval.

    Raises:
        DataError: unequal counts, or nothing to score.
        RegardError: an unknown tokenizer.
    """
    check_sizes(hypotheses, references)
    return _score(_metric("bleu", tokenize, lowercase), hypotheses, references, samples)


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    word_order: int = 0,
    lowercase: bool = False,
    samples: int = 0,
) -> Score:
    """chrF2 (Popović 2015), or chrF2++ with ``word_order=2``; arguments as ``bleu``'s."""
    check_sizes(hypotheses, references)
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF(word_order=word_order, lowercase=lowercase)
    return _score(metric, hypotheses, references, samples)


def compare(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu", "chrf"),
    test: Literal["bootstrap", "randomization"] = "bootstrap",
    samples: int = SAMPLES,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[Comparison]:
    """Whether one system is better than another, by a paired test (Koehn 2004; Riezler 2005).

    Args:
        baseline: the first system's texts.
        system: the second system's texts.
        references: the right ones.
        metrics: ``bleu``, ``chrf`` or both.
        test: paired bootstrap resampling, or approximate randomization.
        samples: resamples, or trials.
        tokenize: of BLEU.
        lowercase: compare without case.
    """
    check_sizes(baseline, references)
    check_sizes(system, references)
    from sacrebleu.significance import PairedTest

    made = {name: _metric(name, tokenize, lowercase) for name in metrics}
    # Intervals come from bootstrap resampling also where the test is the other one.
    paired = PairedTest(
        [("baseline", list(baseline)), ("system", list(system))],
        made,
        _streams(references),
        test_type=_TESTS[test],
        n_samples=samples,
        n_ar_confidence=samples if test == "randomization" else -1,
    )
    outcome: Any = paired()  # the library mixes names and results in one table
    signatures, results = outcome
    found = []
    for name, signature in signatures.items():
        first, second = results[name]
        text = f"{name}|{signature.format()}"
        scores = [_from_result(name, text, result) for result in (first, second)]
        # Of equal systems the library counts no resample as more extreme: p near 0 where it is 1.
        p_value = float(second.p_value) if second.score != first.score else 1.0
        found.append(Comparison(name, scores[0], scores[1], p_value, text))
    return found


def _metric(name: str, tokenize: str, lowercase: bool) -> Any:
    if name == "chrf":
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(lowercase=lowercase)
    if name != "bleu":
        raise RegardError(f"unknown metric {name!r}", hint="known: bleu, chrf")
    from sacrebleu.metrics.bleu import BLEU

    known = sorted(BLEU.TOKENIZERS)
    if tokenize not in known:
        near = nearest(tokenize, known)
        raise RegardError(
            f"sacreBLEU has no tokenizer {tokenize!r}",
            hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
        )
    # force: tokenized text is scored without a warning; the signature says what was done.
    return BLEU(tokenize=tokenize, lowercase=lowercase, force=True)


def _score(
    metric: Any,
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    samples: int,
) -> Score:
    _give_floats(metric)
    result = metric.corpus_score(
        list(hypotheses), _streams(references), n_bootstrap=max(samples, 1)
    )
    interval = None
    if samples > 1:
        interval = (float(result._mean - result._ci), float(result._mean + result._ci))
    details: dict[str, float] = {}
    if hasattr(result, "precisions"):
        details = {f"precision_{n}": float(p) for n, p in enumerate(result.precisions, start=1)}
        details["brevity_penalty"] = float(result.bp)
        details["length"] = float(result.sys_len)
        details["reference_length"] = float(result.ref_len)
    signature = f"{result.name}|{metric.get_signature().format()}"
    return Score(str(result.name), float(result.score), signature, interval, details)


def _streams(references: Sequence[str | Sequence[str]]) -> list[list[Any]]:
    """References as the library takes them: all first ones, all second ones …, None for none."""
    return [list(one) for one in zip_longest(*alternatives(references))]


def _give_floats(metric: Any) -> None:
    """Let resamples score Python floats.

    chrF gives numpy's float32, but a float where nothing matches, and the library fails at the mean
    of both.
    """
    compute = metric._compute_score_from_stats

    def plainly(statistics: Any) -> Any:
        found = compute(statistics)
        found.score = float(found.score)
        return found

    metric._compute_score_from_stats = plainly


def _from_result(name: str, signature: str, result: Any) -> Score:
    interval = None
    if result.mean is not None and result.ci is not None:
        interval = (float(result.mean - result.ci), float(result.mean + result.ci))
    return Score(name, float(result.score), signature, interval)
