"""The rules, words worked by hand, every code point, hard strings. Drawn texts: tests/conformance."""

import json
import os
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from unicodedata import category, combining

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from crosscheck.cases.bert_tokenizer import SMALL, real_vocabulary
from crosscheck.models.tokenizers import compare_tokens
from crosscheck.tree import as_lists
from layers.bert_tokenizer import BertTokenizer
from layers.bert_tokenizer.code_points import CASED, IGNORED, OTHER, code_points
from reference.bert_tokenizer import bert_tokenizer, spans, split_words, split_words_with_bytes, wordpieces
from reference.bert_tokenizer.linear_wordpiece import build_trie, linear_wordpieces

pytestmark = pytest.mark.slow

HARD = [json.loads(line) for line in (Path(__file__).parent / "hard_strings.jsonl").read_text(encoding="utf-8").splitlines()]
ASSIGNED = [c for c in map(chr, range(0x110000)) if category(c) not in ("Cn", "Cs")]
SWEPT = [c for c in ASSIGNED if ord(c) < 0x10000 or 0x1F000 <= ord(c) < 0x1FB00]  # the basic plane, and where emoji are
MARKS = [c for c in ASSIGNED if combining(c)]
POOLS = [
    st.sampled_from(ASSIGNED),
    st.sampled_from([*MARKS, "a", "é", "각", " "]),
    st.sampled_from([*(c for c in MARKS if category(c) != "Mn"), "a", "\u0301", "é", "\u0e31", " "]),
    st.sampled_from("ΣσςαΑ'.:\u0345ʰª \u00ad·\1中"),
    st.sampled_from("a \tÉßİı中가\1\ufeff-"),
]
any_text = st.one_of([st.text(pool, max_size=9) for pool in POOLS])
VOCABULARIES = st.lists(
    st.text("ab#", min_size=1, max_size=5) | st.text("ab", min_size=1, max_size=4).map("##".__add__), max_size=12
)


@pytest.fixture(scope="module")
def vocabulary():
    return {piece: i for i, piece in enumerate(real_vocabulary().read_text(encoding="utf-8").splitlines())}


@pytest.fixture(scope="module")
def layers(vocabulary):
    return {lower_case: BertTokenizer(list(vocabulary), lower_case, tokenize_with_offsets=True) for lower_case in (True, False)}


@pytest.fixture(scope="module")
def agree(layers, vocabulary):
    """Compares layer and reference on texts, with the real vocabulary, and says how much it compared."""

    def compare(texts, lower_case, what=None):
        counts = compare_tokens(layers[lower_case], lambda texts: bert_tokenizer(texts, vocabulary, lower_case), texts)
        if what:
            print(f"\n{what}, {'uncased' if lower_case else 'cased'}: {counts[0]:,} strings, {counts[1]:,} tokens agree", end=" ")
        return counts

    return compare


both = pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])


@given(any_text, st.booleans())
@settings(max_examples=2000, deadline=None)
def test_words_with_bytes_are_the_words_of_the_rules(text, lower_case):
    words = split_words_with_bytes(text, lower_case)
    assert split_words(text, lower_case) == ["".join(c.text for c in word) for word in words]
    for word in words:
        assert all(0 <= c.start < c.limit <= len(text.encode()) for c in word)
        assert [c.start for c in word] == sorted(c.start for c in word)
        [text.encode()[c.start : c.limit].decode() for c in word]  # whole characters


def test_each_rule_by_hand():
    assert split_words("a\0b\ufffdc\u00add\u200be", True) == ["abcde"]  # dropped
    assert split_words("a\tb\u00a0c\u1680d\u3000e\u2028f", True) == ["a", "b", "c", "d", "e", "f"]
    assert split_words("a中文b", True) == ["a", "中", "文", "b"]
    assert split_words("かな한", False) == ["かな한"]  # kana and Hangul stay together
    assert split_words("Éa e\u0301 İ ß ²", True) == ["ea", "e", "i", "ß", "²"]
    assert split_words("Éa e\u0301", False) == ["Éa", "e\u0301"]
    assert split_words("a$b ¿x 5€", True) == ["a", "$", "b", "¿", "x", "5€"]
    assert split_words("a≠b", True) == ["a", "=", "b"]  # which is = and a stroke for NFD
    assert split_words("[MASK]", True) == ["[", "mask", "]"]
    assert split_words("", True) == split_words(" \t\u0301\0", True) == []


def test_a_sigma_is_lowered_by_its_neighbors():
    assert split_words("ΟΔΟΣ ΟΔΟΣ. ΑΣΑ Σ ΑΣ'Α ΑΣ\u0001Α ΑΣ中", True) == [
        *("οδος", "οδος", ".", "ασα", "σ", "ασ", "'", "α", "ασα", "ας", "中"),
    ]


