"""The definition, a number worked by hand, no neighbor read, a shared table. Layer and reference: tests/conformance."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from crosscheck.case import B, M, S, T
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.masked_lm import MaskedLM
from reference import masked_lm as ref
from reference.common.activations import ACTIVATIONS, gelu, linear
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection

N = 17
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
OUTSIDE = np.array([[1, S, -1], [-S, 10**9, S - 1]])


def made(rng, dtype="float64", **options):
    """A head with drawn weights, sequences and positions for it."""
    head = MaskedLM(keras.layers.Embedding(N, M, dtype=dtype), **({"activation": "gelu"} | options), dtype=dtype)
    x, positions = rng.normal(size=(B, S, M)), rng.integers(0, S, (B, T))
    head(x, positions)
    draw_weights(head, rng)
    return head, x, positions


def language_model(rng, **options):
    """A functional model in which the table is looked up and shared, and ids and positions for it."""
    ids, positions = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(N, M, name="word_embeddings")
    logits = MaskedLM(embedding, "gelu", name="masked_lm", **options)(embedding(ids), positions)
    model = keras.Model([ids, positions], logits)
    draw_weights(model, rng)
    return model, [rng.integers(0, N, (B, S)), rng.integers(0, S, (B, T))]


def numpy(tensor):
    return np.asarray(keras.ops.cast(tensor, "float64"))


def head_weights(rng, width=M):
    dense = Projection(rng.normal(size=(M, width)), rng.normal(size=width))
    norm = LayerNorm(rng.normal(size=width), rng.normal(size=width))
    return ref.MaskedLMWeights(dense, norm, rng.normal(size=N), rng.normal(size=(N, width)))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("width", [M, M - 2])
def test_masked_lm_is_predict_one_for_every_position(rng, name, width):
    x, weights = rng.normal(size=(B, S, M)), head_weights(rng, width)
    logits, h = ref.masked_lm(x, OUTSIDE, weights, ACTIVATIONS[name])
    for b, t in np.ndindex(B, T):
        expected = ref.predict_one(x[b], int(OUTSIDE[b, t]), weights, ACTIVATIONS[name])
        assert_allclose(logits[b, t], expected, rtol=1e-10)
    assert h.shape == (B, T, width)


def test_worked_example():
    """x = (1, 3) is normalized to (−1, 1); rows (1, 2), (5, 0), (0, 0) give 1, −5, 0; plus the bias: 1, −4, 2."""
    x = np.array([[[9.0, 9.5], [1.0, 3.0]]])
    norm, table = LayerNorm(np.ones(2), np.zeros(2)), np.array([[1.0, 2.0], [5.0, 0.0], [0.0, 0.0]])
    weights = ref.MaskedLMWeights(Projection(np.eye(2), np.zeros(2)), norm, np.array([0.0, 1.0, 2.0]), table)
    assert_allclose(ref.predict_one(x[0], 1, weights, linear), [1, -4, 2], rtol=1e-9)
    embedding = keras.layers.Embedding(3, 2, dtype="float64", weights=[table])
    head = MaskedLM(embedding, dtype="float64")
    head.build((None, None, 2), (None, None))
    head.dense.kernel.assign(np.eye(2))
    head.bias.assign([0.0, 1.0, 2.0])
    assert_allclose(head(x, np.array([[1]]))[0, 0], [1, -4, 2], rtol=1e-9)


def test_it_is_keras_s_own_parts_behind_a_slice(rng):
    head, x, positions = made(rng, activation="relu")
    dense, norm = keras.layers.Dense(M, "relu", dtype="float64"), keras.layers.LayerNormalization(epsilon=1e-12, dtype="float64")
    found = np.stack([row[at] for row, at in zip(x, positions)])
    for theirs, mine in ((dense, head.dense), (norm, head.layer_norm)):
        theirs.build(found.shape)
        theirs.set_weights(mine.get_weights())
    expected = numpy(norm(dense(found))) @ numpy(head.table).T + numpy(head.bias)
    assert_allclose(head(x, positions), expected, rtol=1e-10)


@pytest.mark.parametrize("output", ["logits", "predictions"])
def test_only_the_position_that_is_asked_for_has_influence(rng, output):
    head, x, positions = made(rng, output=output)
    before = numpy(head(x, positions))
    for b in range(B):
        others = np.setdiff1d(np.arange(S), positions[b])
        x[b, others] = np.nan
    assert_array_equal(head(x, positions), before)


def runs():
    def eagerly(head):
        return head

    def compiled(jit_compile):
        signature = [tf.TensorSpec((None, None, M), "float64"), tf.TensorSpec((None, None), "int64")]
        return lambda head: tf.function(lambda *inputs: head(*inputs), input_signature=signature, jit_compile=jit_compile)

    return {"eager": eagerly, "graph": compiled(False), "xla": compiled(True)}


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_a_position_outside_the_sequence_reads_nothing(rng, how):
    head, x, _ = made(rng)
    run, inside = runs()[how](head), (OUTSIDE >= 0) & (OUTSIDE < S)
    before = numpy(run(x, OUTSIDE))
    assert_array_equal(before[~inside], np.zeros((4, N)))
    expected, _ = ref.masked_lm(x, OUTSIDE, weights_of(head, ref.MaskedLMWeights))
    assert_allclose(before, expected, rtol=1e-9, atol=1e-12)
    x[:, [0, 2, 3]] = np.nan  # all but what position 1 and the last one read
    x[1, 1] = x[0, -1] = np.inf
    assert_array_equal(numpy(run(x, OUTSIDE)), before)


@pytest.mark.slow
def test_a_position_outside_the_sequence_reads_nothing_on_jax():
    program = f"""
