"""The gated feed-forward network of a transformer (Keras 3)."""

import keras
from keras import ops

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import check_at_least, check_flags, check_rate
from layers.common.compatibility import garden_arguments
from layers.common.sizes import known
from layers.common.sums import added_up

POSITIONS = ("before_residual", "after_residual")


@keras.saving.register_keras_serializable(package="layers")
@garden_arguments({"intermediate_size": "inner_dim", "intermediate_activation": "inner_activation"})
class GatedFeedforward(BlockLayer):
    """A gated feed-forward network with a residual connection and a layer norm.

    Computes equation (3) of `reference/gated_feedforward.py`, plus dropout.

    The units are the product of two maps of the input: `intermediate` (W in the paper), followed by the activation, and `gate`
    (V in the paper), without activation. The activation determines the variant: "sigmoid" is GLU, "linear" Bilinear,
    "relu" ReGLU, "gelu" GEGLU and "swish" SwiGLU.

    Axes: `b` batch, `t` position, `m` model size, `f` feed-forward size.

    Args:
        inner_dim: Number of units, `f`. With two thirds of the units of an ungated network, it has the same number of parameters.
        inner_activation: The activation, by name or as a callable. "gelu" is the exact function, "gelu_tanh" its approximation.
        dropout: Fraction dropped while training, at `dropout_position`.
        use_gate: Whether to use the gate. Without it, this is an ordinary feed-forward network.
        apply_output_layer_norm: Whether each block ends with a layer norm. The residual connection is always present.
        num_blocks: Number of consecutive blocks, each with its own weights.
        dropout_position: "before_residual" applies dropout to the network's output before the input is added; "after_residual"
            applies it to the output of the block, after the norm if there is one.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: For every linear map, with the same meaning and defaults as in `keras.layers.Dense`.

    Call arguments:
        inputs: Tensor of shape `(b, t, m)`, or `(b, ..., m)` with any number of axes between.
        training: Whether to apply dropout.

    Returns:
        Tensor of the shape of `inputs`, in the compute dtype.

    Raises:
        ValueError: if a size is below 1, `dropout` is outside [0, 1), `inner_activation` or `dropout_position` is unknown, the
            inputs have fewer than 2 axes, or their last axis has an unknown size or a size that does not fit the weights.

    Example:

    >>> layer = GatedFeedforward(inner_dim=16, inner_activation="swish")
    >>> layer(keras.ops.ones((1, 3, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        Without the output norm, the residual connection remains; there, it is removed too, and `apply_output_layer_norm` is
        missing from the configuration. The default activation, "gelu", is exact; there, it is the tanh approximation, which is
        "gelu_tanh" here. Inputs may have 2 or more axes; there, they must have 3. `intermediate_size` and
        `intermediate_activation` are other names of `inner_dim` and `inner_activation`, as there.

    Reference:
        [Shazeer, 2020](https://arxiv.org/abs/2002.05202), section 2.
    """

    def __init__(
        self,
        inner_dim=768,
        inner_activation="gelu",
        dropout=0.0,
        use_gate=True,
        apply_output_layer_norm=True,
        num_blocks=1,
        dropout_position="before_residual",
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        check_at_least(1, inner_dim=inner_dim, num_blocks=num_blocks)
        check_rate(dropout=dropout)
        check_flags(use_gate=use_gate, apply_output_layer_norm=apply_output_layer_norm)
        if dropout_position not in POSITIONS:
            raise ValueError(f"dropout_position must be one of {POSITIONS}. Received: dropout_position={dropout_position!r}")
        self.inner_dim = inner_dim
        self.inner_activation = get_activation("inner_activation", inner_activation)
        self.dropout = dropout
        self.use_gate = use_gate
        self.apply_output_layer_norm = apply_output_layer_norm
        self.num_blocks = num_blocks
        self.dropout_position = dropout_position
        self.supports_masking = True  # tokens do not interact, so padding remains padding

    def build(self, input_shape):
        self.check_shape(input_shape)
        m, f = input_shape[-1], self.inner_dim
        blocks = range(self.num_blocks)
        self.intermediate_dense = [self.make_dense(f"intermediate_{i}", m, f) for i in blocks]
        self.gate_dense = [self.make_dense(f"gate_{i}", m, f) for i in blocks if self.use_gate]
        self.output_dense = [self.make_dense(f"output_{i}", f, m) for i in blocks]
        self.output_norm = [self.make_norm(f"output_layer_norm_{i}", m) for i in blocks if self.apply_output_layer_norm]
        self.dropout_layer = self.make_dropout(self.dropout)

    def call(self, inputs, training=None):
        self.check_shape(inputs.shape, self.intermediate_dense[0].kernel.shape[0])
        x = inputs
        for i in range(self.num_blocks):
            y = self.gated_feed_forward(x, i)
            if self.dropout_position == "before_residual":
                y = self.dropout_layer(y, training=training)
            x = added_up(x, y)
            if self.apply_output_layer_norm:
                x = self.output_norm[i](x)
            if self.dropout_position == "after_residual":
                x = self.dropout_layer(x, training=training)
        return x

    def gated_feed_forward(self, x, i):
        """Equation (2), or (1) if there is no gate, with the maps of block `i`."""
        units = self.inner_activation(self.intermediate_dense[i](x))
        if self.use_gate:
            units = ops.multiply(units, self.gate_dense[i](x))
        return self.output_dense[i](units)

    def check_shape(self, shape, size=None):
        if len(shape) < 2 or known(shape[-1]) is None or shape[-1] != (size or shape[-1]):
            last = f"of size {size}" if size else "of known size"
            raise ValueError(f"inputs must have at least 2 axes, the last {last}. Received: inputs of shape {tuple(shape)}")

    def get_config(self):
        return super().get_config() | {
            "inner_dim": self.inner_dim,
            "inner_activation": keras.activations.serialize(self.inner_activation),
            "dropout": self.dropout,
            "use_gate": self.use_gate,
            "apply_output_layer_norm": self.apply_output_layer_norm,
            "num_blocks": self.num_blocks,
            "dropout_position": self.dropout_position,
        }
