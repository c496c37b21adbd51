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
        counts = counts_after(contexts(new, length), contexts(seen, length), seen[length:])
        kinds = np.count_nonzero(counts, axis=-1, keepdims=True)
        totals, shorter = counts.sum(axis=-1, keepdims=True), prediction[length:]
        prediction[length:] = np.where(kinds, (counts + kinds * shorter) / np.maximum(totals + kinds, 1), shorter)
    return -np.mean(np.log2(prediction[order:][np.arange(len(new) - order), new[order:]]))


def contexts(ids, length):
    """For each character but the first `length`, the `length` before it as one number."""
    windows = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[:, :length]
    return windows.astype("int64") @ (len(SYMBOLS) ** np.arange(length, dtype="int64"))


def counts_after(asked, seen, followers):
    """How often each symbol followed each of the contexts `asked`, `(t, n)`, among those `seen`, which `followers` came after."""
    kept, rows = np.unique(seen, return_inverse=True)
    table = np.zeros((len(kept), len(SYMBOLS)))
    np.add.at(table, (rows, followers), 1)
    places = np.minimum(np.searchsorted(kept, asked), len(kept) - 1)
    return table[places] * (kept[places] == asked)[:, None]
