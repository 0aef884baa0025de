"""Tokenizers: text to ids and back, seven kinds behind one class, one JSON file each.

===========  ====================================================================================
kind         what comes back from ``decode(encode(text))``
===========  ====================================================================================
bpe          the text, always (byte level)
unigram      the text (U+2581 ``▁`` comes back as a space); unseen characters as bytes
wordpiece    the text with runs of white space as one space; a word with an unseen character is
             ``<unk>``
bytes        the text, always
chars        the text; an unseen character is ``<unk>``
words        the text with runs of white space as one space; an unseen word is ``<unk>``
imported     as its authors made it (`regard.interop`); not learned here
===========  ====================================================================================

With ``lowercase`` the text comes back lower-cased. A text that spells a special token (``</s>``)
is text, never that token.
"""

from regard.data.tokenizers.base import (
    SPECIALS,
    Tokenizer,
    TokenizerSettings,
    load_tokenizer,
    train_tokenizer,
)

__all__ = ["SPECIALS", "Tokenizer", "TokenizerSettings", "load_tokenizer", "train_tokenizer"]
