"""BERT's normalization of each code point, as lookup tables for a graph.

The entry of a code point c is `entries[256 * pages[c // 256] + c % 256]`, and `8 * c + entry` is its packed form: eight times
the normalized code point, plus a kind. If c becomes several code points, the packed form has `SEVERAL` plus the index of a row of
`expansions` instead.
"""

from functools import cache
from typing import NamedTuple
from unicodedata import category, combining, normalize

import numpy as np

LETTER, MARK, ALONE, SPACE, DROPPED, VANISHING, EXPANDED = range(7)
"""Kinds: part of a word; part of a word that NFD may move; a word of its own; whitespace; dropped; dropped after NFD has ordered
the marks around it; several code points."""

OTHER, CASED, IGNORED = range(3)
"""Classes of the neighbors of a capital sigma, whose lower case is ς if a cased letter precedes it and none follows it."""

SEVERAL = 0x110000
SIGMA, FINAL_SIGMA = 0x3A3, 0x3C2
IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F))


class Pages(NamedTuple):
    """A value for every code point, in pages of 256. Equal pages are stored once."""

    pages: np.ndarray
    entries: np.ndarray


class CodePoints(NamedTuple):
    """Attributes:

    table: The entries described above.
    expansions: Packed forms, with a row for each code point that becomes several, padded with −1.
    lengths: Length of each row without padding.
    neighbors: `OTHER`, `CASED` or `IGNORED` for each code point.
    order: Combining classes, by which NFD orders marks.
    """

    table: Pages
    expansions: np.ndarray
    lengths: np.ndarray
    neighbors: Pages
    order: Pages


@cache
def code_points(lower_case):
    """BERT's rules for all code points in the Unicode version of this Python; for BERT's uncased models if `lower_case`.

    Returns:
        `CodePoints`.
    """
    entries, expansions = np.full(SEVERAL, LETTER, "int32"), []
    neighbors, order = np.full(SEVERAL, OTHER, "int32"), np.zeros(SEVERAL, "int32")
    known = [c for c in map(chr, range(SEVERAL)) if category(c) not in ("Cn", "Co", "Cs")]
    for c, neighbor in zip(known, as_sigma_sees(known)):
        neighbors[ord(c)], order[ord(c)] = neighbor, combining(c)
        packed = normalized(c, lower_case) or [8 * ord(c) + DROPPED]
        if len(packed) > 1:
            expansions.append(packed)
            packed = [8 * (SEVERAL + len(expansions) - 1) + EXPANDED]
        entries[ord(c)] = packed[0] - 8 * ord(c)
    lengths = np.array([len(row) for row in expansions] or [1], "int32")
    filled = np.full((len(lengths), lengths.max()), -1, "int32")
    for row, packed in zip(filled, expansions):
        row[: len(packed)] = packed
    return CodePoints(paged(entries), filled, lengths, paged(neighbors), paged(order))


def normalized(c, lower_case):
    """Packed forms of a character after cleaning and, with `lower_case`, conversion to lower case and NFD."""
    if is_dropped(c):
        return []
    if c.isspace():
        return [8 * ord(" ") + SPACE]
    parts = normalize("NFD", c.lower()) if lower_case else c
    return [8 * ord(x) + kind(x, lower_case) for x in parts if not lower_case or category(x) != "Mn" or not combining(x)]


def is_dropped(c):
    return c in "\0\ufffd" or (category(c) in ("Cc", "Cf") and c not in "\t\n\r")


def kind(c, lower_case):
    if lower_case and category(c) == "Mn":
        return VANISHING
    if lower_case and combining(c):
        return MARK
    in_ascii = "!" <= c <= "~" and not c.isalnum()
    alone = in_ascii or category(c)[0] == "P" or any(first <= ord(c) <= last for first, last in IDEOGRAPHS)
    return ALONE if alone else LETTER


def as_sigma_sees(characters):
    """`OTHER`, `CASED` or `IGNORED` for each character, found from how Python lowers a capital sigma next to the character."""
    in_front, between = (" ".join("aΣ" + c.strip() + end for c in characters).lower().split(" ") for end in ("", "a"))
    found = [OTHER if a[1] == b[1] == "ς" else CASED if a[1] == "σ" else IGNORED for a, b in zip(in_front, between)]
    return [IGNORED if is_dropped(c) else OTHER if c.isspace() else seen for c, seen in zip(characters, found)]


def paged(values):
    unique, pages = np.unique(values.reshape(-1, 256), axis=0, return_inverse=True)
    return Pages(pages.astype("int32").reshape(-1), unique.reshape(-1))
