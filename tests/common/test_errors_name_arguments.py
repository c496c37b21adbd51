"""What is no tensor where a tensor is expected, and axes that there are not: errors that name the argument, on each layer."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_argument_types import CLASSES, make

import layers
from layers.common.output_shapes import TENSORS

X = np.ones((2, 4, 8), "float32")
IDS = np.ones((2, 4), "int32")
BERT = {"input_word_ids": IDS, "input_mask": IDS, "input_type_ids": None}
CASES = {
    "relative_position_encoding must be a tensor. Received: relative_position_encoding=None": (
        lambda: layers.TransformerXL(9, 1, 8, 2, 4, 8, 0.0, 0.0, "zeros")(X, None)
    ),
    "value must be a tensor. Received: value=None": lambda: layers.MultiHeadAttention(2, 4)(X, None),
    "inputs must be a tensor. Received: inputs=None": lambda: layers.TransformerEncoderBlock(2, 8, "relu")(None),
    "inputs must start with x, a tensor": lambda: layers.ReZeroTransformer(2, 8, "relu")([None, np.ones((2, 4, 4))]),
    "input_type_ids must be a tensor. Received: input_type_ids=None": lambda: layers.BertEncoder(9, 8, 1, 2, inner_dim=8)(BERT),
    "attention_axes must be an axis, .* Received: attention_axes='x'": (
        lambda: layers.TransformerEncoderBlock(2, 8, "relu", attention_axes="x")(X)
    ),
    "attention_axes must be an axis, .* Received: attention_axes=1.5": lambda: layers.MultiHeadAttention(
        2, 4, attention_axes=1.5
    ),
    "scores must be floats. Received: scores of dtype int": lambda: layers.MaskedSoftmax()(IDS, IDS),
    "normalization_axes must be an axis": lambda: layers.MaskedSoftmax(normalization_axes="x"),
    "mask_expansion_axes must be an axis": lambda: layers.MaskedSoftmax(mask_expansion_axes=1.5),
    "normalization_axes must be different axes of scores.* Received: normalization_axes=7": (
        lambda: layers.MaskedSoftmax(normalization_axes=7)(X)
    ),
    "normalization_axes must be different axes .*Received: normalization_axes=.-1, 2.": (
        lambda: layers.MaskedSoftmax(normalization_axes=[-1, 2])(X)
    ),
    "layer must be a Keras layer. Received: layer=None": lambda: layers.SpectralNormalization(None),
    "inputs must be a dense tensor. Received: a RaggedTensor": (
        lambda: layers.OnDeviceEmbedding(9, 4)(tf.ragged.constant([[3, 1], [2]]))
    ),
    "inputs must be a dense tensor. Received: a SparseTensor": (
        lambda: layers.OnDeviceEmbedding(9, 4)(tf.sparse.from_dense([[3, 1]]))
    ),
}


@pytest.mark.parametrize("message", CASES)
def test_an_error_names_the_argument_and_what_was_received(message):
    with pytest.raises(ValueError, match=message):
        CASES[message]()


def test_what_is_no_tensor_is_refused_where_one_is_expected_by_every_layer():
    asked = set()
    for name in CLASSES:
        layer = make(name)
        for each in TENSORS & set(inspect.signature(layer.call).parameters):
            asked.add((name, each))
            for value in (1, "a", [[1], [0]]):
                with pytest.raises(ValueError, match=f"{each} must be a tensor. Received: a value of type "):
                    layer(X, **{each: value})
    assert len(asked) >= 20 and {each for _, each in asked} == TENSORS


def test_a_mask_may_be_of_any_array_library():
    x = keras.ops.ones((2, 4, 8))
    layers.MultiHeadAttention(2, 4)(x, x, attention_mask=np.ones((2, 4, 4), bool))