import keras, numpy as np
from layers.masked_lm import MaskedLM
head = MaskedLM(keras.layers.Embedding({N}, {M}))
x, positions = np.ones(({B}, {S}, {M}), "float32"), np.array({OUTSIDE.tolist()}, "int32")
import jax
for run in (head, jax.jit(head)):
    logits = np.asarray(run(x, positions))
    assert (np.abs(logits).sum(axis=-1) == 0).tolist() == [[False, True, True], [True, True, False]], logits
"""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_a_position_outside_the_sequence_gives_every_token_the_same_probability_and_no_gradient(rng):
    head, x, _ = made(rng, output="predictions")
    nowhere = np.full((B, T), -1)
    assert_allclose(head(x, nowhere), np.full((B, T, N), -np.log(N)), rtol=1e-12)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(head(x, nowhere) * np.arange(N))
    for slope in tape.gradient(loss, [x, *(v.value for v in head.trainable_variables)], unconnected_gradients="zero"):
        assert_array_equal(tf.convert_to_tensor(slope), np.zeros(slope.shape))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_positions_of_every_integer_type_are_read_alike(rng, dtype):
    """A sequence longer than int8 can count, and, in a large batch, rows further on than int16 can."""
    head = MaskedLM(keras.layers.Embedding(N, M), "gelu")
    x, positions = rng.normal(size=(200, 300, M)), rng.integers(0, 127, (200, T))
    expected = np.array(numpy(head(x, positions)))
    positions[0, 0], expected[0, 0] = 127, numpy(head(x, np.full((200, 1), 127)))[0, 0]
    assert_array_equal(numpy(head(x, positions.astype(dtype))), expected)


def test_predictions_are_log_probabilities(rng):
    head, x, positions = made(rng, output="predictions")
    plain, _, _ = made(rng)
    plain.set_weights(head.get_weights())
    found, logits = numpy(head(x, positions)), numpy(plain(x, positions))
    assert (found < 0).all()
    assert_allclose(np.exp(found).sum(axis=-1), 1, rtol=1e-12)
    assert_allclose(found, log_softmax(logits, axis=-1), rtol=1e-10)
    assert_allclose(ref.log_softmax(logits), log_softmax(logits, axis=-1), rtol=1e-10)
    assert_array_equal(ref.log_softmax(np.array([1e4, 0.0])), [0, -1e4])


def test_gelu_is_exact_and_no_activation_the_default(rng):
    for options, phi in (({"activation": "gelu"}, gelu), ({"activation": None}, linear)):
        head, x, positions = made(rng, **options)
        expected, _ = ref.masked_lm(x, positions, weights_of(head, ref.MaskedLMWeights), phi)
        assert_allclose(head(x, positions), expected, rtol=1e-10)
    assert MaskedLM(keras.layers.Embedding(N, M)).activation is keras.activations.linear


def test_the_table_is_shared_and_its_gradient_is_the_sum_of_both_uses(rng):
    model, inputs = language_model(rng)
    embedding, head = model.get_layer("word_embeddings"), model.get_layer("masked_lm")
    assert head.table is embedding.embeddings
    assert [v.path for v in model.trainable_variables].count("word_embeddings/embeddings") == 1
    # Kernel and bias of the map, gamma and beta, the bias of the vocabulary; and the table, once.
    assert model.count_params() == M * M + M + 2 * M + N + N * M
    before, table = numpy(model(inputs)), numpy(embedding.embeddings)
    embedding.embeddings.assign(2 * table)
    assert (np.abs(numpy(model(inputs)) - before) > 1e-6).all()
    embedding.embeddings.assign(table)
    found = np.asarray(embedding(inputs[0]))

    def slope(looked_up, compared):
        with tf.GradientTape() as tape:
            x = embedding(inputs[0]) if looked_up else tf.constant(found)
            h = head(x, inputs[1]) if compared else None
            if not compared:  # the same logits, from a table that is a constant
                rows = tf.gather(x, inputs[1], batch_dims=1)
                h = tf.einsum("btm,nm->btn", head.layer_norm(head.activation(head.dense(rows))), tf.constant(table, "float32"))
            loss = tf.reduce_sum(h * np.arange(N, dtype="float32"))
        return tf.convert_to_tensor(tape.gradient(loss, embedding.embeddings.value)).numpy()

    assert_allclose(slope(True, True), slope(True, False) + slope(False, True), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("output", ["logits", "predictions"])
def test_the_table_is_still_shared_after_saving_and_loading(rng, tmp_path, output):
    model, inputs = language_model(rng, output=output)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    embedding, head = loaded.get_layer("word_embeddings"), loaded.get_layer("masked_lm")
    assert head.embedding_table is embedding and head.table is embedding.embeddings
    assert len(loaded.weights) == len(model.weights) == 6
    assert_array_equal(loaded(inputs), model(inputs))
    before = numpy(head(embedding(inputs[0]), inputs[1]))
    loaded.compile("sgd", "mse")
    loaded.fit(inputs, np.ones((B, T, N)), verbose=0)
    assert head.table is embedding.embeddings
    assert (numpy(head(embedding(inputs[0]), inputs[1])) != before).any()


def test_a_head_in_a_model_that_never_looks_anything_up_keeps_its_table(rng, tmp_path):
    x, positions = keras.Input((S, M)), keras.Input((T,), dtype="int32")
    model = keras.Model([x, positions], MaskedLM(keras.layers.Embedding(N, M))(x, positions))
    draw_weights(model, rng)
    inputs = [rng.normal(size=(B, S, M)), rng.integers(0, S, (B, T))]
    model.save(tmp_path / "model.keras")
    assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(inputs), model(inputs))


def test_a_copy_outside_of_saving_has_a_table_of_its_own(rng):
    """What Keras does with any two layers that share a part; said in the docstring."""
    model, _ = language_model(rng)
    clone = keras.models.clone_model(model)
    assert clone.get_layer("masked_lm").table is not clone.get_layer("word_embeddings").embeddings
    head = model.get_layer("masked_lm")
    copy = MaskedLM.from_config(head.get_config())
    assert copy.embedding_table is not head.embedding_table and copy.table.shape == (N, M)


def test_a_weight_is_shared_but_has_no_configuration(rng):
    embedding = keras.layers.Embedding(N, M, dtype="float64")
    x = embedding(rng.integers(0, N, (B, S)))
    given, whole = MaskedLM(embedding.embeddings, "gelu", dtype="float64"), MaskedLM(embedding, "gelu", dtype="float64")
    positions = rng.integers(0, S, (B, T))
    for head in (given, whole):
        head(x, positions)
    whole.dense.set_weights(given.dense.get_weights())
    assert_array_equal(given(x, positions), whole(x, positions))
    assert given.table is whole.table
    with pytest.raises(
        ValueError, match="embedding_table must be a layer .* Received: embedding_table='embedding.*/embeddings', a weight"
    ):
        given.get_config()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(N, M)
        self.embedding.build(None)
        self.head = MaskedLM(self.embedding.embeddings, "gelu")

    def call(self, inputs):
        return self.head(self.embedding(inputs[0]), inputs[1])


def test_a_weight_is_saved_with_a_subclassed_model(rng, tmp_path):
    models, inputs = [Subclassed(), Subclassed()], [rng.integers(0, N, (B, S)), rng.integers(0, S, (B, T))]
    outputs = [numpy(model(inputs)) for model in models]
    assert (outputs[0] != outputs[1]).any()
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    assert_array_equal(models[1](inputs), outputs[0])
    assert models[1].head.table is models[1].embedding.embeddings


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("output", ["logits", "predictions"])
def test_the_output_has_the_compute_dtype_whatever_the_table_s(rng, policy, output):
    head = MaskedLM(keras.layers.Embedding(N, M, dtype="float32"), "gelu", output=output, dtype=policy)
    found = head(keras.ops.cast(rng.normal(size=(B, S, M)), head.compute_dtype), OUTSIDE)
    assert keras.backend.standardize_dtype(found.dtype) == policy.removeprefix("mixed_")
    assert np.isfinite(numpy(found)).all()


def test_the_configuration_has_every_argument_as_it_was_given():
    head = MaskedLM(keras.layers.Embedding(N, M), "relu", "he_normal", "predictions")
    config = head.get_config()
    assert (config["activation"], config["output"], config["initializer"]["class_name"]) == ("relu", "predictions", "HeNormal")
    assert config["embedding_table"]["config"]["input_dim"] == N and "kernel_initializer" not in config
    assert head.output_type == "predictions"


def test_weights_are_named_and_start_as_they_should():
    head = MaskedLM(keras.layers.Embedding(N, M), initializer=keras.initializers.Constant(2.0))
    head.build((B, S, M + 2), (B, T))
    shapes = {"/".join(v.path.split("/")[1:]): v.shape for v in head.weights if "embeddings" not in v.path}
    norm = {"layer_norm/gamma": (M,), "layer_norm/beta": (M,)}
    assert shapes == {"dense/kernel": (M + 2, M), "dense/bias": (M,), "bias": (N,)} | norm
    assert_array_equal(head.dense.kernel, np.full((M + 2, M), 2.0))
    assert_array_equal(head.bias, np.zeros(N))
    assert head.layer_norm.epsilon == 1e-12


def test_regularisers_reach_the_map_and_the_mask_ends_here(rng, recwarn):
    head, x, positions = made(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    head(x, positions)
    assert len(head.losses) == 3
    embedding = keras.layers.Embedding(N, M, mask_zero=True)
    output = MaskedLM(embedding)(embedding(np.array([[3, 5, 0]])), np.array([[1]]))
    assert getattr(output, "_keras_mask", None) is None
    assert not [w for w in recwarn if "mask" in str(w.message)]


def test_fifteen_of_a_hundred_tokens_are_chosen_and_most_of_these_hidden():
    """A grid of draws in place of random ones makes the shares exact."""
    choice, fate = (part.ravel()[None] for part in np.meshgrid((np.arange(100) + 0.5) / 100, (np.arange(100) + 0.5) / 100))
    ids, random_ids = np.full(choice.shape, 3), np.full(choice.shape, 4)
    corrupted, chosen = ref.corrupt(ids, choice, fate, random_ids, mask_id=9)
    assert chosen.mean() == 0.15 and (corrupted[~chosen] == 3).all()
    assert [round(float((corrupted[chosen] == token).mean()), 9) for token in (9, 4, 3)] == [0.8, 0.1, 0.1]
    assert ref.corrupt(ids, choice, fate, random_ids, 9, rate=0.5)[1].mean() == 0.5


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (
            "embedding_table must be a layer .* or that weight itself. Received: .* of type ndarray",
            {"embedding_table": np.ones((N, M))},
        ),
        (r"output must be one of \('logits', 'predictions'\). Received: output='softmax'", {"output": "softmax"}),
        ("activation must be a callable or .* Received: activation='bert'", {"activation": "bert"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, arguments):
    with pytest.raises(ValueError, match=message):
        MaskedLM(**({"embedding_table": keras.layers.Embedding(N, M)} | arguments))


@pytest.mark.parametrize(
    ("message", "table"),
    [
        ("Received: embedding_table of type Dropout, without that weight", keras.layers.Dropout(0.1)),
        ("embedding_table must have 2 axes. Received: embedding_table of shape", keras.Variable(np.ones(3), name="table")),
    ],
)
def test_a_table_that_is_none_is_rejected(message, table):
    with pytest.raises(ValueError, match=message):
        MaskedLM(table)(np.ones((B, S, M)), np.ones((B, T), int))


@pytest.mark.parametrize(
    ("message", "x", "positions"),
    [
        ("sequence_data must have 3 axes", np.ones((B, M)), np.ones((B, T), int)),
        ("masked_positions must have 2 axes", np.ones((B, S, M)), np.ones(B, int)),
        ("must have the same batch size. Received: sequence_data with 2", np.ones((B, S, M)), np.ones((B + 1, T), int)),
        ("masked_positions must be integers.* dtype float", np.ones((B, S, M)), np.ones((B, T))),
        ("masked_positions must be integers.* dtype bool", np.ones((B, S, M)), np.ones((B, T), bool)),
        ("must have at least one position.* Received: sequence_data of shape", np.ones((B, 0, M)), np.ones((B, T), int)),
        (f"a last axis of size {M}. Received", np.ones((B, S, M + 1)), np.ones((B, T), int)),
    ],
)
def test_inputs_that_do_not_fit_are_rejected(rng, message, x, positions):
    head, _, _ = made(rng)
    with pytest.raises(ValueError, match=message):
        head(x, positions)


def test_symbolic_positions_that_are_no_integers_are_rejected():
    with pytest.raises(ValueError, match="masked_positions must be integers"):
        MaskedLM(keras.layers.Embedding(N, M))(keras.Input((S, M)), keras.Input((T,)))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["masked_lm"])) >= 11


def test_the_table_may_be_that_of_our_own_embedding(rng, tmp_path):
    kind = pytest.importorskip("layers.on_device_embedding").OnDeviceEmbedding
    ids, positions = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    embedding = kind(N, M, use_one_hot=True, scale_factor=2.0, name="word_embeddings")
    model = keras.Model([ids, positions], MaskedLM(embedding, "gelu", name="masked_lm")(embedding(ids), positions))
    inputs = [rng.integers(0, N, (B, S)), rng.integers(0, S, (B, T))]
    head = model.get_layer("masked_lm")
    expected, _ = ref.masked_lm(2 * numpy(embedding.embeddings)[inputs[0]], inputs[1], weights_of(head, ref.MaskedLMWeights))
    assert_allclose(model(inputs), expected, rtol=1e-4, atol=1e-5)  # the scale is that of the look-up, not of the table
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("masked_lm").table is loaded.get_layer("word_embeddings").embeddings
    assert_array_equal(loaded(inputs), model(inputs))
