"""Read a layer's weights in the form that its reference takes, and draw new ones."""

import math
from contextlib import contextmanager
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import keras
import numpy as np

from crosscheck.tree import numbers_in, to_numpy


def weights_of(layer, like):
    """The variables of `layer` as the NamedTuple class `like`, matched by name, in float64.

    Each field has the name of a variable or sublayer of the layer. Its annotation is an array, for a variable; another NamedTuple
    class, for a sublayer, or a union of such classes, of which the one with the names of the sublayer is used;
    `tuple[Class, ...]`, for sublayers named `field_0`, `field_1`, and so on; or any of these `| None`, if it may be absent.

    Args:
        layer: A built Keras layer.
        like: The NamedTuple class of the reference's weights.

    Raises:
        KeyError: if `like` has a name that the layer lacks, or the layer has a trainable weight that `like` lacks.
    """
    tree, unused = {}, set()
    for variable in layer.weights:
        names = variable.path.split("/")[1:]
        branch = tree
        for name in names[:-1]:
            branch = branch.setdefault(name, {})
        branch[names[-1]] = variable
        if variable.trainable:
            unused.add(variable.path)
    weights = read(like, tree, layer.name, unused)
    if unused:
        raise KeyError(f"{like.__name__} leaves out {sorted(unused)}")
    return weights


def read(like, branch, where, unused):
    """The value for the annotation `like`, read from `branch`: a variable, or a dict of branches by name."""
    kinds = [kind for kind in get_args(like) if kind is not NoneType] if isinstance(like, UnionType) else [like]
    if branch is None:
        if NoneType not in get_args(like):
            raise KeyError(f"the layer has no {where}")
        return None
    if not hasattr(kinds[0], "_fields"):
        if isinstance(branch, dict):
            raise KeyError(f"{where} is a layer with {sorted(branch)}, not a weight")
        unused.discard(branch.path)
        return to_numpy(branch)
    kind = next((kind for kind in kinds if set(branch) <= set(kind._fields)), kinds[0])
    hints = get_type_hints(kind)
    return kind(**{name: read_field(hints[name], branch, name, where, unused) for name in kind._fields})


def read_field(hint, branch, name, where, unused):
    parts_hint = next((kind for kind in (hint, *get_args(hint)) if get_origin(kind) is tuple), None)
    if parts_hint is None:
        return read(hint, branch.get(name), f"{where}/{name}", unused)
    parts = []
    while (part := f"{name}_{len(parts)}") in branch:
        parts.append(read(get_args(parts_hint)[0], branch[part], f"{where}/{part}", unused))
    if not parts and NoneType in get_args(hint):
        return None
    if not parts:
        raise KeyError(f"the layer has no {where}/{name}_0")
    return tuple(parts)


def draw_weights(layer, rng):
    """Draw new values for every trainable weight of `layer`, the same ones on every backend.

    Zeros would hide a misplaced bias, and ones a misplaced scale, so noise is added to weights that are constant at the start.
    The others are drawn with a variance of one over their fan-in.
    """
    for variable in layer.trainable_variables:
        start, shape = to_numpy(variable), variable.shape
        if start.size and np.ptp(start) == 0:
            variable.assign(numbers_in(start + 0.3 * rng.normal(size=shape), variable.dtype))
        else:
            variable.assign(numbers_in(rng.normal(size=shape) / math.sqrt(math.prod(shape[:-1])), variable.dtype))


RANDOM = tuple(
    getattr(keras.initializers, name) for name in ("RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling")
)


@contextmanager
def drawn_by_numpy():
    """Let Keras's random initializers draw with NumPy, normally and with a variance of one over the fan-in.

    JAX compiles a program for each shape and dtype that it draws, which takes half a second each. Layer and reference are
    compared on the same weights, however these were drawn.
    """
    rng = np.random.default_rng(0)

    def draw(self, shape, dtype=None):
        drawn = rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1])))
        return keras.ops.convert_to_tensor(numbers_in(drawn, dtype or keras.config.floatx()))

    own = {kind: kind.__call__ for kind in RANDOM}
    try:
        for kind in RANDOM:
            kind.__call__ = draw
        yield
    finally:
        for kind, function in own.items():
            kind.__call__ = function
