"""Sizes at which attention is easily wrong: no queries, no keys, and sizes that only a graph does not know."""

import keras
import numpy as np
import pytest

import layers

KINDS = {
    "MultiHeadAttention": {},
    "GroupedQueryAttention": {"num_kv_heads": 2},
    "TalkingHeadsAttention": {},
    "ReuseMultiHeadAttention": {},
    "CachedAttention": {},
    "MultiHeadRelativeAttention": {},
    "KernelAttention": {"feature_transform": "elu"},
}


def call(name, *sides, **options):
    layer = getattr(layers, name)(num_heads=4, key_dim=3, **KINDS[name])
    biases = (None, None) if name == "MultiHeadRelativeAttention" else ()
    outputs = layer(*sides, *biases, **options)
    return outputs if isinstance(outputs, (tuple, list)) else [outputs]


@pytest.mark.parametrize("name", KINDS)
def test_no_queries_and_no_keys_are_sequences_too(name):
    for t, s in ((0, 5), (5, 0), (0, 0)):
        output = call(name, np.ones((2, t, 8), "float32"), np.ones((2, s, 8), "float32"))[0]
        assert tuple(output.shape) == (2, t, 8)
        assert np.isfinite(output).all()


@pytest.mark.parametrize("name", [name for name in KINDS if name != "KernelAttention"])
def test_a_known_length_is_known_in_the_symbolic_weights(name):
    for t, s in ((21, 17), (None, 17), (21, None)):
        weights = call(name, keras.Input((t, 8)), keras.Input((s, 8)), return_attention_scores=True)[1]
        assert weights.shape == (None, 4, t, s)
    keras.layers.Dense(2)(call(name, keras.Input((21, 8)), keras.Input((17, 8)), return_attention_scores=True)[1])


def test_blocks_of_a_known_length_are_counted_in_a_graph():
    masks = layers.BigBirdMasks(block_size=2)(keras.Input((15, 8)), keras.Input((15,)))
    assert [mask.shape for mask in masks] == [(None, 1, 4, 2, 6), (None, 1, 15, 1), (None, 1, 1, 15), (None, 8, 2)]
