"""Padding that Keras knows of: used as an explicit mask is, without influence on tokens, and handed on. A program, for JAX."""

import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import layers

ROOT = Path(__file__).parents[2]
B, T, S, A, H, M, N = 3, 5, 4, 2, 2, 8, 11
IDS = np.array([[3, 1, 4, 2, 5], [2, 7, 1, 0, 0], [0, 0, 8, 0, 2]])
OTHER = np.array([[6, 2, 9, 1], [7, 1, 0, 0], [0, 3, 0, 5]])
DOCUMENTS = np.array([[[6, 2, 9, 1], [1, 0, 0, 0]], [[7, 1, 0, 0], [0, 0, 0, 0]], [[2, 3, 0, 5], [4, 4, 4, 0]]])
SHARES = np.full((1, H, 1, A), 0.5, "float32")
DISTANCES = np.random.default_rng(0).normal(size=(1, 2 * T, M)).astype("float32")
HEADS = {"num_heads": H, "key_dim": 3}


def pairs(p, r):
    """The attention mask of queries `p`, `(b, t)`, and keys `r`, `(b, s)`."""
    return p[:, :, None] & r[:, None, :]


def attention(name, **options):
    """(the layer, its call on tensors with a Keras mask, its call on tensors without one and with their masks)."""
    return (
        lambda: getattr(layers, name)(**HEADS, **options),
        lambda layer, x, y: layer(x, y),
        lambda layer, x, y, p, r: layer(x, y, attention_mask=pairs(p, r)),
    )


def block(name, **options):
    return (
        lambda: getattr(layers, name)(H, 6, **options),
        lambda layer, x, y: layer(x),
        lambda layer, x, y, p, r: layer([x, pairs(p, p)]),
    )


def two_streams(layer, x, y, **masks):
    return layer(x, None, None, query_stream=keras.ops.zeros_like(x) + DISTANCES[:, :T], **ROWS, **masks)


