"""Scores of all pairs of left and right vectors in a batch, with an additive margin (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_number, check_rank, check_same
from layers.common.output_shapes import TracedLayer
from layers.common.sizes import known_shape


@keras.saving.register_keras_serializable(package="layers")
class MatMulWithMargin(TracedLayer):
    """Dot products of all left and right vectors, less a margin for each matching pair.

    Computes equation (2) of `reference/mat_mul_with_margin.py`. Trained with a cross-entropy loss, in which the label of row i is
    i, the score of a matching pair must exceed all others by the margin.

    Axes: `b` left vector, `c` right vector, `m` model size.

    Args:
        logit_scale: Factor of the products, applied after the margin, so that the margin between logits is `logit_scale` ·
            `logit_margin`. For vectors of length 1, about 20 is usual; with 1, the margin has almost no effect.
        logit_margin: Subtracted from the product of each matching pair, at inference too. For scores without a margin, create a
            layer with a margin of 0.

    Call arguments:
        left_encoded: Tensor of shape `(b, m)`.
        right_encoded: Tensor of shape `(c, m)`, with `c` at least `b`. Row i matches row i of `left_encoded`; rows from `b` on
            are negatives for every left vector. Neither side is normalized here; a margin is meaningful only if all vectors have
            the same length, such as 1.

    Returns:
        `left_logits` of shape `(b, c)` and `right_logits` of shape `(b, b)`, in the compute dtype. `right_logits` is the
        transpose of the first `b` columns of `left_logits`: each matched right vector against all left vectors. The label of
        row i is i in both.

    Raises:
        ValueError: if a scale or margin is not a finite number, if an input does not have 2 axes, if their last axes differ, or
            if there are fewer right vectors than left vectors. If their numbers are known only at run time, the backend raises
            the error.

    Example:

    >>> left, right = keras.ops.eye(2, 4), keras.ops.eye(3, 4)
    >>> left_logits, right_logits = MatMulWithMargin(logit_scale=20.0, logit_margin=0.3)(left, right)
    >>> left_logits.numpy().tolist()
    [[14.0, 0.0, 0.0], [0.0, 14.0, 0.0]]

    Differs from the Model Garden:
        There may be more right vectors than left vectors, an error there; `right_logits` omits the additional ones. Logits have
        the compute dtype; there, they are float32 under mixed precision. The logits of the last call are not kept as attributes.

    Reference:
        [Yang et al., 2019](https://arxiv.org/abs/1902.08564).
    """

    def __init__(self, logit_scale=1.0, logit_margin=0.0, **kwargs):
        super().__init__(**kwargs)
        check_number("a finite number", logit_scale=logit_scale, logit_margin=logit_margin)
        self.logit_scale = float(logit_scale)
        self.logit_margin = float(logit_margin)

    def build(self, left_encoded_shape, right_encoded_shape):
        check_sides(left_encoded_shape, right_encoded_shape)

    def call(self, left_encoded, right_encoded):
        check_sides(left_encoded.shape, right_encoded.shape)
        b, c = ops.shape(left_encoded)[0], ops.shape(right_encoded)[0]
        products = ops.einsum("bm,cm->bc", left_encoded, right_encoded)
        partners = ops.expand_dims(ops.arange(0, b), 1) == ops.arange(0, c)
        left_logits = self.logit_scale * (products - self.logit_margin * ops.cast(partners, products.dtype))
        # This reshape changes nothing, but fails at run time if there are fewer right vectors than left vectors.
        right_logits = ops.reshape(ops.transpose(left_logits[:, :b]), (b, b))
        return left_logits, right_logits

    def get_config(self):
        return super().get_config() | {"logit_scale": self.logit_scale, "logit_margin": self.logit_margin}


def check_sides(left_encoded, right_encoded):
    check_rank(2, left_encoded=left_encoded, right_encoded=right_encoded)
    check_same("size of the last axis", left_encoded=left_encoded[-1], right_encoded=right_encoded[-1])
    b, c = left_encoded[0], right_encoded[0]
    if None not in known_shape((b, c)) and c < b:
        raise ValueError(
            "right_encoded must have at least as many rows as left_encoded. "
            f"Received: left_encoded with {b} and right_encoded with {c}"
        )
