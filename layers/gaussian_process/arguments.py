"""The arguments of a Gaussian process and their checks."""

from layers.common.checks import check_at_least, check_flags, check_number
from layers.gaussian_process.posterior import LIKELIHOODS
from layers.gaussian_process.random_features import KERNEL_TYPES

ARGUMENTS = (
    "units",
    "num_inducing",
    "gp_kernel_type",
    "gp_kernel_scale",
    "gp_output_bias",
    "normalize_input",
    "gp_kernel_scale_trainable",
    "gp_output_bias_trainable",
    "gp_cov_momentum",
    "gp_cov_ridge_penalty",
    "scale_random_features",
    "use_custom_random_features",
    "custom_random_features_initializer",
    "custom_random_features_activation",
    "l2_regularization",
    "gp_cov_likelihood",
    "return_gp_cov",
    "return_random_features",
    "kernel_initializer",
    "seed",
)
FLAGS = (
    *("normalize_input", "gp_kernel_scale_trainable", "gp_output_bias_trainable", "scale_random_features"),
    *("use_custom_random_features", "return_gp_cov", "return_random_features"),
)


def check_arguments(layer):
    """Raise a ValueError unless the arguments of `layer` are in range and compatible."""
    check_at_least(1, units=layer.units, num_inducing=layer.num_inducing)
    check_at_least(0, seed=layer.seed)
    for name, choices in (("gp_kernel_type", KERNEL_TYPES), ("gp_cov_likelihood", LIKELIHOODS)):
        if getattr(layer, name) not in choices:
            raise ValueError(f"{name} must be one of {choices}. Received: {name}={getattr(layer, name)!r}")
    check_number("a finite number above 0", lambda number: number > 0, gp_kernel_scale=layer.gp_kernel_scale)
    check_number("a finite number above 0", lambda number: number > 0, gp_cov_ridge_penalty=layer.gp_cov_ridge_penalty)
    check_number("a finite number of at least 0", lambda number: number >= 0, l2_regularization=layer.l2_regularization)
    check_number("a finite number below 1", lambda number: number < 1, gp_cov_momentum=layer.gp_cov_momentum)
    check_number("a finite number", gp_output_bias=layer.gp_output_bias)
    check_flags(**{name: getattr(layer, name) for name in FLAGS})
    if layer.gp_cov_likelihood != "gaussian" and layer.units != 1:
        received = f"gp_cov_likelihood={layer.gp_cov_likelihood!r}, units={layer.units}"
        raise ValueError(f"gp_cov_likelihood must be 'gaussian' unless units=1. Received: {received}")
    custom = (layer.custom_random_features_initializer, layer.custom_random_features_activation)
    possible = layer.use_custom_random_features and layer.gp_kernel_type != "linear"
    if not possible and any(part is not None for part in custom):
        received = f"use_custom_random_features={layer.use_custom_random_features}, gp_kernel_type={layer.gp_kernel_type!r}"
        raise ValueError(
            "custom_random_features_initializer and custom_random_features_activation need use_custom_random_features=True and "
            f"a gp_kernel_type other than 'linear', which has no random features. Received: {received}"
        )
