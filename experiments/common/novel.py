"""Real text for models of characters: Sōseki's "Botchan" in Morri's translation of 1919, which is in the public domain."""

from functools import cache
from pathlib import Path

import numpy as np

TEXT = (Path(__file__).parent / "botchan.txt").read_text(encoding="utf-8")
SYMBOLS = sorted(set(TEXT))
HELD_OUT = 0.1
"""The share of the text, at its end, that nothing is trained on."""


def ids_of(text):
    """The ids `(t,)` of characters that occur in the novel."""
    return np.array([SYMBOLS.index(symbol) for symbol in text], "int32")


@cache
def halves():
    """The ids of what is trained on, and of what is held out."""
    ids = np.searchsorted(SYMBOLS, list(TEXT)).astype("int32")
    end = round(len(ids) * (1 - HELD_OUT))
    return ids[:end], ids[end:]


def pieces(ids, length, count, rng):
    """`count` random pieces of `length` characters, and for each character the one that follows it: `(count, length)` both."""
    starts = rng.integers(0, len(ids) - length, count)
    found = ids[starts[:, None] + np.arange(length + 1)]
    return found[:, :-1], found[:, 1:]


def every_piece(ids, length):
    """The text cut into pieces of `length`, one after the other, and what follows each character."""
    count = (len(ids) - 1) // length
    return ids[: count * length].reshape(count, length), ids[1 : count * length + 1].reshape(count, length)


def bits_of_counts(order):
    """Bits a character on the held-out text, if each is predicted from the counts of what followed the `order` before it.

    The counts of longer contexts are mixed with those of shorter ones as Witten and Bell (1991) do: a context that was followed
    by many different characters counts less.
    """
    seen, new = halves()
    prediction = np.full((len(new), len(SYMBOLS)), 1 / len(SYMBOLS))
    for length in range(order + 1):
        prediction = mixed(prediction, table_of(seen, length), new, length)
    return -np.mean(np.log2(prediction[order:][np.arange(len(new) - order), new[order:]]))


def table_of(seen, length):
    """{context: how often each symbol followed it} for contexts of `length` characters."""
    tables = {}
    for place in range(length, len(seen)):
        tables.setdefault(tuple(seen[place - length : place]), np.zeros(len(SYMBOLS)))[seen[place]] += 1
    return tables


def mixed(shorter, tables, new, length):
    """The predictions `(t, n)` from contexts of `length`, mixed with those from `shorter` ones."""
    found = shorter.copy()
    for place in range(length, len(new)):
        counts = tables.get(tuple(new[place - length : place]))
        if counts is not None:
            kinds = np.count_nonzero(counts)
            found[place] = (counts + kinds * shorter[place]) / (counts.sum() + kinds)
    return found
