"""Layers with linear maps into and out of heads, and the seven arguments that such maps share."""

import math

import keras
from keras import ops


class ProjectingLayer(keras.layers.Layer):
    """A layer whose linear maps all start, and are held, as these arguments say.

    Args:
        kernel_initializer, bias_initializer: How the maps start, each map with a draw of its own.
        kernel_regularizer, bias_regularizer: Penalties on the maps' weights.
        activity_regularizer: Penalty on each map's output (not once more on the output of this layer).
        kernel_constraint, bias_constraint: Applied to the maps' weights after each update.
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
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        # Keras would apply an attribute called activity_regularizer to this layer's output, beside the maps' own.
        self._activity_regularizer = keras.regularizers.get(activity_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def projection_options(self):
        """The seven arguments, for a map or for a layer inside this one; initializers as copies with draws of their own."""
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
        """A built `LinearMap` called `name`, with this layer's options unless `options` says otherwise."""
        options = self.projection_options() | {"dtype": self.dtype_policy} | options
        layer = LinearMap(equation, output_shape=output_shape, bias_axes=bias_axes, name=name, **options)
        layer.build(input_shape)
        # Keras checks the rank only: another width, in a later call, would be an error from deep inside the backend.
        layer.input_spec = keras.InputSpec(ndim=len(input_shape), axes={-1: input_shape[-1]})
        return layer

    def compute_output_spec(self, *args, **kwargs):
        # Traced, because flags such as return_attention_scores change how many outputs there are.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def get_config(self):
        return super().get_config() | {
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self._activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


class LinearMap(keras.layers.EinsumDense):
    """An EinsumDense that is one product of two matrices: the inputs' last axes are summed over, the kernel's others follow."""

    def call(self, inputs, training=None):
        kernel_axes, output_axes = self.equation.split(",")[1].split("->")
        summed = len(set(kernel_axes) - set(output_axes))
        outer, kernel = ops.shape(inputs)[:-summed], self.kernel
        size, sizes = math.prod(kernel.shape[:summed]), kernel.shape[summed:]
        bias = None if self.bias is None else ops.reshape(self.bias, (-1,))
        y = matrix_product(ops.reshape(inputs, (*outer, size)), ops.reshape(kernel, (size, -1)), bias)
        return self.activation(ops.reshape(y, (*outer, *sizes)))


def matrix_product(x, kernel, bias=None):
    """`(…, m)` times `(m, n)`, plus `(n,)`: as one product of two matrices.

    TensorFlow would make it one for each example, and add up their gradients for the kernel afterwards.
    """
    y = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    return ops.reshape(y if bias is None else ops.add(y, bias), (*ops.shape(x)[:-1], kernel.shape[-1]))


def fresh(initializer):
    """A copy of an initializer: one object gives every weight of the same shape the same numbers."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.__class__.from_config(initializer.get_config())
