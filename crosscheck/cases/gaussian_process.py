"""RandomFeatureGaussianProcess beside reference/gaussian_process.py."""

import math
from functools import partial

import numpy as np
from keras import ops

from crosscheck.case import B, Case, M
from crosscheck.catalogue import Chapter
from crosscheck.weights import draw_weights
from layers.gaussian_process import RandomFeatureGaussianProcess
from reference.common.activations import relu
from reference.gaussian_process import GaussianProcessWeights, gaussian_process

R, C = 17, 3
PAIRS = {"alone": "a covariance of pairs has as many columns as the batch has rows"}


def examples(rng):
    return {"inputs": rng.normal(size=(B, M)), "diagonal": True}


def pairs_of_examples(rng):
    return {"inputs": rng.normal(size=(B, M))}


def trained(layer, rng):
    """Drawn weights, and a precision matrix updated with three batches of different sizes."""
    draw_weights(layer, rng)
    for size in (5, 3, 4):
        layer(ops.convert_to_tensor(rng.normal(size=(size, M)), layer.compute_dtype), training=True)


def trained_with_drawn_features(layer, rng):
    """The same, for features that Keras would draw differently on each backend."""
    kernel = layer.random_features.kernel
    kernel.assign(0.3 * rng.normal(size=kernel.shape))
    trained(layer, rng)


def reference(weights, inputs, diagonal=False, features=False, known=True, **options):
    output = gaussian_process(inputs, weights, **options)
    parts = [output.logits]
    if known:
        parts.append(np.diagonal(output.covariance) if diagonal else output.covariance)
    return [*parts, output.features] if features else parts


def case(variant, inputs=examples, units=C, ridge=1.0, prepare=trained, skips=None, dtypes=None, activation=np.cos, **options):
    """A case whose precision is the exact sum, unless `options` say otherwise."""
    arguments = {"units": units, "num_inducing": R, "gp_cov_ridge_penalty": ridge, "gp_cov_momentum": -1} | options
    known = options.get("return_gp_cov", True)
    told = {
        "ridge": ridge,
        "activation": activation,
        "scaled": options.get("scale_random_features", True),
        "features": options.get("return_random_features", False),
        "known": known,
    }
    return Case(
        f"gaussian_process/{variant}",
        partial(RandomFeatureGaussianProcess, **arguments),
        inputs,
        GaussianProcessWeights,
        partial(reference, **told),
        prepare=prepare if known else draw_weights,
        skips=skips or {},
        **({"dtypes": dtypes} if dtypes else {}),
    )


CHAPTER = Chapter(
    number=24,
    name="gaussian_process",
    title="Gaussian process on random features",
    part="Knowing what it does not know",
    sentence="An output layer whose variance grows with the distance from the training data.",
    paper="Rahimi and Recht, 2007; Liu et al., 2020, §3.1",
    link="https://arxiv.org/abs/2006.10108",
    classes=("RandomFeatureGaussianProcess",),
    functions=("features_one", "random_features", "precision_by_loop", "add_batch", "covariance", "gaussian_process"),
    cases=(
        case("variances"),
        case("covariance", pairs_of_examples, skips=PAIRS),
        case("features", pairs_of_examples, return_random_features=True, skips=PAIRS),
        case("features-only", inputs=pairs_of_examples, return_gp_cov=False, return_random_features=True),
        case("logits-only", inputs=pairs_of_examples, return_gp_cov=False),
        case("before-training", prepare=draw_weights),
        case("momentum", gp_cov_momentum=0.9),
        case("momentum-pairs", pairs_of_examples, gp_cov_momentum=0.999, ridge=0.1, skips=PAIRS),
        case("ridge", ridge=0.05),
        case("kernel-scale", gp_kernel_scale=4.0),
        case("trained-scale", gp_kernel_scale=0.7, gp_kernel_scale_trainable=True),
        case("normalized", normalize_input=True, gp_kernel_scale=2.5),
        case("normalized-trained-scale", normalize_input=True, gp_kernel_scale_trainable=True, gp_output_bias_trainable=True),
        case("bias", gp_output_bias=1.5, gp_output_bias_trainable=True),
        case("unscaled", scale_random_features=False, ridge=2.0),
        case("logistic", units=1, gp_cov_likelihood="binary_logistic"),
        case("poisson", units=1, gp_cov_likelihood="poisson", gp_cov_momentum=0.5),
        case("laplacian", gp_kernel_type="laplacian", gp_kernel_scale=9.0),
        case("linear", gp_kernel_type="linear", gp_kernel_scale=math.pi),
        case("custom-kernel", prepare=trained_with_drawn_features, custom_random_features_initializer="glorot_normal"),
        case("custom-activation", custom_random_features_activation="relu", activation=relu, ridge=0.5),
        case("own-features", use_custom_random_features=False, seed=3),
    ),
)
