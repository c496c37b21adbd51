"""The definition, a number worked by hand, decoding in every form against one causal pass.

Layer against reference: tests/conformance.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.agreement import largest_error
from crosscheck.case import B, D, E, H, M, T
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.cached_attention import CachedAttention
from reference import cached_attention as ref
from reference.attention import AttentionWeights, multi_head_attention
from reference.common.projection import Projection
from reference.self_attention_mask import causal_mask

pytestmark = pytest.mark.slow

LENGTH, SLOTS = 6, 8
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def made(rng, dtype="float64", **options):
    layer = CachedAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype, **options)
    layer.build((B, LENGTH, M), (B, LENGTH, M))
    draw_weights(layer, rng)
    return layer


def tokens(rng, length=LENGTH):
    return rng.normal(size=(B, length, M))


def drawn_cache(rng, slots=SLOTS):
    return {"key": rng.normal(size=(B, slots, H, D)), "value": rng.normal(size=(B, slots, H, E))}


def causal_pass(layer, x):
    """What must come out of decoding: `MultiHeadAttention` with the same weights, all tokens at once."""
    parallel = MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, dtype="float64")
    parallel.build(x.shape, x.shape)
    parallel.set_weights(layer.get_weights())
    return np.asarray(parallel(x, x, use_causal_mask=True))


def decode(layer, x, blocks, slots=None, as_step=int):
    """Outputs for `x` in consecutive `blocks` of tokens: appended, or written to a cache of `slots`."""
    cache, outputs, start = layer.init_cache(len(x), slots or 0), [], 0
    for size in blocks:
        block, step = x[:, start : start + size], None if slots is None else as_step(start)
        output, cache = layer(block, block, cache=cache, decode_loop_step=step)
        outputs.append(output)
        start += size
    return np.concatenate(outputs, axis=1), cache


def test_the_batched_reference_is_next_token_for_every_token(rng):
    weights, x = weights_of(made(rng), AttentionWeights), tokens(rng)
    found = ref.decode(x, weights)
    for b in range(B):
        cache = ref.Cache(np.zeros((0, H, D)), np.zeros((0, H, E)))
        for t in range(LENGTH):
            y, cache = ref.next_token(x[b, t], cache, weights)
            assert_allclose(found[b, t], y, rtol=1e-12)


def test_worked_example():
    """m = h = d = e = 1, q = x, k = x ln 3, v = 8 x. Tokens 1 and 2: alone the first gives 8; to the second, keys ln 3 and 2 ln 3
    have scores 2 ln 3 and 4 ln 3, weigh 1 to 9, and mix values 8 and 16 to 15.2."""
    one = np.ones((1, 1, 1))
    weights = AttentionWeights(Projection(one), Projection(np.log(3) * one), Projection(8 * one), Projection(one))
    x = np.array([1.0, 2.0]).reshape(1, 2, 1)
    assert_allclose(ref.decode(x, weights).ravel(), [8, 15.2])
    layer = CachedAttention(num_heads=1, key_dim=1, use_bias=False, dtype="float64")
    layer.build(x.shape, x.shape)
    layer.set_weights([projection.kernel for projection in weights])
    assert_allclose(decode(layer, x, (1, 1), slots=5)[0].ravel(), [8, 15.2])


def test_in_the_reference_decoding_is_recomputing_is_one_causal_pass(rng):
    weights, x = weights_of(made(rng), AttentionWeights), tokens(rng)
    expected, _ = multi_head_attention(x, x, weights, mask=causal_mask(LENGTH, LENGTH)[None])
    assert_allclose(ref.decode(x, weights), expected, rtol=1e-12, atol=1e-14)
    assert_allclose(ref.decode_by_recomputing(x, weights), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("blocks", [(1,) * 6, (2, 1, 1, 1, 1), (5, 1), (1, 3, 2), (6,)])
@pytest.mark.parametrize("slots", [None, LENGTH, SLOTS])
def test_tokens_decoded_in_blocks_of_any_size_are_one_causal_pass(rng, blocks, slots):
    layer, x = made(rng), tokens(rng)
    output, cache = decode(layer, x, blocks, slots)
    assert_allclose(output, causal_pass(layer, x), rtol=1e-12, atol=1e-14)
    _, expected = layer(x, x)
    for name, part in cache.items():
        assert_allclose(part[:, :LENGTH], expected[name], rtol=1e-12, atol=1e-14)
        assert part.shape[1] == (slots or LENGTH) and not np.any(part[:, LENGTH:])


@pytest.mark.parametrize("blocks", [(1,) * 6, (2, 1, 1, 1, 1), (1, 3, 2), (6,)])
@pytest.mark.parametrize("slots", [None, SLOTS])
def test_in_the_reference_too(rng, blocks, slots):
    weights, x = weights_of(made(rng), AttentionWeights), tokens(rng)
    cache, outputs, start = ref.empty_cache(B, slots or 0, weights), [], 0
    for size in blocks:
        block, step = x[:, start : start + size], None if slots is None else start
        y, _, cache = ref.cached_attention(block, block, weights, cache=cache, step=step)
        outputs.append(y)
        start += size
    assert_allclose(np.concatenate(outputs, axis=1), ref.decode(x, weights), rtol=1e-12, atol=1e-14)


def test_the_compiled_loop_with_the_step_as_a_tensor_is_one_causal_pass_and_compiled_once(rng):
    layer, x, traces = made(rng), tokens(rng), []

    @tf.function(jit_compile=True)
    def step(token, cache, t):
        traces.append(t)
        return layer(token, token, cache=cache, decode_loop_step=t)

    cache, outputs = layer.init_cache(B, SLOTS), []
    for t in range(LENGTH):
        output, cache = step(tf.constant(x[:, t : t + 1]), cache, tf.constant(t))
        outputs.append(output)
    assert_allclose(np.concatenate(outputs, axis=1), causal_pass(layer, x), rtol=1e-12, atol=1e-14)
    assert len(traces) == 1


def test_the_whole_loop_compiles_as_one_program(rng):
    layer, x = made(rng), tf.constant(tokens(rng))

    @tf.function(jit_compile=True)
    def loop(x):
        def body(t, cache, outputs):
            token = keras.ops.slice(x, (0, t, 0), (B, 1, M))
            output, cache = layer(token, token, cache=cache, decode_loop_step=t)
            return t + 1, cache, keras.ops.slice_update(outputs, (0, t, 0), output)

        return tf.while_loop(lambda t, *_: t < LENGTH, body, (0, layer.init_cache(B, SLOTS), keras.ops.zeros_like(x)))[2]

    assert_allclose(loop(x), causal_pass(layer, x.numpy()), rtol=1e-12, atol=1e-14)


JAX = """
import jax, numpy as np
from layers.cached_attention import CachedAttention
layer, x = CachedAttention(num_heads=2, key_dim=3, dtype="float64"), np.random.default_rng(0).normal(size=(2, 5, 4))
cache, outputs = layer.init_cache(2, 7), []
layer(x, x)
step = jax.jit(lambda token, cache, t: layer(token, token, cache=cache, decode_loop_step=t))
for t in range(5):
    output, cache = step(x[:, t : t + 1], cache, t)
    outputs.append(output)
