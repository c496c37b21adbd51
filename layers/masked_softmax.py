"""Softmax over the positions that a mask allows (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.common.checks import check_axes, check_broadcastable
from layers.common.masks import biased, lowest
from layers.common.normalization import in_float32_at_least
from layers.common.output_shapes import TracedLayer


def masked_softmax(scores, mask=None, axes=-1, bias=None):
    """Equation (1) of `reference/masked_softmax.py`, in at least float32; a row with no allowed position is all zeros.

    Args:
        scores: Float tensor.
        mask: Boolean tensor that broadcasts to the shape of `scores`, True where a position is allowed. None allows all.
        axes: The axis or axes along which the weights sum to 1.
        bias: Added to the scores, in at least float32; see `biased`. None adds nothing.

    Returns:
        Tensor of the shape and dtype of `scores`.
    """
    weights = softmax_of_allowed(scores, mask, axes, bias)
    # Only rows with no allowed position remain to be set to zero: one factor per row, not one per score.
    return weights if mask is None else weights * some_allowed(mask, weights.dtype, axes)


def attended(scores, mask, mix, bias=None):
    """The heads `mix(weights)`, `(b, t, h, e)`, and the weights `(b, h, t, s)` that `masked_softmax` returns.

    A query with no allowed key is set to zero in the heads, which usually hold fewer numbers than the weights. In a graph, the
    masked weights are computed only if they are used.
    """
    weights = softmax_of_allowed(scores, mask, bias=bias)
    if mask is None:
        return mix(weights), weights
    some = some_allowed(mask, weights.dtype)
    # Not by `*`: under a `DTypePolicyMap`, heads and weights may differ in dtype.
    return ops.multiply(mix(weights), ops.transpose(some, (0, 2, 1, 3))), weights * some


def softmax_of_allowed(scores, mask, axes=-1, bias=None):
    """`masked_softmax`, except in rows with no allowed position: there, the caller must multiply the result by 0."""
    dtype = keras.backend.standardize_dtype(scores.dtype)
    scores = biased(in_float32_at_least(scores), bias)
    if mask is not None:
        scores = lowered(scores, mask)
    if axes == -1 and scores.shape[-1] == 1:
        weights = ops.ones_like(scores)  # Keras warns about a softmax over an axis of size 1
    elif isinstance(axes, int):
        weights = ops.softmax(scores, axis=axes)
    else:
        # Not less the logarithm of the sum, which is lost in a peak of −10³⁸.
        parts = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=axes, keepdims=True)))
        weights = parts / ops.sum(parts, axis=axes, keepdims=True)
    return ops.cast(weights, dtype)


def some_allowed(mask, dtype, axes=-1):
    """1 for each row with at least one allowed position, else 0."""
    return ops.cast(ops.any(mask, axis=axes, keepdims=True), dtype)


def lowered(scores, mask):
    """Scores whose softmax is exactly 0 at forbidden positions."""
    # Finite, because the softmax of a row of −inf is NaN. No allowed score is as low.
    least = ops.cast(lowest(scores.dtype), scores.dtype)
    if keras.backend.backend() != "tensorflow":
        return ops.where(mask, scores, least)

    # If any position is allowed, forbidden ones have weight 0 and so gradient 0: TensorFlow need not select a second time.
    @ops.custom_gradient
    def select(scores):
        return ops.where(mask, scores, least), lambda *args, upstream=None: args[0] if upstream is None else upstream

    return select(scores)


def above_lowest(scores):
    """`scores`, raised above the lowest number, which additive masks consist of. Those of 16 bits are so in float32."""
    dtype = keras.backend.standardize_dtype(scores.dtype)
    if dtype in ("float16", "bfloat16"):
        return scores
    return ops.maximum(scores, ops.cast(np.nextafter(lowest(dtype), lowest(dtype).dtype.type(0)), dtype))


def check_scores(scores, axes):
    """Raise a ValueError unless the scores are floats, and have these axes, each once."""
    dtype, rank = keras.backend.standardize_dtype(scores.dtype), len(scores.shape)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(f"scores must be floats. Received: scores of dtype {dtype}")
    found = [axis % rank if -rank <= axis < rank else None for axis in ([axes] if isinstance(axes, int) else axes)]
    if not found or None in found or len(set(found)) < len(found):
        raise ValueError(
            f"normalization_axes must be different axes of scores, from {-rank} to {rank - 1}. "
            f"Received: normalization_axes={axes}, scores of shape {tuple(scores.shape)}"
        )


@keras.saving.register_keras_serializable(package="layers")
class MaskedSoftmax(TracedLayer):
    """Softmax over the positions that a mask allows; forbidden positions get exactly zero.

    Computes equation (1) of `reference/masked_softmax.py`, in at least float32.

    Axes: any; with attention scores, `b` batch, `h` head, `t` query position, `s` key position.

    Args:
        mask_expansion_axes: Where to insert axes into `mask` if it has fewer axes than the scores: one axis, inserted as often
            as needed, or a list of axes, inserted one after the other. Defaults to None; required only if the ranks differ.
        normalization_axes: The axis or axes along which the weights sum to 1. Defaults to the last axis.

    Call arguments:
        scores: Float tensor. Numbers as low as those of additive masks are scores like others: what is allowed shares the weight.
        mask: Tensor of any dtype, nonzero where a position is allowed. With the inserted axes, it must broadcast to the shape of
            `scores`. Defaults to None: all positions are allowed.

    Returns:
        Tensor of the shape of `scores`, in the compute dtype. A row with no allowed position is all zeros.

    Raises:
        ValueError: if the mask does not broadcast to the shape of the scores.

    Example:

    >>> MaskedSoftmax()(keras.ops.array([[1.0, 1.0, 5.0]]), keras.ops.array([[1, 1, 0]])).numpy().tolist()
    [[0.5, 0.5, 0.0]]

    Differs from the Model Garden:
        The mask is treated as boolean; there, it is a number that shifts the scores, so that a 2, or a token id, adds 10⁹ or
        more. A row with no allowed position is zero in every dtype; there, it is a mean in float32, and NaN in float16 if its
        scores are −16 or lower.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.1.
    """

    def __init__(self, mask_expansion_axes=None, normalization_axes=None, **kwargs):
        super().__init__(**kwargs)
        check_axes(mask_expansion_axes=mask_expansion_axes, normalization_axes=normalization_axes)
        self.mask_expansion_axes = mask_expansion_axes
        self.normalization_axes = normalization_axes
        self.supports_masking = True  # Keras treats an argument called mask as the Keras mask of the scores

    def call(self, scores, mask=None):
        axes = -1 if self.normalization_axes is None else self.normalization_axes
        axes = axes if isinstance(axes, int) else tuple(axes)
        check_scores(scores, axes)
        if mask is None:
            return masked_softmax(scores, axes=axes)
        return masked_softmax(above_lowest(scores), self.with_axes_of(scores, ops.not_equal(mask, 0)), axes)

    def with_axes_of(self, scores, mask):
        axes, missing = self.mask_expansion_axes, len(scores.shape) - len(mask.shape)
        if missing > 0 and axes is not None:
            axes = [axes] if isinstance(axes, int) else list(axes)
            for axis in axes * missing if len(axes) == 1 else axes:
                mask = ops.expand_dims(mask, axis)
        check_broadcastable("mask, with mask_expansion_axes,", mask.shape, scores.shape)
        return mask

    def compute_mask(self, scores, mask=None):
        return None  # later layers must not treat some of the weights as padding

    def get_config(self):
        return super().get_config() | {
            "mask_expansion_axes": self.mask_expansion_axes,
            "normalization_axes": self.normalization_axes,
        }
