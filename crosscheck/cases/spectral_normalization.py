"""SpectralNormalization beside reference/spectral_normalization/."""

import math
from functools import partial

import keras
import numpy as np

from crosscheck.case import B, Case, D, H, M, S, T
from crosscheck.catalogue import Chapter
from crosscheck.tree import to_numpy
from crosscheck.weights import draw_weights
from layers.spectral_normalization import SpectralNormalization
from reference.spectral_normalization import (
    SpectralNormalizationWeights,
    convolution_matrix,
    spectral_convolution,
    spectral_einsum,
    unit,
)
from reference.spectral_normalization.convolution import padded_sizes

F, LENGTH, IMAGE = 9, 8, (6, 4)


def wrapped(kind, arguments, options, dtype):
    layer = kind(*arguments, name="layer", dtype=dtype, **options.get("layer", {}))
    return SpectralNormalization(layer, **{name: value for name, value in options.items() if name != "layer"})


def rows(rng):
    return {"inputs": rng.normal(size=(B, M))}


def tokens(rng):
    return {"inputs": rng.normal(size=(B, T, M))}


def heads(rng):
    return {"inputs": rng.normal(size=(B, T, H, D))}


def sequence(rng):
    return {"inputs": rng.normal(size=(B, LENGTH, M))}


def image(rng):
    return {"inputs": rng.normal(size=(B, *IMAGE, S))}


def training(rng, inputs=rows):
    return inputs(rng) | {"training": True}


def converged(layer):
    """Set the singular vectors of a layer's kernel or convolution, so that training calls do not change them."""
    kernel, size, inner = to_numpy(layer.layer.kernel), layer.image_size, layer.layer
    if size is None:
        matrix = kernel.reshape(math.prod(layer.v.shape), -1)
    else:
        matrix = convolution_matrix(kernel, size, inner.strides, inner.padding, inner.dilation_rate)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    layer.v.assign(left[:, 0].reshape(layer.v.shape))
    layer.u.assign(right[0].reshape(layer.u.shape))
    return layer


def warm(layer, rng):
    draw_weights(layer, rng)
    converged(layer)


def cold(layer, rng):
    """The vectors are independent of the kernel."""
    draw_weights(layer, rng)
    for vector in (layer.u, layer.v):
        vector.assign(unit(rng.normal(size=vector.shape)))


def einsum(weights, inputs, equation, c, training=None):
    return spectral_einsum(inputs, weights, equation, c)[0]


def convolution(weights, inputs, training=None, **options):
    return spectral_convolution(inputs, weights, **options)[0]


def case(variant, kind, arguments, inputs, reference, prepare=warm, unknown=(T,), **options):
    layer = partial(wrapped, kind, arguments, options)
    name = f"spectral_normalization/{variant}"
    return Case(name, layer, inputs, SpectralNormalizationWeights, reference, prepare=prepare, unknown=unknown)


def dense(variant, inputs, equation="bm,mf->bf", c=0.95, **options):
    reference = partial(einsum, equation=equation, c=c)
    return case(variant, keras.layers.Dense, (F,), inputs, reference, norm_multiplier=c, **options)


def einsum_dense(variant, equation, shape, inputs, bias_axes, c=0.6, **options):
    options = options | {"norm_multiplier": c, "layer": {"bias_axes": bias_axes}}
    return case(variant, keras.layers.EinsumDense, (equation, shape), inputs, partial(einsum, equation=equation, c=c), **options)


def conv(variant, kind, size, inputs, sizes, strides=1, padding="valid", dilation=1, c=0.9, **options):
    axes = len(size)
    reference = partial(convolution, strides=[strides] * axes, padding=padding, dilations=[dilation] * axes, c=c)
    options["layer"] = {"strides": strides, "padding": padding, "dilation_rate": dilation}
    unknown = (*sizes, *(padded_sizes(n, k, strides, padding, dilation)[2] for n, k in zip(sizes, size)))
    return case(variant, kind, (F, size), inputs, reference, unknown=unknown, norm_multiplier=c, **options)


def conv1d(variant, **options):
    return conv(variant, keras.layers.Conv1D, (3,), sequence, (LENGTH,), **options)


def conv2d(variant, inputs=image, **options):
    return conv(variant, keras.layers.Conv2D, (3, 2), inputs, IMAGE, **options)


CHAPTER = Chapter(
    number=23,
    name="spectral_normalization",
    title="Spectral normalization",
    part="Knowing what it does not know",
    sentence="A limit on how much a layer can enlarge differences between its inputs.",
    paper="Miyato et al., 2018, §2.1; Yoshida & Miyato, 2017",
    link="https://arxiv.org/abs/1802.05957",
    classes=("SpectralNormalization",),
    functions=("spectral_norm", "power_iteration", "bounded", "spectral_einsum", "spectral_convolution", "convolution_norm"),
    cases=(
        dense("dense", rows),
        dense("dense-training", training, iteration=2),
        dense("dense-small-bound", tokens, "btm,mf->btf", c=0.1),
        dense("dense-below-its-bound", rows, c=20.0),
        dense("dense-cold", rows, c=0.05, prepare=cold, training=False),
        dense("dense-no-bias", rows, layer={"use_bias": False}),
        einsum_dense("into-heads", "btm,mhd->bthd", (None, H, D), tokens, "hd"),
        einsum_dense("out-of-heads", "bthd,hdm->btm", (None, M), heads, "m"),
        einsum_dense("into-heads-training", "btm,mhd->bthd", (None, H, D), partial(training, inputs=tokens), "hd"),
        conv1d("conv1d"),
        conv1d("conv1d-causal-dilated", padding="causal", dilation=2),
        conv1d("conv1d-norm", padding="causal", image_size=(LENGTH,)),
        conv2d("conv2d", padding="same"),
        conv2d("conv2d-strided", strides=2, padding="same"),
        conv2d("conv2d-norm", padding="same", image_size=IMAGE),
        conv2d("conv2d-norm-strided", strides=2, padding="same", image_size=IMAGE),
        conv2d("conv2d-norm-dilated", dilation=2, image_size=(7, 5)),
        conv2d("conv2d-norm-training", partial(training, inputs=image), padding="same", image_size=IMAGE),
    ),
)
