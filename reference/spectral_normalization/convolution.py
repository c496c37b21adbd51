"""Convolution over any number of axes, and its transpose, both as loops over kernel positions and output positions.

Axes
    b batch    t position (the first axis of an image)    m channels in    f channels out
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


def padded_sizes(size: int, kernel_size: int, stride: int = 1, padding: str = "valid", dilation: int = 1) -> tuple[int, int, int]:
    """For one axis: zeros before, zeros after, and the size of the output, which is ⌈size / stride⌉ for "same"."""
    reach = (kernel_size - 1) * dilation + 1
    if padding == "valid":
        before = after = 0
    elif padding == "causal":
        before, after = reach - 1, 0
    else:
        both = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        before, after = both // 2, both - both // 2
    return before, after, (size + before + after - reach) // stride + 1


def convolve(
    x: Float[Array, "b *positions m"],
    kernel: Float[Array, "*window m f"],
    strides: Sequence[int],
    padding: str = "valid",
    dilations: Sequence[int] | None = None,
) -> Float[Array, "b *outputs f"]:
    """y_p = Σ_w x_{p·stride + w·dilation − before} K_w, where x is zero outside its positions."""
    window, dilations = kernel.shape[:-2], dilations or [1] * len(strides)
    sizes = [padded_sizes(n, *part, padding, d) for n, *part, d in zip(x.shape[1:-1], window, strides, dilations)]
    x = np.pad(x, [(0, 0), *((before, after) for before, after, _ in sizes), (0, 0)])
    y = np.zeros((len(x), *(size for _, _, size in sizes), kernel.shape[-1]))
    for position in np.ndindex(y.shape[1:-1]):
        for w in np.ndindex(window):
            read = tuple(p * stride + offset * d for p, stride, offset, d in zip(position, strides, w, dilations))
            y[:, *position] += x[:, *read] @ kernel[w]
    return y


def convolve_transposed(
    y: Float[Array, "b *outputs f"],
    kernel: Float[Array, "*window m f"],
    image_size: Sequence[int],
    strides: Sequence[int],
    padding: str = "valid",
    dilations: Sequence[int] | None = None,
) -> Float[Array, "b *positions m"]:
    """The transpose of `convolve` for images of `image_size`: each output is multiplied by K_wᵀ and added where it was read."""
    window, dilations = kernel.shape[:-2], dilations or [1] * len(strides)
    sizes = [padded_sizes(n, *part, padding, d) for n, *part, d in zip(image_size, window, strides, dilations)]
    x = np.zeros((len(y), *(n + before + after for n, (before, after, _) in zip(image_size, sizes)), kernel.shape[-2]))
    for position in np.ndindex(y.shape[1:-1]):
        for w in np.ndindex(window):
            read = tuple(p * stride + offset * d for p, stride, offset, d in zip(position, strides, w, dilations))
            x[:, *read] += y[:, *position] @ kernel[w].T
    inside = tuple(slice(before, before + n) for n, (before, _, _) in zip(image_size, sizes))
    return x[:, *inside]
