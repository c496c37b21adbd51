"""The definition, a number worked by hand, the limits, Keras's own parts. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, M, S, T
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.gated_feedforward import GatedFeedforward
from reference import gated_feedforward as ref
from reference.common.activations import ACTIVATIONS, gelu, gelu_tanh, relu
from reference.common.projection import Projection

F = 9
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def made(rng, activation="gelu", dtype="float64", **options):
    """A layer with drawn weights, and tokens for it."""
    layer = GatedFeedforward(F, activation, dtype=dtype, **options)
    x = rng.normal(size=(B, T, M))
    layer(x)
    draw_weights(layer, rng)
    return layer, x


def added(rng, activation, biases=False, **options):
    """A function that computes what a layer adds to its input, that layer, and tokens."""
    layer, x = made(rng, activation, apply_output_layer_norm=False, **options)
    for dense in (*layer.intermediate_dense, *layer.gate_dense, *layer.output_dense):
        if not biases:
            dense.bias.assign(np.zeros(dense.bias.shape))
    return lambda x: np.asarray(layer(x)) - x, layer, x


def numpy(tensor):
    return np.asarray(keras.ops.cast(tensor, "float64"))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_feed_forward_is_feed_forward_one_for_every_token(rng, name, gated):
    x, w, v, w2 = (rng.normal(size=size) for size in ((B, T, M), (M, F), (M, F), (F, M)))
    output, _ = ref.feed_forward(x, Projection(w), Projection(v) if gated else None, Projection(w2), ACTIVATIONS[name])
    for b, t in np.ndindex(B, T):
        expected = ref.feed_forward_one(x[b, t], w, v if gated else None, w2, ACTIVATIONS[name])
        assert_allclose(output[b, t], expected, rtol=1e-12)


def test_worked_example():
    """x = (1, 2): xW = (3, −1), so ReLU opens the first unit alone; xV = (2, 5); strengths (3·2, 0·5) = (6, 0)."""
    x, w, v = np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[0.0, 1.0], [1.0, 2.0]])
    w2 = np.array([[1.0, 0.5], [7.0, 7.0]])
    assert_array_equal(ref.feed_forward_one(x, w, v, w2, relu), [6, 3])
    assert_array_equal(ref.feed_forward_one(x, w, None, w2, relu), [3, 1.5])
    layer = GatedFeedforward(2, "relu", apply_output_layer_norm=False, dtype="float64")
    layer.build((None, None, 2))
    layer.set_weights([w, np.zeros(2), v, np.zeros(2), w2, np.zeros(2)])
    assert_array_equal(layer(x[None]), [[1 + 6, 2 + 3]])


def test_without_a_gate_it_is_the_ordinary_network_of_keras(rng):
    layer, x = made(rng, "relu", use_gate=False)
    inner, outer = keras.layers.Dense(F, "relu", dtype="float64"), keras.layers.Dense(M, dtype="float64")
    norm = keras.layers.LayerNormalization(epsilon=1e-12, dtype="float64")
    theirs = keras.Sequential([inner, outer])
    theirs.build(x.shape)
    norm.build(x.shape)
    theirs.set_weights(layer.get_weights()[:4])
    norm.set_weights(layer.get_weights()[4:])
    assert_allclose(layer(x), norm(x + theirs(x)), rtol=1e-12)


def test_a_gate_that_is_always_one_is_no_gate(rng):
    layer, x = made(rng, "gelu")
    layer.gate_dense[0].kernel.assign(np.zeros((M, F)))
    layer.gate_dense[0].bias.assign(np.ones(F))
    plain, _ = made(rng, "gelu", use_gate=False)
    plain.set_weights([w for w, v in zip(layer.get_weights(), layer.weights) if "/gate_" not in v.path])
    assert_array_equal(layer(x), plain(x))


def test_bilinear_grows_with_the_square_of_its_input(rng):
    f, _, x = added(rng, "linear")
    assert_allclose(f(3 * x), 9 * f(x), rtol=1e-10)
    f, _, x = added(rng, "relu")
    assert_allclose(f(3 * x), 9 * f(x), rtol=1e-10)
    f, _, x = added(rng, "relu", use_gate=False)
    assert_allclose(f(3 * x), 3 * f(x), rtol=1e-10)


@pytest.mark.parametrize(("activation", "same"), [("linear", True), ("sigmoid", False), ("relu", False)])
def test_the_two_maps_of_bilinear_and_of_no_other_may_change_places(rng, activation, same):
    f, layer, x = added(rng, activation)
    before = f(x)
    w, v = (dense[0].kernel.numpy() for dense in (layer.intermediate_dense, layer.gate_dense))
    layer.intermediate_dense[0].kernel.assign(v)
    layer.gate_dense[0].kernel.assign(w)
    assert np.allclose(f(x), before, rtol=1e-10) == same


def test_reglu_is_the_rectified_map_times_the_linear_one(rng):
    f, layer, x = added(rng, "relu")
    w, v, w2 = (np.asarray(dense[0].kernel) for dense in (layer.intermediate_dense, layer.gate_dense, layer.output_dense))
    assert_allclose(f(x), (np.maximum(x @ w, 0) * (x @ v)) @ w2, rtol=1e-10)


def test_a_sigmoid_that_sees_nothing_leaves_half_of_the_linear_map(rng):
    f, layer, x = added(rng, "sigmoid")
    layer.intermediate_dense[0].kernel.assign(np.zeros((M, F)))
    assert_allclose(f(x), x @ np.asarray(layer.gate_dense[0].kernel) @ np.asarray(layer.output_dense[0].kernel) / 2, rtol=1e-10)


def test_glu_is_the_glu_of_keras(rng):
    f, layer, x = added(rng, "sigmoid", biases=True)
    maps = keras.ops.concatenate([layer.gate_dense[0](x), layer.intermediate_dense[0](x)], axis=-1)
    assert_allclose(f(x), layer.output_dense[0](keras.ops.glu(maps)), rtol=1e-10)


def test_intermediate_is_activated_and_the_gate_is_linear(rng):
    f, layer, x = added(rng, "relu")
    before = f(x)
    gate, intermediate = layer.gate_dense[0].kernel, layer.intermediate_dense[0].kernel
    gate.assign(-gate)
    assert_allclose(f(x), -before, rtol=1e-10)
    gate.assign(-gate)
    intermediate.assign(-intermediate)
    assert np.abs(np.abs(f(x)) - np.abs(before)).min() > 1e-6


def test_gelu_is_exact_and_gelu_tanh_its_approximation(rng):
    for name, phi, other in (("gelu", gelu, gelu_tanh), ("gelu_tanh", gelu_tanh, gelu)):
        f, layer, x = added(rng, name, use_gate=False)
        w, w2 = np.asarray(layer.intermediate_dense[0].kernel), np.asarray(layer.output_dense[0].kernel)
        assert_allclose(f(x), phi(x @ w) @ w2, rtol=1e-10)
        assert np.abs(f(x) - other(x @ w) @ w2).max() > 1e-5


@pytest.mark.parametrize("options", [{}, {"use_gate": False}, {"num_blocks": 2}])
def test_without_the_norm_the_residual_connection_stays(rng, options):
    layer, x = made(rng, apply_output_layer_norm=False, **options)
    for dense in layer.output_dense:
        dense.kernel.assign(np.zeros((F, M)))
        dense.bias.assign(np.zeros(M))
    assert_array_equal(layer(x), x)
    assert layer.get_config()["apply_output_layer_norm"] is False


def test_the_last_thing_a_block_does_is_the_norm(rng):
    layer, x = made(rng, num_blocks=2)
    layer.output_norm[1].gamma.assign(np.ones(M))
    layer.output_norm[1].beta.assign(np.zeros(M))
    output = np.asarray(layer(100 * x))
    assert_allclose(output.mean(axis=-1), 0, atol=1e-12)
    assert_allclose(output.std(axis=-1), 1, rtol=1e-10)


def test_blocks_follow_each_other_with_weights_of_their_own(rng):
    layer, x = made(rng, num_blocks=3)
    expected = x
    for i in range(3):
        single = GatedFeedforward(F, dtype="float64")
        single.build(x.shape)
        single.set_weights([w for w, v in zip(layer.get_weights(), layer.weights) if f"_{i}/" in v.path])
        expected = single(expected)
    assert_allclose(layer(x), expected, rtol=1e-12)


def test_weights_are_named_by_map_and_block(rng):
    layer, _ = made(rng, num_blocks=2)
    shapes = {"/".join(v.path.split("/")[1:]): v.shape for v in layer.weights}
    parts = {"intermediate": (M, F), "gate": (M, F), "output": (F, M)}
    expected = {f"{name}_{i}/kernel": shape for name, shape in parts.items() for i in (0, 1)}
    expected |= {f"{name}_{i}/bias": shape[1:] for name, shape in parts.items() for i in (0, 1)}
    expected |= {f"output_layer_norm_{i}/{name}": (M,) for name in ("gamma", "beta") for i in (0, 1)}
    assert shapes == expected


def test_what_there_is_not_has_no_weights(rng):
    layer, _ = made(rng, use_gate=False, apply_output_layer_norm=False)
    weights = weights_of(layer, ref.GatedFeedforwardWeights)
    assert weights.gate is None and weights.output_layer_norm is None


def test_a_token_is_not_changed_by_another(rng):
    layer, x = made(rng, num_blocks=2)
    before = np.asarray(layer(x))
    x[:, 1] += 1
    after = np.asarray(layer(x))
    assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert (after[:, 1] != before[:, 1]).any()


def test_axes_between_batch_and_model_are_all_alike(rng):
    layer, _ = made(rng)
    image = rng.normal(size=(B, T, S, M))
    expected = np.reshape(layer(image.reshape(-1, M)), image.shape)
    again, _ = made(rng)
    again.set_weights(layer.get_weights())
    assert_allclose(again(image), expected, rtol=1e-12)


def dropping(dropout_position, norm, num_blocks=1):
    """What a layer, whose maps give 0, makes of ones and threes, while training with a dropout of one half; and its inputs."""
    layer = GatedFeedforward(
        F, "relu", 0.5, apply_output_layer_norm=norm, num_blocks=num_blocks, dropout_position=dropout_position, dtype="float64"
    )
    x = np.tile([1.0, 3.0], (50, 20))
    layer.build(x.shape)
    for dense in layer.output_dense:
        dense.kernel.assign(np.zeros(dense.kernel.shape))
    assert_array_equal(layer(x), layer(x, training=False))
    return layer, x


def test_dropout_before_the_residual_never_drops_the_input():
    layer, x = dropping("before_residual", norm=False)
    assert_array_equal(layer(x, training=True), x)
    layer.output_dense[0].bias.assign(np.ones(40))
    change = np.asarray(layer(x, training=True)) - x
    assert set(np.unique(change)) == {0, 2}  # all or nothing of the 1 that is added, doubled to make up for it
    assert_array_equal(layer(x) - x, np.ones_like(x))


def test_dropout_after_the_residual_drops_the_sum():
    layer, x = dropping("after_residual", norm=False)
    assert set(np.unique(np.asarray(layer(x, training=True)) / x)) == {0, 2}


def test_dropout_after_the_residual_comes_behind_the_norm():
    layer, x = dropping("after_residual", norm=True)
    assert_allclose(np.unique(np.asarray(layer(x, training=True)).round(9)), [-2, 0, 2])
    layer, x = dropping("before_residual", norm=True)
    layer.output_dense[0].bias.assign(np.ones(40))
    output = np.asarray(layer(x, training=True))
    assert_allclose(output.mean(axis=-1), 0, atol=1e-9)
    assert_allclose(output.std(axis=-1), 1, rtol=1e-9)


def test_every_block_drops_by_a_draw_of_its_own():
    layer, x = dropping("after_residual", norm=False, num_blocks=2)
    kept = np.asarray(layer(x, training=True)) / x
    assert set(np.unique(kept)) == {0, 4}
    assert 0.2 < (kept == 4).mean() < 0.3  # 1/4; with one draw for both, 1/2


@pytest.mark.parametrize("policy", POLICIES)
def test_small_and_constant_tokens_are_normalized_in_every_dtype(policy):
    """Their variances, 10⁻⁸ and 0, are both 0 in float16; so is the norm's epsilon."""
    layer = GatedFeedforward(F, dtype=policy, num_blocks=2)
    small, constant = np.tile([1e-4, -1e-4], 4), np.full(8, 0.125)
    layer.build((1, 2, 8))
    for dense in layer.output_dense:
        dense.kernel.assign(np.zeros((F, 8)))
    output = numpy(layer(np.stack([small, constant])[None]))
    assert_allclose(output[0, 0], np.sign(small), rtol=1e-2)
    assert_array_equal(output[0, 1], np.zeros(8))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("norm", [True, False])