ROWS = {"relative_position_encoding": DISTANCES}
BIAS = np.ones((H, 4), "float32")
XL = (100, M, H, 4, 6, 0.0, 0.0)
KINDS = {
    "MultiHeadAttention": attention("MultiHeadAttention"),
    "GroupedQueryAttention": attention("GroupedQueryAttention", num_kv_heads=1),
    "TalkingHeadsAttention": attention("TalkingHeadsAttention"),
    "ReuseMultiHeadAttention": attention("ReuseMultiHeadAttention"),
    "CachedAttention": attention("CachedAttention"),
    "KernelAttention": (
        lambda: layers.KernelAttention("elu", **HEADS),
        lambda layer, x, y: layer(x, y),
        lambda layer, x, y, p, r: layer(x, y, attention_mask=r),
    ),
    "BigBirdAttention": (
        lambda: layers.BigBirdAttention(0, 1, 1, **HEADS),
        lambda layer, x, y: layer(x, x),
        lambda layer, x, y, p, r: layer(x, x, attention_mask=p),
    ),
    "MultiHeadRelativeAttention": (
        lambda: layers.MultiHeadRelativeAttention(**HEADS),
        lambda layer, x, y: layer(x, y, None, None),
        lambda layer, x, y, p, r: layer(x, y, None, None, attention_mask=pairs(p, r)),
    ),
    "TwoStreamRelativeAttention": (
        lambda: layers.TwoStreamRelativeAttention(**HEADS),
        two_streams,
        lambda layer, x, y, p, r: two_streams(
            layer, x, y, content_attention_mask=pairs(p, p), query_attention_mask=pairs(p | True, p)
        ),
    ),
    "MultiChannelAttention": (
        lambda: layers.MultiChannelAttention(**HEADS),
        lambda layer, x, y: layer(x, y, context_attention_weights=SHARES),
        lambda layer, x, y, p, r: layer(
            x, y, context_attention_weights=SHARES, attention_mask=p[:, None, :, None] & r[:, :, None, :]
        ),
    ),
    "VotingAttention": (
        lambda: layers.VotingAttention(H, 3),
        lambda layer, x, y: layer(y),
        lambda layer, x, y, p, r: layer(y, doc_attention_mask=r.any(-1)),
    ),
    "TransformerEncoderBlock": block("TransformerEncoderBlock", inner_activation="relu"),
    "Transformer": block("Transformer", intermediate_activation="relu", norm_first=True, use_rms_norm=True, num_kv_heads=1),
    "ReZeroTransformer": block("ReZeroTransformer", use_layer_norm=True),
    "ReuseTransformer": block("ReuseTransformer", inner_activation="relu"),
    "MobileBertTransformer": (
        lambda: layers.MobileBertTransformer(M, H, 6, intra_bottleneck_size=4, initializer="glorot_uniform"),
        lambda layer, x, y: layer(x),
        lambda layer, x, y, p, r: layer(x, attention_mask=pairs(p, p)),
    ),
    "TransformerDecoderBlock": (
        lambda: layers.TransformerDecoderBlock(H, 6, "relu"),
        lambda layer, x, y: layer([x, y]),
        lambda layer, x, y, p, r: layer([x, y, pairs(p, r), pairs(p, p)]),
    ),
    "TransformerXLBlock": (
        lambda: layers.TransformerXLBlock(*XL),
        lambda layer, x, y: layer(x, BIAS, BIAS, **ROWS),
        lambda layer, x, y, p, r: layer(x, BIAS, BIAS, **ROWS, content_attention_mask=pairs(p, p)),
    ),
    "TransformerXL": (
        lambda: layers.TransformerXL(100, 2, M, H, 4, 6, 0.0, 0.0, "glorot_uniform", memory_length=3),
        lambda layer, x, y: layer(x, DISTANCES),
        lambda layer, x, y, p, r: layer(x, DISTANCES, content_attention_mask=pairs(p, p)),
    ),
}
NO_ATTENTION = {
    "BertEncoder": "takes padding as the required input_mask",
    "BertPackInputs": "takes text",
    "BertTokenizer": "takes text",
    "BigBirdMasks": "makes masks from a required mask",
    "ClassificationHead": "reads one token",
    "GatedFeedforward": "tokens do not interact",
    "GaussianProcessClassificationHead": "reads one token",
    "MaskedLM": "reads the requested tokens",
    **dict.fromkeys(("MaskedLMMaskGenerator", "OnDeviceEmbedding"), "takes ids"),
    "MaskedSoftmax": "takes scores, and their mask",
    "MatMulWithMargin": "takes vectors of sequences",
    "MobileBertEmbedding": "takes ids, and padding as input_mask",
    "RandomFeatureGaussianProcess": "takes vectors of sequences",
    **dict.fromkeys(("PositionalEmbedding", "RelativePositionEmbedding"), "reads the length alone"),
    **dict.fromkeys(("RelativePositionBias", "RelativePositionEncoding"), "reads lengths alone"),
    "SelfAttentionMask": "makes a mask from a required mask",
    "SentenceEmbedding": "takes padding as the required input_mask",
    "SentencepieceTokenizer": "takes text",
    "SpectralNormalization": "hands masks to the layer that it wraps",
    "TransformerDecoder": "takes ids; no token attends to the padding after it",
}


def first(outputs):
    """The first tensor of `outputs`, which may be a tensor, a tuple or a dict."""
    return keras.tree.flatten(outputs)[0]


def embedded(name, rng):
    """(the table, the ids of x and y, their masks): y are documents for layers with channels."""
    others = DOCUMENTS if name in ("MultiChannelAttention", "VotingAttention") else OTHER
    return rng.normal(size=(N, M)).astype("float32"), (IDS, others), (IDS != 0, others != 0)


def check_padding(name):
    """Raise an AssertionError unless the layer uses the masks of its inputs in a functional model, and hands one on."""
    make, implicit, explicit = KINDS[name]
    table, (ids, others), (p, r) = embedded(name, np.random.default_rng(1))
    layer, embedding = make(), keras.layers.Embedding(N, M, mask_zero=True)
    a, b = (keras.Input(x.shape[1:], dtype="int32") for x in (ids, others))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = first(implicit(layer, embedding(a), embedding(b)))
        pools = len(output.shape) == 3
        pooled = keras.layers.GlobalAveragePooling1D()(output) if pools else output
        model = keras.Model([a, b], [output, pooled])
        embedding.set_weights([table])
        found, mean = (np.asarray(tensor) for tensor in model([ids, others]))
        assert_allclose(found, first(explicit(layer, table[ids], table[others], p, r)), atol=2e-5, err_msg="explicit mask")
        eager = first(implicit(layer, embedding(ids), embedding(others)))
        assert_allclose(eager, found, atol=2e-5, err_msg="eager")
    handed_on = r.any(-1) if name == "VotingAttention" else p
    if pools:
        assert_allclose(mean, (found * p[..., None]).sum(1) / p.sum(1, keepdims=True), atol=2e-5, err_msg="mask handed on")
    # At padding, any number may stand.
    embedding.set_weights([np.where(np.arange(N)[:, None] == 0, 9.0, table)])
    changed = np.asarray(model([ids, others])[0])
    assert_allclose(changed[handed_on], found[handed_on], atol=2e-5, err_msg="influence of padding")