expected, _ = layer(x, x, cache=layer.init_cache(2, 0))
np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=1e-12)
output, kept = step(x[:, :1], cache, 7)
assert not output.any() and all(np.array_equal(kept[name], part) for name, part in cache.items())
squares = lambda cache, t: sum((part**2).sum() for part in step(x[:, :1], cache, t)[1].values())
for name, slope in jax.jit(jax.grad(squares))(cache, 2).items():
    expected = 2 * np.array(cache[name])
    expected[:, 2] = 0
    np.testing.assert_array_equal(slope, expected)
"""


def test_the_compiled_loop_and_its_slopes_on_jax_too():
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    ran = subprocess.run([sys.executable, "-c", JAX], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_without_a_cache_it_is_multi_head_attention_and_not_causal(rng):
    layer, x, mask = made(rng), tokens(rng), rng.random((B, LENGTH, LENGTH)) < 0.7
    weights = weights_of(layer, AttentionWeights)
    assert_allclose(
        layer(x, x, attention_mask=mask)[0], multi_head_attention(x, x, weights, mask=mask)[0], rtol=1e-12, atol=1e-14
    )
    assert_allclose(layer(x, x)[0], multi_head_attention(x, x, weights)[0], rtol=1e-12, atol=1e-14)


def test_a_prompt_may_be_read_both_ways_before_tokens_are_appended(rng):
    """Without a cache only the mask decides: here it lets the prompt's tokens see each other, as in a prefix language model."""
    layer, x, prompt = made(rng), tokens(rng), 4
    first, cache = layer(x[:, :prompt], x[:, :prompt])
    rest, _ = layer(x[:, prompt:], x[:, prompt:], cache=cache)
    mask = causal_mask(LENGTH, LENGTH) | (np.arange(LENGTH) < prompt)
    expected, _ = layer(x, x, attention_mask=mask)
    assert_allclose(np.concatenate([first, rest], axis=1), expected, rtol=1e-12, atol=1e-14)