def test_worked_example():
    """un·aff·able are bytes 0 to 2, 2 to 5 and 5 to 9; é takes two bytes, and what was dropped in front counts too."""
    ids = {piece: i for i, piece in enumerate(["[UNK]", "un", "##aff", "##able", "e", "##te", "!"])}
    tokens = bert_tokenizer(["Unaffable!", "\0été e\u0301té qu"], ids)
    assert tokens.ids == [[[1, 2, 3], [6]], [[4, 5], [4, 5], [0]]]
    assert tokens.starts == [[[0, 2, 5], [9]], [[1, 3], [7, 10], [14]]]
    assert tokens.limits == [[[2, 5, 9], [10]], [[3, 6], [8, 13], [16]]]
    layer = BertTokenizer(list(ids), True, tokenize_with_offsets=True)
    assert [as_lists(part) for part in layer(["Unaffable!", "\0été e\u0301té qu"])] == list(tokens)


def test_a_character_that_became_several_belongs_to_each_piece_and_marks_that_traded_places_to_each_other():
    """U+1715, of combining class 9, goes before U+302E, of 224; but not past U+0E31, of class 0, which is dropped after that."""
    ids = {"[UNK]": 0, "\u1100": 1, "##\u1161\u11a8": 2, "a": 3, "##\u1715": 4, "##\u302e": 5, "##\u302f": 6}
    texts = ["각", "a\u302e\u1715", "a\u302e\u0e31\u1715", "a\u302f\u302e", "a\u302e\u0301\1\u1715"]
    tokens = bert_tokenizer(texts, ids)
    assert tokens.ids == [[[1, 2]], [[3, 4, 5]], [[3, 5, 4]], [[3, 6, 5]], [[3, 4, 5]]]
    assert tokens.starts == [[[0, 0]], [[0, 1, 1]], [[0, 1, 7]], [[0, 1, 1]], [[0, 1, 1]]]
    assert tokens.limits == [[[3, 3]], [[1, 7, 7]], [[1, 4, 10]], [[1, 7, 7]], [[1, 10, 10]]]
    compare_tokens(BertTokenizer(list(ids), True, True), lambda texts: bert_tokenizer(texts, ids), texts)


@given(VOCABULARIES, st.lists(st.text("ab#", min_size=1, max_size=14), max_size=20))
@settings(max_examples=1000, deadline=None)
def test_linear_wordpieces_are_the_greedy_ones(pieces, words):
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    trie = build_trie(vocabulary)
    for word in words:
        found, steps = linear_wordpieces(word, trie)
        assert found == wordpieces(word, vocabulary)
        assert steps <= 2 * len(word)


def test_linear_wordpieces_are_the_greedy_ones_with_the_real_vocabulary(vocabulary):
    trie = build_trie(vocabulary)
    words = {word for text in HARD for word in split_words(text, True)}
    assert all(linear_wordpieces(word, trie)[0] == wordpieces(word, vocabulary) for word in words)


class Counting(dict):
    looked = 0

    def __contains__(self, piece):
        self.looked += 1
        return super().__contains__(piece)


@pytest.mark.parametrize("n", [7, 64, 150])
def test_greedy_may_look_up_every_pair_and_the_linear_one_takes_two_steps_a_letter(n):
    pieces = ["a", "##a", "a" * n + "b", "##" + "a" * n + "b"]
    counting = Counting({piece: i for i, piece in enumerate(pieces)})
    assert wordpieces("a" * n, counting) == linear_wordpieces("a" * n, build_trie(pieces))[0]
    assert counting.looked == n * (n + 1) // 2
    assert linear_wordpieces("a" * n, build_trie(pieces))[1] == 2 * n


@given(VOCABULARIES, st.text("ab", min_size=1, max_size=14))
def test_pieces_make_up_the_word_and_each_is_the_longest(pieces, word):
    found = wordpieces(word, dict.fromkeys(pieces, 0))
    where = spans(found, word)
    assert where[0][0] == 0 and where[-1][1] == len(word) and all(a[1] == b[0] for a, b in pairwise(where))
    if found != ["[UNK]"]:
        assert "".join(word[start:end] for start, end in where) == found[0] + "".join(p.removeprefix("##") for p in found[1:])
        for start, end in where:
            prefix = "##" if start else ""
            assert not any(prefix + word[start:longer] in pieces for longer in range(end + 1, len(word) + 1))


@both
def test_layer_and_reference_agree_on_every_code_point(agree, lower_case):
    strings, tokens = agree([f"a{c}b" for c in SWEPT], lower_case, "a?b for every assigned code point")
    assert strings > 60_000 and tokens > 100_000


