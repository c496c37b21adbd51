"""Text layers take every form of texts and of ids alike, on both backends, and name what they cannot take."""

import json
import os
import subprocess
import sys
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
import text_forms
from keras.src.trainers.trainer import model_supports_jit
from numpy.testing import assert_array_equal

import layers
from crosscheck.models.sentencepiece import small

pytestmark = pytest.mark.slow

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##able", "a"]
EXPECTED = {
    "BertTokenizer": [[[1, 2], [3]], [], [[3]]],
    "one": [[101, 7, 8, 102, 0, 0, 0, 0], [101, 102, 0, 0, 0, 0, 0, 0], [101, 9, 102, 0, 0, 0, 0, 0]],
    "full": [[101, 7, 8, 102, 0, 0, 0, 0], [101, 9, 7, 102, 0, 0, 0, 0]],
    "two": [[101, 7, 8, 102, 1, 102, 0, 0], [101, 102, 2, 102, 0, 0, 0, 0], [101, 9, 102, 102, 0, 0, 0, 0]],
}
every_backend = pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.further)])
every_tokenizer = pytest.mark.parametrize("tokenizer", ["BertTokenizer", "SentencepieceTokenizer"])


@cache
def found_on_jax():
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, text_forms.__file__]
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.splitlines()[-1])


@cache
def outcomes(backend):
    return text_forms.outcomes() if backend == "tensorflow" else found_on_jax()["outcomes"]


@every_backend
@every_tokenizer
def test_texts_of_every_form_give_the_ids_of_a_tensor(backend, tokenizer):
    found, model = outcomes(backend)[tokenizer], small("unigram")
    expected = (
        EXPECTED.get(tokenizer) or layers.SentencepieceTokenizer(False, model_serialized_proto=model)(text_forms.TEXTS).to_list()
    )
    assert {form: found[form] for form in (*text_forms.FORMS, "tf.data")} == dict.fromkeys(
        (*text_forms.FORMS, "tf.data"), expected
    )
    assert [found[form] for form in text_forms.EMPTY] == [[], [], []]


@every_backend
@every_tokenizer
def test_what_is_no_row_of_texts_is_named(backend, tokenizer):
    found = outcomes(backend)[tokenizer]
    for form in text_forms.WRONG:
        assert isinstance(found[form], str) and "inputs must " in found[form] and "Received: " in found[form], (form, found[form])
    assert "inputs must have a known number of axes; `tf.ensure_shape`" in found["unknown axes"]


@every_backend
@pytest.mark.parametrize("segments", ["one", "full", "two"])
def test_segments_of_every_form_are_packed_alike(backend, segments):
    for form, packed in outcomes(backend)[segments].items():
        assert isinstance(packed, dict) and packed["input_word_ids"] == EXPECTED[segments], (form, packed)


@every_backend
def test_what_is_no_segment_is_named(backend):
    for form, said in outcomes(backend)["unfit"].items():
        assert isinstance(said, str) and "inputs" in said and " must " in said and "Received: " in said, (form, said)


@pytest.mark.further
def test_a_symbolic_input_is_refused_on_jax_with_what_to_do_instead():
    found = outcomes("jax")
    for said in (found["BertTokenizer"]["a symbol"], found["SentencepieceTokenizer"]["a symbol"], found["a symbol"]["of ids"]):
        assert "inputs must be texts or ids, not symbolic, on the jax backend" in said and "Call it in `tf.data`" in said
    found = outcomes("tensorflow")
    assert found["BertTokenizer"]["a symbol"] == found["SentencepieceTokenizer"]["a symbol"] == "symbolic"
    assert found["a symbol"]["of ids"]["input_word_ids"] == "symbolic"


@pytest.mark.further
def test_a_model_of_ones_own_that_packs_says_so_on_jax_before_it_runs():
    """`fit` traces a model, and what it traces are no ids."""
    assert "not symbolic, on the jax backend: BertPackInputs runs TensorFlow's operations" in found_on_jax()["fitted"]


@pytest.mark.further
def test_the_examples_of_the_docstrings_run_on_jax():
    assert found_on_jax()["failed examples"] == 0


def test_fit_compiles_no_model_that_packs_with_xla():
    ids = keras.Input((None,), dtype="int32")
    packed = layers.BertPackInputs(6, 1, 2, 0)(ids)["input_word_ids"]
    model = keras.Model(ids, keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 3)(packed)))
    assert not model_supports_jit(model)
    model.compile("sgd", "mse", jit_compile="auto")
    model.fit(np.array([[5, 6], [7, 8]]), np.ones((2, 3)), verbose=0)


def test_row_splits_as_examples_are_parsed():
    """`tf.io.parse_example` gives splits of 32 bits."""
    features = [
        tf.train.Example(features=tf.train.Features(feature={"ids": tf.train.Feature(int64_list=tf.train.Int64List(value=ids))}))
        for ids in ([7, 8], [9])
    ]
    parsed = tf.io.parse_example([x.SerializeToString() for x in features], {"ids": tf.io.RaggedFeature(tf.int64)})["ids"]
    assert parsed.row_splits.dtype == "int32"
    packed = layers.BertPackInputs(6, 1, 2, 0)
    for inputs in (parsed, [parsed], [parsed, parsed], [parsed, tf.cast(parsed, "int32").with_row_splits_dtype("int64")]):
        wide = [x.with_row_splits_dtype("int64") for x in (inputs if isinstance(inputs, list) else [inputs])]
        assert_array_equal(packed(inputs)["input_word_ids"], packed(wide)["input_word_ids"])


