"""Definitions, numbers worked by hand, rotations, buckets, lengths. Layers against references: tests/conformance."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, H, M, S, T
from layers import positional_embedding
from layers.common import sinusoids
from layers.positional_embedding import PositionalEmbedding, RelativePositionBias, RelativePositionEmbedding
from layers.positional_embedding.buckets import first_distances, relative_buckets
from reference import positional_embedding as ref
from reference.relative_attention import sinusoid

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
FORMS = {"interleaved": ref.interleaved, "concatenated": ref.concatenated}
every_form = pytest.mark.parametrize("form", FORMS)


def numpy(tensor):
    return np.asarray(keras.ops.cast(tensor, "float64"))


def waves(length, m, *scales, dtype="float64", **options):
    return numpy(RelativePositionEmbedding(m, *scales, dtype=dtype, **options)(None, length=length))


# Learned


@pytest.mark.parametrize(("shape", "axis"), [((B, T, M), 1), ((B, S, T, M), 2), ((B, S, T, M), -2), ((T, B, M), 0), ((T, M), 0)])
def test_every_position_gets_its_row_along_the_axis_of_positions(rng, shape, axis):
    layer = PositionalEmbedding(T + 2, seq_axis=axis, dtype="float64")
    output = numpy(layer(np.zeros(shape)))
    table = np.asarray(layer.embeddings)
    assert layer.embeddings.shape == (T + 2, M) and output.shape == shape
    for place in np.ndindex(shape[:-1]):
        assert_array_equal(output[place], table[place[axis % len(shape)]])
    assert_array_equal(ref.learned(np.zeros(shape), table, axis), output)


def test_a_table_of_ones_and_twos():
    """Rows (1, 2), (3, 4), (5, 6): two examples of two tokens each get (1, 2) and (3, 4)."""
    layer = PositionalEmbedding(3)
    layer.build((2, 2, 2))
    layer.set_weights([np.array([[1, 2], [3, 4], [5, 6]])])
    assert_array_equal(layer(np.full((2, 2, 2), 9.0)), [[[1, 2], [3, 4]]] * 2)


def test_learned_positions_are_the_embedding_of_keras(rng):
    layer, theirs = PositionalEmbedding(T, dtype="float64"), keras.layers.Embedding(T, M, dtype="float64")
    x = rng.normal(size=(B, T, M))
    layer(x)
    theirs.build((None,))
    theirs.set_weights(layer.get_weights())
    assert_array_equal(layer(x)[0], theirs(np.arange(T)))


def test_both_names_are_one_class():
    assert positional_embedding.PositionEmbedding is PositionalEmbedding


def test_a_text_longer_than_max_length_raises_and_says_so(rng):
    message = r"inputs must not be longer than max_length=3 along axis 1. Received: inputs of shape .*, of length 4"
    with pytest.raises(ValueError, match=message):
        PositionalEmbedding(T)(np.zeros((B, T + 1, M)))
    layer = PositionalEmbedding(T)
    layer(np.zeros((B, T, M)))
    for longer in (np.zeros((B, T + 1, M)), keras.Input((T + 1, M))):
        with pytest.raises(ValueError, match=message):
            layer(longer)


@pytest.mark.parametrize("rows", [1, T])
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "XLA"])
def test_a_length_that_is_unknown_and_turns_out_too_long_is_an_error_not_another_row(rows, compiled):
    """One row would broadcast to any length."""
    layer = PositionalEmbedding(rows)
    layer.build((None, None, M))
    run = tf.function(layer, jit_compile=compiled, input_signature=[tf.TensorSpec((None, None, M))])
    assert_array_equal(run(tf.zeros((B, rows, M)))[1], layer.embeddings)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run(tf.zeros((B, rows + 1, M)))


def test_a_shorter_text_gets_the_first_rows_and_trains_no_others(rng):
    layer = PositionalEmbedding(S, dtype="float64")
    x = tf.constant(rng.normal(size=(B, T, M)))
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer(x) * x)
    slope = np.asarray(tape.gradient(loss, layer.embeddings.value))
    assert_allclose(slope[:T], numpy(x).sum(axis=0))
    assert_array_equal(slope[T:], np.zeros((S - T, M)))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"max_length": 0}, None, "max_length must be an integer of at least 1. Received: max_length=0"),
        ({"seq_axis": 1.0}, None, "seq_axis must be an integer. Received: seq_axis=1.0"),
        ({"seq_axis": 2}, (B, T, M), "seq_axis must be an axis of inputs other than the last. Received: seq_axis=2"),
        ({"seq_axis": -1}, (B, T, M), "seq_axis must be an axis of inputs other than the last. Received: seq_axis=-1"),
        ({"seq_axis": 3}, (B, T, M), "seq_axis must be an axis of inputs other than the last. Received: seq_axis=3"),
        ({"seq_axis": -4}, (B, T, M), "seq_axis must be an axis of inputs other than the last. Received: seq_axis=-4"),
        ({}, (B, T, None), "inputs must have at least 2 axes, the last of known size"),
        ({}, (T,), "inputs must have at least 2 axes, the last of known size"),
    ],
)
def test_bad_tables_and_axes_raise(options, shape, message):
    with pytest.raises(ValueError, match=message):
        PositionalEmbedding(**{"max_length": S} | options).build(shape)


def test_inputs_of_another_width_raise():
    layer = PositionalEmbedding(S)
    layer(np.zeros((B, T, M)))
    with pytest.raises(ValueError, match=r"the last of size 11. Received: inputs of shape \(2, 3, 12\)"):
        layer(np.zeros((B, T, M + 1)))


def test_padding_stays_padding_where_the_output_has_examples_and_only_there():
    x = keras.layers.Embedding(S, M, mask_zero=True)(np.array([[1, 2, 0], [3, 0, 0]]))
    assert_array_equal(PositionalEmbedding(S)(x)._keras_mask, x._keras_mask)
    for output in (RelativePositionEmbedding(M)(x), RelativePositionBias(H)(x, x)):
        assert getattr(output, "_keras_mask", None) is None


# Sines and cosines


def test_the_papers_first_columns():
    """m = 4: timescales 1 and 100. Position 3: sin 3, cos 3, sin 0.03, cos 0.03."""
    expected = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    assert_allclose(ref.interleaved(np.array([3]), 4)[0], expected)
    assert_allclose(waves(4, 4)[3], expected)


def test_the_columns_of_tensor2tensor():
    """m = 4: timescales 1 and 10000. Position 3: sin 3, sin 0.0003, cos 3, cos 0.0003."""
    expected = [math.sin(3), math.sin(0.0003), math.cos(3), math.cos(0.0003)]
    assert_allclose(ref.concatenated(np.array([3]), 4)[0], expected)
    assert_allclose(waves(4, 4, convention="concatenated")[3], expected)


def test_the_two_conventions_differ_in_their_wavelengths_too():
    """At position 1 the second frequency of 8 columns is 10000^(−2/8) = 0.1 in one and 10000^(−1/3) = 0.0464 in the other."""
    paper, other = waves(2, 8)[1], waves(2, 8, convention="concatenated")[1]
    assert round(paper[2], 4) == 0.0998 and round(other[1], 4) == 0.0464
    assert_allclose(np.sort(paper)[[0, -1]], [math.sin(0.001), math.cos(0.001)])
    assert_allclose(np.sort(other)[[0, -1]], [math.sin(0.0001), math.cos(0.0001)])


def test_the_paper_is_the_default():
    assert_array_equal(waves(S, M), waves(S, M, 1.0, 1e4, convention="interleaved"))


def test_xlnets_columns_are_the_papers_in_another_order():
    paper = ref.interleaved(np.arange(S), 12)
    assert_array_equal(sinusoid(np.arange(S), 12), np.concatenate([paper[:, 0::2], paper[:, 1::2]], axis=1))


@every_form
@pytest.mark.parametrize("m", [2, 3, 4, 7, 12])
def test_every_entry_is_a_wave_of_its_column(form, m):
    found, k = waves(S, m, 2.0, 90.0, convention=form), m // 2
    for t in range(S):
        for i in range(k):
            steps = m / 2 if form == "interleaved" else max(k - 1, 1)
            sin, cos = ref.wave(t, 1 / (2.0 * 45.0 ** (i / steps)))
            columns = (2 * i, 2 * i + 1) if form == "interleaved" else (i, k + i)
            assert_allclose(found[t, columns], (sin, cos), rtol=1e-12)
    if m % 2:
        last = math.sin(1 / (2.0 * 45.0 ** ((m - 1) / m))) if form == "interleaved" else 0.0
        assert_allclose(found[1, -1], last, rtol=1e-12)
    assert found.shape == (S, m) and np.isfinite(found).all()


@every_form
def test_two_columns_are_one_wave_of_the_shortest_timescale(form):
    assert_allclose(waves(S, 2, 3.0, convention=form), np.stack([np.sin(np.arange(S) / 3), np.cos(np.arange(S) / 3)], axis=1))


@every_form
def test_a_min_timescale_slows_the_first_wave(form):
    """At twice the timescale everything takes twice as long."""
    assert_allclose(waves(2 * S, 8, 2.0, 2e4, convention=form)[::2], waves(S, 8, 1.0, 1e4, convention=form), rtol=1e-12)


@every_form
def test_equal_timescales_are_one_wave_many_times(form):
    found = waves(S, 6, 5.0, 5.0, convention=form)
    pairs = found.reshape(S, 3, 2) if form == "interleaved" else np.stack([found[:, :3], found[:, 3:]], axis=-1)
    assert_allclose(pairs, np.repeat(pairs[:, :1], 3, axis=1))


@pytest.mark.parametrize("k", [1, 5, 300])
def test_a_shift_is_the_same_rotation_everywhere(k):
    table, r = waves(400, 12), ref.rotation(k, 12)
    assert_allclose(table[k:], table[: 400 - k] @ r.T, atol=1e-12)
    assert_allclose(r @ r.T, np.eye(12), atol=1e-14)
    assert_allclose(r @ ref.rotation(-k, 12), np.eye(12), atol=1e-14)


@every_form
def test_a_product_of_two_positions_knows_their_distance_only(form):
    table = waves(40, 12, convention=form)
    products = table @ table.T
    assert_allclose(products[5:, 5:], products[:-5, :-5], atol=1e-12)
    assert_allclose(np.diag(products), np.full(40, 6.0))


@every_form
@pytest.mark.parametrize("length", [1, 255, 256, 257, 65536 + 2])
def test_float32_is_right_to_its_last_digits_at_any_length(form, length):
    """As an angle in float32, position 65,537 would be up to 0.004 off."""
    found = waves(length, 6, dtype="float32", convention=form)
    assert_allclose(found, FORMS[form](np.arange(length), 6), atol=4e-7)
    assert_allclose(waves(length, 6, convention=form), FORMS[form](np.arange(length), 6), atol=2e-11)


def test_a_length_that_is_not_known_yet_gives_the_same_numbers():
    layer = RelativePositionEmbedding(M, dtype="float64")
    for compiled in (False, True):
        run = tf.function(layer, jit_compile=compiled, input_signature=[tf.TensorSpec((None, None, 1), "float64")])
        for length in (2, 300):
            assert_allclose(run(tf.zeros((B, length, 1), "float64")), waves(length, M), atol=1e-14)


@pytest.mark.parametrize("policy", POLICIES)
def test_positions_are_not_counted_in_the_compute_dtype(policy):
    """float16 counts to 2048, and bfloat16 to 256."""
    found = waves(2100, 4, dtype=policy)
    assert_allclose(found, ref.interleaved(np.arange(2100), 4), atol={"float64": 1e-12, "float32": 4e-7}.get(policy, 5e-3))


def test_length_may_be_given_instead_of_inputs_and_must_be_theirs():
    layer = RelativePositionEmbedding(M)
    x = np.zeros((B, T, S))
    assert_array_equal(layer(x), layer(None, length=T))
    assert_array_equal(layer(x), layer(length=T))
    assert_array_equal(layer(x), layer(x, length=T))
    assert layer(keras.Input((None, S))).shape == (None, M)
    for inputs in (x, keras.Input((None, S))):
        with pytest.raises(ValueError, match="inputs must have the length 4. Received: inputs of shape"):
            layer(inputs, length=T + 1)
    with pytest.raises(ValueError, match="inputs or length must be given. Received: inputs=None, length=None"):
        layer(None)
    with pytest.raises(ValueError, match="length must be an integer of at least 1. Received: length=0"):
        layer(None, length=0)
    with pytest.raises(ValueError, match=r"inputs must have at least 2 axes. Received: inputs of shape \(3,\)"):
        layer(np.zeros(T))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 1}, "hidden_size must be an integer of at least 2. Received: hidden_size=1"),
        ({"min_timescale": 0.0}, "min_timescale must be above 0 and at most max_timescale"),
        ({"min_timescale": 5.0, "max_timescale": 4.0}, "Received: min_timescale=5.0, max_timescale=4.0"),
        ({"max_timescale": float("inf")}, "max_timescale must be a finite number"),
        ({"min_timescale": float("nan")}, "min_timescale must be above 0"),
        ({"convention": "paper"}, "convention must be one of .*interleaved.* Received: convention='paper'"),
    ],
)
def test_bad_sinusoids_raise(options, message):
    with pytest.raises(ValueError, match=message):
        RelativePositionEmbedding(**{"hidden_size": M} | options)


def test_an_angle_is_turned_by_each_digit_of_the_position():
    """Position 515 = 2·256 + 3: the sine of the sum, from the sines of its parts."""
    sin, cos = sinusoids.sines_and_cosines(516, np.array([0.7]), "float64")
    assert_allclose([sin[515, 0], cos[515, 0]], ref.wave(515, 0.7), rtol=1e-12)


# A bias for each distance

T5_BOTH_WAYS = {0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -15: 9, -16: 10, -22: 10, -23: 11, -31: 11, -32: 12, -45: 12, -46: 13}
T5_BOTH_WAYS |= {-63: 13, -64: 14, -90: 14, -91: 15, -128: 15, -9999: 15, 1: 17, 7: 23, 8: 24, 16: 26, 64: 30, 91: 31, 9999: 31}
T5_BACK = {5: 0, 0: 0, -1: 1, -15: 15, -16: 16, -18: 16, -19: 17, -20: 17, -21: 18, -112: 30, -113: 31, -128: 31, -9999: 31}


@pytest.mark.parametrize(("both_ways", "expected"), [(True, T5_BOTH_WAYS), (False, T5_BACK)])
def test_buckets_of_t5(both_ways, expected):
    """place(16) with r = 16: e = 8, and 8 + ⌊8 log 2 / log 16⌋ = 8 + 2, exactly."""
    assert {n: ref.bucket(n, both_ways=both_ways) for n in expected} == expected


@pytest.mark.parametrize(
    ("buckets", "most", "both_ways"), [(32, 128, True), (32, 128, False), (8, 4, True), (6, 9, True), (9, 20, False)]
)
def test_buckets_are_the_formula_wherever_its_logarithm_is_no_whole_number(buckets, most, both_ways):
    r = buckets // 2 if both_ways else buckets
    e = r // 2
    for n in range(-3 * most, 3 * most + 1):
        distance = abs(n) if both_ways else max(-n, 0)
        steps = (r - e) * math.log(distance / e) / math.log(most / e) if distance >= e else 0.0
        if abs(steps - round(steps)) > 1e-9 or steps == 0:
            expected = (r if both_ways and n > 0 else 0) + (distance if distance < e else min(r - 1, e + math.floor(steps)))
            assert ref.bucket(n, buckets, most, both_ways) == expected, n


BOTH_WAYS = [(32, 128), (4, 2), (4, 3), (6, 9), (8, 4), (8, 5), (12, 1000), (64, 33)]
BACK = [(32, 128), (2, 2), (3, 7), (4, 3), (6, 9), (9, 20), (12, 1000), (15, 60), (64, 33)]


@pytest.mark.parametrize(
    ("buckets", "most", "both_ways"), [*((*sizes, True) for sizes in BOTH_WAYS), *((*sizes, False) for sizes in BACK)]
)
def test_buckets_of_the_layer_are_those_of_the_definition(buckets, most, both_ways):
    far = 2 * min(most, 150) + 5
    found = numpy(relative_buckets(keras.ops.arange(-far, far), buckets, most, both_ways))
    assert_array_equal(found, [ref.bucket(n, buckets, most, both_ways) for n in range(-far, far)])


def test_first_distances_of_t5():
    assert_array_equal(first_distances(16, 128), [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91])


def test_31_of_32_buckets_are_used_both_ways_and_all_of_them_looking_back():
    both, back = ({ref.bucket(n, both_ways=both_ways) for n in range(-500, 501)} for both_ways in (True, False))
    assert both == set(range(32)) - {16} and back == set(range(32))
    assert {*numpy(relative_buckets(keras.ops.arange(-200, 200), 32, 128, True)).astype(int).flat} == both


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_grow_with_the_distance_on_each_side(both_ways):
    behind, ahead = ([ref.bucket(sign * n, both_ways=both_ways) for n in range(1, 300)] for sign in (-1, 1))
    assert behind == sorted(behind) and ahead == sorted(ahead)
    assert ahead == ([16 + bucket for bucket in behind] if both_ways else [0] * len(ahead))


def bias(rng, t, s, dtype="float64", **options):
    layer = RelativePositionBias(H, dtype=dtype, **options)
    output = numpy(layer(np.zeros((B, t, M)), np.zeros((B, s, M))))
    return layer, output


@pytest.mark.parametrize("both_ways", [True, False])
def test_the_bias_is_the_row_of_the_bucket_of_the_distance(rng, both_ways):
    layer, output = bias(rng, T, S, bidirectional=both_ways)
    table = np.asarray(layer.embeddings)
    assert output.shape == (1, H, T, S) and table.shape == (32, H)
    for i, j in np.ndindex(T, S):
        assert_array_equal(output[0, :, i, j], table[ref.bucket(j - i, both_ways=both_ways)])


def test_a_bias_worked_by_hand():
    """Four buckets both ways, e = 1, r = 2: rows 0 and 1 for distance 0 and behind, row 3 for ahead; row 2 is never used."""
    layer = RelativePositionBias(1, 4, 2)
    layer.build((1, 2, 1), (1, 3, 1))
    layer.set_weights([np.array([[10.0], [11], [12], [13]])])
    assert_array_equal(layer(np.zeros((1, 2, 1)), np.zeros((1, 3, 1)))[0, 0], [[10, 13, 13], [11, 10, 13]])
    assert_array_equal(
        ref.relative_position_bias(2, 3, np.array([[10.0], [11], [12], [13]]), 2)[0, 0], [[10, 13, 13], [11, 10, 13]]
    )


@pytest.mark.parametrize("both_ways", [True, False])
def test_the_bias_does_not_change_when_query_and_key_move_together(rng, both_ways):
    _, output = bias(rng, 40, 40, bidirectional=both_ways)
    assert_array_equal(output[:, :, 7:, 7:], output[:, :, :-7, :-7])


def test_a_shorter_text_has_the_corner_of_the_longer_ones_bias(rng):
    layer, output = bias(rng, 40, 50)
    assert_array_equal(layer(np.zeros((B, 9, 1)), np.zeros((B, 30, 2))), output[:, :, :9, :30])


def test_looking_back_all_keys_ahead_are_as_the_query_itself(rng):
    _, output = bias(rng, S, S, bidirectional=False)
    for i in range(S):
        assert_array_equal(output[0, :, i, i:], np.repeat(output[0, :, i, i : i + 1], S - i, axis=1))


def test_no_gradient_reaches_the_bucket_that_no_distance_has(rng):
    layer = RelativePositionBias(H, dtype="float64")
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer(np.zeros((1, 150, 1)), np.zeros((1, 150, 1))))
    slope = np.asarray(tf.convert_to_tensor(tape.gradient(loss, layer.embeddings.value)))
    assert_array_equal(np.flatnonzero((slope == 0).all(axis=1)), [16])
    assert slope.sum() == H * 150 * 150


def test_the_bias_starts_from_a_normal_distribution_unless_told_otherwise():
    start = numpy(bias(None, T, S)[0].embeddings)
    assert 0.5 < start.std() < 1.5 and np.abs(start).max() <= 2
    assert_array_equal(bias(None, T, S, embeddings_initializer="zeros")[1], np.zeros((1, H, T, S)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an integer of at least 1. Received: num_heads=0"),
        ({"relative_attention_num_buckets": 2}, "must be an even integer of at least 4, half for each direction. Received: .*=2"),
        ({"relative_attention_num_buckets": 7}, "must be an even integer of at least 4, half for each direction. Received: .*=7"),
        ({"relative_attention_num_buckets": 1, "bidirectional": False}, "must be an integer of at least 2. Received: .*=1"),
        ({"relative_attention_max_distance": 8}, "relative_attention_max_distance must be an integer above 8, .* Received: .*=8"),
        ({"relative_attention_max_distance": 16, "bidirectional": False}, "max_distance must be an integer above 16, .*=16"),
        ({"relative_attention_max_distance": 128.0}, "max_distance must be an integer above 8, .*=128.0"),
    ],
)
def test_bad_buckets_raise(options, message):
    with pytest.raises(ValueError, match=message):
        RelativePositionBias(**{"num_heads": H} | options)


def test_a_query_or_key_without_positions_raises():
    for shapes, name in ((((B,), (B, S)), "query"), (((B, T), (B,)), "key")):
        with pytest.raises(ValueError, match=rf"{name} must have at least 2 axes. Received: {name} of shape \(2,\)"):
            RelativePositionBias(H)(*map(np.zeros, shapes))


# Offsets

OFFSET = 4
BY_OFFSET = {
    "learned": lambda **options: PositionalEmbedding(T + OFFSET, **options),
    "interleaved": lambda **options: RelativePositionEmbedding(M, **options),
    "concatenated": lambda **options: RelativePositionEmbedding(M, convention="concatenated", **options),
}
every_layer = pytest.mark.parametrize("kind", BY_OFFSET)


def with_offset(layer, x, offset, mode):
    """The layer's output for an offset that is an integer, a tensor, or a tensor without a value during tracing."""
    if mode == "integer":
        return numpy(layer(x, offset=offset))
    if mode == "eager":
        return numpy(layer(x, offset=tf.constant(offset)))
    compiled = tf.function(lambda t: layer(tf.constant(x), offset=t), jit_compile=mode == "XLA", autograph=False)
    return numpy(compiled(tf.constant(offset)))


