"""Numbers that stand for −∞ in additive masks, given as a bias or as scores: they allow nothing, and make no NaN. For JAX too."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from biased_layers import KINDS
from numpy.testing import assert_array_equal

import layers
from reference.masked_softmax import masked_softmax

B, T, M, H = 3, 4, 8, 2
LOWEST = [
    *(("float32", low) for low in (np.finfo("float32").min, -1e30, -1e9, -np.inf)),
    ("mixed_float16", -1e9),
    ("mixed_bfloat16", np.finfo("float32").min),
    ("float64", np.finfo("float64").min),
]
BLOCKS = {
    "TransformerEncoderBlock": {"inner_activation": "relu"},
    "ReZeroTransformer": {"use_layer_norm": True},
    "ReuseTransformer": {"inner_activation": "relu"},
}


def array(x):
    return np.asarray(keras.ops.cast(x, "float64"))


def biases(low):
    """(a bias that is low at what the mask allows, everywhere, at some of what it allows)."""
    allowed, everywhere, some = (np.zeros((1, 1, T, T)) for _ in range(3))
    allowed[..., :2] = everywhere[...] = some[..., :1] = low
    return allowed, everywhere, some


def check_weights(name, dtype, low, rng):
    """The mask allows keys 0 and 1."""
    x, mask = rng.normal(size=(B, T, M)), np.broadcast_to(np.arange(T) < 2, (B, T, T))
    layer = getattr(layers, name)(H, 4, dtype=dtype, **KINDS[name])
    talking = name == "TalkingHeadsAttention"
    layer(x, x)
    if talking:  # so that its weights are those of each head
        layer.pre_softmax_weight.assign(np.eye(H))
        layer.post_softmax_weight.assign(np.eye(H))
    allowed, everywhere, some = biases(low)
    for bias, expected in ((allowed, [0.5, 0.5, 0, 0]), (everywhere, [0.5, 0.5, 0, 0]), (some, [0, 1, 0, 0])):
        for m, b in ((mask, bias), (mask & (np.arange(B) > 0)[:, None, None], bias)):
            output, weights = layer(x, x, attention_mask=m, attention_bias=b, return_attention_scores=True)[:2]
            assert weights.dtype == layer.compute_dtype
            assert_array_equal(array(weights)[1], np.broadcast_to(expected, (H, T, T)), err_msg=f"{name} {dtype} {low}")
            assert np.isfinite(array(weights)).all() and np.isfinite(array(output)).all()
            assert array(weights)[0].any() == m[0].any()
    weights = layer(x, x, attention_bias=everywhere, return_attention_scores=True)[1]
    assert_array_equal(array(weights), np.full((B, H, T, T), 1 / T))


def check_block(name, dtype, low, rng):
    x = rng.normal(size=(B, T, M))
    mask = np.broadcast_to(np.arange(T) < 2, (B, T, T))
    block = getattr(layers, name)(H, 6, dtype=dtype, **BLOCKS[name])
    for bias in biases(low):
        output = keras.tree.flatten(block([x, mask], attention_bias=bias))[0]
        assert np.isfinite(array(output)).all(), (name, dtype, low)


def check_softmax():
    for dtype, low in (("float32", np.finfo("float32").min), ("float64", np.finfo("float64").min), ("float16", -65504.0)):
        x, mask = np.array([[low, low, 1.0], [low, 2.0, 2.0]], dtype), np.array([[1, 1, 0], [1, 1, 1]])
        expected = masked_softmax(x.astype("float64"), mask != 0)
        for axes in (-1, [1]):
            assert_array_equal(array(layers.MaskedSoftmax(normalization_axes=axes, dtype=dtype)(x, mask)), expected)


def check_all(kinds, blocks, lowest):
    rng = np.random.default_rng(0)
    for dtype, low in lowest:
        for name in kinds:
            check_weights(name, dtype, low, rng)
    for name in blocks:
        check_block(name, "mixed_float16", -1e9, rng)
    check_softmax()


@pytest.mark.filterwarnings("ignore")
def test_what_a_mask_forbids_has_no_weight_however_low_the_rest_is():
    check_all(KINDS, BLOCKS, LOWEST)


@pytest.mark.slow
def test_the_same_holds_on_jax():
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]


if __name__ == "__main__":
    check_all(["MultiHeadAttention"], [], [LOWEST[0], ("mixed_float16", -1e9)])  # all share what differs on JAX
