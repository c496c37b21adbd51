"""Learning the pieces of a vocabulary from texts (Keras 3)."""

import math
from collections import Counter, defaultdict
from itertools import pairwise

from layers.bert_tokenizer import UNKNOWN
from layers.bert_tokenizer.code_points import code_points
from layers.common.checks import check_at_least, check_flags

SPECIAL_TOKENS = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece_vocabulary(
    texts, vocabulary_size, lower_case, special_tokens=SPECIAL_TOKENS, least_count=2, max_input_chars_per_word=200
):
    """The pieces of a vocabulary for `BertTokenizer`, learned from texts: with it, no word of these texts becomes [UNK].

    Computes `train` of `reference/bert_tokenizer/training.py`: the texts are split into words as `BertTokenizer` does, and the
    words into characters. Then, again and again, the two neighboring pieces become one whose merging, wherever they are
    neighbors, increases the likelihood of the text most; of several such pairs, the first in the order of code points. The
    likelihood is that of a model in which pieces are independent and as probable as they are frequent.

    The same texts give the same vocabulary. The time grows with the number of pieces times the number of different pairs: 2,000
    pieces of 10,000 different words take about a minute.

    Args:
        texts: Strings, a list or any other iterable.
        vocabulary_size: The largest number of pieces. There are fewer if no further pair is worth merging.
        lower_case: As in `BertTokenizer`.
        special_tokens: The first pieces, with [UNK] among them.
        least_count: A pair that occurs less often is not merged.
        max_input_chars_per_word: Longer words, which are [UNK] to a `BertTokenizer` with this argument, are passed over.

    Returns:
        A list of pieces: the special tokens, the characters in the order of code points, and the others as they were made.

    Raises:
        ImportError: if TensorFlow, which splits the texts, is not installed.
        ValueError: if an argument is out of range, `special_tokens` lacks [UNK] or repeats a piece, `texts` is a single text or
            has something else than strings, or `vocabulary_size` has no room for the special tokens and every character.

    Example:

    >>> train_wordpiece_vocabulary(["low lower", "slow slower slowest"], 13, lower_case=True, special_tokens=["[UNK]"])[-3:]
    ['##ow', 'sl', '##owe']

    Reference:
        [Schuster and Nakajima, 2012](https://doi.org/10.1109/ICASSP.2012.6289079), section 3.
    """
    check_at_least(1, vocabulary_size=vocabulary_size, least_count=least_count, max_input_chars_per_word=max_input_chars_per_word)
    check_flags(lower_case=lower_case)
    special = list(special_tokens)
    if UNKNOWN not in special or len(set(special)) < len(special):
        raise ValueError(f"special_tokens must be different pieces with {UNKNOWN} among them. Received: special_tokens={special}")
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"texts must be a list of texts. Received: {texts!r}")
    words = words_of(list(texts), lower_case)
    pieces = Pieces({word: count for word, count in words.items() if len(word) <= max_input_chars_per_word})
    vocabulary = dict.fromkeys([*special, *sorted(pieces.counts)])
    if len(vocabulary) > vocabulary_size:
        raise ValueError(
            f"vocabulary_size must be at least {len(vocabulary)}, for {len(special)} special tokens and every character. "
            f"Received: vocabulary_size={vocabulary_size}"
        )
    while len(vocabulary) < vocabulary_size and (pair := pieces.best_pair(least_count)):
        vocabulary[pieces.merge(pair)] = None
    return list(vocabulary)


def words_of(texts, lower_case):
    """{word: how often it occurs}, by rules (1) to (5) of `reference/bert_tokenizer/`."""
    import tensorflow as tf

    from layers.bert_tokenizer.graph import split_words

    if not texts:
        return Counter()
    if strangers := [text for text in texts if not isinstance(text, (str, bytes))]:
        raise ValueError(f"texts must be strings. Received: a text of type {type(strangers[0]).__name__}")
    letters = split_words(tf.constant(texts), code_points(lower_case), lower_case).letters
    return Counter(word.decode() for word in tf.strings.unicode_encode(letters, "UTF-8").numpy())


class Pieces:
    """Words cut into pieces, and how often each piece and each pair of neighbors occurs."""

    def __init__(self, words):
        self.words = words
        self.cuts = {word: [word[0], *(f"##{character}" for character in word[1:])] for word in words}
        self.counts, self.pairs, self.having = Counter(), Counter(), defaultdict(set)
        for word in words:
            self.count(word, 1)

    def count(self, word, sign):
        """Count what `word` has, or with a `sign` of −1 count it no longer."""
        times = sign * self.words[word]
        for piece in self.cuts[word]:
            self.counts[piece] += times
        for pair in mergeable(self.cuts[word]):
            self.pairs[pair] += times
            self.having[pair].add(word)

    def best_pair(self, least_count):
        """The pair whose merging increases the likelihood most, or None if none does."""
        total = self.counts.total()
        gains = {pair: self.gain(pair, count, total) for pair, count in self.pairs.items() if count >= least_count}
        best = min(gains, key=lambda pair: (-gains[pair], pair), default=None)
        return best if best and gains[best] > 0 else None

    def gain(self, pair, count, total):
        """The increase of Σ n log n − N log N, the log-likelihood, rounded so that equal ones are equal."""
        first, second, merged = (self.counts[piece] for piece in (*pair, joined(pair)))
        if pair[0] == pair[1]:
            lost = weighted(first) - weighted(first - 2 * count)
        else:
            lost = weighted(first) - weighted(first - count) + (weighted(second) - weighted(second - count))
        return round(weighted(merged + count) - weighted(merged) - lost + weighted(total) - weighted(total - count), 6)

    def merge(self, pair):
        """Make one piece of `pair` wherever it occurs, from left to right, and return it."""
        for word in sorted(self.having.pop(pair)):
            self.count(word, -1)
            self.cuts[word] = after_merging(self.cuts[word], pair)
            self.count(word, 1)
        self.pairs.pop(pair, None)
        return joined(pair)


def joined(pair):
    return pair[0] + pair[1][2:]


def weighted(count):
    return count * math.log(count) if count else 0.0


def mergeable(cut):
    """The pairs of neighbors that can be merged at once: of three equal pieces, one pair."""
    last = None
    for pair in pairwise(cut):
        last = None if pair == last else pair
        if last:
            yield pair


def after_merging(cut, pair):
    """`cut` with the pair as one piece, from left to right."""
    found = []
    for piece in cut:
        if found and (found[-1], piece) == pair:
            found[-1] = joined(pair)
        else:
            found.append(piece)
    return found
