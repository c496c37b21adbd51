"""GaussianProcessClassificationHead beside reference/gaussian_process_head/."""

import math
from functools import partial

import numpy as np
from keras import ops

from crosscheck.case import B, Case, M, T
from crosscheck.cases.spectral_normalization import converged
from crosscheck.catalogue import Chapter
from crosscheck.weights import draw_weights
from layers.gaussian_process_head import GaussianProcessClassificationHead
from reference.common.activations import ACTIVATIONS
from reference.gaussian_process_head import GaussianProcessHeadWeights, gaussian_process_head

F, R, C = 9, 17, 4
PAIRS = {"alone": "a covariance of pairs has as many columns as the batch has rows"}


def sequences(rng):
    return {"features": rng.normal(size=(B, T, M))}


def vectors(rng):
    return {"features": rng.normal(size=(B, M))}


def with_covariance(rng):
    return sequences(rng) | {"return_covmat": True}


def training(rng):
    return sequences(rng) | {"training": True}


def trained(layer, rng):
    """Drawn weights, converged singular vectors, and a precision matrix updated with three batches of different sizes."""
    draw_weights(layer, rng)
    if layer.use_spec_norm and layer.inner_dim:
        converged(layer.pooler_dense)
    for size in (5, 3, 4):
        layer(ops.convert_to_tensor(rng.normal(size=(size, T, M)), layer.compute_dtype), training=True)


def trained_without_dropping(layer, rng):
    """The same with a precision drawn here, because dropout differs between backends."""
    trained(layer, rng)
    seen = rng.normal(size=(12, R)) / 4
    layer.logits.precision_matrix.assign(np.eye(R) + seen.T @ seen)


def reference(weights, features, training=False, return_covmat=False, factor=None, activation="tanh", **options):
    head = gaussian_process_head(features, weights, factor=None if training else factor, phi=ACTIVATIONS[activation], **options)
    return [head.logits, head.covariance] if return_covmat else head.logits


def case(variant, inputs=sequences, inner_dim=F, units=C, ridge=1.0, told=None, skips=None, prepare=trained, **options):
    """A case with λ = π/8 and an exact sum as precision, unless `options` differ; `told` is for the reference only."""
    arguments = {"temperature": math.pi / 8, "num_inducing": R, "gp_cov_momentum": -1, "gp_cov_ridge_penalty": ridge} | options
    if not options.get("use_gp_layer", True):
        arguments = {name: options[name] for name in options}
    told = {
        "factor": arguments.get("temperature"),
        "c": options.get("norm_multiplier", 0.95),
        "activation": options.get("activation", "tanh"),
        "cls_token_idx": options.get("cls_token_idx", 0),
        "ridge": ridge,
    } | (told or {})
    return Case(
        f"gaussian_process_head/{variant}",
        partial(GaussianProcessClassificationHead, inner_dim, units, **arguments),
        inputs,
        GaussianProcessHeadWeights,
        partial(reference, **told),
        prepare=prepare,
        unknown=(T,),
        skips=skips or {},
    )


CHAPTER = Chapter(
    number=25,
    name="gaussian_process_head",
    title="Gaussian process head",
    part="Knowing what it does not know",
    sentence="A classifier that is uncertain far from its training data.",
    paper="Liu et al., 2020, §3",
    link="https://arxiv.org/abs/2006.10108",
    classes=("GaussianProcessClassificationHead",),
    functions=("head_one", "pooled", "gaussian_process_head", "softmax", "expected_softmax"),
    cases=(
        case("mean-field"),
        case("no-mean-field", temperature=None),
        case("other-factor", temperature=3 / math.pi**2, ridge=0.3),
        case("covariance", with_covariance, skips=PAIRS),
        case("covariance-no-mean-field", with_covariance, temperature=None, skips=PAIRS),
        case("training", training),
        case("vectors", vectors),
        case("last-token", cls_token_idx=-1),
        case("small-bound", norm_multiplier=0.3, iteration=2),
        case("large-bound", norm_multiplier=20.0),
        case("not-bounded", use_spec_norm=False),
        case("no-pooler", inner_dim=0, cls_token_idx=1),
        case("no-process", use_gp_layer=False),
        case("no-process-not-bounded", use_gp_layer=False, use_spec_norm=False),
        case("gelu", activation="gelu"),
        case("normalized", normalize_input=True, gp_kernel_scale=2.0),
        case("trained-scale", gp_kernel_scale_trainable=True, gp_output_bias=0.5, gp_output_bias_trainable=True),
        case("unscaled", scale_random_features=False, told={"scaled": False}),
        case("momentum", gp_cov_momentum=0.9),
        case("logistic", units=1, gp_cov_likelihood="binary_logistic"),
        case("linear", gp_kernel_type="linear"),
        case("dropout", dropout_rate=0.5, prepare=trained_without_dropping),
    ),
)
