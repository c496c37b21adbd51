r"""Spectral normalization: a kernel that cannot stretch any input by more than a constant.

Paper
    Miyato et al. (2018), "Spectral Normalization for Generative Adversarial Networks", section 2.1 and appendix A.
    https://arxiv.org/abs/1802.05957
    Yoshida and Miyato (2017), "Spectral Norm Regularization for Improving the Generalizability of Deep Learning", section 3.
    https://arxiv.org/abs/1705.10941
    Liu et al. (2020), "Simple and Principled Uncertainty Estimation", section 3.2, for the bound (4).
    https://arxiv.org/abs/2006.10108

Equations
    (1)  σ(W) = max_x ‖x W‖ / ‖x‖,  the largest singular value
    (2)  v ← W u / ‖W u‖,   u ← Wᵀ v / ‖Wᵀ v‖,  repeated
    (3)  σ̂ = vᵀ W u ≤ σ(W)
    (4)  W̄ = W · min(1, c / σ̂)
    (5)  W̄ = W / σ̂,  the form of Miyato et al., which also enlarges a W with σ̂ below 1

Axes
    b batch    m input    f output; inputs and outputs may each have several axes

Differs from the paper
    - The paper's W is our Wᵀ, so that a layer computes x W. As in the paper, u belongs to the outputs and v
      to the inputs.
    - In (4) a kernel below the bound is not changed. This is from Liu et al., and a residual network needs it.
    - A convolution's kernel is reshaped to (inputs of a window, outputs), as in the paper. Its σ is not the norm of the
      convolution, which is at most √(positions in the window) times as large, for stride 1. `convolution_norm` estimates (1) for
      the convolution.
    - For gradients, u and v are constants, as in the paper: ∂σ̂/∂W = v uᵀ.

Layer: layers/spectral_normalization/    Notebook: notebooks/spectral_normalization.ipynb
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from reference.common.projection import Projection, with_bias
from reference.spectral_normalization.convolution import convolve, convolve_transposed


class SpectralNormalizationWeights(NamedTuple):
    """The weights of the wrapped layer, and the two vectors of the power iteration."""

    layer: Projection
    u: Float[Array, "*outputs"]
    v: Float[Array, "*inputs"]


def stretch(x: Float[Array, " m"], w: Float[Array, "m f"]) -> float:
    """‖x W‖ / ‖x‖ for one input: no x has more than σ(W), equation (1)."""
    return float(np.linalg.norm(x @ w) / np.linalg.norm(x))


def spectral_norm(w: Float[Array, "m f"]) -> float:
    """Equation (1), from all singular values: the definition everything else must match."""
    return float(np.linalg.svd(w, compute_uv=False)[0])


def power_iteration(
    w: Float[Array, "m f"], u: Float[Array, " f"], iterations: int = 1
) -> tuple[float, Float[Array, " f"], Float[Array, " m"]]:
    """Equations (2) and (3), from an output direction u. Returns σ̂, u and v."""
    for _ in range(iterations):
        v = unit(np.einsum("mf,f->m", w, u))
        u = unit(np.einsum("mf,m->f", w, v))
    return float(np.einsum("mf,m,f->", w, v, u)), u, v


def unit(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x / ‖x‖."""
    return x / np.linalg.norm(x)


def estimated_norm(kernel: Float[Array, "..."], u: Float[Array, "*outputs"], v: Float[Array, "*inputs"]) -> float:
    """Equation (3), for a kernel whose axes are those of v followed by those of u."""
    return float(v.ravel() @ kernel.reshape(v.size, u.size) @ u.ravel())


def bounded(kernel: Float[Array, "..."], sigma: float, c: float) -> Float[Array, "..."]:
    """Equation (4)."""
    return kernel * min(1.0, c / sigma) if sigma > 0 else kernel


def spectral_einsum(
    x: Float[Array, "b *inputs"], weights: SpectralNormalizationWeights, equation: str, c: float = 0.95
) -> tuple[Float[Array, "b *outputs"], float]:
    """The map `np.einsum(equation, x, kernel)`, such as "bm,mf->bf" for a dense layer. Returns the output and σ̂."""
    sigma = estimated_norm(weights.layer.kernel, weights.u, weights.v)
    return with_bias(np.einsum(equation, x, bounded(weights.layer.kernel, sigma, c)), weights.layer), sigma


def spectral_convolution(
    x: Float[Array, "b *positions m"],
    weights: SpectralNormalizationWeights,
    strides: Sequence[int],
    padding: str = "valid",
    dilations: Sequence[int] | None = None,
    c: float = 0.95,
) -> tuple[Float[Array, "b *outputs f"], float]:
    """A convolution. If u has axes for positions, σ̂ estimates the norm of the convolution, else that of the reshaped kernel.

    Returns:
        The output and σ̂.
    """
    options, kernel = (strides, padding, dilations), weights.layer.kernel
    if weights.u.ndim == 1:
        sigma = estimated_norm(kernel, weights.u, weights.v)
    else:
        sigma = float((convolve(weights.v[None], kernel, *options)[0] * weights.u).sum())
    return with_bias(convolve(x, bounded(kernel, sigma, c), *options), weights.layer), sigma


def convolution_norm(
    kernel: Float[Array, "*window m f"],
    u: Float[Array, "*outputs f"],
    image_size: Sequence[int],
    strides: Sequence[int],
    padding: str = "valid",
    dilations: Sequence[int] | None = None,
    iterations: int = 1,
) -> tuple[float, Float[Array, "*outputs f"], Float[Array, "*positions m"]]:
    """`power_iteration` for the convolution itself on images of `image_size`, where W u is a transposed convolution."""
    options = (strides, padding, dilations)
    for _ in range(iterations):
        v = unit(convolve_transposed(u[None], kernel, image_size, *options)[0])
        u = unit(convolve(v[None], kernel, *options)[0])
    return float((convolve(v[None], kernel, *options)[0] * u).sum()), u, v


def convolution_matrix(
    kernel: Float[Array, "*window m f"],
    image_size: Sequence[int],
    strides: Sequence[int],
    padding: str = "valid",
    dilations: Sequence[int] | None = None,
) -> Float[Array, "_ _"]:
    """The convolution as one matrix W: row i is the output for an image whose i-th number is 1 and all others 0."""
    count = int(np.prod(image_size)) * kernel.shape[-2]
    images = np.eye(count).reshape(count, *image_size, kernel.shape[-2])
    return convolve(images, kernel, strides, padding, dilations).reshape(count, -1)