@every_layer
@pytest.mark.parametrize("mode", ["integer", "eager", "graph", "XLA"])
def test_tokens_after_others_get_the_positions_after_theirs(rng, kind, mode):
    layer, x = BY_OFFSET[kind](dtype="float64"), rng.normal(size=(B, T + OFFSET, M))
    together = numpy(layer(x))
    for offset in range(OFFSET + 1):
        rows = np.s_[..., offset : offset + T, :]
        found = with_offset(layer, x[:, :T], offset, mode)
        assert_allclose(found, together[rows], rtol=0, atol=1e-15)


@pytest.mark.parametrize("mode", ["integer", "eager", "graph", "XLA"])
@pytest.mark.parametrize("both_ways", [True, False])
def test_queries_after_others_get_the_rows_after_theirs(rng, both_ways, mode):
    layer = RelativePositionBias(H, 8, 6, both_ways, dtype="float64")
    x, keys = rng.normal(size=(B, S, M)), rng.normal(size=(B, S + T, M))
    together = numpy(layer(keys, keys))
    for offset in range(S):
        call = lambda x, offset: layer(x, tf.constant(keys), offset=offset)  # noqa: E731
        found = with_offset(call, x[:, :T], offset, mode)
        assert_array_equal(found, together[:, :, offset : offset + T])
        assert_array_equal(ref.relative_position_bias(T, S + T, numpy(layer.embeddings), 6, both_ways, offset), found)


