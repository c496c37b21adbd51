"""Byte-pair merges: join the two adjacent symbols whose union is the best piece, until no union is a piece.

Sennrich et al. (2016), section 3.2, in the form of section 3.1 of Kudo & Richardson (2018): a priority queue takes O(t log t)
instead of O(t²) for t symbols.
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush


def merge_by_loops(symbols: list[str], ranks: Mapping[str, float], fixed: frozenset[str] = frozenset()) -> tuple[list[str], int]:
    """The definition: look at every pair, join the best one (the leftmost among equals), and repeat.

    Args:
        symbols: The parts of a text, in order.
        ranks: {piece: score}; a higher score is joined earlier.
        fixed: Symbols that are never joined to another one.

    Returns:
        The remaining symbols, and the number of pairs that were looked at.
    """
    symbols, looked = list(symbols), 0
    while True:
        best = None
        for i in range(len(symbols) - 1):
            looked += 1
            union = symbols[i] + symbols[i + 1]
            if union in ranks and fixed.isdisjoint(symbols[i : i + 2]) and (best is None or ranks[union] > ranks[best[1]]):
                best = i, union
        if best is None:
            return symbols, looked
        i, union = best
        symbols[i : i + 2] = [union]


def merge(symbols: list[str], ranks: Mapping[str, float], fixed: frozenset[str] = frozenset()) -> tuple[list[str], int]:
    """The same as `merge_by_loops`, with a queue of the pairs that can be joined. Each join adds at most two new pairs.

    A pair that is no longer valid after a join stays in the queue and is skipped when it comes up.
    """
    parts: list[str | None] = list(symbols)
    before, after = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))
    looked = 0

    def pair(i: int, j: int) -> list[tuple[float, int, int, str]]:
        if i < 0 or j >= len(parts) or fixed.intersection((parts[i], parts[j])):
            return []
        union = parts[i] + parts[j]
        return [(-ranks[union], i, j, union)] if union in ranks else []

    queue = [entry for i in range(len(parts) - 1) for entry in pair(i, i + 1)]
    heapify(queue)
    looked += max(len(parts) - 1, 0)
    while queue:
        _, i, j, union = heappop(queue)
        looked += 1
        if parts[i] is None or after[i] != j or parts[i] + parts[j] != union:
            continue
        parts[i], parts[j], after[i] = union, None, after[j]
        if after[i] < len(parts):
            before[after[i]] = i
        for entry in (*pair(before[i], i), *pair(i, after[i])):
            heappush(queue, entry)
        looked += 2
    return [part for part in parts if part is not None], looked