def test_writing_a_slot_twice_replaces_it(rng):
    layer, x, other = made(rng), tokens(rng), tokens(rng)
    expected, cache = decode(layer, x, (LENGTH,), SLOTS)
    _, cache = layer(other[:, 2:4], other[:, 2:4], cache=cache, decode_loop_step=2)
    output, again = layer(x[:, 2:4], x[:, 2:4], cache=cache, decode_loop_step=2)
    assert_allclose(output, expected[:, 2:4], rtol=1e-12)
    _, expected = decode(layer, x, (LENGTH,), SLOTS)
    for name in again:
        assert_allclose(again[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_what_a_slot_had_before_has_no_influence_not_even_if_it_is_no_number(rng, count, jit_compile):
    layer, x = made(rng), tokens(rng)[:, :count]
    layer(x, x)
    cache = {name: tf.constant(part) for name, part in drawn_cache(rng).items()}

    @tf.function(jit_compile=jit_compile)
    def step(cache):
        with tf.GradientTape() as tape:
            output, new = layer(x, x, cache=cache, decode_loop_step=1)
        return output, new, tape.gradient(output, [weight.value for weight in layer.trainable_variables])

    expected = step(cache)
    at_slot = np.isin(np.arange(SLOTS), range(1, 1 + count))[:, None, None]
    broken = {name: tf.where(at_slot, np.nan, part) for name, part in cache.items()}
    for found, wanted in zip(tf.nest.flatten(step(broken)), tf.nest.flatten(expected)):
        assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", POLICIES)
def test_slots_that_are_not_filled_are_never_attended(rng, dtype):
    layer, x = made(rng, dtype), tokens(rng, 2)
    cache = drawn_cache(rng)
    expected, scores, _ = layer(x, x, cache=cache, decode_loop_step=3, return_attention_scores=True)
    assert_array_equal(keras.ops.cast(scores, "float32")[..., 5:], 0)
    for part in cache.values():
        part[:, 3:] = 1000
    assert_array_equal(layer(x, x, cache=cache, decode_loop_step=3)[0], expected)
    cache["value"][:, 2] += 1
    assert np.all(layer(x, x, cache=cache, decode_loop_step=3)[0] != expected)


def test_a_later_new_token_does_not_change_an_earlier_one(rng):
    layer, x = made(rng), tokens(rng, T)
    for step in (None, 2):
        before, _ = layer(x, x, cache=drawn_cache(np.random.default_rng(1)), decode_loop_step=step)
        y = x.copy()
        y[:, 2:] += 1
        after, _ = layer(y, y, cache=drawn_cache(np.random.default_rng(1)), decode_loop_step=step)
        assert_array_equal(after[:, :2], before[:, :2])
        assert np.all(after[:, 2:] != before[:, 2:])


@pytest.mark.parametrize("step", [None, 4])
def test_the_given_cache_is_not_changed(rng, step):
    layer, x, cache = made(rng), tokens(rng, T), drawn_cache(rng)
    given, copies = dict(cache), {name: part.copy() for name, part in cache.items()}
    layer(x, x, cache=given, decode_loop_step=step)
    assert given.keys() == cache.keys() and all(given[name] is part for name, part in cache.items())
    for name, part in copies.items():
        assert_array_equal(cache[name], part)
    tensors = {name: tf.constant(part) for name, part in cache.items()}
    given = dict(tensors)
    layer.call(tf.constant(x), tf.constant(x), cache=given, decode_loop_step=step)  # without Keras, which hands on a copy
    assert all(given[name] is part for name, part in tensors.items())
    kept = ref.Cache(**cache)
    ref.cached_attention(x, x, weights_of(layer, AttentionWeights), cache=kept, step=step)
    assert_array_equal(kept.key, copies["key"])


@pytest.mark.parametrize(("step", "length"), [(None, SLOTS + T), (3, SLOTS)])
def test_the_given_mask_holds_beside_causality(rng, step, length):
    layer, x, cache = made(rng), tokens(rng, T), drawn_cache(rng)
    mask, first = rng.random((B, T, length)) < 0.6, SLOTS if step is None else step
    causal = np.arange(length) <= first + np.arange(T)[:, None]
    _, scores, _ = layer(x, x, attention_mask=mask, cache=cache, decode_loop_step=step, return_attention_scores=True)
    assert_array_equal(np.asarray(scores) > 0, np.broadcast_to((mask & causal)[:, None], (B, H, T, length)))


@pytest.mark.parametrize("dtype", POLICIES)
def test_a_query_that_may_attend_to_nothing_gets_the_output_bias(rng, dtype):
    layer, x = CachedAttention(num_heads=H, key_dim=D, bias_initializer="ones", dtype=dtype), tokens(rng, 1)
    output, _ = layer(x, x, attention_mask=np.zeros((B, 1, SLOTS)), cache=layer.init_cache(B, SLOTS), decode_loop_step=0)
    assert_array_equal(keras.ops.cast(output, "float32"), np.ones((B, 1, M)))


def test_asking_for_scores_changes_neither_output_nor_cache(rng):
    layer, x, cache = made(rng, dropout=0.5), tokens(rng, T), drawn_cache(rng)
    for step in (None, 2):
        output, new = layer(x, x, cache=cache, decode_loop_step=step)
        same, _, same_new = layer(x, x, cache=cache, decode_loop_step=step, return_attention_scores=True)
        assert_array_equal(same, output)
        for name in new:
            assert_array_equal(same_new[name], new[name])


def test_dropout_drops_weights_only_while_training(rng):
    layer, x, cache = made(rng, dropout=0.5, seed=1), tokens(rng, T), drawn_cache(rng)
    output, scores, _ = layer(x, x, cache=cache, return_attention_scores=True)
    dropped, kept, _ = layer(x, x, cache=cache, return_attention_scores=True, training=True)
    assert np.any(dropped != output)
    assert_array_equal(kept, scores)


def test_beams_are_reordered_by_gathering_rows_of_the_cache(rng):
    layer, x, order = made(rng), tokens(rng), np.array([1, 0])
    _, cache = decode(layer, x[:, :4], (4,), SLOTS)
    moved = {name: keras.ops.take(part, order, axis=0) for name, part in cache.items()}
    output, _ = layer(x[order, 4:], x[order, 4:], cache=moved, decode_loop_step=4)
    assert_allclose(output, causal_pass(layer, x)[order, 4:], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("as_step", [int, np.int64, np.array, tf.constant])
def test_the_step_may_be_an_integer_or_a_scalar_of_any_kind(rng, as_step):
    layer, x = made(rng), tokens(rng)
    assert_allclose(decode(layer, x, (2, 1, 3), SLOTS, as_step)[0], causal_pass(layer, x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("step", [-1, 6, 8, 100])
@pytest.mark.parametrize("as_step", [int, np.int64, tf.constant])
def test_a_step_that_is_known_and_leaves_no_room_is_an_error(rng, step, as_step):
    layer, x = made(rng), tokens(rng, T)
    with pytest.raises(ValueError, match=rf"decode_loop_step must leave room for 3 new tokens in 8 slots. Received: .*{step}"):
        layer(x, x, cache=layer.init_cache(B, SLOTS), decode_loop_step=as_step(step))
    with pytest.raises(ValueError, match=f"step must be from 0 to 8 - 3. Received: step={step}"):
        weights = weights_of(layer, AttentionWeights)
        ref.cached_attention(x, x, weights, cache=ref.empty_cache(B, SLOTS, weights), step=step)


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16"])
@pytest.mark.parametrize(("step", "fits"), [(-1, False), (0, True), (5, True), (6, False), (8, False), (100, False)])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_a_step_that_is_not_known_and_leaves_no_room_writes_nothing_and_attends_to_nothing(rng, step, fits, jit_compile, dtype):
    layer, x, cache = made(rng, dtype), tokens(rng, T), drawn_cache(rng)
    held = {name: keras.ops.cast(part, layer.compute_dtype) for name, part in cache.items()}

    @tf.function(jit_compile=jit_compile)
    def compiled(step):
        return layer(x, x, cache=held, decode_loop_step=step, return_attention_scores=True)

    output, scores, new = compiled(tf.constant(step))
    if fits:
        eager = layer(x, x, cache=held, decode_loop_step=step, return_attention_scores=True)
        assert largest_error((output, scores, new), eager) < (1e-2 if layer.compute_dtype == "float16" else 1e-12)
    else:
        for name, part in new.items():
            assert_array_equal(keras.ops.cast(part, "float64"), keras.ops.cast(held[name], "float64"))
        assert not np.any(keras.ops.cast(scores, "float64"))
        bias = keras.ops.cast(layer.output_dense.bias, layer.compute_dtype)
        assert_array_equal(output, np.broadcast_to(bias, (B, T, M)))


def test_a_block_longer_than_the_cache_is_an_error_even_if_the_step_is_not_known(rng):
    layer, x = made(rng), tokens(rng, 9)
    compiled = tf.function(lambda step: layer(x, x, cache=layer.init_cache(B, SLOTS), decode_loop_step=step), autograph=False)
    with pytest.raises(ValueError, match="must leave room for 9 new tokens in 8 slots"):
        compiled(tf.constant(0))


def test_slopes_reach_new_tokens_and_what_was_kept_and_not_what_was_replaced(rng):
    layer, x = made(rng), tf.constant(tokens(rng, T))
    cache = {name: tf.constant(part) for name, part in drawn_cache(rng).items()}
    with tf.GradientTape() as tape:
        tape.watch([x, cache])
        _, new = layer(x, x, cache=cache, decode_loop_step=2)
        loss = sum(tf.reduce_sum(part**2) for part in new.values())
    slopes = tape.gradient(loss, cache)
    for name, part in cache.items():
        expected = 2 * part.numpy()
        expected[:, 2:5] = 0
        assert_array_equal(slopes[name], expected)


@pytest.mark.parametrize("dtype", POLICIES)
def test_a_cache_has_the_compute_dtype_before_and_after_a_call(rng, dtype):
    layer, x = CachedAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype), tokens(rng, 1)
    cache = layer.init_cache(B, SLOTS)
    assert not layer.built
    assert cache["key"].shape == (B, SLOTS, H, D) and cache["value"].shape == (B, SLOTS, H, E)
    assert not np.any(keras.ops.cast(cache["key"], "float32"))
    for given in (cache, {name: np.asarray(keras.ops.cast(part, "float32")) for name, part in cache.items()}):
        _, new = layer(x, x, cache=given, decode_loop_step=0)
        assert {part.dtype.name for part in (*cache.values(), *new.values())} == {layer.compute_dtype}


def test_a_cache_is_made_for_a_batch_whose_size_is_not_known(rng):
    layer = made(rng)
    compiled = tf.function(
        lambda x: layer(x, x, cache=layer.init_cache(tf.shape(x)[0], SLOTS), decode_loop_step=0),
        input_signature=[tf.TensorSpec((None, 1, M), "float64")],
    )
    x = tokens(rng, 1)
    assert_allclose(compiled(x)[0], causal_pass(layer, x), rtol=1e-12, atol=1e-14)


def test_output_shape_is_told_for_every_form(rng):
    layer, x, cache = made(rng), tokens(rng, T), drawn_cache(rng)
    shapes = {name: part.shape for name, part in cache.items()}
    for given, shape, step in ((None, None, None), (cache, shapes, None), (cache, shapes, 2)):
        output, new = layer(x, x, cache=given, decode_loop_step=step)
        expected = output.shape, {name: part.shape for name, part in new.items()}
        assert layer.compute_output_shape(x.shape, x.shape, cache_shape=shape, decode_loop_step=step) == expected


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("decode_loop_step needs a cache. Received: decode_loop_step=2, cache=None", {"cache": None, "decode_loop_step": 2}),
        ('cache must be a dictionary of "key" and "value". Received: list', {"cache": [1, 2]}),
        (
            r'cache must be a dictionary of "key" and "value". Received: \[\'key\'\]',
            {"cache": {"key": np.ones((B, SLOTS, H, D))}},
        ),
        (
            r'cache\["key"\] must have the shape \(2, None, 4, 7\). Received: \(2, 8, 7, 4\)',
            {"cache": {"key": np.ones((B, SLOTS, D, H)), "value": np.ones((B, SLOTS, H, E))}},
        ),
        (
            r'cache\["value"\] must have the shape \(2, None, 4, 13\). Received: \(1, 8, 4, 13\)',
            {"cache": {"key": np.ones((B, SLOTS, H, D)), "value": np.ones((1, SLOTS, H, E))}},
        ),
        (
            r'cache\["key"\] must have the shape \(2, None, 4, 7\). Received: \(2, 8, 28\)',
            {"cache": {"key": np.ones((B, SLOTS, H * D)), "value": np.ones((B, SLOTS, H, E))}},
        ),
        (
            r'must have the same number of slots. Received: cache\["key"\] with 8, cache\["value"\] with 7',
            {"cache": {"key": np.ones((B, SLOTS, H, D)), "value": np.ones((B, 7, H, E))}},
        ),
        (
            "query and value must have the same length if a cache is given. Received: query with 3, value with 2",
            {"value": np.ones((B, 2, M))},
        ),
        (r"attention_mask .* \(2, 4, 3, 11\). Received: \(2, 1, 3, 3\)", {"attention_mask": np.ones((B, T, T))}),
        (r"attention_mask .* \(2, 4, 3, 8\)", {"attention_mask": np.ones((B, T, SLOTS + T)), "decode_loop_step": 2}),
        (
            "decode_loop_step must be an integer or a scalar integer tensor. Received: decode_loop_step=1.5",
            {"decode_loop_step": 1.5},
        ),
        ("decode_loop_step must be an integer .* Received: decode_loop_step=True", {"decode_loop_step": True}),
        ("decode_loop_step must be an integer", {"decode_loop_step": np.array([1, 2])}),
        ("decode_loop_step must be an integer", {"decode_loop_step": np.array(1.0)}),
        ("decode_loop_step must be an integer", {"decode_loop_step": "1"}),
        (r"query must have 3 axes. .*\(2, 2, 3, 11\)", {"query": np.ones((B, 2, T, M)), "value": np.ones((B, 2, T, M))}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(rng, message, call):
    layer = CachedAttention(num_heads=H, key_dim=D, value_dim=E, dtype="float64")
    given = {"query": tokens(rng, T), "value": tokens(rng, T), "cache": drawn_cache(rng)} | call
    with pytest.raises(ValueError, match=message):
        layer(**given)


@pytest.mark.parametrize(
    ("message", "sizes"),
    [
        ("length must be an integer of at least 0. Received: length=-1", {"length": -1}),
        ("length must be an integer of at least 0. Received: length=None", {"length": None}),
        ("batch must be an integer of at least 1. Received: batch=0", {"batch": 0}),
    ],
)
def test_a_cache_of_no_size_is_rejected(message, sizes):
    with pytest.raises(ValueError, match=message):
        CachedAttention(num_heads=H, key_dim=D).init_cache(**{"batch": B, "length": SLOTS} | sizes)


@pytest.mark.parametrize("step", [2**31, 2**32, 2**32 + 3, -(2**32)])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_a_step_that_int32_cannot_hold_is_not_another_step(rng, step, jit_compile):
    layer, x, cache = made(rng), tokens(rng, 1), drawn_cache(rng)
    compiled = tf.function(
        lambda t: layer(x, x, cache=cache, decode_loop_step=t, return_attention_scores=True), jit_compile=jit_compile
    )
    _, scores, new = compiled(tf.constant(step, "int64"))
    assert not np.any(scores)
    for name, part in new.items():
        assert_array_equal(part, cache[name])
    with pytest.raises(ValueError, match="decode_loop_step must leave room for 1 new tokens in 8 slots"):
        layer(x, x, cache=cache, decode_loop_step=step)
