"""The definition, a number worked by hand, the SVD, gradients with u and v constant; and that the kernel stays as it is."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.backends import differentiate
from crosscheck.case import B, D, H, M, T
from crosscheck.cases.spectral_normalization import converged
from crosscheck.catalogue import find_cases
from layers.spectral_normalization import SpectralNormalization
from reference import spectral_normalization as ref
from reference.spectral_normalization.convolution import convolve, convolve_transposed

pytestmark = pytest.mark.slow

F = 9
CONVOLUTIONS = [
    ("same", (1, 1), (1, 1), (6, 4)),
    ("same", (2, 2), (1, 1), (6, 4)),
    ("same", (3, 3), (1, 1), (8, 5)),
    ("valid", (1, 2), (1, 1), (6, 4)),
    ("valid", (1, 1), (2, 2), (6, 4)),
    ("valid", (4, 4), (1, 1), (8, 6)),  # strides beyond the kernel: some positions are never read
    ("same", (1, 1), (2, 3), (6, 5)),
]


def made(kernel, layer=keras.layers.Dense, dtype="float64", inputs=None, layer_options=None, **options):
    """A layer around one with that kernel and no bias, with its singular vectors."""
    inner = layer(kernel.shape[-1], use_bias=False, dtype=dtype, **(layer_options or {}))
    outer = SpectralNormalization(inner, **options)
    outer.build(inputs or (None, kernel.shape[0]))
    inner.kernel.assign(kernel)
    return converged(outer)


def with_singular_values(rng, values, m=M, f=F):
    """A matrix `(m, f)` that has these."""
    left, right = (np.linalg.qr(rng.normal(size=(n, len(values))))[0] for n in (m, f))
    return (left * values) @ right.T


def effective(layer, m=M, **options):
    """The matrix that a dense layer multiplies by."""
    return np.asarray(layer(np.eye(m), **options), "float64")


def norm(w):
    return np.linalg.norm(w, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(M,), (B, M), (B, 3, M)])
def test_a_dense_is_called_as_its_kernel_says_whatever_the_dtypes(rng, shape, dtype):
    """In one product with the vector of the norm, or where the wrapper has another dtype, by the layer itself."""
    inner = keras.layers.Dense(F, activation="relu", bias_initializer="normal", dtype="float32")
    outer = SpectralNormalization(inner, norm_multiplier=0.5, dtype=dtype)
    outer.build((None, M))
    x = rng.normal(size=shape).astype("float32")
    if len(shape) == 1:
        with pytest.raises(ValueError, match="expected min_ndim=2, found ndim=1"):
            outer(x)
        return
    kernel, bias = (np.asarray(weight, "float64") for weight in (inner.kernel, inner.bias))
    sigma = np.sum(np.asarray(outer.v) @ kernel * np.asarray(outer.u))
    y = outer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert_allclose(y, np.maximum(x @ (kernel * 0.5 / sigma) + bias, 0), rtol=2e-5, atol=2e-6)
    with pytest.raises(ValueError, match="expected axis -1"):
        outer(np.ones((B, M + 1), "float32"))


def test_worked_example():
    """W = diag(2, 1), u = (1, 1) / √2: v = (2, 1) / √5, u = (4, 1) / √17, and σ̂ = vᵀ W u = √17 / √5."""
    w = np.diag([2.0, 1.0])
    sigma, u, v = ref.power_iteration(w, np.array([1.0, 1.0]) / np.sqrt(2))
    assert_allclose(v, np.array([2, 1]) / np.sqrt(5))
    assert_allclose(u, np.array([4, 1]) / np.sqrt(17))
    assert_allclose(sigma, np.sqrt(17 / 5))
    layer = made(w, norm_multiplier=0.5)
    layer.u.assign(np.array([1.0, 1.0]) / np.sqrt(2))
    assert_allclose(layer(np.array([[3.0, 4.0]]), training=True), [[3.0 / np.sqrt(17 / 5), 2.0 / np.sqrt(17 / 5)]])
    assert_allclose(layer.u, np.array([4, 1]) / np.sqrt(17))
    assert_allclose(layer.v, np.array([2, 1]) / np.sqrt(5))


def test_no_input_is_stretched_by_more_than_the_spectral_norm(rng):
    w = rng.normal(size=(M, F))
    stretches = [ref.stretch(x, w) for x in rng.normal(size=(50, M))]
    assert max(stretches) < ref.spectral_norm(w)
    _, _, v = ref.power_iteration(w, rng.normal(size=F), 500)
    assert_allclose(ref.stretch(v, w), ref.spectral_norm(w), rtol=1e-12)


def test_power_iteration_meets_the_svd_from_below_and_never_falls(rng):
    w, u = rng.normal(size=(M, F)), rng.normal(size=F)
    estimates = [ref.power_iteration(w, u, n)[0] for n in range(1, 60)]
    assert np.all(np.diff(estimates) > -1e-12) and max(estimates) < ref.spectral_norm(w) * (1 + 1e-14)
    sigma, u, v = ref.power_iteration(w, u, 1000)
    left, values, right = np.linalg.svd(w)
    assert_allclose(sigma, values[0], rtol=1e-14)
    assert_allclose(np.outer(v, u), np.outer(left[:, 0], right[0]), atol=1e-10)


def test_each_iteration_divides_the_error_by_the_fourth_power_of_the_ratio(rng):
    w = with_singular_values(rng, [2.0, 1.6, 0.3])
    errors = [2 - ref.power_iteration(w, np.ones(F), n)[0] for n in (10, 11, 20)]
    assert_allclose(errors[1] / errors[0], 0.8**4, rtol=1e-2)
    assert_allclose(errors[2] / errors[0], 0.8**40, rtol=5e-2)


@pytest.mark.parametrize(("padding", "strides", "dilations", "size"), CONVOLUTIONS)
def test_the_transposed_convolution_is_the_transpose_and_its_norm_that_of_the_matrix(rng, padding, strides, dilations, size):
    kernel, x = rng.normal(size=(3, 2, 3, 4)), rng.normal(size=(B, *size, 3))
    y = convolve(x, kernel, strides, padding, dilations)
    z = rng.normal(size=y.shape)
    assert_allclose((y * z).sum(), (x * convolve_transposed(z, kernel, size, strides, padding, dilations)).sum(), rtol=1e-10)
    keras_y = keras.ops.conv(x, kernel, strides, padding, dilation_rate=dilations)
    assert_allclose(keras_y, y, atol=1e-12)
    matrix = ref.convolution_matrix(kernel, size, strides, padding, dilations)
    left, values, right = np.linalg.svd(matrix)
    sigma, u, v = ref.convolution_norm(kernel, right[0].reshape(y.shape[1:]), size, strides, padding, dilations)
    assert_allclose(sigma, values[0], rtol=1e-10)
    assert_allclose(np.outer(v, u), np.outer(left[:, 0], right[0]), atol=1e-8)


def test_the_kernel_is_bounded_if_it_is_too_large_and_left_alone_if_it_is_not(rng):
    large, small = with_singular_values(rng, [3.0, 2.0]), with_singular_values(rng, [0.3, 0.2])
    assert_allclose(effective(made(large)), large * 0.95 / 3, rtol=1e-12)
    assert_array_equal(effective(made(small)), small)
    assert_array_equal(ref.bounded(small, 0.3, 0.95), small)
    assert_allclose(effective(made(large, norm_multiplier=2.0)), large * 2 / 3, rtol=1e-12)


def test_a_kernel_of_zeros_gives_zeros_and_keeps_its_vectors(rng):
    layer = made(rng.normal(size=(M, F)))
    before = [np.asarray(x) for x in (layer.u, layer.v)]
    layer.layer.kernel.assign(np.zeros((M, F)))
    assert_array_equal(effective(layer, training=True), np.zeros((M, F)))
    assert_array_equal(layer.u, before[0])
    assert_array_equal(layer.v, before[1])
    layer.layer.kernel.assign(100 * np.eye(M, F))
    layer(np.ones((B, M)), training=True)
    assert np.isclose(np.linalg.norm(layer.u), 1)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_the_vectors_do_not_depend_on_the_size_of_the_kernel_in_float32(rng, size):
    w = rng.normal(size=(M, F))
    one, other = made(w, dtype="float32"), made(size * w, dtype="float32")
    assert size < 1 or norm(effective(other)) < 0.9501
    for layer in (one, other):
        layer.u.assign(np.eye(F)[0])
        layer(np.ones((B, M)), training=True)
    assert_allclose(other.u, one.u, rtol=1e-4, atol=1e-6)
    assert_allclose(other.v, one.v, rtol=1e-4, atol=1e-6)


def test_the_first_call_is_already_bounded(rng):
    for m, f in ((M, F), (64, 48), (300, 200)):
        start = lambda shape, dtype: keras.ops.cast(5 * np.random.default_rng(1).normal(size=shape), dtype)  # noqa: E731
        layer = SpectralNormalization(keras.layers.Dense(f, use_bias=False, kernel_initializer=start))
        layer.build((None, m))
        assert 0.95 * (1 - 1e-6) < norm(effective(layer, m)) < 0.95 * 1.002
        assert norm(layer.layer.kernel) > 10


def test_the_first_call_is_bounded_where_weights_are_made_late():
    """Inside of another layer's call Keras puts off making weights; then the kernel has no value while u is described."""

    class Late(keras.layers.Layer):
        def call(self, x):
            return self.inner(x)

    outer = Late()
    start = keras.initializers.RandomNormal(stddev=3.0, seed=0)
    outer.inner = SpectralNormalization(keras.layers.Dense(F, use_bias=False, kernel_initializer=start, dtype="float64"))
    model = keras.Sequential([outer])
    model.compile("sgd", "mse")
    model.fit(np.zeros((B, M)), np.zeros((B, F)), epochs=1, verbose=0)
    assert 0.95 * (1 - 1e-6) < norm(effective(outer.inner)) < 0.95 * 1.002


