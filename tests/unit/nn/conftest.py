"""What tests of a stack's steps share."""

import pytest
import torch

from regard.nn import native


@pytest.fixture(params=["in C++", "by calls"])
def in_cpp(request, monkeypatch):
    """Whether a stack's steps are C++'s, or few calls of torch; without gradients."""
    found = request.param == "in C++"
    if found and not native.load():
        pytest.skip("there is no compiler here")
    monkeypatch.setattr(native, "load", lambda: found)
    monkeypatch.setattr(native, "_loaded", found)
    with torch.no_grad():
        yield found