def test_the_output_has_the_compute_dtype(rng, policy, norm):
    layer, x = made(rng, dtype=policy, apply_output_layer_norm=norm)
    assert keras.backend.standardize_dtype(layer(x).dtype) == policy.removeprefix("mixed_")


def test_the_maps_start_different():
    layer = GatedFeedforward(F, kernel_initializer=keras.initializers.RandomNormal(seed=None), num_blocks=2)
    layer.build((B, T, M))
    starts = [np.asarray(dense.kernel) for dense in (*layer.intermediate_dense, *layer.gate_dense)]
    assert all((starts[i] != starts[j]).all() for i in range(4) for j in range(i))


def test_regularisers_and_constraints_reach_every_map(rng):
    layer, x = made(rng, num_blocks=2, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    layer(x)
    assert len(layer.losses) == 2 * 3 * 3
    constrained, _ = made(rng, num_blocks=2, kernel_constraint="non_neg", bias_constraint="max_norm")
    held = [v.constraint is not None for v in constrained.trainable_variables if "norm" not in v.path]
    assert len(held) == 2 * 3 * 2 and all(held)


def test_padding_stays_padding():
    embedding = keras.layers.Embedding(7, M, mask_zero=True)
    output = GatedFeedforward(F)(embedding(np.array([[3, 5, 0]])))
    assert_array_equal(output._keras_mask, [[True, True, False]])


def test_an_activation_may_be_a_function(rng):
    f, layer, x = added(rng, keras.ops.square, use_gate=False)
    w, w2 = np.asarray(layer.intermediate_dense[0].kernel), np.asarray(layer.output_dense[0].kernel)
    assert_allclose(f(x), (x @ w) ** 2 @ w2, rtol=1e-10)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("inner_dim must be an integer of at least 1. Received: inner_dim=0", {"inner_dim": 0}),
        ("num_blocks must be an integer of at least 1. Received: num_blocks=1.5", {"num_blocks": 1.5}),
        ("dropout must be at least 0 and below 1. Received: dropout=1.0", {"dropout": 1.0}),
        ("inner_activation must be a callable or .* Received: inner_activation='geglu'", {"inner_activation": "geglu"}),
        (
            r"dropout_position must be one of \('before_residual', 'after_residual'\). Received: dropout_position='after'",
            {"dropout_position": "after"},
        ),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        GatedFeedforward(**options)


@pytest.mark.parametrize("shape", [(M,), ()])
def test_inputs_without_a_batch_axis_are_rejected(shape):
    with pytest.raises(ValueError, match="inputs must have at least 2 axes.* Received: inputs of shape"):
        GatedFeedforward(F)(np.ones(shape))


def test_an_unknown_model_size_is_rejected():
    with pytest.raises(ValueError, match=r"the last of known size. Received: inputs of shape \(None, 3, None\)"):
        GatedFeedforward(F)(keras.Input((3, None)))


def test_another_model_size_than_the_weights_were_made_for_is_rejected(rng):
    layer, _ = made(rng)
    with pytest.raises(ValueError, match=rf"the last of size {M}. Received: inputs of shape \(2, 3, {M + 1}\)"):
        layer(np.ones((B, T, M + 1)))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["gated_feedforward"])) >= 20
