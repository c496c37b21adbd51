"""How far a layer is from its reference, its gradient from the reference's slope, and its compiled self from its eager one."""

import keras
import numpy as np

from crosscheck.backends import differentiate
from crosscheck.case import TOLERANCE, arguments
from crosscheck.tree import is_float, numbers, to_numpy
from crosscheck.weights import weights_of


def largest_error(found, expected, least_scale=0.0):
    """The largest difference in any leaf, relative to the largest number in that leaf of `expected`; infinite where one is NaN.

    Args:
        found, expected: Arrays, or tuples and dicts of them.
        least_scale: Leaves whose largest number is below this are measured against this instead.

    Raises:
        ValueError: if the two do not have the same leaves of the same shapes.
    """
    found, expected = numbers(found), numbers(expected)
    shapes, wanted = ({where: leaf.shape for where, leaf in side.items()} for side in (found, expected))
    if shapes != wanted:
        raise ValueError(f"expected leaves {wanted}. Received: {shapes}")
    return max((leaf_error(found[where], leaf, least_scale) for where, leaf in expected.items()), default=0.0)


def leaf_error(found, expected, least_scale):
    if expected.dtype.kind not in "fiub":  # text
        return 0.0 if np.array_equal(found, expected) else np.inf
    found, expected = found.astype("float64"), expected.astype("float64")
    if np.array_equal(found, expected):
        return 0.0
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected).max() / (max(np.abs(expected).max(), least_scale) or 1.0)
    return float(error) if np.isfinite(error) else np.inf


def agreement(case, dtype="float64", seed=0):
    """`largest_error` of the layer, computing in `dtype`, against its float64 reference."""
    layer, inputs = case.make(dtype, seed)
    output = case.call(layer, **arguments(inputs, layer.compute_dtype))
    return largest_error(output, case.reference(weights_of(layer, case.weights), **inputs))


def agreements(case, seed=0):
    """{dtype: agreement} for each dtype of the case, beside which `TOLERANCE` holds the limits."""
    return {dtype: agreement(case, dtype, seed) for dtype in TOLERANCE if dtype in case.dtypes}


def cotangents_for(case, layer, inputs, rng):
    expected = numbers(case.reference(weights_of(layer, case.weights), **inputs))
    return {where: rng.normal(size=leaf.shape) for where, leaf in expected.items() if is_float(leaf)}


def gradient_errors(case, seed=0, step=1e-6):
    """Along one random direction of each weight and each float input: gradient of the layer against the reference's slope.

    Returns:
        {what: difference}, relative to the largest slope of them all (or 1): a gradient that is zero by symmetry, such as that
        of the key's bias, is rounding on both sides.
    """
    rng = np.random.default_rng(seed + 1)
    layer, inputs = case.make("float64", seed)
    cotangents = cotangents_for(case, layer, inputs, rng)
    _, by_variable, by_input = differentiate(case.call, layer, arguments(inputs, "float64"), cotangents)

    def loss(inputs):
        outputs = numbers(case.reference(weights_of(layer, case.weights), **inputs))
        return sum((outputs[where] * c).sum() for where, c in cotangents.items())

    slopes = {}
    for variable in layer.trainable_variables:
        start, direction = to_numpy(variable), rng.normal(size=variable.shape)
        ends = []
        for sign in (1, -1):
            variable.assign(start + sign * step * direction)
            ends.append(loss(inputs))
        variable.assign(start)
        slopes[variable.path] = (np.sum(numbers(by_variable[variable.path])["output"] * direction), ends)
    for name, gradient in by_input.items():
        direction = rng.normal(size=inputs[name].shape)
        ends = [loss(inputs | {name: inputs[name] + sign * step * direction}) for sign in (1, -1)]
        slopes[name] = (np.sum(numbers(gradient)["output"] * direction), ends)

    slopes = {what: (gradient, (up - down) / (2 * step)) for what, (gradient, (up, down)) in slopes.items()}
    scale = max([1.0, *(abs(slope) for _, slope in slopes.values())])
    errors = {what: float(abs(gradient - slope) / scale) for what, (gradient, slope) in slopes.items()}
    return {what: error if np.isfinite(error) else np.inf for what, error in errors.items()}  # max() may pass over a NaN


def gradient_error(case, seed=0):
    """The largest of `gradient_errors`; None for a case without gradients."""
    if "gradient" in case.skips:
        return None
    return max(gradient_errors(case, seed).values(), default=0.0)


def compiled_error(case, seed=0):
    """Outputs and gradients compiled by XLA against eager ones, in float64; None for a case that XLA cannot compile."""
    if "xla" in case.skips:
        return None
    layer, inputs = case.make("float64", seed)
    tensors = arguments(inputs, layer.compute_dtype)
    cotangents = {} if "gradient" in case.skips else cotangents_for(case, layer, inputs, np.random.default_rng(seed + 1))
    eager, compiled = (differentiate(case.call, layer, tensors, cotangents, compiled) for compiled in (False, True))
    # A gradient that is zero by symmetry is rounding on both sides: hence the least scale.
    return largest_error(compiled, eager, least_scale=1.0)


def outputs_of(case, seed=0):
    """{leaf: float64 array}: what the layer returns on this backend."""
    layer, inputs = case.make("float64", seed)
    return numbers(case.call(layer, **arguments(inputs, layer.compute_dtype)))


def backend_name():
    return keras.backend.backend()
