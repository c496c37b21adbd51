"""A vocabulary learned from texts: by the definition, by hand, the same each time, and complete."""

import math
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_allclose

from layers import BertTokenizer, train_wordpiece_vocabulary
from layers.bert_tokenizer.training import SPECIAL_TOKENS, Pieces
from reference.bert_tokenizer import split_words, training

TEXTS = [
    "The lower house of the lowest slow flow, slower and slowest: low-flow!",
    "Unaffable Affen schlaffen. naïve Ångström, ÉTÉ été; banana bananas aaa aaaa aaaaaa",
    "東京 東 京都 한국어 한국 λόγος ΛΟΓΟΣ \u0301a e\u0301te\u0301 don't can't won't 1999 1998 199",
]


def words_of(texts, lower_case=True):
    return dict(Counter(word for text in texts for word in split_words(text, lower_case)))


@pytest.mark.parametrize(("texts", "lower_case"), [(TEXTS[2:], True), (TEXTS[:2], False)])
def test_it_is_the_definition_for_every_size(texts, lower_case):
    words = words_of(texts, lower_case)
    everything = training.train(words, 10**6)
    characters = sum(len(piece.removeprefix("##")) == 1 for piece in everything)
    assert len(everything) > characters + 5
    for size in (characters, characters + 1, characters + 4, 10**6):
        found = train_wordpiece_vocabulary(texts, size + 1, lower_case, special_tokens=["[UNK]"])
        assert found == ["[UNK]", *everything[:size]]


def test_it_is_the_definition_for_random_words(rng):
    for _ in range(6):  # words of two letters have the runs and repetitions of which two pairs spell one piece
        texts = [" ".join("".join(rng.choice(["a", "b"], rng.integers(1, 9))) for _ in range(12))]
        found = train_wordpiece_vocabulary(texts, 10**6, True, ["[UNK]"], least_count=1)
        assert found[1:] == training.train(words_of(texts), 10**6, least=1)


def test_a_gain_worked_by_hand():
    """ab ab ab cb: joining ab makes 5 pieces of 8, and L from 2·(3 ln 3/8 + …) to what three and one of four have."""
    pieces = Pieces({"ab": 3, "cb": 1})

    def f(n):
        return n * math.log(n)

    before = 3 * math.log(3 / 8) + math.log(1 / 8) + 4 * math.log(4 / 8)
    after = 3 * math.log(3 / 5) + math.log(1 / 5) + math.log(1 / 5)
    assert_allclose(pieces.gain(("a", "##b"), 3, 8), after - before, atol=1e-6)
    pieces.counts["ab"] = 3  # from another pair that spells it
    assert_allclose(pieces.gain(("a", "##b"), 3, 11), f(11) - f(8) + f(6) - 2 * f(3) - f(4), atol=1e-6)
    del pieces.counts["ab"]
    assert pieces.best_pair(1) == ("a", "##b") and pieces.best_pair(4) is None
    assert pieces.merge(("a", "##b")) == "ab" and +pieces.counts == {"ab": 3, "c": 1, "##b": 1}


def test_no_word_of_its_texts_is_unknown_and_the_same_texts_give_the_same_pieces():
    least = train_wordpiece_vocabulary(TEXTS, 10**6, True, least_count=10**6)
    for size in (len(least), len(least) + 12, 10**6):
        vocabulary = train_wordpiece_vocabulary(iter(TEXTS), size, True)
        assert vocabulary == train_wordpiece_vocabulary(TEXTS[::-1], size, True)
        assert len(vocabulary) <= size and vocabulary[:5] == list(SPECIAL_TOKENS)
        ids = BertTokenizer(vocabulary, lower_case=True)(TEXTS).flat_values.numpy()
        assert vocabulary.index("[UNK]") not in ids
        pieces = len(ids) if size == len(least) else pieces
        assert len(ids) < pieces or size == len(least), "joined pieces make texts shorter"


def test_long_words_are_passed_over_and_texts_may_be_bytes_or_none_at_all():
    assert train_wordpiece_vocabulary(["abc", "xyzxyz"], 99, True, ["[UNK]"], max_input_chars_per_word=3) == [
        *("[UNK]", "##b", "##c", "a")
    ]
    assert train_wordpiece_vocabulary([b"a", np.bytes_(b"a")], 99, True, ["[UNK]"]) == ["[UNK]", "a"]
    assert train_wordpiece_vocabulary([], 5, True) == list(SPECIAL_TOKENS)
    assert train_wordpiece_vocabulary(["", " "], 5, True) == list(SPECIAL_TOKENS)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"vocabulary_size must be at least 8, for 5 special tokens and every character. Received: vocabulary_size=7", {}),
        (r"special_tokens must be different pieces with \[UNK\] among them", {"special_tokens": ["[PAD]"]}),
        (r"special_tokens must be different", {"special_tokens": ["[UNK]", "[UNK]"]}),
        (r"least_count must be .* Received: least_count=0", {"least_count": 0}),
        (r"lower_case must be True or False", {"lower_case": "yes"}),
        (r"texts must be strings. Received: a text of type int", {"texts": ["abc", 3]}),
        (r"texts must be a list of texts. Received: 'abc'", {"texts": "abc"}),
    ],
)
def test_what_makes_no_sense_is_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        train_wordpiece_vocabulary(**{"texts": ["abc"], "vocabulary_size": 7, "lower_case": True} | options)
