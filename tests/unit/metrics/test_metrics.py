"""Scores: the field's own numbers, their signatures, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest

from regard.errors import DataError, RegardError
from regard.metrics import bleu, chrf, compare, exact_match

REFERENCES = [
    "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
    "Ein Boston Terrier läuft über saftig-grünes Gras.",
    "Ein Mädchen in einem Karateanzug bricht ein Brett.",
    "Fünf Leute in Winterjacken stehen im Schnee.",
] * 10
CLOSE = [line.replace("Ein", "Der") for line in REFERENCES]
FAR = [" ".join(reversed(line.split())) for line in REFERENCES]


def test_bleu_is_sacrebleu() -> None:
    import sacrebleu

    score = bleu(CLOSE, REFERENCES)
    theirs = sacrebleu.corpus_bleu(CLOSE, [REFERENCES])
    assert score.value == theirs.score
    assert score.name == "BLEU"
    assert "|tok:13a|" in score.signature
    assert score.signature.startswith("BLEU|nrefs:1|case:mixed|")
    assert score.details["brevity_penalty"] == theirs.bp
    assert [score.details[f"precision_{n}"] for n in range(1, 5)] == theirs.precisions
    assert score.details["length"] == theirs.sys_len
    assert score.details["reference_length"] == theirs.ref_len
    assert bleu(REFERENCES, REFERENCES).value == pytest.approx(100)


def test_bleu_of_tokens_by_hand() -> None:
    # precisions 4/5, 3/4, 2/3, 1/2; no brevity penalty
    score = bleu(["a b c d x"], ["A b c d e"], tokenize="none", lowercase=True)
    assert score.value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert "case:lc" in score.signature
    assert "tok:none" in score.signature


def test_tokenized_text_warns_nobody(caplog: pytest.LogCaptureFixture) -> None:
    lines = ["ein satz ."] * 200
    bleu(lines, lines)
    assert caplog.records == []


def test_chrf_is_sacrebleu() -> None:
    import sacrebleu

    assert chrf(CLOSE, REFERENCES).value == sacrebleu.corpus_chrf(CLOSE, [REFERENCES]).score
    plus = chrf(CLOSE, REFERENCES, word_order=2)
    assert plus.name == "chrF2++"
    assert plus.signature.startswith("chrF2++|")


@pytest.mark.parametrize("metric", [bleu, chrf])
def test_interval(metric: type) -> None:
    hypotheses = [c if i % 3 else f for i, (c, f) in enumerate(zip(CLOSE, FAR, strict=True))]
    score = metric(hypotheses, REFERENCES, samples=200)
    assert score.interval is not None
    low, high = score.interval
    assert low < score.value < high
    assert "bs:200|seed:12345" in score.signature
    assert metric(hypotheses, REFERENCES, samples=200) == score
    assert metric(hypotheses, REFERENCES).interval is None
    assert score.to_dict()["interval"] == [low, high]
    assert '"interval"' in score.to_json()
    assert str(score).startswith(f"{score.name} {score.value:.2f} [{low:.2f}, {high:.2f}] (")


def test_an_interval_where_resamples_match_nothing() -> None:
    """chrF is then a float here and numpy's float32 there, which sacreBLEU alone cannot average."""
    outputs = ["zz"] * 9 + ["ab"]
    score = chrf(outputs, ["ab"] * 10, samples=200)
    assert score.interval is not None
    low, high = score.interval
    assert low <= score.value <= high


@pytest.mark.parametrize("test", ["bootstrap", "randomization"])
def test_comparison(test: str) -> None:
    found = compare(FAR, CLOSE, REFERENCES, test=test, samples=200)  # type: ignore[arg-type]
    assert [c.name for c in found] == ["BLEU", "chrF2"]
    for comparison in found:
        assert comparison.p_value < 0.05
        assert comparison.significant()
        assert comparison.difference > 0
        assert comparison.baseline.interval is not None
        assert comparison.system.interval is not None
    assert found[0].baseline.value == bleu(FAR, REFERENCES).value
    assert found[0].system.value == bleu(CLOSE, REFERENCES).value
    same = compare(CLOSE, list(CLOSE), REFERENCES, metrics=["bleu"], samples=50)
    assert same[0].p_value == 1
    assert not same[0].significant()
    assert same[0].difference == 0


def test_exact_match() -> None:
    score = exact_match(["a", "b ", "c", "x"], ["a", "b", "c", "d"])
    assert score.value == 75
    assert score.interval is not None
    low, high = score.interval
    assert low == pytest.approx(30.06, abs=0.01)  # Wilson's, worked out by hand
    assert high == pytest.approx(95.44, abs=0.01)
    assert exact_match(["a"], ["a"]).interval[1] == 100  # type: ignore[index]


def test_refusals() -> None:
    for function in (bleu, chrf, exact_match):
        with pytest.raises(DataError, match="2 hypotheses for 1 references"):
            function(["a", "b"], ["a"])
        with pytest.raises(DataError, match="nothing to score"):
            function([], [])
    with pytest.raises(RegardError, match="no tokenizer '13b'\n  did you mean '13a'"):
        bleu(["a"], ["a"], tokenize="13b")
    with pytest.raises(RegardError, match="unknown metric"):
        compare(["a"], ["a"], ["a"], metrics=["ter"])


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, regard.metrics, regard.data; "
        "print([m for m in ('torch', 'sacrebleu', 'tokenizers', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
