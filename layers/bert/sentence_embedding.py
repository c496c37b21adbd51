"""A vector for each sentence, from the vectors of its tokens (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_rank, check_same, shapes
from layers.common.output_shapes import TracedLayer


@keras.saving.register_keras_serializable(package="layers")
class SentenceEmbedding(TracedLayer):
    """The mean of a sentence's token vectors, scaled to length 1.

    The dot product of two sentence embeddings is the cosine of the angle between them.

    Computes equation (4) of `reference/bert.py`.

    Axes: `b` batch, `t` position, `m` model size.

    Call arguments:
        inputs: Tensor of shape `(b, t, m)`.
        input_mask: Tensor of shape `(b, t)`, nonzero where there is a token.

    Returns:
        Tensor of shape `(b, m)`, in the compute dtype; zeros for a sentence without tokens.

    Raises:
        ValueError: if `inputs` does not have 3 axes, `input_mask` does not have 2 axes, or their sizes differ.

    Example:

    >>> SentenceEmbedding()(keras.ops.ones((1, 3, 4)), keras.ops.array([[1, 1, 0]])).numpy().tolist()
    [[0.5, 0.5, 0.5, 0.5]]

    Reference:
        [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), section 3.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)  # in float16, a small number in the mask would become zero

    def compute_mask(self, *args, **kwargs):
        return None  # accept inputs with a Keras mask; the output has none

    # Keras before 3.14 does not pass shapes of arguments that end in `_mask` to `build` and `compute_output_shape`.

    def call(self, inputs, input_mask):
        self.compute_output_shape(*shapes(inputs, input_mask))
        x = ops.cast(inputs, "float64" if self.compute_dtype == "float64" else "float32")
        present = ops.cast(ops.not_equal(input_mask, 0), x.dtype)
        total = ops.einsum("btm,bt->bm", x, present)  # has the direction of the mean; its length is normalized below
        squared = ops.sum(ops.square(total), axis=1, keepdims=True)
        return ops.cast(total / ops.sqrt(ops.where(squared == 0, ops.ones_like(squared), squared)), self.compute_dtype)

    def compute_output_spec(self, inputs, input_mask):
        return keras.KerasTensor(self.compute_output_shape(*shapes(inputs, input_mask)), self.compute_dtype)

    def compute_output_shape(self, inputs_shape, input_mask_shape):
        check_rank(3, inputs=inputs_shape)
        check_rank(2, input_mask=input_mask_shape)
        for axis, what in ((0, "batch size"), (1, "length")):
            check_same(what, inputs=inputs_shape[axis], input_mask=input_mask_shape[axis])
        return (inputs_shape[0], inputs_shape[2])

    def get_config(self):
        return super().get_config()  # what Keras makes up for a class without this cannot hold a `DTypePolicyMap`
