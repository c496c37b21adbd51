"""Sums of exponentials against their definition by logarithms, at sizes of the exponents where nothing else would be left."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from crosscheck.case import B, D, E, H, M, S, T
from layers.kernel_attention import KernelAttention, exponential_sums, linear_sums
from reference import kernel_attention as features_first
from reference.kernel_attention import exponents as ref
from reference.kernel_attention.structure import gate_structure, window_structure
from reference.self_attention_mask import causal_mask

R, LONG = 9, 300
SIZES = [1.0, 1e3, 1e6]


def drawn(rng, size, t=7, r=R):
    """Exponents that differ by much more than what floating point holds, between features and between tokens."""
    a, b = size * rng.normal(size=(2, B, t, H, r)) * rng.choice([0.01, 1.0], size=(2, B, t, 1, 1))
    return a, b, rng.normal(size=(B, t, H, E))


def defined(a, b, v, w):
    """`attend_one` for every query, with the keys for which w, `(b or 1, h or 1, t, s)`, is not 0."""
    output, w = np.zeros((*a.shape[:3], v.shape[-1])), np.broadcast_to(w, (B, H, *w.shape[2:]))
    for i, t, h in np.ndindex(a.shape[:3]):
        seen = w[i, h, t] > 0
        output[i, t, h] = ref.attend_one(a[i, t, h], b[i, seen, h] + np.log(w[i, h, t, seen])[:, None], v[i, seen, h])
    return output


def tensors(a, b, v, dtype="float64"):
    """`(b, t, h, …)` as tensors `(b, h, t, …)`, with a one beside each value."""
    a, b, v = (np.moveaxis(x, 1, 2) for x in (a, b, v))
    return [keras.ops.convert_to_tensor(x, dtype) for x in (a, b, np.concatenate([v, np.ones_like(v[..., :1])], axis=-1))]


def quotient(sums):
    sums = np.asarray(sums)
    return np.moveaxis(sums[..., :-1] / sums[..., -1:], 1, 2)


# The reference


@pytest.mark.parametrize("size", [0.5, 1.0])
def test_by_logarithms_is_attention_with_features(rng, size):
    a, b, v = drawn(rng, size)
    expected, *_ = features_first.recurrent(np.exp(a), np.exp(b), v)
    assert_allclose(defined(a, b, v, causal_mask(7, 7)[None, None].astype(float)), expected, rtol=1e-12)


def test_worked_example():
    """Exponents 0 and log 3 weigh 1/4 and 3/4, values 8 and 4 mix to 5; 2000 more for both keys changes nothing."""
    for more in (0.0, 2000.0):
        b = np.log([[1.0], [3.0]]) + more
        assert_allclose(ref.attend_one(np.array([-7.0]), b, np.array([[8.0], [4.0]])), 5, rtol=1e-12)


def test_stabilized_exponents_are_the_same_attention(rng):
    a, b, mask = rng.normal(size=(B, T, H, R)), rng.normal(size=(B, S, H, R)), rng.random((B, S)) < 0.6
    mask[:, 0] = True
    phi_q, phi_k = ref.stabilized(a, b, mask)
    found = np.einsum("bthr,bshr->bhts", phi_q, phi_k)
    expected = np.einsum("bthr,bshr->bhts", np.exp(a), np.exp(b)) * mask[:, None, None]
    assert_allclose(found / found.sum(-1, keepdims=True), expected / expected.sum(-1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e8])
def test_stabilized_sums_never_vanish(rng, size):
    a, b = size * rng.normal(size=(B, T, H, R)), size * rng.normal(size=(B, S, H, R))
    phi_q, phi_k = ref.stabilized(a, b, np.ones((B, S), bool))
    assert np.einsum("bthr,bshr->bth", phi_q, phi_k).min() >= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gated", [False, True])
def test_one_token_at_a_time_is_the_definition(rng, size, gated):
    a, b, v = drawn(rng, size)
    gate = rng.random((B, 7, H)) if gated else None
    w = gate_structure(gate, np.ones((B, 7), bool)) if gated else causal_mask(7, 7)[None, None].astype(float)
    assert_allclose(ref.recurrent(a, b, v, gate)[0], defined(a, b, v, w), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("t", [1, 2, 7, 16])
def test_by_halves_is_one_token_at_a_time(rng, size, t):
    a, b, v = drawn(rng, size, t)
    expected, *_ = ref.recurrent(a, b, v)
    for i, h in np.ndindex(B, H):
        sums, _ = ref.causal_by_halves(a[i, :, h], b[i, :, h], np.concatenate([v[i, :, h], np.ones((t, 1))], axis=1))
        assert sums[:, -1].min() >= 1
        assert_allclose(sums[:, :-1] / sums[:, -1:], expected[i, :, h], rtol=1e-9, atol=1e-12)


# The layer's sums


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("t", [5, linear_sums.CHUNK, LONG])
@pytest.mark.parametrize("gated", [False, True])
def test_sums_in_chunks_are_one_token_at_a_time(rng, size, t, gated):
    a, b, v = drawn(rng, size, t)
    b = b - 4 * size  # all below 0: what fills up a chunk must be still lower
    gate = rng.random((B, t, H)) if gated else None
    expected, state, z, peak = ref.recurrent(a, b, v, gate)
    *exponents, u = tensors(a, b, v)
    log_gate = None
    if gated:
        u, log_gate = u * np.moveaxis(1 - gate, 1, 2)[..., None], keras.ops.convert_to_tensor(np.moveaxis(np.log(gate), 1, 2))
    sums, (last, last_peak) = exponential_sums.causal(*exponents, u, log_gate)
    assert_allclose(quotient(sums), expected, rtol=1e-8, atol=1e-10)
    factor = np.exp(np.asarray(last_peak)[..., 0] - peak)  # the two may differ in what they took out
    assert_allclose(np.asarray(last)[..., :-1] * factor[..., None], state, rtol=1e-8, atol=1e-10)
    assert_allclose(np.asarray(last)[..., -1] * factor, z, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("size", "window"), [(1, 1), (1, 3), (2, 7), (3, 4), (40, 1), (64, 3), (30, 7), (100, 99)])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("r", [3, 70])
def test_windows_are_the_definition_in_both_ways_to_compute_them(rng, size, window, left, r):
    a, b, v = drawn(rng, 1e3, 37, r=r)
    b = b - 4e3
    w = window_structure(37, size, window, 0.9, left)[None, None]
    sums, _ = exponential_sums.windowed(*tensors(a, b, v), size, window, 0.9, left)
    assert_allclose(quotient(sums), defined(a, b, v, w), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["over_all", "causal", "gated", "windowed", "banded"])
def test_denominators_never_vanish(rng, mode, dtype):
    a, b, u = tensors(*drawn(rng, 1e4, LONG, r=70), dtype=dtype)
    gate = keras.ops.log_sigmoid(keras.ops.cast(30 * rng.normal(size=(B, H, LONG)), dtype))
    sums, _ = {
        "over_all": lambda: exponential_sums.over_all(a, b, u),
        "causal": lambda: exponential_sums.causal(a, b, u),
        "gated": lambda: exponential_sums.causal(a, b, u, gate),
        "windowed": lambda: exponential_sums.windowed(a, b, u, 30, 4, 0.1),
        "banded": lambda: exponential_sums.windowed(a, b, u, 2, 5, 0.1),
    }[mode]()
    assert np.min(sums[..., -1]) >= 0.99  # 1 but for rounding of gates and decays


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"use_gate": True}])
@pytest.mark.parametrize("transform", ["exp", "elu"])
def test_many_chunks_of_an_unknown_length_are_those_of_a_known_one(rng, transform, options):
    layer = KernelAttention(transform, num_heads=H, key_dim=D, value_dim=E, num_random_features=R, dtype="float64", **options)
    inputs = keras.Input((None, M), dtype="float64")
    model = keras.Model(inputs, layer(inputs, inputs, use_causal_mask=True))
    x = rng.normal(size=(B, LONG, M)).astype("float32").astype("float64")  # `predict` takes all to float32
    assert_allclose(model.predict(x, verbose=0), layer(x, x, use_causal_mask=True), rtol=1e-10, atol=1e-12)


def test_a_key_that_has_left_the_window_of_a_stream_takes_nothing_with_it(rng):
    """An exponent of 2000 in the first chunk; in the fourth, whose window does not reach so far, all are near 0."""
    a, b, v = drawn(rng, 1.0, 8)
    b[:, :2] += 2000
    state = tuple(keras.ops.full((B, H, 1, *size), fill, "float64") for size, fill in (((R, E + 1), 0.0), ((R, 1), -1e30)))
    outputs = []
    for start in range(0, 8, 2):
        part = tensors(*(x[:, start : start + 2] for x in (a, b, v)))
        sums, state = exponential_sums.windowed(*part, 2, 2, state=state)
        outputs.append(quotient(sums))
    w = window_structure(8, 2, 2)[None, None]
    assert_allclose(np.concatenate(outputs, axis=1), defined(a, b, v, w), rtol=1e-9, atol=1e-12)


def test_a_gate_that_forgets_takes_the_peak_of_what_it_forgot_with_it(rng):
    """The first key's exponents are 500 larger, but the gate after it leaves e^−1000 of it."""
    a, b, v = drawn(rng, 0.1, 3)
    b[:, 0] += 500
    log_gate = np.zeros((B, H, 3))
    log_gate[:, :, 1] = -1000
    *exponents, u = tensors(a, b, v, "float32")
    found = quotient(exponential_sums.causal(*exponents, u, keras.ops.convert_to_tensor(log_gate, "float32"))[0])
    later = defined(a[:, 1:], b[:, 1:], v[:, 1:], causal_mask(2, 2)[None, None].astype(float))
    assert_allclose(found[:, 1:], later, rtol=1e-4, atol=1e-5)
    assert_allclose(found[:, 0], v[:, 0], rtol=1e-6)
