"""The gated feed-forward network of a transformer (Keras 3)."""

import keras

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import check_at_least, check_rate

POSITIONS = ("before_residual", "after_residual")


@keras.saving.register_keras_serializable(package="layers")
class GatedFeedforward(BlockLayer):
    """A feed-forward network whose units are multiplied by a gate, added to its input, and normalized.

    Computes equation (3) of `reference/gated_feedforward.py`, plus dropout.

    Of the two maps into the units, `intermediate` (the paper's W) is activated and `gate` (its V) is linear. The variants are
    named by their activation: "sigmoid" is GLU, "linear" Bilinear, "relu" ReGLU, "gelu" GEGLU and "swish" SwiGLU.

    Axes: `b` batch, `t` position, `m` model size, `f` feed-forward size.

    Args:
        inner_dim: Number of units, `f`. Two thirds of what an ungated network has make the parameters equal.
        inner_activation: The activation, by name or as a callable. "gelu" is the exact one, "gelu_tanh" its approximation.
        dropout: Fraction dropped of each block's output, where `dropout_position` says.
        use_gate: Whether there is a gate. Without one this is the ordinary feed-forward network.
        apply_output_layer_norm: Whether each block ends in a layer norm. The residual connection is there either way.
        num_blocks: How many such blocks follow each other, each with weights of its own.
        dropout_position: "before_residual" drops from what is added to the input; "after_residual" drops from the block's
            result, behind the norm if there is one.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As for `ProjectingLayer`.

    Call arguments:
        inputs: Tensor of shape `(b, t, m)`, or `(b, ..., m)` with any number of axes between.
        training: Whether to drop.

    Returns:
        Tensor of the shape of `inputs`, in the compute dtype.

    Raises:
        ValueError: for sizes below 1, a dropout outside [0, 1), an unknown activation or dropout_position, inputs with fewer
            than 2 axes, and a last axis that is unknown or not the one that the weights were made for.

    Example:

    >>> layer = GatedFeedforward(inner_dim=16, inner_activation="swish")
    >>> layer(keras.ops.ones((1, 3, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        Without the output norm the residual connection stays; there it goes too, and `apply_output_layer_norm` is missing from
        the configuration. "gelu" is exact; there, and by default, it is the tanh approximation, here "gelu_tanh". Inputs may
        have any rank from 2; there it must be 3. The sizes that its docstring calls intermediate_ are inner_ here as in its code.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_at_least(1, inner_dim=inner_dim, num_blocks=num_blocks)
        check_rate(dropout=dropout)
        if dropout_position not in POSITIONS:
            raise ValueError(f"dropout_position must be one of {POSITIONS}. Received: dropout_position={dropout_position!r}")
        self.inner_dim = inner_dim
        self.inner_activation = get_activation("inner_activation", inner_activation)
        self.dropout = dropout
        self.use_gate = use_gate
        self.apply_output_layer_norm = apply_output_layer_norm
        self.num_blocks = num_blocks
        self.dropout_position = dropout_position
        self.supports_masking = True  # tokens do not meet here, so what is padding stays padding

    def build(self, inputs_shape):
        self.check_shape(inputs_shape)
        m, f = inputs_shape[-1], self.inner_dim
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
            x = x + y
            if self.apply_output_layer_norm:
                x = self.output_norm[i](x)
            if self.dropout_position == "after_residual":
                x = self.dropout_layer(x, training=training)
        return x

    def gated_feed_forward(self, x, i):
        """Equation (2), or (1) if there is no gate, with the maps of block `i`."""
        strengths = self.inner_activation(self.intermediate_dense[i](x))
        if self.use_gate:
            strengths = strengths * self.gate_dense[i](x)
        return self.output_dense[i](strengths)

    def check_shape(self, shape, size=None):
        if len(shape) < 2 or shape[-1] is None or shape[-1] != (size or shape[-1]):
            last = f"of size {size}" if size else "of known size"
            raise ValueError(f"inputs must have at least 2 axes, the last {last}. Received: inputs of shape {tuple(shape)}")

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

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
