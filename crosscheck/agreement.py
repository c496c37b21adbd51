"""The errors of a layer against its reference, of its gradient against the reference's slope, and of compiled against eager."""

import keras
import numpy as np

from crosscheck.backends import differentiate, evaluate
from crosscheck.case import TOLERANCE, arguments
from crosscheck.tree import is_float, leaves, numbers, to_numpy
from crosscheck.weights import weights_of


def largest_error(found, expected, least_scale=0.0):
    """The largest difference in any leaf, relative to the largest number in that leaf of `expected`; infinite for a NaN.

    Args:
        found, expected: Arrays, or tuples and dicts of them.
        least_scale: A lower limit for the number that differences are relative to.

    Raises:
        ValueError: if the two do not have the same leaves of the same shapes.
    """
    found, expected = leaves(found), leaves(expected)
    if list(found) != list(expected):
        raise ValueError(f"expected leaves {list(expected)}. Received: {list(found)}")
    errors = [0.0]
    for where in expected:  # one at a time, because all gradients of a real model together are large
        left, right = numbers(found[where], where), numbers(expected[where], where)
        shapes, wanted = ({place: leaf.shape for place, leaf in side.items()} for side in (left, right))
        if shapes != wanted:
            raise ValueError(f"expected leaves {wanted}. Received: {shapes}")
        errors += [leaf_error(left[place], leaf, least_scale) for place, leaf in right.items()]
    return max(errors)


def leaf_error(found, expected, least_scale):
    if expected.dtype.kind not in "fiub":  # text
        return 0.0 if np.array_equal(found, expected) else np.inf
    found, expected = found.astype("float64", copy=False), expected.astype("float64", copy=False)
    if np.array_equal(found, expected):
        return 0.0
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected).max() / (max(np.abs(expected).max(), least_scale) or 1.0)
    return float(error) if np.isfinite(error) else np.inf


class Trial:
    """One case with one seed. Its layers, outputs and gradients are computed once and shared by all checks.

    A call may change the state of a layer (a cache, a running norm), so `make` restores the initial state.
    """

    def __init__(self, case, seed=0):
        self.case, self.seed = case, seed
        self.layers, self.starts, self.inputs, self.outputs, self.references, self.gradients = {}, {}, {}, {}, {}, {}

    def make(self, dtype="float64"):
        """The built layer with its weights, and the call arguments as NumPy arrays, as `Case.make` returns them."""
        if dtype not in self.layers:
            self.layers[dtype], self.inputs[dtype] = self.case.make(dtype, self.seed)
            state = [variable for variable in self.layers[dtype].variables if not variable.trainable]
            self.starts[dtype] = [(variable, keras.ops.copy(variable.value)) for variable in state]
        for variable, start in self.starts[dtype]:
            variable.assign(start)
        return self.layers[dtype], self.inputs[dtype]

    def output(self, dtype="float64"):
        """{leaf: array}: the output of the layer."""
        if dtype not in self.outputs:
            layer, inputs = self.make(dtype)
            self.outputs[dtype] = numbers(evaluate(self.case.call, layer, arguments(inputs, layer.compute_dtype)))
        return self.outputs[dtype]

    def reference(self, dtype="float64"):
        """{leaf: array}: the output of the reference in float64, for weights and inputs rounded to `dtype`."""
        if dtype not in self.references:
            layer, inputs = self.make(dtype)
            self.references[dtype] = numbers(self.case.reference(weights_of(layer, self.case.weights), **inputs))
        return self.references[dtype]

    def agreement(self, dtype="float64"):
        """`largest_error` of the layer, computing in `dtype`, against its float64 reference."""
        return largest_error(self.output(dtype), self.reference(dtype))

    def cotangents(self):
        """{leaf: array}: a random direction for each float output, along which gradients are taken."""
        if "gradient" in self.case.skips:
            return {}
        rng = np.random.default_rng(self.seed + 1)
        return {where: rng.normal(size=leaf.shape) for where, leaf in self.reference().items() if is_float(leaf)}

    def differentiated(self, compiled):
        """Outputs and gradients in float64, eager or compiled by XLA, as `differentiate` returns them."""
        if compiled not in self.gradients:
            layer, inputs = self.make()
            tensors = arguments(inputs, layer.compute_dtype)
            self.gradients[compiled] = differentiate(self.case.call, layer, tensors, self.cotangents(), compiled)
        return self.gradients[compiled]

    def gradient_errors(self, step=1e-6):
        """The layer's gradient against the reference's slope, along one random direction of each weight and each float input.

        Returns:
            {weight or input: difference}, relative to the largest of all slopes or 1, because a gradient that is zero by
            symmetry, such as that of the key's bias, consists of rounding errors on both sides.
        """
        is_compiled = keras.backend.backend() == "jax"  # eager gradients take minutes there
        _, by_variable, by_input = self.differentiated(is_compiled)
        layer, inputs = self.make()
        cotangents, rng = self.cotangents(), np.random.default_rng(self.seed + 2)

        def loss(inputs):
            outputs = numbers(self.case.reference(weights_of(layer, self.case.weights), **inputs))
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
        return relative_to_the_largest({what: (slope, (up - down) / (2 * step)) for what, (slope, (up, down)) in slopes.items()})

    def gradient_error(self):
        """The largest of `gradient_errors`."""
        return max(self.gradient_errors().values(), default=0.0)

    def compiled_error(self):
        """The error of outputs and gradients compiled by XLA against eager ones, in float64."""
        # The least scale is for gradients that are zero by symmetry, which consist of rounding errors on both sides.
        return largest_error(self.differentiated(compiled=True), self.differentiated(compiled=False), least_scale=1.0)


def relative_to_the_largest(slopes):
    """{name: difference of its two slopes}, relative to the largest of all slopes, or to 1 if that is larger."""
    scale = max([1.0, *(abs(expected) for _, expected in slopes.values())])
    errors = {what: float(abs(found - expected) / scale) for what, (found, expected) in slopes.items()}
    return {what: error if np.isfinite(error) else np.inf for what, error in errors.items()}  # because max() may ignore a NaN


def agreement(case, dtype="float64", seed=0):
    """`largest_error` of the layer, computing in `dtype`, against its float64 reference."""
    return Trial(case, seed).agreement(dtype)


def agreements(case, seed=0):
    """{dtype: agreement} for each dtype of the case. The limits are in `TOLERANCE`."""
    trial = Trial(case, seed)
    return {dtype: trial.agreement(dtype) for dtype in TOLERANCE if dtype in case.dtypes}


def gradient_errors(case, seed=0):
    """{weight or input: difference} of the layer's gradient and the reference's slope; see `Trial.gradient_errors`."""
    return Trial(case, seed).gradient_errors()


def gradient_error(case, seed=0):
    """The largest of `gradient_errors`; None for a case without gradients."""
    return None if "gradient" in case.skips else Trial(case, seed).gradient_error()


def compiled_error(case, seed=0):
    """The error of outputs and gradients compiled by XLA against eager ones; None for a case that XLA cannot compile."""
    return None if "xla" in case.skips else Trial(case, seed).compiled_error()
