"""The language model without a memory: its definition, causality, stepwise decoding, positions, limits, errors.

Layer against reference: tests/conformance.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, D, H
from crosscheck.cases.transformer_decoder import LAYERS, VOCABULARY, F, M
from crosscheck.weights import draw_weights, weights_of
from layers.common.registry import registered
from layers.transformer_decoder.decoder_only import TransformerDecoder
from reference.common.normalization import LayerNorm
from reference.positional_embedding import interleaved
from reference.self_attention_mask import causal_mask
from reference.transformer_decoder import decoder_only as ref
from reference.transformer_encoder import transformer_encoder_block

LENGTH, SLOTS = 6, 8
both_positions = pytest.mark.parametrize("max_length", [None, SLOTS])


def made(rng, dtype="float64", **options):
    decoder = TransformerDecoder(VOCABULARY, M, LAYERS, H, F, dtype=dtype, **options)
    decoder.build((None, None))
    draw_weights(decoder, rng)
    return decoder


def drawn_ids(rng, length=LENGTH):
    return rng.integers(0, VOCABULARY, size=(B, length)).astype("int32")


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_model_is_its_equations_one_by_one(rng, norm_first):
    """Embeddings, then encoder blocks under a causal mask, then the table again."""
    w, ids = weights_of(made(rng, norm_first=norm_first), ref.DecoderOnlyWeights), drawn_ids(rng)
    table = w.token_embedding.embeddings
    x = np.sqrt(M) * table[ids] + interleaved(np.arange(LENGTH), M)
    for block in w.layer:
        x, _ = transformer_encoder_block(x, block, norm_first=norm_first, mask=causal_mask(LENGTH, LENGTH)[None])
    if norm_first:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        x = w.output_layer_norm.gamma * x + w.output_layer_norm.beta
    assert_allclose(ref.transformer_decoder(ids, w, norm_first=norm_first)[0], x @ table.T, rtol=1e-10, atol=1e-12)


def test_worked_logits():
    """Blocks that add nothing leave (3, 1) + (0, 2) = (3, 3) of token 1 at position 0: the norm's zeros and β = (1, 2) give the
    rows (2, 0), (3, 1) and (0, −1) the logits 2, 5 and −2."""
    w = weights_of(made(np.random.default_rng(0), max_length=2), ref.DecoderOnlyWeights)
    table, positions = np.array([[2.0, 0.0], [3.0, 1.0], [0.0, -1.0]]), np.array([[0.0, 2.0], [0.0, 0.0]])
    last = LayerNorm(np.ones(2), np.array([1.0, 2.0]))
    w = ref.DecoderOnlyWeights(
        w.token_embedding._replace(embeddings=table), (), w.position_embedding._replace(embeddings=positions), last
    )
    assert_allclose(ref.transformer_decoder(np.array([[1]]), w)[0], [[[2, 5, -2]]], atol=1e-12)


@both_positions
def test_the_future_changes_nothing_before_it_whatever_the_mask_allows(rng, max_length):
    decoder, ids = made(rng, max_length=max_length), drawn_ids(rng)
    for mask in (None, np.ones((B, LENGTH, LENGTH)), np.ones((1, 1, 1, 1))):
        before, _ = decoder(ids, attention_mask=mask)
        other = ids.copy()
        other[:, 4] = (ids[:, 4] + 1) % VOCABULARY
        after, _ = decoder(other, attention_mask=mask)
        assert_array_equal(after[:, :4], before[:, :4])
        assert np.all(np.abs(after - before)[:, 4:].max(axis=-1) > 1e-6)


@both_positions
@pytest.mark.parametrize("slots", [None, SLOTS])
@pytest.mark.parametrize("sizes", [(1,) * 6, (3, 1, 1, 1), (2, 4)])
def test_stepwise_decoding_is_the_parallel_pass(rng, max_length, slots, sizes):
    """Positions too go on where the cached tokens end."""
    decoder, ids = made(rng, max_length=max_length), drawn_ids(rng)
    expected, _ = decoder(ids)
    cache, outputs, start = decoder.init_cache(B, slots or 0), [], 0
    for size in sizes:
        step = None if slots is None else start
        output, cache = decoder(ids[:, start : start + size], cache=cache, decode_loop_step=step)
        outputs.append(output)
        start += size
    assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=1e-10, atol=1e-12)


@both_positions
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_compiled_step_by_tensor_is_the_parallel_pass(rng, max_length, jit_compile):
    decoder, ids = made(rng, max_length=max_length), drawn_ids(rng)

    @tf.function(jit_compile=jit_compile)
    def step(token, cache, t):
        return decoder(token, cache=cache, decode_loop_step=t)

    expected, _ = decoder(ids)
    cache, outputs = decoder.init_cache(B, SLOTS), []
    for t in range(LENGTH):
        output, cache = step(tf.constant(ids[:, t : t + 1]), cache, tf.constant(t))
        outputs.append(output)
    assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=1e-10, atol=1e-12)


def test_without_a_cache_the_call_returns_one_to_go_on_with(rng):
    decoder, ids = made(rng), drawn_ids(rng)
    expected, _ = decoder(ids)
    _, cache = decoder(ids[:, :4])
    output, cache = decoder(ids[:, 4:], cache=cache)
    assert_allclose(output, expected[:, 4:], rtol=1e-10, atol=1e-12)
    assert [part["key"].shape for part in cache] == [(B, LENGTH, H, D)] * LAYERS


def test_the_table_of_tokens_is_the_last_map_too_and_every_weight_is_trained(rng):
    decoder, ids = made(rng, max_length=SLOTS), drawn_ids(rng)
    direction = rng.normal(size=(B, LENGTH, VOCABULARY))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(decoder(ids)[0] * direction)
    slopes = tape.gradient(loss, [v.value for v in decoder.trainable_variables])
    for variable, slope in zip(decoder.trainable_variables, slopes):
        if "key/bias" not in variable.path:  # which shifts all scores of a query alike
            assert np.abs(tf.convert_to_tensor(slope)).max() > 1e-8, variable.path
    unused = np.setdiff1d(np.arange(VOCABULARY), ids)
    (table,) = (tf.convert_to_tensor(s) for v, s in zip(decoder.trainable_variables, slopes) if "token" in v.path)
    assert len(unused) and np.all(np.abs(table.numpy()[unused]).max(axis=1) > 1e-8)


@pytest.mark.slow
def test_a_language_model_learns_by_fit(rng):
    """Each token is the one before it plus 1: nothing but the last token is needed."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((LENGTH,), dtype="int32")
    decoder = TransformerDecoder(VOCABULARY, M, 1, H, F, max_length=SLOTS)
    model = keras.Model(ids, decoder(ids)[0])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = (rng.integers(0, VOCABULARY, size=(256, 1)) + np.arange(LENGTH + 1)) % VOCABULARY
    history = model.fit(x[:, :-1], x[:, 1:], epochs=12, verbose=0)
    assert history.history["loss"][-1] < 0.2 < 2 < history.history["loss"][0]


