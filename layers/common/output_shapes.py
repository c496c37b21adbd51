"""Shapes of a layer's outputs, for Keras's functional models and for wrappers such as `keras.layers.TimeDistributed`."""

import inspect
from functools import cache, wraps

import keras
import numpy as np

from layers.common.checks import python_number
from layers.common.sizes import joined_length


class TracedLayer(keras.layers.Layer):
    """A layer whose output shapes are found by tracing `call`, so that they are right for every combination of arguments.

    A subclass lists in `integer_arguments` the arguments of `call` that must be integers, and in `required_tensors` those whose
    shapes it is built for.
    """

    integer_arguments = ()
    required_tensors = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = taking_numpy_numbers(cls.__init__)

    def __call__(self, *args, **kwargs):
        # A string would count as True, a number of NumPy as a tensor.
        for name, value in kwargs.items():
            if isinstance(value, (np.integer, np.bool_)) and name not in TENSORS:
                return self(*args, **kwargs | {name: value.item()})
            if not isinstance(value, bool) and name in flags_of(type(self)):
                raise ValueError(f"{name} must be True or False. Received: {name}={value!r}")
            if name == "training" and not isinstance(value, (bool, type(None))):
                raise ValueError(f"training must be True, False or None. Received: training={value!r}")
            if value is not None and name in TENSORS:
                check_is_tensor(name, value)
        if not self.built:  # later, None would be an argument of another kind than the one that built the layer
            for name, value in zip(names_of(type(self)), args):
                if value is None and name in self.required_tensors:
                    raise ValueError(f"{name} must be a tensor. Received: {name}=None")
        tensors, others = split_arguments(type(self), args)
        if len(tensors) < len(args):
            return self(*tensors, **others, **kwargs)
        if self.integer_arguments and is_called_for_shapes():
            args = [self.without_values(name, value) for name, value in zip(names_of(type(self)), args)]
            kwargs = {name: self.without_values(name, value) for name, value in kwargs.items()}
        return super().__call__(*args, **kwargs)

    def without_values(self, name, value):
        """The argument `name` of a call for the sake of shapes: floats become integers where `call` takes nothing else.

        Keras saves the shapes of a subclassed model's inputs, not their dtypes, and builds the loaded model with floats. If they
        were rejected, the model would keep new weights instead of the saved ones, and Keras would only warn.
        """
        if name not in self.integer_arguments:
            return value
        return converted_floats(value, lambda x: keras.ops.cast(x, "int32"))

    def argument_dtype(self, name):
        """A dtype in which `call` accepts the argument `name`."""
        return "int32" if name in self.integer_arguments else self.compute_dtype

    def compute_output_spec(self, *args, **kwargs):
        # Not from compute_output_shape, which Keras would call without the arguments that are no tensors.
        spec = self.untraced_spec(**inspect.signature(self.call).bind(*args, **kwargs).arguments)
        return keras.Operation.compute_output_spec(self, *args, **kwargs) if spec is None else spec

    def symbol(self, *shape):
        """A symbolic tensor in the dtype in which this layer computes."""
        return keras.KerasTensor(shape, self.compute_dtype)

    def untraced_spec(self, **arguments):
        """The symbolic outputs for arguments of `call` with which tracing fails; None for all others.

        On JAX, Keras traces with the same number for every unknown size. So tracing fails where two unknown sizes must differ, as
        do the number of new tokens and the number of all tokens.
        """
        return None

    def compute_output_shape(self, *shapes, **named):
        """The shape of each output, nested as the outputs are.

        Args:
            *shapes: Shapes of the first arguments of `call`: tuples, with None for an unknown size; for an argument that is a
                list or a dict of tensors, a list or a dict of shapes; None for an argument that is not given.
            **named: Shapes of other arguments, as `NAME_shape`, and arguments that are no tensors, such as a flag, by their name.
        """
        names = list(inspect.signature(self.call).parameters)
        if len(shapes) > len(names):
            raise ValueError(f"at most {len(names)} shapes can be given, of {', '.join(names)}. Received: {len(shapes)} shapes")
        given = {f"{name}_shape": shape for name, shape in zip(names, shapes)} | named
        if "input_shape" in given and "input_shape" not in names:  # Keras's name for the shape of the first argument
            given = {f"{names[0]}_shape": given.pop("input_shape")} | given
        arguments = {}
        for name, value in given.items():
            argument = name.removesuffix("_shape")
            is_shape = name not in names and argument in names
            arguments[argument if is_shape else name] = symbols(value, self.argument_dtype(argument)) if is_shape else value
        return shapes_of(self.compute_output_spec(**arguments) if self.built else copied(self)(**arguments))


