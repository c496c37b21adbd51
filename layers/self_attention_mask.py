"""The self-attention mask of a padded batch (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_rank, check_rank_at_least, check_same, shapes
from layers.common.output_shapes import TracedLayer


@keras.saving.register_keras_serializable(package="layers")
class SelfAttentionMask(TracedLayer):
    """Makes a self-attention mask from a padding mask.

    Computes equation (1) of `reference/self_attention_mask.py`. Only keys are masked: queries at padding attend like all others.
    Later layers or the loss must ignore their outputs.

    Axes: `b` batch, `t` query position, `s` key position.

    Args:
        **kwargs: As in `keras.layers.Layer`; the mask has the compute dtype of `dtype`.

    Call arguments:
        inputs: Tensor of shape `(b, t, ...)`, of which only the shape is read, or the list `[inputs, to_mask]`.
        to_mask: Tensor of shape `(b, s)` and any dtype, nonzero at tokens and zero at padding.

    Returns:
        Tensor of shape `(b, t, s)` in the compute dtype: 1 where the query may attend to the key, else 0.

    Raises:
        ValueError: if `to_mask` is missing or does not have 2 axes, if `inputs` has fewer than 2 axes, or if their batch sizes
            differ.

    Example:

    >>> SelfAttentionMask()(keras.ops.ones((1, 2, 8)), keras.ops.array([[1, 1, 0]]))[0, 0].numpy().tolist()
    [1.0, 1.0, 0.0]

    Differs from the Model Garden:
        Any nonzero value in `to_mask` becomes 1; there, a 2 stays 2, which raises the scores. The output has the compute dtype;
        there, it has the dtype of `inputs`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.3;
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)  # in float16, a small number in to_mask would become zero

    def compute_mask(self, *args, **kwargs):
        return None  # accept inputs with a Keras mask; the output has none

    # Keras before 3.14 gives `build` and `compute_output_shape` no shape of an argument that ends in `_mask`.

    def call(self, inputs, to_mask=None):
        self.shapes_of(*shapes(inputs, to_mask))
        if to_mask is None:
            inputs, to_mask = inputs
        allowed = ops.cast(ops.not_equal(to_mask, 0), self.compute_dtype)
        b, s = ops.shape(to_mask)
        return ops.broadcast_to(ops.expand_dims(allowed, 1), (b, ops.shape(inputs)[1], s))

    def shapes_of(self, inputs_shape, to_mask_shape):
        """The two shapes, from either form of the call."""
        if to_mask_shape is None:
            if len(inputs_shape) != 2 or not all(isinstance(shape, (tuple, list)) for shape in inputs_shape):
                raise ValueError(
                    f"to_mask must be given, or inputs must be [inputs, to_mask]. Received: inputs of shape {inputs_shape}"
                )
            inputs_shape, to_mask_shape = inputs_shape
        check_rank_at_least(2, inputs=inputs_shape)
        check_rank(2, to_mask=to_mask_shape)
        check_same("batch size", inputs=inputs_shape[0], to_mask=to_mask_shape[0])
        return inputs_shape, to_mask_shape

    def compute_output_spec(self, inputs, to_mask=None):
        return keras.KerasTensor(self.compute_output_shape(*shapes(inputs, to_mask)), self.compute_dtype)

    def compute_output_shape(self, inputs_shape, to_mask_shape=None):
        (b, t, *_), (_, s) = self.shapes_of(inputs_shape, to_mask_shape)
        return (b, t, s)

    def get_config(self):
        return super().get_config()  # what Keras makes up for a class without this cannot hold a `DTypePolicyMap`