@both
def test_layer_and_reference_agree_on_hard_strings(agree, lower_case):
    strings, tokens = agree(HARD, lower_case, "hard strings")
    assert strings >= 300 and tokens > 2000


def test_layer_and_reference_agree_on_a_sigma_before_every_code_point_that_is_no_plain_letter(agree):
    texts = [text for c in SWEPT if category(c) not in ("Lo", "Co") for text in (f"aΣ{c}", f"aΣ{c}a", f"{c}Σ", f"a{c}Σ")]
    agree(texts, True, "a sigma beside every code point")


@given(st.lists(any_text, max_size=30), st.booleans())
@settings(max_examples=150, deadline=None)
def test_layer_and_reference_agree_on_any_texts(agree, texts, lower_case):
    agree(texts, lower_case)


def test_neighbors_of_a_sigma_are_as_python_lowers_it():
    table = code_points(True).neighbors
    for c in (c for c in ASSIGNED if category(c) not in ("Lo", "Co", "Cc", "Cf", "Zs") and c not in "\0\ufffd"):
        seen = table.entries[256 * table.pages[ord(c) >> 8] + (ord(c) & 255)]
        ends, goes_on = (f"aΣ{c}{end}".lower()[1] == letter for end, letter in (("", "ς"), ("a", "σ")))
        assert seen == (IGNORED if ends and goes_on else OTHER if ends else CASED), c


@pytest.mark.parametrize("longest", [1, 3, 200])
def test_words_of_more_letters_than_allowed_are_unknown(longest):
    words = ["é" * longest, "é" * (longest + 1), "각" * longest, "e\u0301" * longest, "a " + "e" * (longest + 1) + " e"]
    layer = BertTokenizer([*SMALL, "##e"], True, True, longest)
    ids = {piece: i for i, piece in enumerate(layer.vocabulary)}
    compare_tokens(layer, lambda texts: bert_tokenizer(texts, ids, True, longest), words)
    assert [len(word) for text in as_lists(layer(words)[0])[:2] for word in text] == [longest, 1]
    assert as_lists(layer(words)[2])[1] == [[2 * longest + 2]]


def test_layer_and_greedy_agree_on_random_vocabularies(rng):
    words = ["".join(letters) for n in (1, 2, 5, 8) for letters in product("ab", repeat=n)]
    for _ in range(30):
        pieces = {
            "##" * rng.integers(2) + "".join(rng.choice(["a", "b"], rng.integers(1, 6))) for _ in range(rng.integers(1, 12))
        }
        pieces = ["[UNK]", *sorted(pieces)]
        ids = {piece: i for i, piece in enumerate(pieces)}
        compare_tokens(BertTokenizer(pieces, True, True), lambda texts, ids=ids: bert_tokenizer(texts, ids), words)


def test_bytes_that_are_no_utf8_are_dropped_and_counted(layers):
    found = layers[True](tf.constant([b"\xffab\xc3 \xe4\xb8cd", b"\xed\xa0\x80x", b"x\xf0\x9f"]))
    expected = layers[True](["abcd", "x", "x"])
    assert as_lists(expected[0])[1:] == as_lists(found[0])[1:]
    ab, cd = (as_lists(layers[True]([word])[0])[0][0] for word in ("ab", "cd"))
    assert as_lists(found[0])[0] == [ab, cd]
    assert [text[0][0] for text in as_lists(found[1])] == [1, 3, 0] and as_lists(found[1])[0][1][0] == 7


def test_tensorflow_texts_own_tokenizer_agrees_on_plain_english_and_not_beyond(layers):
    theirs = tensorflow_text.BertTokenizer(str(real_vocabulary()), lower_case=True)
    plain = [text for text in HARD if text.isascii() and text.isprintable() and len(text) < 100]
    assert len(plain) > 50 and as_lists(theirs.tokenize(plain)) == as_lists(layers[True](plain)[0])
    for text in ("Straße", "10 m²", "¼", "ǆ", "20 ℃", "a\u1680b"):
        assert as_lists(theirs.tokenize([text])) != as_lists(layers[True]([text])[0]), text


def test_runs_in_tf_data_on_batches_and_single_texts(layers):
    layer, texts = layers[True], HARD[:64]
    whole = as_lists(layer(texts)[0])
    data = tf.data.Dataset.from_tensor_slices(texts)
    assert [row for batch in data.batch(10).map(layer) for row in as_lists(batch[0])] == whole
    alone = data.map(lambda text: layer(text[None])[0].merge_dims(0, 1))
    assert [as_lists(row) for row in alone] == whole
    dense = next(iter(data.batch(10).map(lambda batch: layer(batch)[0].to_tensor())))
    assert dense.dtype == "int32"


