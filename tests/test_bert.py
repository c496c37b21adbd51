"""The whole encoder: token by token, by hand, what padding and segments do. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, T
from crosscheck.weights import draw_weights, weights_of
from layers.bert import INPUTS, BertEncoder
from layers.bert.sentence_embedding import SentenceEmbedding
from reference import bert as ref
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection
from reference.on_device_embedding import OnDeviceEmbeddingWeights
from reference.positional_embedding import PositionalEmbeddingWeights

N, M, F, LAYERS, H = 17, 12, 9, 2, 4


def sentences(rng, t=T):
    mask = np.arange(t) < np.array([[t], [t - 1]])
    return rng.integers(0, N, (B, t)), mask.astype("int32"), rng.integers(0, 2, (B, t))


def encoder_and_weights(rng, **options):
    encoder = BertEncoder(
        N,
        M,
        LAYERS,
        H,
        inner_dim=F,
        **({"max_sequence_length": 7, "initializer": "glorot_uniform", "dtype": "float64"} | options),
    )
    encoder.build(dict.fromkeys(INPUTS, (None, None)))
    draw_weights(encoder, rng)
    return encoder, weights_of(encoder, ref.BertWeights)


def call(encoder, tokens, mask, segments, **options):
    return encoder(dict(zip(INPUTS, (tokens, mask, segments))), **options)


def test_a_padded_batch_is_each_sentence_alone_token_by_token(rng):
    tokens, mask, segments = sentences(rng)
    _, weights = encoder_and_weights(rng)
    found = ref.bert_encoder(tokens, mask, segments, weights).sequence
    for b, length in enumerate(mask.sum(axis=1)):
        alone = ref.bert_one(tokens[b, :length], segments[b, :length], weights)
        assert_allclose(found[b, :length], alone, rtol=1e-12, atol=1e-12)


def test_worked_embeddings_and_pooler():
    """Word (4, 0) + position (2, 1) + type (0, 1) is (6, 2), whose norm is (1, −1); tanh(2 · 1 − 1 · (−1) − 3) = 0."""
    table = OnDeviceEmbeddingWeights(np.array([[9.0, 9.0], [4.0, 0.0]]))
    places, kinds = PositionalEmbeddingWeights(np.array([[2.0, 1.0]])), OnDeviceEmbeddingWeights(np.array([[0.0, 1.0]]))
    pooler = Projection(np.array([[2.0], [-1.0]]), np.array([-3.0]))
    weights = ref.BertWeights(table, places, kinds, LayerNorm(np.ones(2), np.zeros(2)), (), pooler)
    found = ref.bert_encoder(np.array([[1]]), np.array([[1]]), np.array([[0]]), weights)
    assert_allclose(found.sequence, [[[1, -1]]], rtol=1e-12)
    assert_allclose(found.pooled, [[0]], atol=1e-12)


def test_what_stands_on_padding_has_no_influence(rng):
    tokens, mask, segments = sentences(rng)
    encoder, _ = encoder_and_weights(rng)
    before = call(encoder, tokens, mask, segments)
    tokens[1, -1], segments[1, -1] = (tokens[1, -1] + 1) % N, 1 - segments[1, -1]
    after = call(encoder, tokens, mask, segments)
    assert_array_equal(after["sequence_output"][1, :-1], before["sequence_output"][1, :-1])
    assert_array_equal(after["pooled_output"], before["pooled_output"])


def test_more_padding_changes_nothing(rng):
    tokens, mask, segments = sentences(rng)
    encoder, _ = encoder_and_weights(rng)
    longer = (np.pad(array, [(0, 0), (0, 2)]) for array in (tokens, mask, segments))
    found = call(encoder, *longer)["sequence_output"][:, :T]
    assert_allclose(found, call(encoder, tokens, mask, segments)["sequence_output"], rtol=1e-12, atol=1e-12)


def test_order_and_segment_both_count(rng):
    tokens, mask, _ = sentences(rng)
    encoder, _ = encoder_and_weights(rng)
    zeros = np.zeros_like(tokens)
    plain = np.asarray(call(encoder, tokens, mask, zeros)["sequence_output"])
    swapped = np.asarray(call(encoder, np.full_like(tokens, 3), mask, zeros)["sequence_output"])
    assert np.abs(swapped[0, 0] - swapped[0, 1]).max() > 1e-3  # one word, two positions
    assert np.abs(np.asarray(call(encoder, tokens, mask, zeros + 1)["sequence_output"]) - plain).max() > 1e-3


def test_the_pooler_reads_the_first_token_and_can_be_left_out(rng):
    tokens, mask, segments = sentences(rng)
    encoder, weights = encoder_and_weights(rng)
    found = call(encoder, tokens, mask, segments)
    expected = np.tanh(np.asarray(found["sequence_output"])[:, 0] @ weights.pooler.kernel + weights.pooler.bias)
    assert_allclose(found["pooled_output"], expected, rtol=1e-10)
    without, _ = encoder_and_weights(rng, use_pooler=False)
    assert set(call(without, tokens, mask, segments)) == {"sequence_output", "encoder_outputs"}


def test_every_block_is_returned_and_the_last_is_the_sequence(rng):
    encoder, _ = encoder_and_weights(rng, return_attention_scores=True)
    found = call(encoder, *sentences(rng))
    assert len(found["encoder_outputs"]) == len(found["attention_scores"]) == LAYERS
    assert_array_equal(found["encoder_outputs"][-1], found["sequence_output"])
    assert np.abs(np.asarray(found["encoder_outputs"][0]) - np.asarray(found["sequence_output"])).max() > 1e-3
    assert_allclose(np.sum(found["attention_scores"][1], axis=-1), np.ones((B, H, T)), rtol=1e-12)
    assert not np.asarray(found["attention_scores"][0])[1, :, :, -1].any()


@pytest.mark.parametrize("rate", ["output_dropout", "attention_dropout"])
def test_each_dropout_drops_in_training_alone(rng, rate):
    given = sentences(rng)
    rates = {"output_dropout": 0.0, "attention_dropout": 0.0}
    encoder, _ = encoder_and_weights(rng, **(rates | {rate: 0.5}))
    plain, again, trained = (call(encoder, *given, training=t)["sequence_output"] for t in (False, None, True))
    assert_array_equal(plain, again)
    assert np.abs(np.asarray(trained) - np.asarray(plain)).max() > 1e-3


def test_output_dropout_reaches_the_embeddings(rng):
    encoder, _ = encoder_and_weights(rng, output_dropout=0.5)
    tokens, _, segments = sentences(rng)
    assert (np.asarray(encoder.embed_inputs(tokens, segments, training=True)) == 0).any()
    assert not (np.asarray(encoder.embed_inputs(tokens, segments, training=False)) == 0).any()


def test_regularisers_reach_every_map(rng):
    encoder, _ = encoder_and_weights(rng, kernel_regularizer="l2", bias_regularizer="l1")
    assert len(encoder.losses) == (LAYERS * 6 + 1) * 2


def test_every_kernel_and_table_starts_with_a_draw_of_its_own():
    encoder = BertEncoder(N, M, LAYERS, H, inner_dim=M, max_sequence_length=N, type_vocab_size=N)
    encoder.build(dict.fromkeys(INPUTS, (None, None)))
    draws = [np.ravel(v)[: M * M] for v in encoder.trainable_variables if np.ptp(np.asarray(v)) > 0]
    assert len(draws) == 3 + LAYERS * 6 + 1
    assert all(0.01 < draw.std() < 0.03 and np.abs(draw).max() <= 0.04 for draw in draws)
    assert len({draw.tobytes() for draw in draws}) == len(draws)


def test_ids_outside_their_tables_have_rows_of_zeros(rng):
    tokens, mask, segments = sentences(rng)
    encoder, weights = encoder_and_weights(rng)
    tokens[0, 0], segments[0, 0] = N, -1
    expected = ref.bert_encoder(tokens, mask, segments, weights).sequence
    assert_allclose(call(encoder, tokens, mask, segments)["sequence_output"], expected, rtol=1e-10, atol=1e-12)
    row = ref.embed_inputs(tokens, segments, weights)[0, 0]
    norm, place = weights.embeddings_layer_norm, weights.position_embedding.embeddings[0]
    assert_allclose(row, norm.gamma * (place - place.mean()) / place.std() + norm.beta, rtol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be an integer of at least 1. Received: vocab_size=0"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"type_vocab_size": 0}, "type_vocab_size must be"),
        ({"max_sequence_length": 0}, "max_sequence_length must be"),
        ({"inner_dim": 0}, "inner_dim must be"),
        ({"num_attention_heads": 5}, f"hidden_size must be divisible by num_attention_heads. Received: hidden_size={M}, .*=5"),
        ({"output_dropout": 1.0}, "output_dropout must be at least 0 and below 1"),
        ({"attention_dropout": -0.1}, "attention_dropout must be"),
        ({"inner_activation": "gelo"}, "inner_activation must be .* Received: inner_activation='gelo'"),
    ],
)
def test_arguments_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BertEncoder(**({"vocab_size": N, "hidden_size": M, "num_attention_heads": H} | options))


IDS = np.zeros((2, 3), "int32")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            dict(zip(INPUTS, (IDS, IDS))),
            "inputs must be a dict of input_word_ids, input_mask, input_type_ids. Received: a dict of .*mask",
        ),
        (dict(zip(INPUTS, (IDS, IDS, IDS[0]))), "input_type_ids must have 2 axes"),
        (dict(zip(INPUTS, (IDS, IDS[:1], IDS))), "same batch size"),
        (dict(zip(INPUTS, (IDS, IDS, IDS[:, :2]))), "same length"),
        (dict(zip(INPUTS, (np.zeros((2, 8), "int32"),) * 3)), "at most max_sequence_length=7 tokens. Received: 8"),
        (dict(zip(INPUTS, (IDS * 1.0, IDS, IDS))), "input_word_ids must be integers.* Received: input_word_ids of dtype float"),
        (dict(zip(INPUTS, (IDS, IDS, IDS * 1.0))), "input_type_ids must be integers"),
        (IDS, "inputs must be a dict of .* Received: inputs that are not a dict"),
        ([IDS, IDS, IDS], "inputs must be a dict of .* Received: inputs that are not a dict"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
    fresh, built = (BertEncoder(N, M, 1, H, max_sequence_length=7, inner_dim=F) for _ in range(2))
    built.build(dict.fromkeys(INPUTS, (None, None)))
    for encoder in (fresh, built):
        with pytest.raises(ValueError, match=message):
            encoder(inputs)


def test_a_sentence_embedding_is_the_mean_of_tokens_at_length_one(rng):
    """Tokens (3, 0), (3, 8) and padding: mean (3, 4), of length 5."""
    x, mask = np.array([[[3.0, 0.0], [3.0, 8.0], [7.0, 7.0]]]), np.array([[1, 1, 0]])
    assert_allclose(ref.sentence_embedding(x, mask), [[0.6, 0.8]], rtol=1e-12)
    assert_allclose(SentenceEmbedding(dtype="float64")(x, mask), [[0.6, 0.8]], rtol=1e-12)
    assert_allclose(SentenceEmbedding(dtype="float64")(100 * x, np.array([[2, 1, 0]])), [[0.6, 0.8]], rtol=1e-12)


def test_a_sentence_without_tokens_is_zero_and_has_a_gradient(rng):
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(1, 3, 2)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = SentenceEmbedding(dtype="float64")(x, np.zeros((1, 3), "int32"))
    assert_array_equal(found, [[0, 0]])
    assert_array_equal(tape.gradient(found, x), np.zeros((1, 3, 2)))


def test_sentence_embeddings_of_half_precision_are_summed_in_float32():
    x = np.full((1, 3000, 2), 100.0)
    found = SentenceEmbedding(dtype="float16")(x, np.ones((1, 3000), "int32"))
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    assert_allclose(np.asarray(found), [[0.5**0.5] * 2], rtol=1e-3)


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (np.ones((2, 3)), IDS, "inputs must have 3 axes"),
        (np.ones((2, 3, 4)), IDS[0], "input_mask must have 2 axes"),
        (np.ones((2, 3, 4)), IDS[:1], "same batch size"),
        (np.ones((2, 3, 4)), IDS[:, :2], "same length"),
    ],
)
def test_sentence_embeddings_name_what_does_not_fit(x, mask, message):
    with pytest.raises(ValueError, match=message):
        SentenceEmbedding()(x, mask)
