"""Layers with linear maps into and out of heads, and the seven arguments shared by these maps."""

import math

import keras
from keras import ops

from layers.common.checks import interpreted
from layers.common.masks import first_mask
from layers.common.output_shapes import TracedLayer
from layers.common.quantization import check_not_quantized, with_policies_of_parts


class ProjectingLayer(TracedLayer):
    """A layer whose linear maps share initializers, regularizers and constraints.

    Args:
        kernel_initializer, bias_initializer: Initializers of the maps' kernels and biases. Each map gets its own random draw.
            Default to "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer: Regularizers of the maps' kernels and biases. Default to None.
        activity_regularizer: Regularizer of each map's output, but not of the output of this layer. Defaults to None.
        kernel_constraint, bias_constraint: Constraints on the kernels and biases, applied after each update. Default to None.
    """

    def __init__(
        self,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_not_quantized(self)
        self.supports_masking = True  # see `layers/common/masks.py`
        initializers = {"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer}
        self.kernel_initializer, self.bias_initializer = interpreted(keras.initializers.get, **initializers)
        regularizers = {"kernel_regularizer": kernel_regularizer, "bias_regularizer": bias_regularizer}
        self.kernel_regularizer, self.bias_regularizer = interpreted(keras.regularizers.get, **regularizers)
        # Keras would also apply an attribute named activity_regularizer to the output of this layer.
        [self._activity_regularizer] = interpreted(keras.regularizers.get, activity_regularizer=activity_regularizer)
        constraints = {"kernel_constraint": kernel_constraint, "bias_constraint": bias_constraint}
        self.kernel_constraint, self.bias_constraint = interpreted(keras.constraints.get, **constraints)

    def projection_options(self):
        """The seven arguments, for a linear map or a sublayer. Initializers are copied, so that each draws its own numbers."""
        return {
            "kernel_initializer": fresh(self.kernel_initializer),
            "bias_initializer": fresh(self.bias_initializer),
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self._activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
        }

    def make_projection(self, name, equation, output_shape, bias_axes, input_shape, **options):
        """A `LinearMap` named `name`, already built, with the options of this layer, unless `options` overrides them."""
        options = self.projection_options() | {"dtype": self.dtype_policy} | options
        layer = LinearMap(equation, output_shape=output_shape, bias_axes=bias_axes, name=name, **options)
        layer.build(input_shape)
        # Keras checks only the rank: with another width, a later call would raise an unclear error from the backend.
        layer.input_spec = keras.InputSpec(ndim=len(input_shape), axes={-1: input_shape[-1]})
        layer.supports_masking = True  # padding remains padding
        return layer

    def compute_mask(self, inputs, previous_mask=None):
        return first_mask(previous_mask)

    def get_config(self):
        return with_policies_of_parts(self, super().get_config()) | {
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self._activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


MODEL_AXES = "mnopqrsuvwxyzacdfgijklABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""All letters but those of the other axes of a map out of heads, b, t, h and e."""


def model_axes(count):
    """`count` letters for the axes of `output_shape`.

    Raises:
        ValueError: if there are not as many letters.
    """
    if count > len(MODEL_AXES):
        raise ValueError(f"output_shape must have at most {len(MODEL_AXES)} sizes. Received: output_shape with {count} sizes")
    return MODEL_AXES[:count]


QUANTIZED = ("int8", "int4", "float8")


class LinearMap(keras.layers.EinsumDense):
    """An EinsumDense computed as one matrix product: it sums over the last axes of the inputs and the first of the kernel.

    Its own equation, which quantization reads, has one axis for all that the inputs and the output share, `b`.
    """

    def __init__(self, equation, output_shape, **kwargs):
        kernel_axes, output_axes = equation.split(",")[1].split("->")
        summed = [axis for axis in kernel_axes if axis not in output_axes]
        kept = kernel_axes[len(summed) :]
        sizes = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)[-len(kept) :]
        super().__init__(f"b{''.join(summed)},{kernel_axes}->b{kept}", sizes, **kwargs)
        self.summed = len(summed)

    def build(self, inputs_shape):
        self.sizes = tuple(inputs_shape[-self.summed :])
        super().build((None, *self.sizes))
        self.input_spec = keras.InputSpec(min_ndim=self.summed + 1)

    def call(self, inputs, training=None):
        outer, kernel = ops.shape(inputs)[: -self.summed], self.kernel
        size, sizes = math.prod(kernel.shape[: self.summed]), kernel.shape[self.summed :]
        bias = None if self.bias is None else ops.reshape(self.bias, (-1,))
        y = matrix_product(ops.reshape(inputs, (*outer, size)), ops.reshape(kernel, (size, -1)), bias)
        return self.activation(ops.reshape(y, (*outer, *sizes)))

    def quantize(self, mode=None, type_check=True, **kwargs):
        if mode not in QUANTIZED:  # a warning in `Model.quantize`, like that of Keras for layers that it does not quantize
            raise NotImplementedError(f"mode must be one of {QUANTIZED} for {self.path!r}. Received: mode={mode!r}")
        super().quantize(mode, type_check=False, **kwargs)

    def quantized_call(self, inputs, training=None):
        rows = ops.reshape(inputs, (-1, *self.sizes))
        y = super().quantized_call(rows, training=training)
        return ops.reshape(y, (*ops.shape(inputs)[: -self.summed], *self.partial_output_shape))

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[: -self.summed], *self.partial_output_shape)


def matrix_product(x, kernel, bias=None):
    """`(…, m)` times `(m, n)`, plus `(n,)`, as one product of two matrices.

    TensorFlow would compute one product for each example, and then sum the gradients of the kernel.
    """
    y = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    return ops.reshape(y if bias is None else ops.add(y, bias), (*ops.shape(x)[:-1], kernel.shape[-1]))


def fresh(initializer):
    """A copy of an initializer, because one initializer object returns the same numbers for every weight of the same shape."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.__class__.from_config(initializer.get_config())