@pytest.mark.parametrize("offset", [-(2**40), -(2**31) + 1, -300, 300, 2**31 - 1, 2**40])
def test_a_far_offset_is_in_the_last_bucket(rng, offset):
    layer, x = RelativePositionBias(H, dtype="float64"), rng.normal(size=(B, T, M))
    layer.build(x.shape, x.shape)
    dtype = "int64" if abs(offset) > 2**31 else "int32"
    compiled = tf.function(lambda t: layer(tf.constant(x), tf.constant(x), offset=t))
    row = numpy(layer.embeddings)[15 if offset > 0 else 31]
    for found in (layer(x, x, offset=offset), compiled(tf.constant(offset, dtype))):
        assert_array_equal(found, np.broadcast_to(row[None, :, None, None], (1, H, T, T)))


@every_layer
@pytest.mark.parametrize(
    "offset", [1.5, "1", True, None, np.array([1, 2]), np.array(1.0), -1, np.int64(-1), tf.constant(-1), 2**31 - T + 1, 2**40]
)
def test_an_offset_that_is_known_and_no_position_raises(rng, kind, offset):
    layer, x = BY_OFFSET[kind](), rng.normal(size=(B, T, M))
    with pytest.raises(ValueError, match="offset must be at least 0, and offset plus|offset must be an integer or a scalar"):
        layer(x, offset=offset)


