"""Decoding over any model with a state: greedy, sampling, beam search."""

from regard.decoding.beam import beam_search
from regard.decoding.many import search_many
from regard.decoding.protocol import EncoderDecoder, Request, State, Stepper
from regard.decoding.search import continue_from, search
from regard.decoding.spec import DecodingSpec, Hypothesis, LengthPenalty
from regard.decoding.stream import stream, stream_from

__all__ = [
    "DecodingSpec",
    "EncoderDecoder",
    "Hypothesis",
    "LengthPenalty",
    "Request",
    "State",
    "Stepper",
    "beam_search",
    "continue_from",
    "search",
    "search_many",
    "stream",
    "stream_from",
]
