"""The rules of BERT's tokenizer as TensorFlow graph operations, on all texts at once.

The texts are concatenated into one sequence of code points, with a space after each text. The packed forms of
`layers/bert_tokenizer/code_points.py` give the normalization of each code point. Rare cases (a sigma, a Hangul syllable, marks
that NFD moves) are computed only if they occur.
"""

from typing import NamedTuple

import tensorflow as tf

from layers.bert_tokenizer.code_points import (
    ALONE,
    CASED,
    DROPPED,
    EXPANDED,
    FINAL_SIGMA,
    IGNORED,
    MARK,
    OTHER,
    SEVERAL,
    SIGMA,
    SPACE,
    VANISHING,
)


class Words(NamedTuple):
    """Attributes:

    letters: The code points of each word, a ragged tensor.
    first, last: For each code point, the indices of the first and the last character that it comes from, among all texts.
    splits: Row splits that assign the words to the texts.
    byte: For each character, the byte of its text at which it starts, where the previous character ends.
    """

    letters: tf.RaggedTensor
    first: tf.Tensor
    last: tf.Tensor
    splits: tf.Tensor
    byte: tf.Tensor


def split_words(texts, tables, lower_case):
    """Rules (1) to (5).

    Args:
        texts: Strings, `(b,)`.
        tables: `CodePoints` for `lower_case`.
        lower_case: Whether rules (3) and (4) apply.

    Returns:
        `Words`.
    """
    texts = tf.strings.join([texts, " "])  # words end with their text, and every character has a successor
    characters, byte = tf.strings.unicode_decode_with_offsets(texts, "UTF-8")
    forms, first, last = normalize(characters.flat_values, tables, lower_case)
    kind = forms & 7
    is_part = kind < ALONE
    is_start = (kind == ALONE) | (is_part & ~tf.concat([[False], is_part[:-1]], 0))
    forms, first, last, is_start = only(kind != SPACE, forms, first, last, is_start)
    starts = tf.where(is_start)[:, 0]
    splits = tf.concat([starts, [tf.size(forms, tf.int64)]], 0)
    letters = tf.RaggedTensor.from_row_splits(code_points(forms), splits, validate=False)
    splits = tf.searchsorted(tf.gather(first, starts), characters.row_splits, out_type=tf.int64)
    return Words(letters, first, last, splits, byte.flat_values)


def normalize(characters, tables, lower_case):
    """Rules (1) to (4): the packed forms, and the indices of the first and the last of `characters` that each comes from."""
    if lower_case:
        characters = tf.cond(
            tf.reduce_any(characters == SIGMA), lambda: end_words(characters, tables.neighbors), lambda: characters
        )
    forms, origin = 8 * characters + look_up(tables.table, characters), tf.range(tf.size(characters, tf.int64))
    if lower_case:
        is_several = forms & 7 == EXPANDED
        forms, origin = tf.cond(
            tf.reduce_any(is_several), lambda: expand(forms, origin, is_several, tables), lambda: (forms, origin)
        )
    kind = forms & 7
    return tf.cond(
        tf.reduce_any(kind == MARK),
        lambda: order_marks(*only(kind != DROPPED, forms, origin), tables.order),
        lambda: only(kind < DROPPED, forms, origin, origin),
    )


def end_words(characters, neighbors):
    """Rule (3): a capital sigma at the end of a word becomes the final small sigma."""
    seen = look_up(neighbors, characters)
    seen, places = only(seen != IGNORED, seen, tf.range(tf.size(seen)))
    before, behind = tf.concat([[OTHER], seen[:-1]], 0), tf.concat([seen[1:], [OTHER]], 0)
    is_final = (tf.gather(characters, places) == SIGMA) & (before == CASED) & (behind != CASED)
    (places,) = only(is_final, places)
    return tf.tensor_scatter_nd_update(characters, places[:, None], tf.fill(tf.shape(places), FINAL_SIGMA))


def expand(forms, origin, is_several, tables):
    """Replace each character that becomes several by all of their forms, each with its origin."""
    row = tf.where(is_several, code_points(forms) - SEVERAL, 0)
    counts = tf.where(is_several, tf.gather(tables.lengths, row), 1)
    each = tf.repeat(tf.range(tf.size(forms)), counts)
    column = tf.range(tf.size(each)) - tf.gather(tf.cumsum(counts, exclusive=True), each)
    parts = tf.gather_nd(tables.expansions, tf.stack([tf.gather(row, each), column], 1))
    return tf.where(tf.gather(is_several, each), parts, tf.gather(forms, each)), tf.gather(origin, each)


def order_marks(forms, origin, order):
    """Sort consecutive marks as NFD does. Each mark then comes from all characters from which the marks of its run come."""
    order = look_up(order, code_points(forms))
    run = tf.cumsum(tf.cast(order == 0, tf.int64))  # a run is a character and the marks after it
    runs = tf.size(run, tf.int64) + 1
    first, last = (
        tf.where(order > 0, tf.gather(edge(origin, tf.where(order > 0, run, -1), runs), run), origin)
        for edge in (tf.math.unsorted_segment_min, tf.math.unsorted_segment_max)
    )
    places = tf.argsort(256 * run + tf.cast(order, tf.int64), stable=True)
    forms = tf.gather(forms, places)  # `first` and `last` need no sorting: all marks of a run have the same
    return only(forms & 7 != VANISHING, forms, first, last)


def spell(letters, longest, unknown):
    """Words as strings, with `unknown` for words of more than `longest` letters, and a boolean tensor that marks these."""
    is_long = letters.row_lengths() > longest
    return tf.where(is_long, unknown, tf.strings.unicode_encode(letters, "UTF-8")), is_long


def bytes_of_pieces(words, is_long, start, limit):
    """Offsets of pieces in their texts, from their offsets in their words. A word that is too long is one piece."""
    widths = 1 + tf.add_n([tf.cast(words.letters.flat_values >= least, tf.int64) for least in (0x80, 0x800, 0x10000)])
    ends = tf.gather(tf.concat([[0], tf.cumsum(widths)], 0), words.letters.row_splits)
    word = start.value_rowids()
    start, limit = (tf.gather(ends, word) + tf.cast(x.flat_values, tf.int64) for x in (start, limit))
    limit = tf.where(tf.gather(is_long, word), tf.gather(ends, word + 1), limit)
    letter = tf.repeat(tf.range(tf.size(widths, tf.int64)), widths)  # the letter of each byte
    first, last = tf.gather(words.first, tf.gather(letter, start)), tf.gather(words.last, tf.gather(letter, limit - 1))
    return tf.gather(words.byte, first), tf.gather(words.byte, last + 1)


def by_text(pieces, words):
    """Pieces by word as pieces by text and word."""
    return tf.RaggedTensor.from_row_splits(pieces, words.splits, validate=False)


def look_up(pages, code_points):
    return tf.gather(pages.entries, 256 * tf.gather(pages.pages, tf.bitwise.right_shift(code_points, 8)) + (code_points & 255))


def code_points(forms):
    return tf.bitwise.right_shift(forms, 3)


def only(kept, *tensors):
    """The entries of each of `tensors` where `kept` is True."""
    places = tf.where(kept)[:, 0]
    return tuple(tf.gather(tensor, places) for tensor in tensors)