def test_warm_start_follows_a_kernel_assigned_by_hand(rng):
    layer = made(with_singular_values(rng, [3.0, 1.0]))
    layer.layer.kernel.assign(with_singular_values(rng, [4.0, 1.0]))
    assert norm(effective(layer)) > 1.0
    layer.warm_start()
    assert_allclose(norm(effective(layer)), 0.95, rtol=1e-3)
    layer.warm_start(tolerance=1e-12)
    assert_allclose(norm(effective(layer)), 0.95, rtol=1e-10)


def test_only_training_calls_move_the_vectors_and_as_often_as_they_should(rng):
    w = rng.normal(size=(M, F))
    layer = made(w, iteration=3)
    layer.u.assign(np.eye(F)[0])
    layer.v.assign(np.eye(M)[0])
    for training in (None, False):
        layer(np.ones((B, M)), training=training)
        assert_array_equal(layer.u, np.eye(F)[0])
        assert_array_equal(layer.v, np.eye(M)[0])
    layer(np.ones((B, M)), training=True)
    _, u, v = ref.power_iteration(w, np.eye(F)[0], 3)
    assert_allclose(layer.u, u, rtol=1e-12)
    assert_allclose(layer.v, v, rtol=1e-12)


def test_the_vectors_stay_where_training_is_switched_off(rng):
    layer = made(rng.normal(size=(M, F)), training=False)
    layer.u.assign(np.eye(F)[0])
    layer(np.ones((B, M)), training=True)
    assert_array_equal(layer.u, np.eye(F)[0])
    assert layer.get_config()["training"] is False


