"""Features against the kernels that they estimate: expectations, closed-form variances, errata, and the projection's law."""

from importlib import import_module

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import D, S
from reference.kernel_attention import features as ref

layer = import_module("layers.kernel_attention.features")  # in the package, that name is the function's
DRAWS, ROWS = 40_000, 8


def estimates(phi, x, y, rows=ROWS, draws=DRAWS, orthogonal=False):
    """φ(x)·φ(y) for many projections, `(draws,)`."""
    rng, d = np.random.default_rng(0), len(x)
    if orthogonal:
        w = np.stack([ref.draw_projection(rng, rows, d) for _ in range(draws)])
    else:
        w = rng.normal(size=(draws, rows, d))
    # A projection with one row more for each draw would be the same; so all draws are rows of one, scaled back.
    both = [phi(side, w.reshape(-1, d)).reshape(-1, draws, rows) * np.sqrt(draws) for side in (x, y)]
    return np.einsum("cnr,cnr->n", *both)


def pair(rng, d=D, size=0.5):
    return size * rng.normal(size=d), size * rng.normal(size=d)


FEATURES = {
    "positive": ref.positive_features,
    "hyperbolic": ref.hyperbolic_features,
    "trigonometric": ref.trigonometric_features,
    "FAVOR++": lambda x, w: ref.favor_plus_plus_features(x, w, -0.2),
}


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("name", FEATURES)
def test_features_estimate_the_softmax_kernel_without_bias(rng, name, orthogonal):
    x, y = pair(rng)
    found = estimates(FEATURES[name], x, y, draws=DRAWS // 10 if orthogonal else DRAWS, orthogonal=orthogonal)
    assert abs(found.mean() - np.exp(x @ y)) < 5 * found.std() / np.sqrt(len(found))


def mean_square_error(name, x, y, m):
    """Lemma 2 of the Performer: closed forms for m independent rows."""
    plus, minus, kernel = np.exp((x + y) @ (x + y)), np.exp(-(x - y) @ (x - y)), np.exp(x @ y)
    positive = plus * kernel**2 * (1 - 1 / plus) / m
    return {
        "trigonometric": plus * kernel**-2 * (1 - minus) ** 2 / (2 * m),
        "positive": positive,
        "hyperbolic": (1 - 1 / plus) * positive / 2,
    }[name]


@pytest.mark.parametrize("name", ["trigonometric", "positive", "hyperbolic"])
def test_variances_are_those_of_lemma_2(rng, name):
    x, y = pair(rng, size=0.35)
    found = np.mean((estimates(FEATURES[name], x, y) - np.exp(x @ y)) ** 2)
    assert_allclose(found, mean_square_error(name, x, y, ROWS), rtol=0.1)


def test_positive_features_are_exact_for_opposite_vectors_and_trigonometric_ones_for_equal_vectors(rng):
    x, _ = pair(rng)
    assert_allclose(estimates(ref.positive_features, x, -x, draws=9), np.exp(-x @ x), rtol=1e-12)
    assert_allclose(estimates(ref.trigonometric_features, x, x, draws=9), np.exp(x @ x), rtol=1e-12)


def test_theorem_2_as_first_printed_fails_for_opposite_vectors_and_holds_as_revised(rng):
    """The gap between independent and orthogonal rows: printed 2(1 − 1/m)/(d + 2) SM²; revised, SM less e^{−(‖x‖²+‖y‖²)/2}."""
    m = d = 6
    for y_of in (lambda x, y: -x, lambda x, y: y, lambda x, y: x):
        x, y = pair(rng, d, 0.25)
        y = y_of(x, y)
        kernel, factor = np.exp(x @ y), 2 * (m - 1) / (m * (d + 2))
        orthogonal = (estimates(ref.positive_features, x, y, m, 20_000, orthogonal=True) - kernel) ** 2
        gap = mean_square_error("positive", x, y, m) - orthogonal.mean()
        revised = factor * (kernel - np.exp(-(x @ x + y @ y) / 2)) ** 2
        assert gap > revised - 1e-12
        if np.array_equal(x, -y):
            assert abs(gap) < 1e-12 < factor * kernel**2  # what was printed


def test_frequencies_of_a_narrow_kernel_are_high(rng):
    """e^{−‖x−y‖²/2σ²} needs w ~ N(0, σ⁻²I); with N(0, σ²I) it is another kernel."""
    sigma, (x, y) = 0.5, pair(rng, size=0.3)
    w = rng.normal(size=(200_000, D))
    right, wrong = (ref.fourier_features(x, f) @ ref.fourier_features(y, f) for f in (w / sigma, w * sigma))
    wanted = np.exp(-np.sum((x - y) ** 2) / (2 * sigma**2))
    assert abs(right - wanted) < 0.01 < 0.2 < abs(wrong - wanted)


def test_sines_and_cosines_have_length_one(rng):
    x, w = rng.normal(size=(S, D)), rng.normal(size=(9, D))
    phi = ref.fourier_features(x, w)
    assert_allclose(np.diag(phi @ phi.T), 1, rtol=1e-12)
    assert (np.abs(phi @ phi.T) <= 1 + 1e-12).all() and (phi @ phi.T < 0).any()


def test_the_a_of_favor_plus_plus_has_the_least_variance():
    """E (φ(x)·φ(y))² for one row is, up to what does not depend on A, (1 − 4A)^d (1 − 8A)^{−d/2} e^{2(1 − 4A)μ/(1 − 8A)}."""
    for mean, d in ((0.5, 7), (4.0, 7), (20.0, 16)):
        a = np.linspace(-3, 0.12, 200_001)
        log_square = d * np.log(1 - 4 * a) - d / 2 * np.log(1 - 8 * a) + 2 * (1 - 4 * a) * mean / (1 - 8 * a)
        assert_allclose(ref.favor_plus_plus_a(mean, d), a[log_square.argmin()], atol=1e-4)


def test_favor_plus_plus_varies_less_than_positive_features(rng):
    x, y = pair(rng)
    a = ref.favor_plus_plus_a(np.sum((x + y) ** 2), D)
    plus, plus_plus = (
        estimates(phi, x, y).std() for phi in (ref.positive_features, lambda x, w: ref.favor_plus_plus_features(x, w, a))
    )
    assert plus_plus < 0.8 * plus


def test_rows_are_orthogonal_in_blocks_and_have_lengths_of_their_own():
    w = ref.draw_projection(np.random.default_rng(0), 3 * D - 2, D)
    for start in range(0, len(w), D):
        gram = w[start : start + D] @ w[start : start + D].T
        assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    assert np.abs(w[:D] @ w[D : 2 * D].T).min() > 1e-6
    lengths = np.linalg.norm(ref.draw_projection(np.random.default_rng(1), 20_000, D), axis=1)
    assert_allclose([np.mean(lengths**2), np.var(lengths**2)], [D, 2 * D], rtol=0.05)  # chi-square
    assert abs(np.corrcoef(lengths[:-1:2], lengths[1::2])[0, 1]) < 0.05


def test_directions_come_from_a_triangular_factor_with_positive_diagonal():
    normal = np.random.default_rng(3).normal(size=(1, D, D))[0]
    directions = ref.draw_projection(np.random.default_rng(3), D, D)
    # Row i of the projection is row i of Q, so Qᵀ normal = R has its diagonal in these products.
    q = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert (np.diag(q.T @ normal) > 0).all()
    assert_allclose(np.tril(q.T @ normal, -1), 0, atol=1e-12)


@pytest.mark.parametrize("r", [D - 2, D, 2 * D + 3])
def test_the_layer_draws_the_references_projection(r):
    assert_array_equal(layer.draw_projection(5, r, D), ref.draw_projection(np.random.default_rng(5), r, D))


def test_other_seeds_give_other_directions_and_other_lengths():
    one, other = layer.draw_projection(0, D, D), layer.draw_projection(1, D, D)
    assert np.abs(np.linalg.norm(one, axis=1) - np.linalg.norm(other, axis=1)).min() > 1e-6
    assert np.abs(one - other).min() > 1e-6


def test_a_redrawn_projection_has_the_same_law():
    generator = keras.random.SeedGenerator(0)
    one, other = (np.asarray(layer.redraw_projection(generator, 2 * D, D, "float64")) for _ in range(2))
    for w in (one, other):
        gram = w[:D] @ w[:D].T
        assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    assert np.abs(np.linalg.norm(one, axis=1) - np.linalg.norm(other, axis=1)).min() > 1e-6
    lengths = np.linalg.norm(np.asarray(layer.redraw_projection(generator, 20_000, D, "float64")), axis=1)
    assert_allclose([np.mean(lengths**2), np.var(lengths**2)], [D, 2 * D], rtol=0.05)


def test_square_of_sums_is_that_of_every_pair(rng):
    x, y = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7))
    squares = ref.square_of_sums(x, y)
    for b, t, s, h in np.ndindex(2, 3, 5, 4):
        assert_allclose(squares[b, t, s, h], np.linalg.norm(x[b, t, h] + y[b, s, h]) ** 2, rtol=1e-13)
