"""One way to call a layer and its reference on the same numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np

from crosscheck.backends import build, ragged_tensor
from crosscheck.tree import Ragged, is_float, is_text
from crosscheck.weights import draw_weights

B, T, S, H, M, D, E = 2, 3, 5, 4, 11, 7, 13
"""Axis sizes for cases and tests: all different and above 1, so that a swapped axis cannot go unnoticed."""

TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 6e-2, "float16": 1e-2}
"""Largest difference between layer and reference, relative to the largest number in the reference."""

GRADIENT_TOLERANCE = 1e-6
"""Largest relative difference between the layer's float64 gradient and central differences of the reference."""

COMPILED_TOLERANCE = 1e-10
"""Largest relative difference between compiled and eager, in float64: only the order of sums may differ."""

CHECKS = ("gradient", "xla", "config", "copy", "save", "symbolic", "mixed", "alone", "jax")
"""The promises that a case may opt out of, with a reason, in `Case.skips`."""


def call_with_keywords(layer, **inputs):
    return layer(**inputs)


def call_with_list(layer, output_range=None, **inputs):
    """As blocks are called: with one tensor, or with a list of them in the order of `inputs`."""
    parts = list(inputs.values())
    return layer(parts if len(parts) > 1 else parts[0], output_range=output_range)


@dataclass(frozen=True)
class Case:
    """Attributes:

    name: "chapter/variant".
    layer: Makes the layer; takes `dtype`.
    inputs: Draws the call arguments from a NumPy generator; floats in float64, text in arrays of Python's `str`, and rows of
        unequal lengths as `Ragged`.
    weights: NamedTuple class of the reference's weights.
    reference: Takes the weights and the same call arguments; returns what the layer returns.
    call: Calls the layer, where that is not `layer(**inputs)`. Its arrays must be used through their names.
    prepare: Gives the built layer its numbers; takes the layer and a NumPy generator.
    unknown: Sizes (beside the batch) that a symbolic call leaves open: every axis that long is given as None.
    batch: Size of the batch; every input whose first axis is that long holds one row per example.
    dtypes: Those of `TOLERANCE` that the mechanism has.
    skips: {check: reason} of the `CHECKS` that the mechanism cannot promise; the run prints the reason.
    """

    name: str
    layer: Callable[..., keras.layers.Layer]
    inputs: Callable[[np.random.Generator], dict]
    weights: type
    reference: Callable
    call: Callable = call_with_keywords
    prepare: Callable = draw_weights
    unknown: tuple[int, ...] = ()
    batch: int = B
    dtypes: tuple[str, ...] = tuple(TOLERANCE)
    skips: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if strangers := set(self.skips) - set(CHECKS):
            raise ValueError(f"skips must name some of {CHECKS}. Received: {sorted(strangers)}")

    def make(self, dtype="float64", seed=0):
        """A layer with its weights, and call arguments rounded to what `dtype` can hold, so that both sides get the same.

        Returns:
            The built layer and the dict of call arguments, floats as float64 arrays.
        """
        rng = np.random.default_rng(seed)
        layer = self.layer(dtype=dtype)
        inputs = {name: rounded(value, layer.compute_dtype) for name, value in self.inputs(rng).items()}
        build(self.call, layer, arguments(inputs, layer.compute_dtype), symbolic="symbolic" not in self.skips)
        self.prepare(layer, rng)
        return layer, inputs


def rounded(value, dtype):
    """Float arrays rounded to `dtype` and back to float64; everything else as it is."""
    if not isinstance(value, np.ndarray) or not is_float(value) or dtype == "float64":
        return value
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(value, dtype), "float32")), "float64")


def arguments(inputs, dtype):
    """The call arguments as tensors, floats in `dtype`; what is no array (a flag, None, a list) as it is."""
    return {name: as_tensor(value, dtype) for name, value in inputs.items()}


def as_tensor(value, dtype):
    if isinstance(value, Ragged):
        return ragged_tensor(value)
    if isinstance(value, np.ndarray) and (value.dtype.kind in "fiub" or is_text(value)):
        return keras.ops.convert_to_tensor(value, dtype if is_float(value) else None)
    return value
