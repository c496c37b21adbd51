"""Where the pieces of a unigram model come from: expectation maximisation over every way to cut the text, and pruning.

Kudo (2018), section 3.2. The cut is hidden, so each piece counts by the probability that it is part of one:

    (5)  L = Σ_text log Σ_{x ∈ S(text)} P(x)
    (6)  α_j = Σ_{i < j} α_i p(text_{i..j}),  α_0 = 1;      β_i = Σ_{j > i} p(text_{i..j}) β_j,  β_T = 1
    (7)  c(piece) = Σ_text Σ_{text_{i..j} = piece} α_i p(piece) β_j / α_T
    (8)  p(piece) ← c(piece) / Σ c,      which never lowers L

These are plain probabilities, for texts as long as words: a thousand characters would underflow.
"""

import math

import numpy as np

Probabilities = dict[str, float]
Words = dict[str, int]
"""How often each word occurs, as in a text cut at its spaces."""

LEAST = 1e-4
"""What a piece starts with after a pruning, at least: the characters of what was pruned had faded away beside it."""


def seed_pieces(words: Words, longest: int) -> Probabilities:
    """Every substring of up to `longest` characters that occurs twice or is one character, as probable as it is frequent."""
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
    """α of equation (6): the probability of all cuts of each beginning of `text`."""
    alpha = [1.0]
    for end in range(1, len(text) + 1):
        alpha.append(sum(alpha[start] * p.get(text[start:end], 0.0) for start in range(end)))
    return alpha


def backward(text: str, p: Probabilities) -> list[float]:
    """β of equation (6): the probability of all cuts of what follows each place."""
    return [alpha for alpha in reversed(forward(text[::-1], {piece[::-1]: value for piece, value in p.items()}))]


def expected_counts(text: str, p: Probabilities) -> dict[str, float]:
    """Equation (7) for one text: how often each piece is in a cut of it, on average over the cuts by their probability."""
    alpha, beta = forward(text, p), backward(text, p)
    counts: dict[str, float] = {}
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if (piece := text[start:end]) in p:
                counts[piece] = counts.get(piece, 0.0) + alpha[start] * p[piece] * beta[end] / alpha[-1]
    return counts


def log_likelihood(words: Words, p: Probabilities) -> float:
    """L of equation (5); minus infinity if a word cannot be cut."""
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
    """By how much L falls without each piece of more than one character, all others as probable as they are.

    Single characters stay, so that every word can be cut.
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
        words: The text.
        size: How many pieces are wanted; at least as many as there are characters.
        longest: Longest piece, in characters.
        steps: Of EM between prunings.
        kept: Share of the pieces that each pruning keeps, those that L would miss most.

    Returns:
        {piece: probability}, and (number of pieces, L) before each step and at the end.

    Raises:
        ValueError: for a `size` below the number of characters.
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
    """One cut, drawn with a probability proportional to P(x)^alpha: backwards from the end, each piece by the α before it.

    Section 3.4 of Kudo (2018), over all cuts instead of the best few.
    """
    sharpened = {piece: value**alpha for piece, value in p.items()}
    before, pieces, end = forward(text, sharpened), [], len(text)
    while end:
        weights = np.array([before[start] * sharpened.get(text[start:end], 0.0) for start in range(end)])
        start = rng.choice(end, p=weights / weights.sum())
        pieces.append(text[start:end])
        end = start
    return pieces[::-1]