@pytest.mark.parametrize("name", KINDS)
def test_a_padding_mask_counts_as_an_explicit_one_and_is_handed_on(name):
    check_padding(name)


@pytest.mark.further
def test_padding_counts_on_jax_too():
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    program = subprocess.run(
        [sys.executable, "-m", "tests.conformance.test_padding_masks"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert program.stdout.split() == list(KINDS), program.stderr[-2000:]


def test_every_layer_uses_padding_or_says_why_not():
    public = {name for name in layers.__all__ if issubclass(getattr(layers, name), keras.layers.Layer)}
    assert public == {*KINDS, *NO_ATTENTION}


def test_docstrings_say_where_padding_comes_from():
    for name in KINDS:
        arguments = inspect.signature(getattr(layers, name).call).parameters
        for argument in {"query_mask", "value_mask", "key_mask", "mask", "inputs_mask", "content_stream_mask"} & {*arguments}:
            assert argument in getattr(layers, name).__doc__, (name, argument)


def test_an_explicit_mask_and_a_padding_mask_both_hold():
    rng = np.random.default_rng(2)
    x, p = keras.layers.Embedding(N, M, mask_zero=True)(IDS), IDS != 0
    given = rng.random((B, T, T)) < 0.7
    plain = keras.ops.convert_to_tensor(np.asarray(x))
    layer, block = layers.MultiHeadAttention(**HEADS), layers.TransformerEncoderBlock(H, 6, "relu")
    both = given & pairs(p, p)
    expected = layer(plain, plain, attention_mask=both)
    assert_allclose(layer(query=x, value=x, key=x, attention_mask=given), expected, atol=1e-6)
    assert_allclose(layer(plain, plain, attention_mask=given, query_mask=p, value_mask=p), expected, atol=1e-6)
    assert_allclose(block([x, given]), block([plain, both]), atol=1e-6)
    assert_allclose(block([x, x, given]), block([plain, plain, both]), atol=1e-6)


def test_the_first_positions_carry_the_mask_of_the_first_positions():
    ids = keras.Input((None,), dtype="int32")
    for kind in (layers.TransformerEncoderBlock, layers.ReZeroTransformer, layers.ReuseTransformer):
        for options, call in (({"output_range": 3}, {}), ({}, {"output_range": 3})):
            output = first(kind(H, 6, "relu", **options)(keras.layers.Embedding(N, M, mask_zero=True)(ids), **call))
            model = keras.Model(ids, [output, keras.layers.GlobalAveragePooling1D()(output)])
            found, mean = (np.asarray(tensor) for tensor in model(IDS))
            p = IDS[:, :3] != 0
            assert_allclose(mean, (found * p[..., None]).sum(1) / p.sum(1, keepdims=True), atol=1e-6)


def test_the_padding_of_new_tokens_counts_in_their_slots():
    x, p = keras.layers.Embedding(N, M, mask_zero=True)(IDS), IDS != 0
    plain, layer = keras.ops.convert_to_tensor(np.asarray(x)), layers.CachedAttention(**HEADS)
    layer(plain, plain)
    cache = layer.init_cache(B, 9)
    slots = np.ones((B, 9), bool)
    slots[:, 2 : 2 + T] = p
    for step in (2, keras.ops.convert_to_tensor(2)):
        found = layer(x, x, cache=cache, decode_loop_step=step)[0]
        assert_array_equal(found, layer(plain, plain, cache=cache, decode_loop_step=2, attention_mask=pairs(p, slots))[0])
    longer = np.concatenate([slots | True, p], axis=1)
    assert_array_equal(layer(x, x, cache=cache)[0], layer(plain, plain, cache=cache, attention_mask=pairs(p, longer))[0])


if __name__ == "__main__":
    for kind in KINDS:
        check_padding(kind)
        print(kind, flush=True)
