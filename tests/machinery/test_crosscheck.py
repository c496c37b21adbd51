"""The bridge itself: it reads the right weights, and it sees what is wrong."""

from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
import pytest
from jaxtyping import Float
from numpy import ndarray as Array
from numpy.testing import assert_array_equal

from crosscheck.agreement import agreement, compiled_error, gradient_error, largest_error
from crosscheck.case import COMPILED_TOLERANCE, GRADIENT_TOLERANCE, TOLERANCE, Case, arguments
from crosscheck.catalogue import PARTS, Chapter, chapters, find_cases
from crosscheck.tree import Ragged, as_lists, leaves, numbers
from crosscheck.weights import weights_of
from layers.attention import MultiHeadAttention
from reference.common.projection import Projection


class Blocks(NamedTuple):
    block: tuple[Projection, ...]
    first: Projection | None
    gate: tuple[Projection, ...] | None
    scale: Float[Array, " m"]


class Nested(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")
        self.blocks = [keras.layers.Dense(3, name=f"block_{i}") for i in range(2)]
        for block in self.blocks:
            block.build(shape)

    def call(self, x):
        return self.blocks[0](x) + self.blocks[1](x) * self.scale[0]


@pytest.fixture
def nested():
    layer = Nested()
    layer(np.ones((2, 5)))
    return layer


def test_weights_are_found_by_name_in_blocks_and_lists_of_blocks(nested):
    weights = weights_of(nested, Blocks)
    assert_array_equal(weights.block[1].kernel, nested.blocks[1].kernel)
    assert weights.first is None and weights.gate is None
    assert weights.scale.dtype == "float64"


def test_a_list_of_blocks_that_may_be_missing_is_read_where_it_is_there(nested):
    hints = Blocks.__annotations__ | {"block": tuple[Projection, ...] | None}
    assert_array_equal(weights_of(nested, NamedTuple("Perhaps", hints.items())).block[1].kernel, nested.blocks[1].kernel)


@pytest.mark.parametrize("missing", ["scale", "block"])
def test_a_weight_that_the_reference_leaves_out_is_an_error(nested, missing):
    hints = {name: hint for name, hint in Blocks.__annotations__.items() if name != missing}
    with pytest.raises(KeyError, match=f"leaves out .*{missing}"):
        weights_of(nested, NamedTuple("Fewer", hints.items()))


def test_a_weight_that_the_layer_lacks_is_an_error(nested):
    with pytest.raises(KeyError, match="the layer has no .*/shift"):
        weights_of(nested, NamedTuple("More", [*Blocks.__annotations__.items(), ("shift", Float[Array, " m"])]))
    with pytest.raises(KeyError, match="the layer has no .*/part_0"):
        weights_of(nested, NamedTuple("More", [*Blocks.__annotations__.items(), ("part", tuple[Projection, ...])]))


def test_leaves_are_named_by_where_they_stand():
    assert leaves((1, {"k": 2, "a": None}, [3])) == {"output[0]": 1, "output[1].k": 2, "output[2][0]": 3}
    assert leaves(None) == {}


def test_errors_are_relative_and_a_nan_is_infinite():
    assert largest_error(np.array([9.0, 4.0]), np.array([10.0, 4.0])) == pytest.approx(0.1)
    assert largest_error((np.array([1.0]), np.array([1])), (np.array([1.0]), np.array([2]))) == pytest.approx(0.5)
    assert largest_error(np.array([np.nan]), np.array([1.0])) == np.inf
    assert largest_error(np.array([np.inf]), np.array([1.0])) == np.inf
    assert largest_error(np.array([1e-3]), np.array([0.0])) == 1e-3
    assert largest_error(np.array(["a"]), np.array(["b"])) == np.inf


def test_outputs_of_other_shapes_are_not_compared():
    with pytest.raises(ValueError, match=r"expected leaves {'output': \(2, 1\)}. Received: {'output': \(2,\)}"):
        largest_error(np.ones(2), np.ones((2, 1)))


class FaultyAttention(MultiHeadAttention):
    """Right when run step by step without a gradient, wrong as its fault says otherwise."""

    fault = "value"

    def attend(self, q, k, v, mask, training, bias=None):
        heads, weights = super().attend(q, k, v, mask, training, bias)
        if self.fault == "value":
            return heads * 1.0001, weights
        return keras.ops.stop_gradient(heads), weights


@pytest.mark.parametrize(("fault", "seen_by"), [("value", agreement), ("gradient", gradient_error)])
def test_a_faulty_layer_is_out_of_tolerance(fault, seen_by):
    (case,) = find_cases(["attention/cross"])
    kind = type("Faulty", (FaultyAttention,), {"fault": fault})
    faulty = replace(case, layer=lambda dtype: kind(num_heads=4, key_dim=7, value_dim=13, dtype=dtype))
    limit = TOLERANCE["float64"] if seen_by is agreement else GRADIENT_TOLERANCE
    assert seen_by(case) < limit < seen_by(faulty)


class ChangedByCompiler(keras.layers.Layer):
    def call(self, x):
        eager = keras.ops.is_tensor(x) and hasattr(x, "numpy")
        return x * (1.0 if eager else 1.001)


class Nothing(NamedTuple):
    pass


def test_what_the_compiler_changes_is_out_of_tolerance():
    def x(rng):
        return {"x": rng.normal(size=(2, 3))}

    assert compiled_error(Case("chapter/compiled", ChangedByCompiler, x, Nothing, lambda weights, x: x)) > COMPILED_TOLERANCE


class Letters(keras.layers.Layer):
    """Sentences to words to letters, as ragged text, and the number of letters of each word."""

    def call(self, text):
        import tensorflow as tf

        letters = tf.strings.unicode_split(tf.strings.split(text), "UTF-8")
        return letters, letters.row_lengths(axis=2)


def letters_of(weights, text):
    words = [[list(word) for word in sentence.split()] for sentence in text]
    return Ragged(words, 3, "object"), Ragged([list(map(len, sentence)) for sentence in words], 2)


def texts(rng):
    return {"text": np.array(["né ab\0", "", " \n", "xyz"], object)}


def test_text_and_ragged_outputs_are_compared():
    case = Case("chapter/letters", Letters, texts, Nothing, letters_of, batch=4)
    assert agreement(case) == 0.0
    whole = numbers(letters_of(Nothing(), **texts(None)))
    assert whole["output[0].values"].tolist() == ["n", "é", "a", "b", "\0", "x", "y", "z"]
    assert whole["output[0].row_splits[0]"].tolist() == [0, 2, 2, 2, 3]
    assert whole["output[0].row_splits[1]"].tolist() == [0, 2, 5, 8] and whole["output[1].values"].tolist() == [2, 3, 3]


@pytest.mark.parametrize("wrong", ["né ab", "n éab\0", "ne ab\0"])
def test_another_letter_and_a_word_that_ends_elsewhere_are_out_of_tolerance(wrong):
    case = Case("chapter/letters", Letters, texts, Nothing, lambda weights, text: letters_of(weights, [wrong, *text[1:]]))
    try:
        assert agreement(case) > TOLERANCE["float64"]
    except ValueError as error:
        assert "expected leaves" in str(error)


def test_ragged_arguments_become_ragged_tensors_and_back():
    rows = Ragged([[[1], [2, 3]], [], [[]]], 3)
    tensor = arguments({"rows": rows, "none": None}, "float64")["rows"]
    assert (
        as_lists(tensor) == as_lists(rows) == rows.rows == tensor.to_list() and tensor.shape.rank == 3 and tensor.dtype == "int32"
    )
    assert largest_error({"x": tensor, "y": tensor[1:2]}, {"x": rows, "y": rows[1:2]}) == 0.0
    assert numbers(Ragged([[], []], 3))["output.row_splits[1]"].tolist() == [0]


def test_biases_and_scales_are_moved_off_their_constant_start():
    layer, _ = find_cases(["attention/cross"])[0].make()
    assert all(np.ptp(np.asarray(variable)) > 0 for variable in layer.trainable_variables)


def test_the_same_seed_gives_the_same_numbers():
    case = find_cases(["attention/masked"])[0]
    (one, inputs), (other, same), (_, others) = case.make(), case.make(), case.make(seed=1)
    for a, b in zip(one.get_weights(), other.get_weights()):
        assert_array_equal(a, b)
    assert_array_equal(inputs["query"], same["query"])
    assert (inputs["query"] != others["query"]).all()


def test_skips_name_checks_and_chapters_name_parts():
    case = find_cases(["attention/cross"])[0]
    with pytest.raises(ValueError, match=r"skips must be among .* Received: \['speed'\]"):
        replace(case, skips={"speed": "because"})
    with pytest.raises(ValueError, match="part must be one of .* Received: part='Rest'"):
        replace(chapters()[0], part="Rest")
    with pytest.raises(ValueError, match="case names must start with other/"):
        Chapter(9, "other", "", PARTS[0], "", "", "", (), (), (case,))


def test_cases_are_found_by_chapter_and_by_name_and_each_once():
    names = [case.name for case in find_cases(["attention/cross", "attention"])]
    assert names[0] == "attention/cross" and len(set(names)) == len(names) > 3


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(KeyError, match="no chapter or case is called 'atention'. The nearest: attention"):
        find_cases(["atention"])