def test_saves_with_a_model_and_loads_without_the_file(tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(SMALL) + "\n", encoding="utf-8")
    inputs = keras.Input((), dtype="string")
    layer = BertTokenizer(file, True, tokenize_with_offsets=True)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    file.unlink()
    expected = [as_lists(part) for part in layer(["Unaffable ΟΔΟΣ 각", ""])]
    texts = tf.constant(["Unaffable ΟΔΟΣ 각", ""])
    assert [as_lists(part) for part in keras.saving.load_model(tmp_path / "model.keras")(texts)] == expected
    exported = tf.saved_model.load(tmp_path / "exported").serve(texts)
    assert [as_lists(part) for part in tf.nest.flatten(exported)] == expected
    assert BertTokenizer.from_config(layer.get_config()).vocabulary == layer.vocabulary == tuple(SMALL)


def test_the_file_may_end_with_or_without_a_newline_and_have_those_of_windows(tmp_path):
    for end, last in product(("\n", "\r\n"), (True, False)):
        file = tmp_path / "vocab.txt"
        file.write_bytes((end.join(SMALL) + end * last).encode())
        assert BertTokenizer(str(file), True).vocabulary == tuple(SMALL)


def test_sizes_dtypes_and_special_tokens(layers):
    layer = layers[True]
    assert layer.vocab_size == 30522
    assert layer.get_special_tokens_dict() == {
        **{"start_of_sequence_id": 101, "end_of_segment_id": 102, "padding_id": 0, "mask_id": 103, "vocab_size": 30522}
    }
    assert BertTokenizer(["[UNK]", "[SEP]"], True).get_special_tokens_dict() == {"end_of_segment_id": 1, "vocab_size": 2}
    assert [part.dtype for part in layer(["a"])] == ["int32", "int64", "int64"]
    plain = BertTokenizer(SMALL, True)
    assert plain(["a"]).dtype == "int32" and plain(keras.Input((), dtype="string")).shape == (None, None, None)
    assert plain(np.array([], object)).shape[0] == 0 and as_lists(plain(["", "\0"])) == [[], []]


def test_ids_do_not_depend_on_whether_offsets_are_asked_for(layers, vocabulary):
    assert_array_equal(BertTokenizer(list(vocabulary), True)(HARD).flat_values, layers[True](HARD)[0].flat_values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BertTokenizer(["a"], True), "vocab_file must contain [UNK], and no empty or .* Received: no [UNK]"),
        (lambda: BertTokenizer(["[UNK]", "a", "a"], True), "Received: 'a' twice"),
        (lambda: BertTokenizer(["[UNK]", ""], True), "Received: an empty piece"),
        (lambda: BertTokenizer(SMALL, True, max_input_chars_per_word=0), "max_input_chars_per_word must be .* Received: .*0"),
        (lambda: BertTokenizer(SMALL, "no"), "lower_case must be True or False. Received: lower_case='no'"),
        (lambda: BertTokenizer(SMALL, True, 1), "tokenize_with_offsets must be True or False. Received: tokenize_with_offsets=1"),
        (lambda: BertTokenizer(SMALL, True)([["a"]]), "inputs must have 1 axis. Received: inputs of shape (1, 1)"),
        (lambda: BertTokenizer(SMALL, True)("a"), "inputs must have 1 axis. Received: inputs of shape ()"),
        (lambda: BertTokenizer(SMALL, True)(np.array([1])), "inputs must be strings. Received: inputs of dtype int64"),
        (lambda: BertTokenizer(SMALL, True)(keras.Input((3,), dtype="string")), "inputs must have 1 axis"),
        (lambda: BertTokenizer(SMALL, True)(keras.Input((), dtype="int32")), "inputs must be strings"),
    ],
)
def test_what_is_wrong_is_said(make, message):
    with pytest.raises(
        ValueError, match=message.replace("[UNK]", r"\[UNK\]").replace("(1, 1)", r"\(1, 1\)").replace("()", r"\(\)")
    ):
        make()


def test_a_missing_file_and_a_missing_package_are_named(monkeypatch):
    with pytest.raises(FileNotFoundError, match="nothing.txt"):
        BertTokenizer("nothing.txt", True)
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(ImportError, match="tensorflow-text.*reference.bert_tokenizer"):
        BertTokenizer(SMALL, True)


def test_on_jax_it_is_a_function_on_tensorflows_tensors():
    program = (
        "import keras, tensorflow as tf; from layers.bert_tokenizer import BertTokenizer;"
        "assert keras.backend.backend() == 'jax';"
        "layer = BertTokenizer(['[UNK]', 'un', '##able'], True);"
        "data = tf.data.Dataset.from_tensor_slices(['Unable x', 'un']).batch(2).map(layer);"
        "print(layer(['Unable x', 'un']).to_list() == [[[1, 2], [0]], [[1]]] == next(iter(data)).to_list())"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == "True", ran.stderr[-2000:]