def test_a_vocabulary_is_read_from_an_address_and_without_its_byte_order_mark(tmp_path):
    file = tmp_path / "vocab.txt"
    for mark, end in (("", "\n"), ("\ufeff", "\n"), ("\ufeff", "\r\n")):
        file.write_bytes((mark + end.join(VOCABULARY) + end).encode())
        for place in (str(file), file, f"file://{file}"):
            layer = layers.BertTokenizer(place, True)
            assert layer.vocabulary == tuple(VOCABULARY)
            assert layer.get_special_tokens_dict()["padding_id"] == 0
    assert layers.BertTokenizer(["\ufeff[PAD]", *VOCABULARY[1:]], True).vocabulary == tuple(VOCABULARY)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda path: layers.BertTokenizer(f"file://{path}/no", True),
            FileNotFoundError,
            "vocab_file must be the path of a file",
        ),
        (lambda path: layers.BertTokenizer(path, True), OSError, "vocab_file must be the path of a file that can be read"),
        (lambda path: layers.BertTokenizer("none://x", True), OSError, "vocab_file must be .* 'none://x'"),
        (lambda path: layers.BertTokenizer(7, True), ValueError, "vocab_file must be the path of a file. Received: vocab_file=7"),
        (lambda path: layers.BertTokenizer([b"[UNK]"], True), ValueError, "pieces of type str. Received: a list with b'.UNK.'"),
        (lambda path: layers.BertTokenizer(path / "utf-16", True), ValueError, "vocab_file must be a text in UTF-8"),
        (lambda path: layers.SentencepieceTokenizer(False, f"{path}/no"), FileNotFoundError, "model_file_path must be the path"),
        (lambda path: layers.SentencepieceTokenizer(False, 7), ValueError, "model_file_path must .* Received: model_file_path=7"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(make, kind, message, tmp_path):
    (tmp_path / "utf-16").write_bytes("\n".join(VOCABULARY).encode("utf-16"))
    with pytest.raises(kind, match=message):
        make(tmp_path)


# What is set after construction

TEXT = "Ünable é"


def test_a_flag_that_is_set_later_gives_what_it_gives_in_the_constructor():
    model = {"model_serialized_proto": small("bytes")}
    for name in ("tokenize_with_offsets", "lower_case", "strip_diacritics"):
        later = layers.SentencepieceTokenizer(False, **model)
        setattr(later, name, True)
        at_once = layers.SentencepieceTokenizer(**{"lower_case": False} | model | {name: True})
        for found, expected in zip(tf.nest.flatten(later([TEXT])), tf.nest.flatten(at_once([TEXT]))):
            assert found.to_list() == expected.to_list()
    later = layers.BertTokenizer(VOCABULARY, True)
    later.tokenize_with_offsets = True
    expected = layers.BertTokenizer(VOCABULARY, True, tokenize_with_offsets=True)([TEXT])
    assert [x.to_list() for x in later([TEXT])] == [x.to_list() for x in expected]
    pack = layers.BertPackInputs(4, 1, 2, 0)
    pack.seq_length, pack.truncator = 8, "waterfall"
    expected = layers.BertPackInputs(8, 1, 2, 0, truncator="waterfall")(text_forms.ROWS)
    assert_array_equal(pack(text_forms.ROWS)["input_word_ids"], expected["input_word_ids"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokenize_with_offsets", True, "tokenize_with_offsets must be False with strip_diacritics"),
        ("lower_case", None, "lower_case must be True or False. Received: lower_case=None"),
        ("strip_diacritics", 1, "strip_diacritics must be True or False. Received: strip_diacritics=1"),
    ],
)
def test_a_flag_is_checked_when_it_is_set_later_too(name, value, message):
    """Offsets of stripped text are none of the text that was given."""
    layer = layers.SentencepieceTokenizer(False, model_serialized_proto=small("bytes"), strip_diacritics=True)
    setattr(layer, name, value)
    for inputs in ([TEXT], keras.Input((), dtype="string")):
        with pytest.raises(ValueError, match=message):
            layer(inputs)


def test_options_of_the_other_layers_are_checked_when_they_are_set_later_too():
    tokenizer, pack = layers.BertTokenizer(VOCABULARY, True), layers.BertPackInputs(8, 1, 2, 0)
    tokenizer.tokenize_with_offsets = "no"
    with pytest.raises(ValueError, match="tokenize_with_offsets must be True or False. Received: tokenize_with_offsets='no'"):
        tokenizer([TEXT])
    pack.truncator = "longest"
    with pytest.raises(ValueError, match="truncator must be one of"):
        pack([[7]])
    pack.seq_length = 1
    with pytest.raises(ValueError, match="seq_length must be an integer of at least 2. Received: seq_length=1"):
        pack([[7]])


def test_an_argument_that_was_used_up_in_the_constructor_cannot_be_set_later():
    made = (
        layers.BertTokenizer(VOCABULARY, True),
        layers.SentencepieceTokenizer(False, model_serialized_proto=small("bytes")),
        layers.BertPackInputs(8, 1, 2, 0),
    )
    free = {"tokenize_with_offsets", "strip_diacritics", "seq_length", "truncator"}
    for layer in made:
        own = set(layer.get_config()) - set(keras.layers.Layer().get_config())
        free_here = free | ({"lower_case"} if isinstance(layer, layers.SentencepieceTokenizer) else set())
        assert set(layer.fixed) == own - free_here
        before = layer.get_config()
        for name in layer.fixed:
            with pytest.raises(AttributeError, match=f"{name} cannot be set after {type(layer).__name__} has been made"):
                setattr(layer, name, getattr(layer, name))
        assert layer.get_config() == before
