"""Training of a unigram model: expectation maximization over every segmentation of the text, and pruning.

Kudo (2018), section 3.2. The segmentation is hidden, so each piece is counted with the probability that it is part of one:

    (5)  L = Σ_text log Σ_{x ∈ S(text)} P(x)
    (6)  α_j = Σ_{i < j} α_i p(text_{i..j}),  α_0 = 1;      β_i = Σ_{j > i} p(text_{i..j}) β_j,  β_T = 1
    (7)  c(piece) = Σ_text Σ_{text_{i..j} = piece} α_i p(piece) β_j / α_T
    (8)  p(piece) ← c(piece) / Σ c,      which never lowers L

The code uses probabilities, not logarithms, and so is for texts as short as words; a thousand characters would underflow.
"""

import math

import numpy as np

Probabilities = dict[str, float]
Words = dict[str, int]
"""The number of occurrences of each word, as in a text split at spaces."""

LEAST = 1e-4
"""The least probability of a piece after pruning: without it, characters that occurred only in pruned pieces would be near 0."""


def seed_pieces(words: Words, longest: int) -> Probabilities:
    """Every substring of up to `longest` characters that is one character or occurs twice, with probabilities by frequency."""
    counts: dict[str, int] = {}
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                counts[word[start:end]] = counts.get(word[start:end], 0) + times
    return normalized({piece: count for piece, count in counts.items() if count > 1 or len(piece) == 1})


def normalized(counts: dict[str, float] | Words) -> Probabilities:
    total = sum(counts.values())
    return {piece: count / total for piece, count in counts.items()}


def forward(text: str, p: Probabilities) -> list[float]:
    """α of equation (6): the probability of all segmentations of each prefix of `text`."""
    alpha = [1.0]
    for end in range(1, len(text) + 1):
        alpha.append(sum(alpha[start] * p.get(text[start:end], 0.0) for start in range(end)))
    return alpha


def backward(text: str, p: Probabilities) -> list[float]:
    """β of equation (6): the probability of all segmentations of each suffix of `text`."""
    return [alpha for alpha in reversed(forward(text[::-1], {piece[::-1]: value for piece, value in p.items()}))]


def expected_counts(text: str, p: Probabilities) -> dict[str, float]:
    """Equation (7) for one text: the expected number of occurrences of each piece in a segmentation of it."""
    alpha, beta = forward(text, p), backward(text, p)
    counts: dict[str, float] = {}
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if (piece := text[start:end]) in p:
                counts[piece] = counts.get(piece, 0.0) + alpha[start] * p[piece] * beta[end] / alpha[-1]
    return counts


def log_likelihood(words: Words, p: Probabilities) -> float:
    """L of equation (5); −∞ if a word has no segmentation."""
    whole = [(times, forward(word, p)[-1]) for word, times in words.items()]
    return sum(times * math.log(probability) if probability else -math.inf for times, probability in whole)


def em_step(words: Words, p: Probabilities) -> Probabilities:
    """Equations (7) and (8) over all words."""
    counts = dict.fromkeys(p, 0.0)
    for word, times in words.items():
        for piece, count in expected_counts(word, p).items():
            counts[piece] += times * count
    return normalized({piece: count for piece, count in counts.items() if count > 0 or len(piece) == 1})


def losses(words: Words, p: Probabilities) -> dict[str, float]:
    """The decrease of L without each piece of more than one character, at unchanged probabilities of the others.

    Single characters are kept, so that every word can be cut.
    """
    found = dict.fromkeys((piece for piece in p if len(piece) > 1), 0.0)
    for word, times in words.items():
        whole = forward(word, p)[-1]
        for piece in {word[i:j] for i in range(len(word)) for j in range(i + 2, len(word) + 1)} & found.keys():
            found[piece] += times * math.log(whole / forward(word, {**p, piece: 0.0})[-1])
    return found


def train(
    words: Words, size: int, longest: int = 8, steps: int = 2, kept: float = 0.8
) -> tuple[Probabilities, list[tuple[int, float]]]:
    """A unigram model of `size` pieces.

    Args:
        words: The text, as word counts.
        size: The number of pieces; at least the number of different characters.
        longest: The greatest length of a piece, in characters.
        steps: The number of EM steps between prunings.
        kept: The fraction of pieces that each pruning keeps: those whose removal would lower L most.

    Returns:
        {piece: probability}, and (number of pieces, L) before each step and at the end.

    Raises:
        ValueError: if `size` is below the number of characters.
    """
    p = seed_pieces(words, longest)
    if size < (characters := sum(len(piece) == 1 for piece in p)):
        raise ValueError(f"size must be at least {characters}, the number of characters. Received: size={size}")
    history = []
    while True:
        for _ in range(steps):
            history.append((len(p), log_likelihood(words, p)))
            p = em_step(words, p)
        if len(p) <= size:
            return p, [*history, (len(p), log_likelihood(words, p))]
        missed = losses(words, p)
        doomed = sorted(missed, key=missed.get)[: len(p) - max(size, int(kept * len(p)))]
        p = normalized({piece: max(value, LEAST) for piece, value in p.items() if piece not in doomed})


def sample(text: str, p: Probabilities, alpha: float, rng: np.random.Generator) -> list[str]:
    """A random segmentation x, with probability proportional to P(x)^alpha. Pieces are drawn from the end backwards, using α.

    Section 3.4 of Kudo (2018), over all segmentations instead of the best few.
    """
    sharpened = {piece: value**alpha for piece, value in p.items()}
    before, pieces, end = forward(text, sharpened), [], len(text)
    while end:
        weights = np.array([before[start] * sharpened.get(text[start:end], 0.0) for start in range(end)])
        start = rng.choice(end, p=weights / weights.sum())
        pieces.append(text[start:end])
        end = start
    return pieces[::-1]
