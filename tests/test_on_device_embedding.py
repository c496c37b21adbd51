"""The definition, a number worked by hand, both paths, ids outside. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, M, T
from crosscheck.weights import draw_weights
from layers.on_device_embedding import OnDeviceEmbedding
from reference import on_device_embedding as ref

N = 17
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
OUTSIDE = (-(2**40), -N - 1, -N, -2, -1, N, N + 1, 2**31 - 1, 2**32 + 3)

both_paths = pytest.mark.parametrize("use_one_hot", [False, True], ids=["look-up", "one-hot"])


def made(rng, n=N, m=M, dtype="float64", **options):
    """A layer with a drawn table."""
    layer = OnDeviceEmbedding(n, m, dtype=dtype, **options)
    layer.build((None, None))
    draw_weights(layer, rng)
    return layer


def numpy(tensor):
    return np.asarray(keras.ops.cast(tensor, "float64"))


@pytest.mark.parametrize("function", [ref.embed, ref.embed_by_one_hot])
def test_both_forms_are_embed_one_for_every_id(rng, function):
    table, ids = rng.normal(size=(N, M)), rng.integers(-3, N + 3, (B, T, 4))
    output = function(ids, table, 2.5)
    for place in np.ndindex(ids.shape):
        assert_allclose(output[place], ref.embed_one(int(ids[place]), table, 2.5), rtol=1e-15)
    assert (ids < 0).any() and (ids >= N).any()


@both_paths
def test_worked_example(use_one_hot):
    """Rows (1, 2), (3, 4), (5, 6); ids 2, 0, 3, twice the row each: (10, 12), (2, 4), and nothing, because there is no row 3."""
    table, ids, expected = np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([2, 0, 3]), [[10, 12], [2, 4], [0, 0]]
    assert_array_equal(ref.embed(ids, table, 2.0), expected)
    assert_array_equal(ref.embed_by_one_hot(ids, table, 2.0), expected)
    assert_array_equal(ref.one_hot(ids, 3), [[0, 0, 1], [1, 0, 0], [0, 0, 0]])
    layer = OnDeviceEmbedding(3, 2, use_one_hot=use_one_hot, scale_factor=2)
    layer.build((None,))
    layer.set_weights([table])
    assert_array_equal(layer(ids), expected)


def test_gradient_of_a_row_is_the_sum_over_the_tokens_that_it_was(rng):
    """Ids 1, 1, 0 and slopes (1, 2), (3, 4), (5, 6): row 1 gets (4, 6), row 0 (5, 6), and row 2, which no token was, nothing."""
    ids, slope = np.array([1, 1, 0]), np.array([[1.0, 2], [3, 4], [5, 6]])
    assert_array_equal(ref.gradient_by_loops(ids, slope, 3), [[5, 6], [4, 6], [0, 0]])
    ids, slope = rng.integers(-3, N + 3, (B, T, 4)), rng.normal(size=(B, T, 4, M))
    expected = ref.gradient_by_loops(ids, slope, N, 2.5)
    assert_allclose(ref.gradient_by_one_hot(ids, slope, N, 2.5), expected, rtol=1e-12, atol=1e-15)


def gradient(layer, ids, slope):
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer(ids) * slope)
    return tf.convert_to_tensor(tape.gradient(loss, layer.embeddings.value))


@both_paths
@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "XLA"])
def test_gradient_of_the_layer_is_that_of_the_loop(rng, use_one_hot, compiled):
    layer = made(rng, use_one_hot=use_one_hot, scale_factor=1.5)
    ids, slope = np.array([[3, 3, -1], [0, N, 3]]), rng.normal(size=(2, 3, M))
    run = gradient if compiled is None else tf.function(gradient, jit_compile=compiled)
    expected = ref.gradient_by_loops(ids, slope, N, 1.5)
    assert_allclose(run(layer, tf.constant(ids), tf.constant(slope)), expected, rtol=1e-12)
    assert (expected[[0, 3]] != 0).all() and (np.delete(expected, [0, 3], axis=0) == 0).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_look_up_and_product_give_the_same_numbers_in_every_dtype(rng, policy):
    look_up, product = (made(rng, dtype=policy, use_one_hot=use_one_hot, scale_factor=0.7) for use_one_hot in (False, True))
    product.set_weights(look_up.get_weights())
    ids = rng.integers(-2, N + 2, (B, T))
    assert_array_equal(numpy(look_up(ids)), numpy(product(ids)))


@both_paths
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "XLA"])
def test_an_id_outside_the_vocabulary_gives_zeros_on_every_path(rng, use_one_hot, policy, compiled):
    layer = made(rng, dtype=policy, use_one_hot=use_one_hot)
    ids = tf.constant([*OUTSIDE, 0, N - 1], "int64")
    output = numpy((layer if compiled is None else tf.function(layer, jit_compile=compiled))(ids))
    assert_array_equal(output[: len(OUTSIDE)], np.zeros((len(OUTSIDE), M)))
    table = numpy(keras.ops.cast(layer.embeddings, layer.compute_dtype))
    assert_array_equal(output[len(OUTSIDE) :], table[[0, N - 1]])


@both_paths
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "XLA"])
def test_a_graph_for_any_length_gives_zeros_too(rng, use_one_hot, compiled):
    layer = made(rng, use_one_hot=use_one_hot)
    run = tf.function(layer, jit_compile=compiled, input_signature=[tf.TensorSpec((None, None), "int32")])
    ids = rng.integers(-2, N + 2, (B, 5)).astype("int32")
    assert_array_equal(run(ids), ref.embed(ids, np.asarray(layer.embeddings)))


@both_paths
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_ids_of_every_integer_type_are_compared_with_the_vocabulary_as_numbers(rng, use_one_hot, dtype):
    """300 rows are more than 8 bits count, so that a comparison in the type of the ids would be wrong."""
    layer = made(rng, n=300, use_one_hot=use_one_hot)
    most = np.iinfo(dtype).max
    far = min(most, 2**32 + 3)  # 3, if all but 32 bits are dropped
    ids = np.array([0, 1, min(most, 299), most, far], dtype)
    expected = ref.embed(np.array([min(int(i), 300) for i in ids]), np.asarray(layer.embeddings))
    assert_array_equal(layer(tf.constant(ids)), expected)


@both_paths
def test_a_scale_of_zero_is_zero_and_none_is_one(rng, use_one_hot):
    ids = rng.integers(0, N, (B, T))
    plain = made(rng, use_one_hot=use_one_hot)
    for scale, factor in ((None, 1), (0.0, 0), (0, 0), (1, 1), (-2, -2), (np.float32(0.5), 0.5)):
        layer = OnDeviceEmbedding(N, M, use_one_hot=use_one_hot, scale_factor=scale, dtype="float64")
        layer.build((None, None))
        layer.set_weights(plain.get_weights())
        assert_array_equal(layer(ids), factor * numpy(plain(ids)))
        assert layer.get_config()["scale_factor"] == scale


def test_it_is_the_embedding_of_keras(rng):
    layer, theirs = made(rng), keras.layers.Embedding(N, M, dtype="float64")
    theirs.build((None, None))
    theirs.set_weights(layer.get_weights())
    ids = rng.integers(0, N, (B, T))
    assert_array_equal(layer(ids), theirs(ids))


def test_a_linear_map_of_one_hot_rows_is_the_same(rng):
    layer, dense = made(rng), keras.layers.Dense(M, use_bias=False, dtype="float64")
    dense.build((None, None, N))
    dense.set_weights(layer.get_weights())
    ids = rng.integers(0, N, (B, T))
    assert_array_equal(layer(ids), dense(np.eye(N)[ids]))


def test_a_broken_row_spoils_the_product_for_everyone_and_the_look_up_for_its_own_tokens(rng):
    table = rng.normal(size=(N, M))
    table[0] = np.nan
    ids = np.array([1, -1, N, 0])
    for use_one_hot, spoiled in ((False, [False, False, False, True]), (True, [True] * 4)):
        layer = OnDeviceEmbedding(N, M, use_one_hot=use_one_hot, dtype="float64")
        layer.build((None,))
        layer.set_weights([table])
        assert_array_equal(np.isnan(numpy(layer(ids))).any(axis=-1), spoiled)


def test_under_mixed_precision_the_table_stays_in_float32_and_so_does_its_gradient(rng):
    layer = made(rng, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        output = layer(np.zeros((1, 301), "int32"))
        loss = keras.ops.sum(keras.ops.cast(output, "float32"))
    assert output.dtype == "bfloat16" and layer.embeddings.dtype == "float32"
    slope = np.asarray(tf.convert_to_tensor(tape.gradient(loss, layer.embeddings.value)))
    assert_array_equal(slope[0], np.full(M, 301))  # which bfloat16 does not have


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_under_mixed_precision_a_look_up_casts_its_rows_and_not_the_table(rng, policy):
    layer = made(rng, dtype=policy)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((B, T), "int32")).graph
    floats = [op.inputs[0].shape for op in graph.get_operations() if op.type == "Cast" and op.inputs[0].dtype.is_floating]
    assert floats == [(B, T, M)]


@both_paths
@pytest.mark.parametrize("shape", [(), (T,), (B, T), (B, T, 4), (0, T)])
def test_ids_may_have_any_shape(rng, use_one_hot, shape):
    layer = made(rng, use_one_hot=use_one_hot)
    ids = rng.integers(0, N, shape)
    output = layer(tf.constant(ids))
    assert output.shape == (*shape, M) == layer.compute_output_shape(shape)
    assert_array_equal(output, ref.embed(np.asarray(ids), np.asarray(layer.embeddings)))


def test_the_table_is_the_only_weight_and_is_called_embeddings(rng):
    layer = OnDeviceEmbedding(N, M, initializer=keras.initializers.Constant(0.25))
    layer(np.zeros((B, T), "int32"))
    assert [(w.path.split("/")[-1], w.shape) for w in layer.weights] == [("embeddings", (N, M))]
    assert_array_equal(layer.embeddings, np.full((N, M), 0.25, "float32"))


@both_paths
def test_training_changes_the_rows_that_were_there_and_no_others(rng, use_one_hot):
    layer = made(rng, dtype="float32", use_one_hot=use_one_hot)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before, ids = layer.get_weights()[0], np.array([[2, 5, N, -1]])
    model.fit(ids, np.zeros((1, 4, M)), verbose=0)
    changed = (layer.get_weights()[0] != before).any(axis=-1)
    assert_array_equal(np.flatnonzero(changed), [2, 5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be an integer of at least 1. Received: vocab_size=0"),
        ({"embedding_width": 2.0}, "embedding_width must be an integer of at least 1. Received: embedding_width=2.0"),
        ({"scale_factor": "4"}, "scale_factor must be a finite number or None. Received: scale_factor='4'"),
        ({"scale_factor": True}, "scale_factor must be a finite number or None. Received: scale_factor=True"),
        ({"scale_factor": float("nan")}, "scale_factor must be a finite number or None. Received: scale_factor=nan"),
    ],
)
def test_bad_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        OnDeviceEmbedding(**{"vocab_size": N, "embedding_width": M} | options)


@both_paths
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "bool"])
def test_ids_that_are_no_integers_raise(rng, use_one_hot, dtype):
    """In bfloat16, id 257 would be 256."""
    layer = made(rng, dtype="mixed_bfloat16", use_one_hot=use_one_hot)
    with pytest.raises(ValueError, match="inputs must be integers, such as int32. Received: inputs of dtype"):
        layer(keras.ops.cast(keras.ops.ones((B, T)), dtype))
    with pytest.raises(ValueError, match="inputs must be integers"):
        layer(keras.Input((T,), dtype=dtype))


def test_a_model_without_an_input_of_integers_says_what_it_needs(rng):
    ids = np.zeros((B, T), "int32")
    with pytest.raises(ValueError, match=r"unless it begins with keras.Input\(shape, dtype='int32'\)"):
        keras.Sequential([OnDeviceEmbedding(N, M)])(ids)
    assert keras.Sequential([keras.Input((T,), dtype="int32"), OnDeviceEmbedding(N, M)])(ids).shape == (B, T, M)
