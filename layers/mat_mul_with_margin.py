"""Scores of all pairs of two sides of a batch, with an additive margin (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.common.checks import check_rank, check_same


@keras.saving.register_keras_serializable(package="layers")
class MatMulWithMargin(keras.layers.Layer):
    """Every left vector times every right one, from which the right pairs must win by a margin.

    Computes equation (2) of `reference/mat_mul_with_margin.py`.

    Axes: `b` left vector, `c` right vector, `m` model size.

    Args:
        logit_scale: What the products are multiplied by, after the margin: a right pair must win by `logit_scale` ·
            `logit_margin` in logits. For vectors of length 1 about 20; at 1 the margin does next to nothing.
        logit_margin: What is taken off each right pair. At inference too: for scores without, make a layer with a margin of 0.

    Call arguments:
        left_encoded: Tensor of shape `(b, m)`.
        right_encoded: Tensor of shape `(c, m)`, where `c` is `b` or more: row i belongs to row i of `left_encoded`, and rows from
            `b` on are negatives for all of them. Neither side is normalised here; a margin means something only for vectors of
            length 1, or another that is the same for all.

    Returns:
        `left_logits` `(b, c)` and `right_logits` `(b, b)`, in the compute dtype. The second is the transpose of the first's first
        `b` columns: each right vector that has a partner, against all left ones. Row i's answer is i in both.

    Raises:
        ValueError: for a scale or margin that is no finite number, inputs of another rank than 2 or of different widths, and
            fewer right vectors than left ones. Where the numbers of vectors are known only at run time, the backend raises then.

    Example:

    >>> left, right = keras.ops.eye(2, 4), keras.ops.eye(3, 4)
    >>> left_logits, right_logits = MatMulWithMargin(logit_scale=20.0, logit_margin=0.3)(left, right)
    >>> left_logits.numpy().tolist()
    [[14.0, 0.0, 0.0], [0.0, 14.0, 0.0]]

    Differs from the Model Garden:
        There may be more right vectors than left ones, which raised there; `right_logits` leaves them out. Logits have the
        compute dtype, where they were float32 under mixed precision. The logits of the last call are not kept as attributes.

    Reference:
        [Yang et al., 2019](https://arxiv.org/abs/1902.08564).
    """

    def __init__(self, logit_scale=1.0, logit_margin=0.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in {"logit_scale": logit_scale, "logit_margin": logit_margin}.items():
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if not (number and np.isfinite(value)):
                raise ValueError(f"{name} must be a finite number. Received: {name}={value!r}")
        self.logit_scale = float(logit_scale)
        self.logit_margin = float(logit_margin)

    def build(self, left_encoded_shape, right_encoded_shape):
        check_sides(left_encoded_shape, right_encoded_shape)

    def call(self, left_encoded, right_encoded):
        check_sides(left_encoded.shape, right_encoded.shape)
        b, c = ops.shape(left_encoded)[0], ops.shape(right_encoded)[0]
        products = ops.einsum("bm,cm->bc", left_encoded, right_encoded)
        partners = ops.expand_dims(ops.arange(b), 1) == ops.arange(c)
        left_logits = self.logit_scale * (products - self.logit_margin * ops.cast(partners, products.dtype))
        # A reshape to what it is already, which fails at run time if there are fewer right vectors than left ones.
        right_logits = ops.reshape(ops.transpose(left_logits[:, :b]), (b, b))
        return left_logits, right_logits

    def compute_output_shape(self, left_encoded_shape, right_encoded_shape):
        check_sides(left_encoded_shape, right_encoded_shape)
        b, c = left_encoded_shape[0], right_encoded_shape[0]
        return (b, c), (b, b)

    def get_config(self):
        return super().get_config() | {"logit_scale": self.logit_scale, "logit_margin": self.logit_margin}


def check_sides(left_encoded, right_encoded):
    check_rank(2, left_encoded=left_encoded, right_encoded=right_encoded)
    check_same("size of the last axis", left_encoded=left_encoded[-1], right_encoded=right_encoded[-1])
    b, c = left_encoded[0], right_encoded[0]
    if b is not None and c is not None and c < b:
        raise ValueError(
            "right_encoded must have at least as many rows as left_encoded. "
            f"Received: left_encoded with {b} and right_encoded with {c}"
        )
