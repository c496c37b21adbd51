"""One way to call a layer and its reference on the same numbers."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np

from crosscheck.backends import build, ragged_tensor
from crosscheck.tree import Ragged, is_float, is_text, numbers_in
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
"""The checks that a case may skip, with a reason, in `Case.skips`."""


def call_with_keywords(layer, **inputs):
    return layer(**inputs)


def call_with_list(layer, output_range=None, **inputs):
    """Call a block with one tensor, or with a list of tensors in the order of `inputs`."""
    parts = list(inputs.values())
    return layer(parts if len(parts) > 1 else parts[0], output_range=output_range)


@dataclass(frozen=True)
class Case:
    """Attributes:

    name: "chapter/variant".
    layer: A function of `dtype` that returns the layer.
    inputs: Draws the call arguments from a NumPy generator: floats in float64, text in arrays of Python's `str`, and rows of
        unequal lengths as `Ragged`.
    weights: The NamedTuple class of the reference's weights.
    reference: Takes the weights and the same call arguments, and returns the same outputs as the layer.
    call: Calls the layer, if not as `layer(**inputs)`. It must take arrays by name.
    prepare: Takes the built layer and a NumPy generator, and sets the weights.
    unknown: Sizes other than the batch that are unknown in a symbolic call: every axis of such a size is given as None.
    batch: The batch size; every input whose first axis has this size holds one row per example.
    dtypes: The dtypes of `TOLERANCE` that the mechanism supports.
    skips: {check: reason} for those of `CHECKS` that do not apply to the mechanism; the run prints the reason.
    large: Whether it has the weights of a real model, so that it is measured in a process that holds nothing else.
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
    large: bool = False

    def __post_init__(self):
        if unknown := set(self.skips) - set(CHECKS):
            raise ValueError(f"skips must be among {CHECKS}. Received: {sorted(unknown)}")

    @property
    def chapter(self):
        """Name of the chapter that the case belongs to."""
        return self.name.split("/")[0]

    def make(self, dtype="float64", seed=0):
        """A layer with its weights, and call arguments rounded to `dtype`, so that layer and reference get the same numbers.

        Returns:
            The built layer and the dict of call arguments, floats as float64 arrays.
        """
        rng = np.random.default_rng(seed)
        layer = self.layer(dtype=dtype)
        if layer.compute_dtype == "float64":
            check_float64()
        inputs = {name: rounded(value, layer.compute_dtype) for name, value in self.inputs(rng).items()}
        build(self.call, layer, arguments(inputs, layer.compute_dtype), symbolic="symbolic" not in self.skips)
        self.prepare(layer, rng)
        return layer, inputs


def check_float64():
    """Raise a ValueError if JAX would compute in float32 where float64 is asked for; it would not say so."""
    if keras.backend.backend() != "jax":
        return
    import jax

    if not jax.config.jax_enable_x64:
        raise ValueError(
            "JAX must compute in float64 for a comparison in float64; JAX_ENABLE_X64=1 in the environment, or none, lets it. "
            f"Received: JAX_ENABLE_X64={os.environ.get('JAX_ENABLE_X64')}"
        )


def rounded(value, dtype):
    """Float arrays rounded to `dtype` and converted back to float64; any other value unchanged."""
    if not isinstance(value, np.ndarray) or not is_float(value) or dtype == "float64":
        return value
    return numbers_in(value, dtype).astype("float64")


def arguments(inputs, dtype):
    """The call arguments as tensors, floats in `dtype`; values that are not arrays (a flag, None, a list) unchanged.

    Texts stay an array where the backend's tensors hold none.
    """
    return {name: as_tensor(value, dtype) for name, value in inputs.items()}


def as_tensor(value, dtype):
    if isinstance(value, Ragged):
        return ragged_tensor(value)
    if isinstance(value, np.ndarray) and is_text(value) and keras.backend.backend() != "tensorflow":
        return value
    if isinstance(value, np.ndarray) and (value.dtype.kind in "fiub" or is_text(value)):
        return keras.ops.convert_to_tensor(numbers_in(value, dtype) if is_float(value) else value)
    return value
