"""Training of a WordPiece vocabulary: pieces are joined, each time the two whose joining makes the text most likely.

Schuster and Nakajima (2012), "Japanese and Korean Voice Search", section 3. https://doi.org/10.1109/ICASSP.2012.6289079
Wu et al. (2016), section 4.1, train BERT's kind of pieces in this way.

    (7)  start      the pieces are the characters; within a word they are written with ##
    (8)  L = Σ_piece n(piece) log (n(piece) / N),    n: how often a piece occurs;  N = Σ n
    (9)  join       of all pairs of neighbors, the pair after whose joining, everywhere and from left to right, L is greatest

Differs from the paper
    - It does not say which language model gives the likelihood. (8) is the simplest: pieces are independent of each other.
    - It stops at a number of pieces or when L grows too little; here when no pair that occurs `least` times raises L. Of
      pairs that raise L equally, to 6 decimals, the first in the order of code points is joined.
    - BERT's own program for this was never published.
"""

import math
from collections import Counter
from itertools import pairwise

Cut = tuple[str, ...]
Cuts = dict[Cut, int]
"""The words of a text, cut into pieces, and how often each of them occurs."""


def into_characters(word: str) -> Cut:
    """Equation (7)."""
    return (word[0], *(f"##{character}" for character in word[1:]))


def log_likelihood(cuts: Cuts) -> float:
    """L of equation (8)."""
    counts: Counter[str] = Counter()
    for cut, times in cuts.items():
        for piece in cut:
            counts[piece] += times
    return sum(n * math.log(n / counts.total()) for n in counts.values())


def join(cut: Cut, first: str, second: str) -> Cut:
    """Make one piece of `first` and `second` wherever they are neighbors, from left to right."""
    joined: list[str] = []
    for piece in cut:
        if joined and (joined[-1], piece) == (first, second):
            joined[-1] = first + second.removeprefix("##")
        else:
            joined.append(piece)
    return tuple(joined)


def join_everywhere(cuts: Cuts, first: str, second: str) -> Cuts:
    joined: Cuts = {}
    for cut, times in cuts.items():
        found = join(cut, first, second)
        joined[found] = joined.get(found, 0) + times
    return joined


def occurrences(cuts: Cuts, first: str, second: str) -> int:
    """How often the pair would be joined."""
    return sum(times * (len(cut) - len(join(cut, first, second))) for cut, times in cuts.items())


def train(words: dict[str, int], size: int, least: int = 2) -> list[str]:
    """Equations (7) to (9): up to `size` pieces, the characters in the order of code points, then as they were joined.

    Args:
        words: The text, as word counts.
        size: The largest number of pieces.
        least: A pair that occurs less often is not joined.

    Raises:
        ValueError: if `size` is below the number of different characters.
    """
    cuts = {into_characters(word): times for word, times in words.items()}
    pieces = sorted({piece for cut in cuts for piece in cut})
    if size < len(pieces):
        raise ValueError(f"size must be at least {len(pieces)}, the number of characters. Received: size={size}")
    while len(pieces) < size:
        pairs = {pair for cut in cuts for pair in pairwise(cut)}
        often = [pair for pair in pairs if occurrences(cuts, *pair) >= least]
        before = log_likelihood(cuts)
        gains = {pair: round(log_likelihood(join_everywhere(cuts, *pair)) - before, 6) for pair in often}
        best = min(gains, key=lambda pair: (-gains[pair], pair), default=None)
        if best is None or gains[best] <= 0:
            break
        cuts = join_everywhere(cuts, *best)
        joined = best[0] + best[1].removeprefix("##")
        pieces += [joined] * (joined not in pieces)  # several pairs may spell one piece
    return pieces