def test_a_training_call_uses_the_vectors_that_it_leaves_behind(rng):
    layer = made(10 * rng.normal(size=(M, F)))
    layer.u.assign(np.eye(F)[0])
    while_training = effective(layer, training=True)
    assert_allclose(effective(layer), while_training, rtol=1e-12)


def test_calls_never_change_the_trained_kernel(rng):
    w = 5 * rng.normal(size=(M, F))
    layer = made(w, iteration=2)
    for training in (None, True, False, True):
        layer(rng.normal(size=(B, M)), training=training)
    assert_array_equal(layer.layer.kernel, w)


def test_the_gradient_holds_the_vectors_of_that_call_constant(rng):
    """Against central differences of the reference, from a u that has not converged, where it makes a difference."""
    w, x, c, step = 3 * rng.normal(size=(M, F)), rng.normal(size=(B, M)), 0.5, 1e-6
    layer = made(w, norm_multiplier=c)
    start = ref.unit(rng.normal(size=F))
    layer.u.assign(start)
    cotangent, direction = rng.normal(size=(B, F)), rng.normal(size=(M, F))
    call = lambda layer, x: layer(x, training=True)  # noqa: E731
    _, by_variable, _ = differentiate(call, layer, {"x": keras.ops.convert_to_tensor(x)}, {"output": cotangent})
    found = np.sum(np.asarray(by_variable[layer.layer.kernel.path]) * direction)

    def loss(w, u, v):
        return (cotangent * (x @ ref.bounded(w, ref.estimated_norm(w, u, v), c))).sum()

    def slope(vectors):
        ends = [loss(w + sign * step * direction, *vectors(w + sign * step * direction)) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    _, u, v = ref.power_iteration(w, start)
    assert_allclose(found, slope(lambda w: (u, v)), rtol=1e-7)
    assert abs(found / slope(lambda w: ref.power_iteration(w, start)[1:]) - 1) > 1e-3


def test_the_gradient_of_the_norm_is_the_outer_product_of_its_vectors(rng):
    w, step = rng.normal(size=(M, F)), 1e-6
    _, u, v = ref.power_iteration(w, rng.normal(size=F), 1000)
    direction = rng.normal(size=(M, F))
    slope = (ref.spectral_norm(w + step * direction) - ref.spectral_norm(w - step * direction)) / (2 * step)
    assert_allclose(slope, np.sum(np.outer(v, u) * direction), rtol=1e-7)


def test_where_the_bound_acts_the_gradient_has_no_part_along_the_kernel(rng):
    """W and 2 W give the same, so the loss is flat in that direction; a projection outside of the gradient would not see that."""
    layer = made(5 * rng.normal(size=(M, F)))
    inputs = {"x": keras.ops.convert_to_tensor(rng.normal(size=(B, M)))}
    _, by_variable, _ = differentiate(lambda layer, x: layer(x), layer, inputs, {"output": rng.normal(size=(B, F))})
    gradient, w = np.asarray(by_variable[layer.layer.kernel.path]), np.asarray(layer.layer.kernel)
    assert abs(np.sum(gradient * w)) < 1e-12 * np.linalg.norm(gradient) * np.linalg.norm(w)


def einsum_kernel_norm(kernel, inputs):
    """Of the matrix whose rows are the `inputs` axes."""
    others = [axis for axis in range(kernel.ndim) if axis not in inputs]
    rows = int(np.prod([kernel.shape[axis] for axis in inputs]))
    return norm(kernel.transpose(*inputs, *others).reshape(rows, -1))


@pytest.mark.parametrize(
    ("equation", "output", "inputs", "rows"),
    [
        ("btm,mhd->bthd", (None, H, D), (B, T, M), [0]),
        ("bthd,hdm->btm", (None, M), (B, T, H, D), [0, 1]),
        ("btm,hdm->bthd", (None, H, D), (B, T, M), [2]),
        ("...m,mf->...f", (F,), (B, T, M), [0]),
        ("b t m, f m -> b t f", (None, F), (B, T, M), [1]),
    ],
)
def test_an_einsum_dense_is_bounded_as_the_map_that_it_is(rng, equation, output, inputs, rows):
    inner = keras.layers.EinsumDense(equation.replace(" ", ""), output, dtype="float64")
    layer = SpectralNormalization(inner)
    layer.build(inputs)
    inner.kernel.assign(5 * rng.normal(size=inner.kernel.shape))
    layer.warm_start(tolerance=1e-12)
    x = rng.normal(size=inputs)
    sigma = einsum_kernel_norm(np.asarray(inner.kernel), rows)
    assert_allclose(layer(x), np.asarray(inner(x)) * 0.95 / sigma, rtol=1e-6)
    by_last_axis = norm(np.asarray(inner.kernel).reshape(-1, inner.kernel.shape[-1]))
    assert len(inner.kernel.shape) == 2 or rows != [0] or abs(by_last_axis / sigma - 1) > 0.01


def test_an_axis_that_input_kernel_and_output_share_is_bounded_for_each_of_its_positions(rng):
    inner = keras.layers.EinsumDense("bhm,hmf->bhf", (H, F), dtype="float64")
    layer = SpectralNormalization(inner)
    layer.build((B, H, M))
    inner.kernel.assign(5 * rng.normal(size=(H, M, F)))
    layer.warm_start()
    used = np.asarray(inner.kernel) * float(np.asarray(layer(np.ones((1, H, M))))[0, 0, 0] / inner(np.ones((1, H, M)))[0, 0, 0])
    assert max(norm(w) for w in used) < 0.95


@pytest.mark.parametrize(("padding", "strides", "dilations", "size"), CONVOLUTIONS)
def test_with_an_image_size_the_convolution_itself_is_bounded(rng, padding, strides, dilations, size):
    kernel = 3 * rng.normal(size=(3, 2, 3, 4))
    options = {"kernel_size": (3, 2), "padding": padding, "strides": strides, "dilation_rate": dilations}
    arguments = {"layer": keras.layers.Conv2D, "inputs": (None, *size, 3), "layer_options": options}
    matrix = ref.convolution_matrix(kernel, size, strides, padding, dilations)
    x = rng.normal(size=(B, *size, 3))
    expected = convolve(x, kernel, strides, padding, dilations)
    layer = made(kernel, image_size=size, **arguments)
    assert_allclose(layer(x), expected * 0.95 / norm(matrix), rtol=1e-10, atol=1e-10)
    assert_allclose(layer(x, training=True), expected * 0.95 / norm(matrix), rtol=1e-10, atol=1e-10)
    layer.warm_start()
    assert_allclose(layer(x), expected * 0.95 / norm(matrix), rtol=1e-2, atol=1e-10)
    found = np.asarray(made(kernel, **arguments)(x))
    assert_allclose(found, expected * 0.95 / norm(kernel.reshape(-1, 4)), rtol=1e-6, atol=1e-9)


def test_a_causal_convolution_pads_before(rng):
    kernel = 3 * rng.normal(size=(3, 5, 4))
    options = {"kernel_size": 3, "padding": "causal", "dilation_rate": 2}
    arguments = {"layer": keras.layers.Conv1D, "inputs": (None, 8, 5), "layer_options": options}
    matrix = ref.convolution_matrix(kernel, (8,), (1,), "causal", (2,))
    x = rng.normal(size=(B, 8, 5))
    expected = convolve(x, kernel, (1,), "causal", (2,)) * 0.95 / norm(matrix)
    assert_allclose(made(kernel, image_size=(8,), **arguments)(x), expected, rtol=1e-5, atol=1e-9)


def test_the_reshaped_kernel_bounds_a_convolution_up_to_the_positions_in_its_window(rng):
    factors = []
    for kernel in (rng.normal(size=(3, 2, 5, 4)), np.ones((3, 2, 5, 4)), np.eye(5, 4) * np.eye(3, 2)[:, :, None, None]):
        matrix = ref.convolution_matrix(kernel, (9, 10), (1, 1), "same")
        factors.append(norm(matrix) / norm(kernel.reshape(-1, 4)))
    assert all(factor <= np.sqrt(6) for factor in factors)
    assert factors[1] > 0.85 * np.sqrt(6) and factors[0] > 1.2


def test_a_convolution_is_stretched_no_more_for_smaller_images_and_other_sizes_are_rejected(rng):
    kernel = 3 * rng.normal(size=(3, 2, 5, 4))
    options = {"kernel_size": (3, 2), "padding": "same"}
    layer = made(kernel, keras.layers.Conv2D, inputs=(None, None, None, 5), layer_options=options, image_size=(7, 6))
    for size in ((7, 6), (5, 6), (3, 2)):
        images = np.eye(size[0] * size[1] * 5).reshape(-1, *size, 5)
        assert norm(np.reshape(layer(images), (len(images), -1))) < 0.95 * (1 + 1e-9)
    with pytest.raises(
        ValueError, match=r"inputs must be images of at most image_size=\(7, 6\). Received: inputs of shape \(2, 7, 7, 5\)"
    ):
        layer(np.ones((B, 7, 7, 5)))


def test_a_one_by_one_convolution_is_a_dense_layer(rng):
    kernel, x = 3 * rng.normal(size=(M, F)), rng.normal(size=(B, 7, 6, M))
    options = {"kernel_size": 1}
    for image_size in (None, (7, 6)):
        layer = made(kernel[None, None], keras.layers.Conv2D, inputs=x.shape, layer_options=options, image_size=image_size)
        assert_allclose(layer(x), made(kernel, inputs=x.shape)(x), rtol=1e-10)


def test_a_network_with_a_bound_below_one_in_each_residual_block_keeps_distances_within_limits(rng):
    """(1 − c)^L ≤ ‖f(x) − f(y)‖ / ‖x − y‖ ≤ (1 + c)^L, Liu et al.'s reason for the bound."""
    c, depth = 0.6, 4
    blocks = [made(4 * rng.normal(size=(M, M)), norm_multiplier=c) for _ in range(depth)]
    x, y = rng.normal(size=(2, 50, M))
    start = np.linalg.norm(x - y, axis=1)
    for block in blocks:
        x, y = (z + np.maximum(np.asarray(block(z)), 0) for z in (x, y))
    ratios = np.linalg.norm(x - y, axis=1) / start
    assert np.all((1 - c) ** depth <= ratios) and np.all(ratios <= (1 + c) ** depth)


def test_training_keeps_the_bound_with_one_iteration_a_step(rng):
    x, target, start = rng.normal(size=(256, M)), rng.normal(size=(M, F)), rng.normal(size=(M, F)) / 2
    inner = keras.layers.Dense(F, use_bias=False, kernel_initializer=lambda shape, dtype: keras.ops.cast(start, dtype))
    model = keras.Sequential([layer := SpectralNormalization(inner)])
    model.compile(keras.optimizers.SGD(0.0005), "mse", jit_compile=False)
    model.fit(x, 5 * x @ target, batch_size=32, epochs=10, shuffle=False, verbose=0)
    assert norm(inner.kernel) > 1 and np.abs(np.asarray(inner.kernel) - start).max() > 0.02
    assert 0.945 < norm(effective(layer)) < 0.955


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16", "bfloat16"])
def test_the_vectors_are_float32_at_least(rng, policy):
    layer = made(rng.normal(size=(M, F)), dtype=policy)
    for _ in range(3):
        output = layer(np.ones((B, M)), training=True)
    assert layer.u.dtype == layer.v.dtype == "float32"
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
    assert_allclose(np.linalg.norm(layer.u), 1, rtol=1e-6)


def test_weights_are_named_and_those_of_the_iteration_are_not_trained(rng):
    layer = made(rng.normal(size=(M, F)))
    assert [v.name for v in layer.trainable_variables] == ["kernel"]
    assert {v.name: v.shape for v in layer.non_trainable_variables} == {"u": (F,), "v": (M,)}
    assert layer.u.path == f"{layer.name}/u"


def test_its_name_is_the_wrapped_layers_with_or_without_a_suffix():
    inner = keras.layers.Dense(F, name="classifier")
    assert SpectralNormalization(inner).name == "classifier_spectral_norm"
    assert SpectralNormalization(inner, inhere_layer_name=True).name == "classifier"
    assert SpectralNormalization(inner, name="mine").name == "mine"


def test_a_saved_model_keeps_every_argument_and_both_vectors(rng, tmp_path):
    options = {"iteration": 3, "norm_multiplier": 0.7, "training": False, "inhere_layer_name": True, "image_size": (7, 6)}
    inner = keras.layers.Conv2D(F, 3, padding="same", activation="relu", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((7, 6, 5)), layer := SpectralNormalization(inner, **options)])
    layer.u.assign(rng.normal(size=layer.u.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    assert {name: getattr(loaded, name) for name in options} == options
    assert_array_equal(loaded.u, layer.u)
    assert_array_equal(loaded.v, layer.v)
    assert loaded.layer.kernel_regularizer is not None and loaded.layer.activation is keras.activations.relu


def test_regularisers_of_the_wrapped_layer_count_once(rng):
    kernel, options = rng.normal(size=(M, F)), {"activity_regularizer": "l2", "kernel_regularizer": "l2"}
    plain, bounded = keras.layers.Dense(F, use_bias=False, dtype="float64", **options), made(kernel, layer_options=options)
    plain.build((None, M))
    plain.kernel.assign(bounded.layer.kernel)
    x = rng.normal(size=(B, M))
    for _ in range(2):
        plain(x), bounded(x)
    scale = np.square(0.95 / norm(kernel))
    assert len(bounded.losses) == len(plain.losses) == 2
    assert_allclose(
        sorted(bounded.losses), sorted([0.01 * np.square(kernel).sum(), scale * 0.01 * np.square(x @ kernel).sum() / B])
    )


def test_padding_stays_padding():
    embedding = keras.layers.Embedding(7, M, mask_zero=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = SpectralNormalization(keras.layers.Dense(F))(embedding(np.array([[3, 5, 0]])))
    assert_array_equal(output._keras_mask, [[True, True, False]])


def test_a_stateless_call_uses_the_weights_it_is_given_and_returns_the_new_vectors(rng):
    layer = SpectralNormalization(keras.layers.Dense(F, dtype="float64"))
    layer.build((None, M))
    before = [np.asarray(variable) for variable in layer.variables]
    kernel, bias, u = 5 * rng.normal(size=(M, F)), rng.normal(size=F), np.eye(F)[0]
    output, (new_u, new_v) = layer.stateless_call([kernel, bias], [u, np.eye(M)[0]], np.eye(M), training=True)
    sigma, expected_u, expected_v = ref.power_iteration(kernel, u)
    assert_allclose(output, kernel * 0.95 / sigma + bias, rtol=1e-10)
    assert_allclose(new_u, expected_u, rtol=1e-10)
    assert_allclose(new_v, expected_v, rtol=1e-10)
    for variable, value in zip(layer.variables, before):
        assert_array_equal(variable, value)


def test_two_wrappers_may_share_a_layer(rng):
    inner = keras.layers.Dense(F, use_bias=False, dtype="float64")
    layers = [SpectralNormalization(inner, norm_multiplier=c) for c in (0.5, 0.9)]
    for layer in layers:
        layer.build((None, M))
    inner.kernel.assign(with_singular_values(rng, [3.0, 1.0]))
    for layer in layers:
        layer.warm_start(tolerance=1e-12)
    assert_allclose([norm(effective(layer)) for layer in layers], [0.5, 0.9])


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (keras.layers.BatchNormalization(name="b"), (B, M)),
        (keras.layers.Embedding(5, F, name="e"), (B,)),
        (keras.layers.Dropout(0.5, name="d"), (B, M)),
    ],
)
def test_a_layer_without_a_kernel_is_rejected_by_name(kind, inputs):
    message = f"layer must have a weight called kernel. Received: layer={type(kind).__name__} '{kind.name}'"
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(kind).build(inputs)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("iteration must be an integer of at least 1. Received: iteration=0", {"iteration": 0}),
        ("norm_multiplier must be above 0. Received: norm_multiplier=0.0", {"norm_multiplier": 0.0}),
        ("norm_multiplier must be above 0. Received: norm_multiplier=-1", {"norm_multiplier": -1}),
        (r"image_size\[1\] must be an integer of at least 1. Received: image_size\[1\]=0", {"image_size": (3, 0)}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(keras.layers.Conv2D(F, 3), **options)


@pytest.mark.parametrize(
    ("message", "layer", "inputs"),
    [
        ("image_size needs a layer that is a Conv1D, Conv2D or Conv3D without groups. Received: Dense", ("Dense", F), (B, M)),
        (
            "image_size needs a layer that is a Conv1D, Conv2D or Conv3D without groups. Received: Conv2D with groups=2",
            ("Conv2D", F - 1, 3, 1, "same", None, 1, 2),
            (B, 7, 6, 4),
        ),
        (
            r"image_size must have 1 sizes, one for each axis of the image. Received: image_size=\(7, 6\)",
            ("Conv1D", F, 3),
            (B, 7, 5),
        ),
    ],
)
def test_an_image_size_for_another_layer_is_rejected(message, layer, inputs):
    kind, *arguments = layer
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(getattr(keras.layers, kind)(*arguments), image_size=(7, 6)).build(inputs)


def test_a_layer_of_several_inputs_is_rejected_by_name():
    complaint = "layer must be called with one input. Received: layer=.*MultiHeadAttention.*, called with query, value"
    with pytest.raises(ValueError, match=complaint):
        SpectralNormalization(keras.layers.MultiHeadAttention(2, 4))


FIT = """
import keras, numpy as np
from layers.spectral_normalization import SpectralNormalization
{before}
keras.config.set_floatx("float64")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 5)), rng.normal(size=(64, 3))
start = lambda shape, dtype: keras.ops.cast(np.random.default_rng(0).normal(size=shape), dtype)
with {scope}:
    conv = keras.layers.Conv1D(4, 3, activation="relu", kernel_initializer=start)
    dense = keras.layers.Dense(3, kernel_regularizer="l2", kernel_initializer=start)
    layers = [SpectralNormalization(conv, image_size=(5,)), SpectralNormalization(dense)]
    parts = [keras.Input((5,)), keras.layers.Reshape((5, 1)), layers[0], keras.layers.Flatten(), layers[1]]
    model = keras.Sequential(parts)
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile={compiled})
history = model.fit(x, 20 * y, batch_size=16, epochs=3, shuffle=False, verbose=0)
np.savez("{file}", *model.get_weights(), losses=history.history["loss"], predicted=model.predict(x, verbose=0))
"""


def fitted(folder, name, backend="tensorflow", before="", scope="keras.name_scope('plain')", compiled=False):
    """Weights, losses and predictions of a small training run, in a process of its own."""
    file = folder / f"{name}.npz"
    program = FIT.format(before=before, scope=scope, compiled=compiled, file=file)
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(np.load(file))


@pytest.mark.further
def test_fit_gives_the_same_on_jax_compiled_by_xla_and_on_two_replicas(tmp_path):
    """On JAX a variable assigned behind the trainer's back is lost or an error; on replicas u and v must stay equal."""
    expected = fitted(tmp_path, "tensorflow")
    devices = (
        "import tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)"
    )
    runs = {
        "jax": {"backend": "jax", "compiled": True},
        "xla": {"compiled": True},
        "replicas": {"before": devices, "scope": "tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).scope()"},
    }
    for name, options in runs.items():
        found = fitted(tmp_path, name, **options)
        assert list(found) == list(expected)
        for key in expected:
            # Keras takes losses, and on JAX some of what it feeds, through float32; what is lost or stale differs by 10⁻².
            assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}")


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["spectral_normalization"])) >= 18
