"""Languages that are Markov chains: their sentences, how words are hidden, and what can be known of a hidden word."""

import numpy as np

from reference.masked_lm import RATE

WORDS, LENGTH, MIDDLE = 12, 8, 4
"""Words of a language, length and middle of a sentence."""


def language(seed):
    """A Markov chain `(n, n)`: the probabilities of each word after each word."""
    return np.random.default_rng(seed).dirichlet(np.full(WORDS, 0.15), WORDS)


def steady(chain):
    """How often each word occurs."""
    return np.linalg.matrix_power(chain, 10_000)[0]


def sentences(chain, count, rng, length=LENGTH):
    ids, reach = np.empty((count, length), "int32"), chain.cumsum(axis=1)
    ids[:, 0] = rng.choice(WORDS, count, p=steady(chain))
    for t in range(1, length):
        ids[:, t] = (rng.random((count, 1)) > reach[ids[:, t - 1]]).sum(axis=1).clip(0, WORDS - 1)
    return ids


def corrupted(ids, shares, rng):
    """What the model reads, and which words were chosen."""
    chosen, fate = rng.random(ids.shape) < RATE, rng.random(ids.shape)
    others = np.where(fate < shares[0] + shares[1], ids, rng.integers(0, WORDS, ids.shape))
    return np.where(chosen, np.where(fate < shares[0], WORDS, others), ids).astype("int32"), chosen


def exact(chain, read, position, shares=None):
    """The probabilities `(count, n)` of the word at a position, of who knows the chain, by messages from both ends.

    With `shares`, every word that is read may be a false one, as in training; without, only [MASK] hides anything.
    """
    n = WORDS
    random = RATE * shares[2] / n if shares else 0.0
    seen = np.where(np.arange(n) == read[..., None], 1 - (RATE * (shares[0] + shares[2]) if shares else 0) + random, random)
    seen[read == n] = 1
    seen[:, position] = 1
    left = np.broadcast_to(steady(chain), seen[:, 0].shape)
    for t in range(position):
        left = (left * seen[:, t]) @ chain
        left = left / left.sum(axis=-1, keepdims=True)
    right = np.ones_like(left)
    for t in range(LENGTH - 1, position, -1):
        right = (right * seen[:, t]) @ chain.T
        right = right / right.sum(axis=-1, keepdims=True)
    return left * right / (left * right).sum(axis=-1, keepdims=True)


def hide_middle(ids, by=WORDS):
    """The sentences with [MASK], or what else is given, in place of the middle word."""
    return np.where(np.arange(LENGTH) == MIDDLE, by, ids).astype("int32")


def spoiled(ids, rng):
    """The sentences with the middle word of every other one replaced by another word, and which they are."""
    wrong = np.arange(len(ids)) % 2 == 1
    other = (ids[:, MIDDLE] + rng.integers(1, WORDS, len(ids))) % WORDS
    return np.where((np.arange(LENGTH) == MIDDLE) & wrong[:, None], other[:, None], ids).astype("int32"), wrong
