import pytest

from regard import registry
from regard.training import higher_is_better


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_less_of_any_objectives_term_is_better(name):
    terms = registry.kind("objectives", name).terms
    assert terms
    assert not any(higher_is_better(term) for term in (*terms, f"valid_{terms[0]}"))


def test_more_of_a_score_is_better():
    assert all(higher_is_better(score) for score in ("bleu", "accuracy", "ap50", "exact_match"))
