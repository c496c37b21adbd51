"""The kernel of a wrapped layer, whichever way the layer keeps it, and a call with another kernel (Keras 3)."""

import inspect

import keras
from keras import ops


def trained_kernel(layer):
    """The weight of a wrapped layer that its kernel is made from, by quantization and low-rank addition.

    Raises:
        ValueError: if there is none.
    """
    kernel = getattr(layer, "kernel", None)
    if not isinstance(kernel, keras.Variable) and getattr(layer, "lora_enabled", False):
        kernel = layer._kernel  # its property `kernel` is the sum
    if not isinstance(kernel, keras.Variable):
        raise ValueError(f"layer must have a weight called kernel. Received: layer={said(layer)}")
    return kernel


def check_one_input(layer):
    """Raise a ValueError unless the `call` of `layer` needs one argument alone."""
    needed = [
        name
        for name, each in inspect.signature(layer.call).parameters.items()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD and name not in ("training", "mask")
    ]
    if len(needed) > 1:
        raise ValueError(f"layer must be called with one input. Received: layer={said(layer)}, called with {', '.join(needed)}")


def float_kernel(layer):
    """The kernel that the layer multiplies by, in floating point.

    Raises:
        ValueError: if there is none, or it is quantized in a way that is not known here.
    """
    mode = layer.quantization_mode
    if mode not in (None, "float8", "int8"):
        raise ValueError(f"layer must not be quantized, or to int8 or float8. Received: layer={said(layer)}, quantized to {mode}")
    kernel = trained_kernel(layer)
    if mode != "int8":
        return ops.convert_to_tensor(layer.kernel)
    kernel = ops.cast(kernel, layer.kernel_scale.dtype) / scale_of_kernel(layer)
    if not layer.lora_enabled:
        return kernel
    return kernel + layer.lora_alpha / layer.lora_rank * ops.matmul(layer.lora_kernel_a, layer.lora_kernel_b)


def scale_of_kernel(layer):
    """`kernel_scale` with the axes of the kernel; that of an EinsumDense has those of its output."""
    scale = ops.convert_to_tensor(layer.kernel_scale)
    if not isinstance(layer, keras.layers.EinsumDense):
        return scale
    kernel_axes, output_axes = layer.equation.replace(" ", "").split(",")[1].split("->")
    kept = [axis for axis in output_axes if axis in kernel_axes]
    scale = ops.squeeze(scale, [place for place, axis in enumerate(output_axes) if axis not in kernel_axes])
    scale = ops.transpose(scale, [kept.index(axis) for axis in kernel_axes if axis in kept])
    return ops.expand_dims(scale, [place for place, axis in enumerate(kernel_axes) if axis not in kept])


def multiplied(layer, kernel, factor):
    """[(weight, value)] that make the layer multiply by `kernel` · `factor`, where `kernel` is its `float_kernel`."""
    if layer.quantization_mode == "int8":
        changed = [(layer.kernel_scale, layer.kernel_scale / ops.cast(factor, layer.kernel_scale.dtype))]
    else:
        weight = trained_kernel(layer)
        # The low-rank addition is part of `kernel`, so there it is the weight alone that is scaled.
        own = ops.convert_to_tensor(weight) if getattr(layer, "lora_enabled", False) else kernel
        changed = [(weight, ops.cast(own * ops.cast(factor, own.dtype), weight.dtype))]
    if getattr(layer, "lora_enabled", False):
        changed.append((layer.lora_kernel_b, layer.lora_kernel_b * ops.cast(factor, layer.lora_kernel_b.dtype)))
    return changed


class Instead(keras.StatelessScope):
    """A scope in which some variables have other values. What is assigned and what is lost in it outlives it.

    Args:
        layer: The layer that is called.
        values: [(variable, value)].
    """

    def __init__(self, layer, values):
        super().__init__(state_mapping=values, initialize_variables=False)
        self.layer, self.replaced, self.updates = layer, {id(variable) for variable, _ in values}, {}

    def __enter__(self):
        super().__enter__()
        self.collect_losses = self.original_scope is None or self.original_scope.collect_losses
        return self

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        super().add_update(update)
        variable, value = update
        if id(variable) in self.replaced:
            raise ValueError(f"layer must not assign its own kernel. Received: layer={said(self.layer)}")
        self.updates[id(variable)] = variable, value

    def apply(self, wrapper):
        """After the scope: assign what was assigned in it, and add its losses."""
        for variable, value in self.updates.values():
            variable.assign(value)
        for loss in self.losses:
            if self.original_scope is None:
                wrapper.add_loss(loss)
            else:
                self.original_scope.add_loss(loss)  # the layer that added it knows it as its own there


def said(layer):
    return f"{type(layer).__name__} {layer.name!r}"