@pytest.mark.parametrize("as_offset", [int, np.int32, tf.constant])
def test_tokens_beyond_the_table_raise_and_say_so(rng, as_offset):
    layer, x = PositionalEmbedding(T + OFFSET), rng.normal(size=(B, T, M))
    layer(x, offset=as_offset(OFFSET))
    message = f"offset plus the length of inputs at most max_length={T + OFFSET}. Received: offset={OFFSET + 1}, length {T}"
    with pytest.raises(ValueError, match=message):
        layer(x, offset=as_offset(OFFSET + 1))
    with pytest.raises(ValueError, match=message):
        layer(keras.Input((T, M)), offset=OFFSET + 1)
    with pytest.raises(ValueError, match=f"offset must be from 0 to {T + OFFSET} - {T}. Received: offset={OFFSET + 1}"):
        ref.learned(x, numpy(layer.embeddings), offset=OFFSET + 1)


@every_layer
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_an_offset_that_is_not_known_gives_zeros_where_there_is_no_position_and_never_another_row(rng, kind, compiled, dtype):
    layer, x = BY_OFFSET[kind](dtype="float64"), rng.normal(size=(B, T, M))
    layer(x)
    call = tf.function(lambda t: layer(tf.constant(x), offset=t), jit_compile=compiled, autograph=False)
    last = T + OFFSET if kind == "learned" else 2**31
    offsets = [-(2**31), -T, -1, 0, last - T, last - T + 1, last - 1]
    offsets += [last, last + 5] if kind == "learned" else []
    offsets += [2**31, 2**32, 2**32 + 1, 2**40, -(2**32)] if dtype == "int64" else []
    for offset in offsets:
        rows = numpy(call(tf.constant(offset, dtype)))
        rows = rows[0] if kind == "learned" else rows
        for row, place in zip(rows, range(offset, offset + T)):
            if 0 <= place < last:
                single = numpy(layer(x[:, :1], offset=place))
                assert_allclose(row, single[(0,) * (single.ndim - 1)], rtol=0, atol=1e-15)
                assert np.any(row)
            else:
                assert not np.any(row), (offset, place)