def is_called_for_shapes():
    """Whether Keras is finding the shapes of outputs, with tensors that have no values."""
    with keras.SymbolicScope() as scope:
        return scope.original_scope is not None


def converted_floats(value, convert):
    """`value` with `convert(x)` for each tensor x of floats in it, but not for symbolic inputs: their dtypes are chosen."""

    def converted(x):
        if not keras.ops.is_tensor(x) or isinstance(x, keras.KerasTensor):
            return x
        return convert(x) if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)) else x

    return keras.tree.map_structure(converted, value)


def taking_numpy_numbers(init):
    """The constructor `init`, which gets Python numbers in place of NumPy's."""

    @wraps(init)
    def constructor(self, *args, **kwargs):
        init(self, *map(python_number, args), **{name: python_number(value) for name, value in kwargs.items()})

    constructor.__signature__ = inspect.signature(init)  # Keras asks for it, and does not see through the wrapper
    return constructor


TENSORS = frozenset(("attention_mask", "attention_bias", "masked_positions", "content_attention_mask", "query_attention_mask"))
"""Arguments of calls that are tensors, in every layer that has them, or lists of tensors."""


def check_is_tensor(name, value):
    """Raise a ValueError unless `value` is a tensor, or a list of tensors, as the masks of BigBird are."""
    if not all(hasattr(part, "shape") for part in (value if isinstance(value, (list, tuple)) and value else [value])):
        raise ValueError(f"{name} must be a tensor. Received: a value of type {type(value).__name__}, {repr(value)[:80]}")


def split_arguments(kind, args):
    """`args`, given to `call` of the class `kind` by position, as a tuple and a dict: all from the first flag, number, text or
    None on goes into the dict, by name. A None by position is an argument that is not given.

    Keras lets tensors alone be given by position, and takes a mask twice if the first time it is None.
    """
    optional = optional_positions(kind)
    stop = next((i for i, value in enumerate(args) if i in optional and isinstance(value, NO_TENSORS)), len(args))
    if any(i not in optional for i in range(stop, len(args))):
        return args, {}
    return args[:stop], {optional[i]: args[i] for i in range(stop, len(args)) if args[i] is not None}


@cache
def optional_positions(kind):
    """{place: name} of the arguments of `call` of the class `kind` that have a default and can be given by position."""
    parameters = [*inspect.signature(kind.call).parameters.values()][1:]
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return {i: each.name for i, each in enumerate(positional) if each.default is not each.empty}


NO_TENSORS = (bool, int, float, str, np.generic, type(None))


@cache
def names_of(kind):
    """The names of the arguments of `call` of the class `kind`."""
    return tuple(inspect.signature(kind.call).parameters)[1:]


@cache
def flags_of(kind):
    """The names of the arguments of `call` of the class `kind` that are True or False by default."""
    return {name for name, each in inspect.signature(kind.call).parameters.items() if isinstance(each.default, bool)}


def copied(layer):
    """An unbuilt copy of `layer`, which is built in its place, because asking for a shape must not create weights."""
    return type(layer).from_config(layer.get_config())


def symbols(shape, dtype):
    """A symbolic tensor for a shape, or for each shape in a list or a dict; None for None."""
    if shape is None:
        return None
    if isinstance(shape, dict):
        return {name: symbols(part, dtype) for name, part in shape.items()}
    if any(size is not None and not isinstance(size, int) for size in shape):
        return [symbols(part, dtype) for part in shape]
    return keras.KerasTensor(tuple(shape), dtype)


def shapes_of(spec):
    """The shape of a symbolic tensor, or of each in a tuple, a list or a dict; None for None."""
    if isinstance(spec, dict):
        return {name: shapes_of(part) for name, part in spec.items()}
    if isinstance(spec, (tuple, list)):
        return type(spec)(shapes_of(part) for part in spec)
    return None if spec is None else tuple(spec.shape)


def appended_spec(mask, cache, step, new):
    """The symbolic cache after appending `new` to `cache`, if it must not be traced; else None.

    It cannot be traced if a mask has an axis for all keys and their number is unknown.
    """
    if mask is None or cache is None or step is not None or joined_length(cache["key"], new) is not None:
        return None
    sizes = {name: (part.shape[0], joined_length(part, new), *part.shape[2:]) for name, part in cache.items()}
    return {name: keras.KerasTensor(shape, cache[name].dtype) for name, shape in sizes.items()}
