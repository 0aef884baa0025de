"""The laws hold with the operators in C++, which serve float32 and bfloat16, where they can be."""

import pytest

from regard.nn import native


@pytest.fixture(scope="session")
def operators_there():
    """Whether they can be loaded here."""
    return native.load()


@pytest.fixture(autouse=True)
def operators(operators_there, monkeypatch):
    """Loaded, where they can be; a test may ask for the parts alone."""
    monkeypatch.setattr(native, "_loaded", operators_there)


@pytest.fixture
def by_parts(operators, monkeypatch):
    """As where there is no compiler."""
    monkeypatch.setattr(native, "_loaded", False)