@pytest.mark.parametrize("length", [2, SLOTS])
def test_a_cache_for_an_open_batch_stands_in_a_functional_model(rng, length, tmp_path):
    decoder, ids = made(rng), keras.Input((2,), dtype="int32")
    logits, cache = decoder(ids, cache=decoder.init_cache(None, length), decode_loop_step=0)
    model = keras.Model(ids, [logits, cache[1]["key"]])
    assert cache[1]["key"].shape == (None, length, H, D)
    model.save(tmp_path / "model.keras")
    for some in (model, keras.saving.load_model(tmp_path / "model.keras")):
        for b in (1, 3):
            given = rng.integers(0, VOCABULARY, size=(b, 2)).astype("int32")
            expected = decoder(given, cache=decoder.init_cache(b, length), decode_loop_step=0)
            found = some(given)
            assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-14)
            assert_allclose(found[1], expected[1][1]["key"], rtol=1e-12, atol=1e-14)


def test_a_saved_model_finds_the_class():
    assert registered("layers>TransformerDecoder") is TransformerDecoder


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float32"])
def test_every_policy_keeps_the_cache_in_its_compute_dtype(rng, policy):
    decoder, ids = made(rng, policy, max_length=SLOTS), drawn_ids(rng)
    logits, cache = decoder(ids[:, :2], cache=decoder.init_cache(B, SLOTS), decode_loop_step=0)
    assert logits.dtype.name == decoder.compute_dtype
    assert {part.dtype.name for kept in cache for part in kept.values()} == {decoder.compute_dtype}


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("vocab_size must be an integer of at least 1. Received: vocab_size=0", {"vocab_size": 0}),
        ("num_layers must be an integer of at least 1", {"num_layers": 0}),
        ("max_length must be an integer of at least 1. Received: max_length=0", {"max_length": 0}),
        ("hidden_size must be divisible by num_attention_heads. Received: hidden_size=12, ", {"num_attention_heads": 5}),
        ("dropout_rate must be at least 0 and below 1. Received: dropout_rate=1", {"dropout_rate": 1}),
        ("intermediate_activation", {"intermediate_activation": "rule"}),
    ],
)
def test_arguments_out_of_range_are_rejected_by_name(message, options):
    sizes = {"vocab_size": 9, "hidden_size": 12, "num_layers": 1, "num_attention_heads": 3, "intermediate_size": 8}
    with pytest.raises(ValueError, match=message):
        TransformerDecoder(**sizes | options)


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ("inputs must be integers", {"inputs": np.ones((B, 2))}),
        (r"inputs must have 2 axes. Received: inputs of shape \(2, 2, 3\)", {"inputs": np.ones((B, 2, 3), "int32")}),
        ("inputs and cache must have at most max_length=8 tokens. Received: 9", {"inputs": np.ones((B, 9), "int32")}),
        ("decode_loop_step needs a cache. Received: decode_loop_step=1", {"decode_loop_step": 1}),
        ("cache must be a list of 2 dictionaries, one for each block. Received: dict", {"cache": {"key": 1}}),
        ("cache must be a list of 2 dictionaries, one for each block. Received: a list of 1", {"cache": [{"key": 1}]}),
        ('cache must be a dictionary of "key" and "value". Received: .*key', {"cache": [{"key": 1}, {"key": 1}]}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(rng, message, given):
    decoder = made(rng, max_length=SLOTS)
    with pytest.raises(ValueError, match=message):
        decoder(**{"inputs": drawn_ids(rng, 2)} | given)


def test_no_token_comes_after_the_last_position(rng):
    decoder, ids = made(rng, max_length=SLOTS), drawn_ids(rng)
    with pytest.raises(ValueError, match="inputs and cache must have at most max_length=8 tokens. Received: 9"):
        decoder.init_cache(B, SLOTS + 1)
    _, cache = decoder(ids)
    with pytest.raises(ValueError, match="inputs and cache must have at most max_length=8 tokens. Received: 9"):
        decoder(ids[:, :3], cache=cache)
    for step in (SLOTS, -1, tf.constant(SLOTS)):
        with pytest.raises(ValueError, match="decode_loop_step must leave room for 1 new tokens in 8 slots"):
            decoder(ids[:, :1], cache=decoder.init_cache(B, SLOTS), decode_loop_step=step)


def test_init_cache_needs_a_built_decoder():
    with pytest.raises(ValueError, match="must be built before init_cache"):
        TransformerDecoder(VOCABULARY, M, LAYERS, H, F).init_cache(B, SLOTS)


def test_a_padding_mask_is_not_taken_for_a_mask_of_queries_and_keys(rng):
    """With as many examples as tokens, `(b, s)` has the shape of `(t, s)`."""
    decoder, t = made(rng), B
    ids, padding = drawn_ids(rng, t), np.tril(np.ones((B, t), bool))
    expected, _ = decoder(ids, attention_mask=padding[:, None, :])
    assert_array_equal(decoder(ids, attention_mask=padding[:, None, None, :])[0], expected)
    cache = decoder.init_cache(B, t)
    symbols = keras.Input((t,), dtype="int32"), keras.Input((t,), dtype="bool")
    message = r"attention_mask with 2 axes is \(t, s\).*attention_mask\[:, None, :\] for the padding mask"
    for given, mask, options in ((ids, padding, {}), (*symbols, {}), (ids, padding, {"cache": cache, "decode_loop_step": 0})):
        with pytest.raises(ValueError, match=message):
            decoder(given, attention_mask=mask, **options)
    for shape in ((B, t, t + 1), (B + 1, 1, t), (B, H + 1, t, t), (t + 1, t + 1)):
        with pytest.raises(ValueError, match=r"attention_mask (must have a shape that broadcasts to|with 2 axes)"):
            decoder(ids, attention_mask=np.ones(shape))
    one, wider = drawn_ids(rng, t + 2), causal_mask(t + 2, t + 2)
    assert_array_equal(decoder(one, attention_mask=wider)[0], decoder(one)[0])  # where it is clear, it may be (t, s)
