"""Learning merges, the same ones every time."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def learn_merges(
    words: Mapping[tuple[str, ...], int],
    alphabet: Sequence[str],
    *,
    join: Callable[[str, str], str],
    limit: int,
    min_count: int,
) -> list[str]:
    """New pieces, each the most frequent adjacent pair at its turn (Sennrich et al. 2016).

    Of pairs met equally often the one whose pieces were known first is merged, so nothing hangs
    on the order of ``words`` or on any hash.

    Args:
        words: how often each word occurs, as the symbols of ``alphabet`` that it is made of.
        alphabet: the symbols, in the order that breaks ties.
        join: the piece made of two neighbours.
        limit: how many new pieces at most.
        min_count: a pair met less often is not merged.

    Returns:
        the new pieces, in the order of learning; each is new and differs from the others.
    """
    pieces = list(alphabet)
    number = {piece: i for i, piece in enumerate(pieces)}
    rows = [[number[symbol] for symbol in word] for word in words]
    counts = list(words.values())
    totals: dict[Pair, int] = defaultdict(int)
    places: dict[Pair, set[int]] = defaultdict(set)
    for w, row in enumerate(rows):
        for pair in pairwise(row):
            totals[pair] += counts[w]
            places[pair].add(w)
    heap = [(-total, pair) for pair, total in totals.items()]
    heapq.heapify(heap)
    while heap and len(pieces) - len(alphabet) < limit:
        negative, pair = heapq.heappop(heap)
        total = totals.get(pair, 0)
        if total < min_count:
            continue
        if total != -negative:  # an older count: put back with today's
            heapq.heappush(heap, (-total, pair))
            continue
        piece = join(pieces[pair[0]], pieces[pair[1]])
        new = number.setdefault(piece, len(pieces))
        if new == len(pieces):
            pieces.append(piece)
        changed: set[Pair] = set()
        for w in places.pop(pair):
            _recount(totals, places, w, rows[w], -counts[w], changed)
            rows[w] = _merged(rows[w], pair, new)
            _recount(totals, places, w, rows[w], counts[w], changed)
        totals.pop(pair, None)
        for other in changed:
            if totals.get(other, 0) >= min_count:
                heapq.heappush(heap, (-totals[other], other))
    return pieces[len(alphabet) :]


def _recount(
    totals: dict[Pair, int],
    places: dict[Pair, set[int]],
    w: int,
    row: list[int],
    count: int,
    changed: set[Pair],
) -> None:
    """Add (or, with a negative count, take away) a word's pairs; ``changed`` gets the added."""
    for pair in pairwise(row):
        totals[pair] += count
        if count > 0:
            places[pair].add(w)
            changed.add(pair)


def _merged(row: list[int], pair: Pair, new: int) -> list[int]:
    left, right = pair
    result: list[int] = []
    i = 0
    while i < len(row):
        if row[i] == left and i + 1 < len(row) and row[i + 1] == right:
            result.append(new)
            i += 2
        else:
            result.append(row[i])
            i += 1
    return result
