r"""Features φ whose products are, or estimate, a kernel.

Paper
    Katharopoulos et al. (2020), "Transformers are RNNs", equation (7). https://arxiv.org/abs/2006.16236
    Choromanski et al. (2021), "Rethinking Attention with Performers", section 2.3, Lemma 1 and section 2.4.
    https://arxiv.org/abs/2009.14794
    Peng et al. (2021), "Random Feature Attention", section 2.2 and Theorem 1. https://arxiv.org/abs/2103.02143
    Likhosherstov et al. (2022), "Chefs' Random Tables", section 3 (FAVOR++). https://arxiv.org/abs/2205.15317

Equations, where w_1, …, w_r are the rows of the projection W
    (1)  elu            φ(x) = elu(x) + 1                                        without W by default
    (2)  generalized    φ(x) = f(W x) / √r,  f one of relu + 10⁻³, square, identity
    (3)  positive       φ(x) = e^{W x − ‖x‖²/2} / √r                             E φ(x)·φ(y) = e^{x·y}
    (4)  FAVOR++        φ(x) = D e^{A‖w‖² + B W x − ‖x‖²/2} / √r                 the same, for every A < 1/8
    (5)                 A = (1 − 1/ρ)/8,  B = √(1 − 4A),  D = (1 − 4A)^{d/4},
                        ρ = (√((2μ + d)² + 8dμ) − 2μ − d)/(4μ),  μ the mean of ‖x + y‖²
    (6)  sin and cos    φ(x) = [sin W x, cos W x] / √r                           E φ(x)·φ(y) = e^{−‖x−y‖²/2}
    (7)  W: blocks of d orthogonal rows with uniform directions; each row has the length of an independent normal vector

Axes
    b batch    t query position    s key position    h head    d key size    r random feature

Differs from the paper
    - RFA's Theorem 1 is sometimes printed with w ~ N(0, σ²I) for the kernel e^{−‖x−y‖²/2σ²}, which needs N(0, σ⁻²I). Here
      w ~ N(0, I), and x is divided by σ.
    - The Performer's code adds a small number to φ; (3) does not. How sums are kept from vanishing is in
      `reference/kernel_attention/exponents.py`.
    - FAVOR++ takes μ over all pairs of a (batch, head). At μ = 0 its ρ is 0/0; the limit is 1.

Layer: layers/kernel_attention/features.py    Notebook: notebooks/kernel_attention.ipynb
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

GENERALIZED = {
    "elu": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0) + 1e-3,
    "square": np.square,
    "identity": lambda x: x,
}


def draw_projection(rng: np.random.Generator, r: int, d: int) -> Float[Array, "r d"]:
    """Equation (7), for each block from the orthogonal factor of a normal matrix.

    Its directions are uniform once the triangular factor has a positive diagonal.
    """
    blocks = -(-r // d)
    normal, lengths = rng.normal(size=(blocks, d, d)), np.linalg.norm(rng.normal(size=(blocks * d, d)), axis=1)
    q, upper = np.linalg.qr(normal)
    q = q * np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None, :]
    return (lengths[:, None] * q.reshape(-1, d))[:r]


def project(x: Float[Array, "*rows d"], projection: Float[Array, "r d"]) -> Float[Array, "*rows r"]:
    """W x."""
    return np.einsum("...d,rd->...r", x, projection)


def half_square(x: Float[Array, "*rows d"]) -> Float[Array, "*rows 1"]:
    """‖x‖²/2."""
    return np.sum(x**2, axis=-1, keepdims=True) / 2


def generalized_features(
    x: Float[Array, "*rows d"], name: str, projection: Float[Array, "r d"] | None
) -> Float[Array, "*rows _"]:
    """Equations (1) and (2), without a projection if it is None."""
    if projection is None:
        return GENERALIZED[name](x)
    return GENERALIZED[name](project(x, projection)) / np.sqrt(len(projection))


def positive_features(x: Float[Array, "*rows d"], projection: Float[Array, "r d"]) -> Float[Array, "*rows r"]:
    """Equation (3)."""
    return np.exp(project(x, projection) - half_square(x)) / np.sqrt(len(projection))


def hyperbolic_features(x: Float[Array, "*rows d"], projection: Float[Array, "r d"]) -> Float[Array, "*rows r*2"]:
    """Equation (3) for W and −W together (Lemma 1): two features, with less variance, for each row."""
    return positive_features(x, np.concatenate([projection, -projection]))


def trigonometric_features(x: Float[Array, "*rows d"], projection: Float[Array, "r d"]) -> Float[Array, "*rows r*2"]:
    """Equation (6) times e^{‖x‖²/2}: the estimate of e^{x·y} that FAVOR+ replaces."""
    return np.exp(half_square(x)) * fourier_features(x, projection)


def fourier_features(x: Float[Array, "*rows d"], projection: Float[Array, "r d"]) -> Float[Array, "*rows r*2"]:
    """Equation (6)."""
    wx = project(x, projection)
    return np.concatenate([np.sin(wx), np.cos(wx)], axis=-1) / np.sqrt(len(projection))


def favor_plus_plus_features(
    x: Float[Array, "*rows d"], projection: Float[Array, "r d"], a: Float[Array, "..."] | float
) -> Float[Array, "*rows r"]:
    """Equation (4), with A = `a`, which is broadcast to the rows."""
    d = x.shape[-1]
    exponent = a * np.sum(projection**2, axis=-1) + np.sqrt(1 - 4 * a) * project(x, projection) - half_square(x)
    return (1 - 4 * a) ** (d / 4) * np.exp(exponent) / np.sqrt(len(projection))


def favor_plus_plus_a(mean: Float[Array, "..."] | float, d: int) -> Float[Array, "..."] | float:
    """Equation (5): the A of least variance, for the mean of ‖x + y‖²."""
    rho = (np.sqrt((2 * mean + d) ** 2 + 8 * d * mean) - 2 * mean - d) / (4 * mean)
    return (1 - 1 / rho) / 8


def mean_square_of_sums(
    x: Float[Array, "b t h d"], y: Float[Array, "b s h d"], x_mask: Bool[Array, "b t"], y_mask: Bool[Array, "b s"]
) -> Float[Array, "b 1 h 1"]:
    """μ of equation (5) over all pairs that the masks allow, pair by pair."""
    pairs = (x_mask[:, :, None] & y_mask[:, None])[..., None]
    return (np.sum(square_of_sums(x, y) * pairs, axis=(1, 2)) / np.sum(pairs, axis=(1, 2)))[:, None, :, None]


def square_of_sums(x: Float[Array, "b t h d"], y: Float[Array, "b s h d"]) -> Float[Array, "b t s h"]:
    """‖x + y‖² of all pairs, one x at a time, because all sums at once would take t s d numbers for each head."""
    return np.stack([np.sum((x[:, t, None] + y) ** 2, axis=-1) for t in range(x.shape[1])], axis=1)
