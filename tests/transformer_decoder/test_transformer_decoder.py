"""The block's definition, a worked number, causality, stepwise decoding, limits; where each argument ends up.

Layer against reference: tests/conformance.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, D, H, S, T
from crosscheck.cases.transformer_decoder import MEMORY, A, F, M
from crosscheck.tree import to_numpy
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.cached_attention import CachedAttention
from layers.multi_channel_attention import MultiChannelAttention
from layers.transformer_decoder import TransformerDecoderBlock
from reference import transformer_decoder as ref
from reference.attention import AttentionWeights
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection
from reference.self_attention_mask import causal_mask
from reference.transformer_encoder import EncoderWeights, transformer_encoder_block

LENGTH, SLOTS = 6, 8
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
both_norms = pytest.mark.parametrize("norm_first", [False, True])


def made(rng, dtype="float64", channels=False, **options):
    options = {"num_attention_heads": H, "multi_channel_cross_attention": channels} | options
    block = TransformerDecoderBlock(intermediate_size=F, intermediate_activation="relu", dtype=dtype, **options)
    block.build([(B, LENGTH, M), (B, A, S, MEMORY) if channels else (B, S, MEMORY)])
    draw_weights(block, rng)
    return block


def x_and_memory(rng, channels=False):
    return rng.normal(size=(B, LENGTH, M)), rng.normal(size=(B, A, S, MEMORY) if channels else (B, S, MEMORY))


def numbers_of(tensor):
    return np.asarray(keras.ops.cast(tensor, "float32"))


def silent(weights):
    """A sublayer that adds nothing."""
    return Projection(np.zeros_like(weights.kernel), np.zeros_like(weights.bias))


def without(weights, *sublayers):
    for name in sublayers:
        part = getattr(weights, name)
        quiet = silent(part) if name == "output" else part._replace(attention_output=silent(part.attention_output))
        weights = weights._replace(**{name: quiet})
    return weights


def test_the_block_is_decode_one_at_every_position(rng):
    w, (x, memory) = weights_of(made(rng), ref.DecoderWeights), x_and_memory(rng)
    output = ref.transformer_decoder_block(x, memory, w).output
    for b, t in np.ndindex(B, LENGTH):
        assert_allclose(output[b, t], ref.decode_one(x[b], memory[b], t, w), rtol=1e-10)


def test_worked_block():
    """m = 2, one head, self-attention and feed-forward silent. Post-norm: (3, 1) is normalized to (1, −1); of a memory of one
    token (4, 0), whose value is itself, cross-attention adds (4, 0), and (5, −1) is normalized to (1, −1), and so again.
    Pre-norm: (3, 1) + (4, 0) = (7, 1)."""
    eye, zero = Projection(np.eye(2).reshape(2, 1, 2), np.zeros((1, 2))), Projection(np.zeros((2, 1, 2)), np.zeros((1, 2)))
    back = Projection(np.eye(2).reshape(1, 2, 2), np.zeros(2))
    plain, flat = LayerNorm(np.ones(2), np.zeros(2)), Projection(np.zeros((2, 2)), np.zeros(2))
    cross = AttentionWeights(zero, zero, eye, back)
    own = cross._replace(attention_output=silent(back))
    w = ref.DecoderWeights(own, plain, cross, plain, flat, flat, plain)
    x, memory = np.array([[[3.0, 1.0]]]), np.array([[[4.0, 0.0]]])
    assert_allclose(ref.transformer_decoder_block(x, memory, w).output, [[[1, -1]]])
    assert_allclose(ref.transformer_decoder_block(x, memory, w, norm_first=True).output, [[[7, 1]]])


def test_without_attention_to_the_memory_a_pre_norm_block_is_a_causal_encoder_block(rng):
    w, (x, memory) = weights_of(made(rng), ref.DecoderWeights), x_and_memory(rng)
    w = without(w, "encdec_attention")
    encoder = EncoderWeights(w.self_attention, w.self_attention_layer_norm, w.intermediate, w.output, w.output_layer_norm)
    expected, _ = transformer_encoder_block(x, encoder, norm_first=True, mask=causal_mask(LENGTH, LENGTH)[None])
    assert_allclose(ref.transformer_decoder_block(x, memory, w, norm_first=True).output, expected, rtol=1e-12)


def test_without_sublayers_a_pre_norm_block_is_the_identity_and_a_post_norm_block_is_three_norms(rng):
    w, (x, memory) = weights_of(made(rng), ref.DecoderWeights), x_and_memory(rng)
    w = without(w, "self_attention", "encdec_attention", "output")
    assert_array_equal(ref.transformer_decoder_block(x, memory, w, norm_first=True).output, x)
    thrice = x
    for norm in (w.self_attention_layer_norm, w.encdec_attention_layer_norm, w.output_layer_norm):
        thrice = layer_norm(thrice, norm)
    assert_allclose(ref.transformer_decoder_block(x, memory, w).output, thrice, rtol=1e-12)


@both_norms
@pytest.mark.parametrize("self_mask", [None, np.ones((B, LENGTH, LENGTH)), np.ones((B, 1, LENGTH)), np.ones((1, 1, 1, 1))])
def test_the_future_changes_nothing_before_it_whatever_the_mask_allows(rng, norm_first, self_mask):
    block, (x, memory) = made(rng, norm_first=norm_first), x_and_memory(rng)
    before, _ = block([x, memory, None, self_mask])
    x[:, 4:] += 1
    after, _ = block([x, memory, None, self_mask])
    assert_array_equal(after[:, :4], before[:, :4])
    assert np.all(np.abs(after - before)[:, 4:].max(axis=-1) > 1e-6)


@both_norms
def test_every_position_reads_the_memory(rng, norm_first):
    block, (x, memory) = made(rng, norm_first=norm_first), x_and_memory(rng)
    before, _ = block([x, memory])
    memory[:, 2] += 1
    after, _ = block([x, memory])
    assert np.all(np.abs(after - before).max(axis=-1) > 1e-6)


@pytest.mark.parametrize("dtype", POLICIES)
@both_norms
def test_masked_tokens_and_memory_have_no_influence_and_empty_rows_are_no_nan(rng, dtype, norm_first):
    block, (x, memory) = made(rng, dtype, norm_first=norm_first), x_and_memory(rng)
    self_mask, cross_mask = np.ones((B, LENGTH, LENGTH), bool), rng.random((B, LENGTH, S)) < 0.6
    self_mask[:, :, 0] = cross_mask[..., 1] = False  # the first token may attend to nothing, not even to itself
    cross_mask[1, 2] = False
    before = numbers_of(block([x, memory, cross_mask, self_mask])[0])
    x[:, 0], memory[:, 1] = 50, 50
    after = numbers_of(block([x, memory, cross_mask, self_mask])[0])
    assert_array_equal(after[:, 1:], before[:, 1:])
    assert np.isfinite(before).all()


def test_masks_of_three_and_four_axes_mean_the_same(rng):
    block, (x, memory) = made(rng), x_and_memory(rng)
    self_mask, cross_mask = rng.random((B, LENGTH, LENGTH)) < 0.6, rng.random((B, LENGTH, S)) < 0.6
    expected, _ = block([x, memory, cross_mask, self_mask])
    found, _ = block([x, memory, np.repeat(cross_mask[:, None], H, axis=1), self_mask[:, None]])
    assert_array_equal(found, expected)


def test_masks_may_be_none_or_left_out(rng):
    block, (x, memory) = made(rng), x_and_memory(rng)
    expected, _ = block([x, memory])
    cross_mask, self_mask = np.ones((B, LENGTH, S)), causal_mask(LENGTH, LENGTH)[None]
    for masks in ([None], [None, None], [cross_mask], [cross_mask, self_mask], [None, self_mask], [cross_mask, None]):
        assert_array_equal(block([x, memory, *masks])[0], expected)


@both_norms
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("slots", [None, SLOTS])
@pytest.mark.parametrize("blocks", [(1,) * 6, (3, 1, 1, 1), (2, 4)])
def test_stepwise_decoding_is_the_parallel_pass(rng, norm_first, channels, slots, blocks):
    block, (x, memory) = made(rng, channels=channels, norm_first=norm_first), x_and_memory(rng, channels)
    mask, w = rng.random((B, A, 1, S) if channels else (B, 1, S)) < 0.7, rng.random((B, H, LENGTH, A))
    expected, _ = block([x, memory, mask, None, w] if channels else [x, memory, mask])
    cache, outputs, start = block.init_cache(B, slots or 0), [], 0
    for size in blocks:
        new, step = slice(start, start + size), None if slots is None else start
        inputs = [x[:, new], memory, mask, None, *([w[:, :, new]] if channels else [])]
        output, cache = block(inputs, cache=cache, decode_loop_step=step)
        outputs.append(output)
        start += size
    assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=1e-10, atol=1e-12)


def test_two_blocks_decode_stepwise_in_one_compiled_step(rng):
    blocks, (x, memory) = [made(rng, norm_first=True) for _ in range(2)], x_and_memory(rng)
    memory = tf.constant(memory)

    @tf.function(jit_compile=True)
    def step(y, caches, t):
        new = []
        for block, cache in zip(blocks, caches):
            y, cache = block([y, memory], cache=cache, decode_loop_step=t)
            new.append(cache)
        return y, new

    caches, outputs = [block.init_cache(B, SLOTS) for block in blocks], []
    for t in range(LENGTH):
        y, caches = step(tf.constant(x[:, t : t + 1]), caches, tf.constant(t))
        outputs.append(y)
    expected = x
    for block in blocks:
        expected, _ = block([expected, memory])
    assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=1e-10, atol=1e-12)


def test_without_a_cache_the_call_returns_one_to_go_on_with(rng):
    block, (x, memory) = made(rng), x_and_memory(rng)
    expected, _ = block([x, memory])
    _, cache = block([x[:, :4], memory])
    output, cache = block([x[:, 4:], memory], cache=cache)
    assert_allclose(output, expected[:, 4:], rtol=1e-10, atol=1e-12)
    assert cache["key"].shape == (B, LENGTH, H, D)


def test_one_channel_of_weight_one_is_a_memory_without_channels(rng):
    many, one = made(rng, channels=True), made(rng)
    many.set_weights(one.get_weights())
    x, memory = x_and_memory(rng)
    mask = rng.random((B, LENGTH, S)) < 0.7
    expected, _ = one([x, memory, mask])
    assert_allclose(many([x, memory[:, None], mask[:, None], None, np.ones((1, 1, 1, 1))])[0], expected, rtol=1e-12)


def test_a_channel_of_weight_zero_has_no_influence(rng):
    block, (x, memory) = made(rng, channels=True), x_and_memory(rng, channels=True)
    w = rng.random((B, H, LENGTH, A))
    w[..., 2] = 0
    before, _ = block([x, memory, None, None, w])
    memory[:, 2] += 5
    assert_array_equal(block([x, memory, None, None, w])[0], before)
    memory[:, 1] += 5
    assert np.any(block([x, memory, None, None, w])[0] != before)


def test_every_weight_is_one_of_the_contract_and_gets_a_gradient(rng):
    block, (x, memory) = made(rng), x_and_memory(rng)
    sublayers = {variable.path.split("/")[1] for variable in block.weights}
    assert sublayers == set(ref.DecoderWeights._fields)
    direction = rng.normal(size=x.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block([x, memory])[0] * direction)
    for variable, slope in zip(block.trainable_variables, tape.gradient(loss, [v.value for v in block.trainable_variables])):
        assert slope is not None, variable.path
        if "key/bias" not in variable.path:  # which shifts all scores of a query alike
            assert np.abs(slope).max() > 1e-8, variable.path
    built = {layer.name for layer in block._flatten_layers(include_self=False, recursive=False)}
    assert {name for name in built if not name.startswith("dropout")} == set(ref.DecoderWeights._fields)


@pytest.mark.parametrize(
    ("rate", "where"),
    [
        ("dropout_rate", ("self_attention_dropout", "encdec_attention_dropout", "output_dropout_layer")),
        ("attention_dropout_rate", ("self_attention.dropout_layer", "encdec_attention.dropout_layer")),
        ("intermediate_dropout", ("inner_dropout_layer",)),
    ],
)
def test_every_dropout_rate_reaches_its_sublayers_and_no_other(rng, rate, where):
    block, (x, memory) = made(rng, **{rate: 0.25}), x_and_memory(rng)
    dropouts = {}
    for name in ("self_attention_dropout", "encdec_attention_dropout", "output_dropout_layer", "inner_dropout_layer"):
        dropouts[name] = getattr(block, name)
    for name in ("self_attention", "encdec_attention"):
        dropouts[f"{name}.dropout_layer"] = getattr(block, name).dropout_layer
    assert {name: layer.rate for name, layer in dropouts.items()} == {name: 0.25 * (name in where) for name in dropouts}
    assert_array_equal(block([x, memory])[0], block([x, memory], training=False)[0])
    for name in where:  # each alone makes training differ
        for other, layer in dropouts.items():
            layer.rate = 0.9 if other == name else 0.0
        assert np.any(block([x, memory], training=True)[0] != block([x, memory])[0]), name


def test_regularisers_and_constraints_reach_every_map(rng):
    options = {"kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l2"}
    block = made(rng, **options, kernel_constraint="non_neg", bias_constraint="max_norm")
    block(list(x_and_memory(rng)))
    assert len(block.losses) == (4 + 4 + 2) * 3
    maps = [v for v in block.trainable_variables if v.path.endswith(("kernel", "bias"))]
    assert len(maps) == 20 and all(variable.constraint is not None for variable in maps)


def test_the_attention_initializer_reaches_both_attentions_and_nothing_else():
    block = TransformerDecoderBlock(H, F, "relu", attention_initializer="ones", kernel_initializer="zeros")
    block.build([(B, T, M), (B, S, MEMORY)])
    for variable in block.weights:
        if variable.path.endswith("kernel"):
            assert np.all(to_numpy(variable) == ("attention" in variable.path)), variable.path


def test_maps_of_the_same_shape_start_different():
    block = TransformerDecoderBlock(H, F, "relu", kernel_initializer=keras.initializers.RandomNormal())
    block.build([(B, T, M), (B, S, M)])
    kernels = [getattr(block, name).query_dense.kernel for name in ("self_attention", "encdec_attention")]
    assert np.all(to_numpy(kernels[0]) != to_numpy(kernels[1]))


@keras.saving.register_keras_serializable(package="tests")
class Loud(MultiHeadAttention):
    def call(self, query, value, **options):
        return 3 * super().call(query, value, **options)


@keras.saving.register_keras_serializable(package="tests")
class Blind(CachedAttention):
    def call(self, query, value, **options):
        output, cache = super().call(query, value, **options)
        return 0 * output, cache


def test_other_attention_classes_are_used_and_saved_by_name(rng, tmp_path):
    block, plain = (
        made(rng, self_attention_cls=Blind, cross_attention_cls="tests>Loud", norm_first=True),
        made(rng, norm_first=True),
    )
    assert type(block.self_attention) is Blind and type(block.encdec_attention) is Loud
    assert block.get_config()["self_attention_cls"] == "tests>Blind"
    x, memory = x_and_memory(rng)
    w = without(weights_of(block, ref.DecoderWeights), "self_attention")
    back = w.encdec_attention.attention_output
    w = w._replace(encdec_attention=w.encdec_attention._replace(attention_output=Projection(3 * back.kernel, 3 * back.bias)))
    assert_allclose(block([x, memory])[0], ref.transformer_decoder_block(x, memory, w, norm_first=True).output, rtol=1e-12)
    assert type(plain.self_attention) is CachedAttention and type(plain.encdec_attention) is MultiHeadAttention
    assert type(made(rng, channels=True).encdec_attention) is MultiChannelAttention

    inputs = [keras.Input((LENGTH, M), dtype="float64"), keras.Input((S, MEMORY), dtype="float64")]
    model = keras.Model(inputs, block(inputs)[0])
    model.save(tmp_path / "model.keras")
    assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")([x, memory]), model([x, memory]))


@pytest.mark.parametrize("name", ["self_attention_cls", "cross_attention_cls"])
@pytest.mark.parametrize("kind", [3, "no such class", int])
def test_what_is_no_class_of_layers_is_rejected(name, kind):
    with pytest.raises(ValueError, match=f"{name} must be a layer class or the registered name of one. Received: {name}="):
        TransformerDecoderBlock(H, F, "relu", **{name: kind})


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("num_attention_heads must be an integer of at least 1. Received: num_attention_heads=0", {"num_attention_heads": 0}),
        ("intermediate_size must be an integer of at least 1", {"intermediate_size": 0}),
        ("dropout_rate must be at least 0 and below 1. Received: dropout_rate=1", {"dropout_rate": 1}),
        ("attention_dropout_rate must be at least 0 and below 1", {"attention_dropout_rate": -0.1}),
        ("intermediate_dropout must be at least 0 and below 1", {"intermediate_dropout": 2}),
        ("intermediate_activation must be a callable or the name", {"intermediate_activation": "no such"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected(message, options):
    with pytest.raises(ValueError, match=message):
        TransformerDecoderBlock(**{"num_attention_heads": H, "intermediate_size": F, "intermediate_activation": "relu"} | options)


PROBS = np.ones((B, H, LENGTH, A))
WRONG_CACHE = {"key": np.ones((B, 1, H, M)), "value": np.ones((B, 1, H, D))}


@pytest.mark.parametrize(
    ("message", "parts", "channels", "call"),
    [
        (r"inputs must be \[x, memory\] or .* Received: a list of 6", {"more": PROBS, "and": PROBS}, False, {}),
        (r"memory must have 3 axes. .*\(2, 6, 5, 11\)", {"memory": np.ones((B, A, S, MEMORY))}, False, {}),
        (r"memory must have 4 axes. .*\(2, 5, 11\)", {"memory": np.ones((B, S, MEMORY)), "probs": PROBS}, True, {}),
        (r"x must have 3 axes", {"x": np.ones((B, 1, LENGTH, M))}, False, {}),
        ("x and memory must have the same batch size. .*x with 2, memory with 3", {"memory": np.ones((3, S, MEMORY))}, False, {}),
        ("input_doc_probs must be given if and only if the memory has channels. Received: NoneType", {}, True, {}),
        ("input_doc_probs must be given .*, multi_channel_cross_attention=False", {"probs": PROBS}, False, {}),
        (r"input_doc_probs must .*\(2, 4, 6, 6\). Received: \(2, 4, 6, 5\)", {"probs": np.ones((B, H, LENGTH, 5))}, True, {}),
        ("input_doc_probs and memory must have the same number of channels", {"probs": np.ones((B, H, LENGTH, 1))}, True, {}),
        ("inputs must start with x, a tensor. Received: inputs.0.=None", {"x": None}, False, {}),
        ("memory must be a tensor. Received: None", {"memory": None}, False, {}),
        (r"cross_mask must .* \(2, 6, 5\). Received: \(2, 5, 6\)", {"cross_mask": np.ones((B, S, LENGTH))}, False, {}),
        (r"cross_mask must .* \(2, 4, 6, 5\). Received: \(2, 3, 6, 5\)", {"cross_mask": np.ones((B, 3, LENGTH, S))}, False, {}),
        (r"cross_mask .* \(2, 6, 6, 5\)", {"cross_mask": np.ones((B, LENGTH, S)), "probs": PROBS}, True, {}),
        (r"self_mask must .* \(2, 6, 6\). Received: \(2, 6, 5\)", {"self_mask": np.ones((B, LENGTH, S))}, False, {}),
        (r"self_mask must .* \(2, 4, 6, 6\)", {"self_mask": np.ones((B, 3, LENGTH, LENGTH))}, False, {}),
        ("decode_loop_step needs a cache", {}, False, {"decode_loop_step": 1}),
        (r'cache\["key"\] must have the shape', {}, False, {"cache": WRONG_CACHE}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(rng, message, parts, channels, call):
    block, (x, memory) = made(rng, channels=channels), x_and_memory(rng, channels)
    parts = {"x": x, "memory": memory, "cross_mask": None, "self_mask": None} | parts
    with pytest.raises(ValueError, match=message):
        block(list(parts.values()), **call)


@pytest.mark.parametrize(("slots", "step", "keys"), [(SLOTS, 0, SLOTS), (4, None, 4 + LENGTH)])
def test_a_mask_that_does_not_fit_the_keys_of_the_cache_is_rejected_by_name(rng, slots, step, keys):
    block, (x, memory) = made(rng), x_and_memory(rng)
    cache, call = block.init_cache(B, slots), {"decode_loop_step": step}
    block([x, memory, None, np.ones((B, 1, keys))], cache=cache, **call)
    for shape, expected in (((B, 1, keys + 1), (B, LENGTH, keys)), ((B, 3, 1, keys), (B, H, LENGTH, keys))):
        message = re.escape(f"self_mask must have a shape that broadcasts to {expected}. Received: {shape}")
        with pytest.raises(ValueError, match=message):
            block([x, memory, None, np.ones(shape)], cache=cache, **call)
    with pytest.raises(ValueError, match='cache must be a dictionary of "key" and "value"'):
        block([x, memory, None, np.ones((B, 1, keys))], cache={"key": cache["key"]}, **call)


@both_norms
@pytest.mark.parametrize("size", [1, M + 1])
def test_another_width_than_it_was_built_for_is_rejected_and_not_spread(rng, norm_first, size):
    block, (_, memory) = made(rng, norm_first=norm_first), x_and_memory(rng)
    with pytest.raises(ValueError, match=rf"expected axis -1 of input shape to have value {M}"):
        block([rng.normal(size=(B, LENGTH, size)), memory])


def test_a_decoder_needs_a_memory(rng):
    with pytest.raises(ValueError, match="memory must be a tensor. Received: None"):
        TransformerDecoderBlock(H, F, "relu")([rng.normal(size=(B, T, M)), None])
    with pytest.raises(ValueError, match=r"inputs must be \[x, memory\] or .* Received: a tensor"):
        made(rng)(rng.normal(size=(B, T, M)))


def test_heads_that_do_not_divide_the_model_are_rejected():
    message = "divisible by num_attention_heads.*Received: a last axis of size 10, num_attention_heads=4"
    with pytest.raises(ValueError, match=message):
        TransformerDecoderBlock(H, F, "relu").build([(B, T, 10), (B, S, 10)])
    message = "the last axis of the inputs must have a known size. Received: a last axis of size None"
    with pytest.raises(ValueError, match=message):
        TransformerDecoderBlock(H, F, "relu").build([(B, T, None), (B, S, 10)])


def test_a_cache_needs_a_built_block():
    with pytest.raises(
        ValueError, match="the block must be built before init_cache: call or build it first. Received: built=False"
    ):
        TransformerDecoderBlock(H, F, "relu").init_cache(B, SLOTS)
