"""Power iteration for the largest singular value of a linear map (Keras 3).

Computes equations (2) and (3) of `reference/spectral_normalization/`.

A map has the methods `apply(v, kernel)`, Wᵀ v, and `apply_transposed(u, kernel)`, W u, and the shapes of u and v.
"""

import math

import keras
import numpy as np
from keras import ops


class KernelMap:
    """A kernel as a matrix from some of its axes to the others.

    Args:
        shape: Shape of the kernel.
        inputs: The axes of the kernel that belong to the input.
    """

    def __init__(self, shape, inputs):
        letters = "abcdefghijklmnopqrstuvwxyz"[: len(shape)]
        self.v_axes = "".join(letters[axis] for axis in inputs)
        self.u_axes = "".join(letter for letter in letters if letter not in self.v_axes)
        self.kernel_axes = letters
        self.v_shape, self.u_shape = (
            tuple(shape[letters.index(letter)] for letter in axes) for axes in (self.v_axes, self.u_axes)
        )

    def apply(self, v, kernel):
        return ops.einsum(f"{self.v_axes},{self.kernel_axes}->{self.u_axes}", v, kernel)

    def apply_transposed(self, u, kernel):
        return ops.einsum(f"{self.u_axes},{self.kernel_axes}->{self.v_axes}", u, kernel)


class ConvolutionMap:
    """A convolution as a linear map of images of a given size, whose last axis is the channels.

    Args:
        layer: A built Conv1D, Conv2D or Conv3D.
        image_size: Size of each axis of the image, except the channels.
    """

    def __init__(self, layer, image_size):
        self.strides, self.dilations, kernel_shape = layer.strides, layer.dilation_rate, layer.kernel.shape
        self.image_size = image_size
        self.before, self.after, self.rest, output_size = [], [], [], []
        for n, k, stride, dilation in zip(image_size, kernel_shape, self.strides, self.dilations):
            reach = (k - 1) * dilation + 1
            both = 0
            if layer.padding == "same":
                both = max((math.ceil(n / stride) - 1) * stride + reach - n, 0)
            elif layer.padding == "causal":
                both = reach - 1
            self.before.append(both if layer.padding == "causal" else both // 2)
            self.after.append(both - self.before[-1])
            output_size.append((n + both - reach) // stride + 1)
        self.v_shape, self.u_shape = (*image_size, kernel_shape[-2]), (*output_size, kernel_shape[-1])

    def apply(self, v, kernel):
        v = ops.pad(v[None], [(0, 0), *zip(self.before, self.after), (0, 0)])
        return ops.conv(v, kernel, list(self.strides), "valid", "channels_last", list(self.dilations))[0]

    def apply_transposed(self, u, kernel):
        v = self.spread_dilated(u, kernel) if max(self.dilations) > 1 else self.spread(u, kernel)
        # v lacks the pixels after the last window; with strides larger than the kernel, it may be too long instead.
        wanted = [n + before for n, before in zip(self.image_size, self.before)]
        v = ops.pad(v, [(0, 0), *((0, max(n - size, 0)) for n, size in zip(wanted, v.shape[1:-1])), (0, 0)])
        return v[(0, *(slice(before, n) for before, n in zip(self.before, wanted)))]

    def spread(self, u, kernel):
        return ops.conv_transpose(u[None], kernel, list(self.strides), "valid", data_format="channels_last")

    def spread_dilated(self, u, kernel):
        # On a CPU, TensorFlow cannot transpose a dilated convolution. Dilated convolutions have no strides.
        window = range(len(self.dilations))
        reach = [((kernel.shape[axis] - 1) * self.dilations[axis],) * 2 for axis in window]
        for axis in window:  # one by one: before Keras 3.14, `flip` takes no tuple on TensorFlow
            kernel = ops.flip(kernel, axis=axis)
        u = ops.pad(u[None], [(0, 0), *reach, (0, 0)])
        return ops.conv(u, ops.swapaxes(kernel, -1, -2), 1, "valid", "channels_last", list(self.dilations))


def iterate(linear, kernel, u, v, iterations):
    """Equation (2), `iterations` times."""
    for _ in range(iterations):
        v = unit(linear.apply_transposed(u, kernel), otherwise=v)
        u = unit(linear.apply(v, kernel), otherwise=u)
    return u, v


def estimated_norm(linear, kernel, u, v):
    """Equation (3)."""
    return ops.sum(u * linear.apply(v, kernel))


def converge(linear, kernel, tolerance, at_most=500):
    """Equation (2) from a random u, until the relative increase of σ̂ is at most `tolerance`. Returns u and v."""
    dtype = keras.backend.standardize_dtype(kernel.dtype)
    rng = np.random.default_rng(0)
    u, v = (ops.cast(rng.normal(size=shape), dtype) for shape in (linear.u_shape, linear.v_shape))
    u, v = iterate(linear, kernel, unit(u, u), unit(v, v), 1)

    def step(u, v, sigma, growth):
        v = unit(linear.apply_transposed(u, kernel), otherwise=v)
        image = linear.apply(v, kernel)
        u = unit(image, otherwise=u)
        new_sigma = ops.sum(u * image)
        return u, v, new_sigma, new_sigma - sigma

    def is_growing(u, v, sigma, growth):
        return growth > tolerance * sigma

    state = (u, v, estimated_norm(linear, kernel, u, v), ops.cast(np.inf, dtype))
    return ops.while_loop(is_growing, step, state, maximum_iterations=at_most)[:2]


def unit(x, otherwise):
    """x / ‖x‖, or `otherwise` where x is zero. Dividing by the largest entry first avoids overflow and underflow of squares."""
    largest = ops.max(ops.abs(x))
    x = x / ops.where(largest > 0, largest, 1)
    return ops.where(largest > 0, x / ops.maximum(ops.sqrt(ops.sum(ops.square(x))), 1), otherwise)