def test_slopes_reach_the_rows_that_were_taken_and_no_others(rng):
    layer, x = PositionalEmbedding(T + OFFSET, dtype="float64"), tf.constant(rng.normal(size=(B, T, M)))
    layer(x)

    @tf.function
    def slope(offset):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, offset=offset) * x)
        return tf.convert_to_tensor(tape.gradient(loss, layer.embeddings.value))

    for offset in (0, 3, OFFSET + 1):
        expected = np.zeros((T + OFFSET + 1, M))
        expected[offset : offset + T] = x.numpy().sum(axis=0)
        assert_allclose(slope(tf.constant(offset)), expected[: T + OFFSET], rtol=1e-12)


def test_a_position_may_come_as_an_input_of_a_functional_model(rng, tmp_path):
    x, offset = keras.Input((None, M)), keras.Input(batch_shape=(), dtype="int32")
    learned, waves, bias = PositionalEmbedding(T + OFFSET), RelativePositionEmbedding(M), RelativePositionBias(H)
    outputs = [learned(x, offset=offset), waves(x, offset=offset), bias(x, x, offset=offset)]
    assert [y.shape for y in outputs] == [(None, None, M), (None, M), (1, H, None, None)]
    keras.Model([x, offset], outputs).save(tmp_path / "model.keras")
    given = rng.normal(size=(B, T, M)).astype("float32")
    found = keras.saving.load_model(tmp_path / "model.keras")([given, np.array(2, "int32")])
    for y, expected in zip(found, (learned(given, offset=2), waves(given, offset=2), bias(given, given, offset=2))):
        assert_allclose(y, expected, atol=1e-6)
