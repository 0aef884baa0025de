"""A foreign config: each key is taken, expected, or refused by name."""

import pytest

from regard.errors import InputError
from regard.interop.settings import Settings


def test_taken_keys_are_gone_and_others_are_named():
    given = Settings({"a": 1, "b": 2, "c": 3}, "config.json")
    assert (given.take("a"), given.take("z", 7)) == (1, 7)
    given.ignore(["b", "not there"])
    with pytest.raises(InputError, match=r"config.json: these settings are not known: c"):
        given.done()
    with pytest.raises(InputError, match="the key 'a' is missing"):
        given.take("a")


def test_expected_values():
    given = Settings({"x": False, "y": 2}, "config.json")
    given.expect(x=False, y=(1, 2), z=True)
    given.done()
    with pytest.raises(InputError, match=r"x = True is not supported\n  known: False"):
        Settings({"x": True}, "config.json").expect(x=False)


def test_words():
    given = Settings({"act": "swish"}, "config.json")
    with pytest.raises(InputError, match="act = 'swish' is not supported\n  known: 'silu'"):
        given.translate("act", {"silu": "silu"})
