"""Softmax over the positions that a mask allows (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_broadcastable


def masked_softmax(scores, mask=None, axes=-1):
    """Equation (1) of `reference/masked_softmax.py`, in at least float32; a row with nothing allowed comes out as zeros.

    Args:
        scores: Float tensor.
        mask: Boolean tensor that broadcasts to the shape of `scores`; True is allowed.
        axes: The axis or axes that sum to 1.

    Returns:
        Tensor of the shape and dtype of `scores`.
    """
    weights = softmax_of_allowed(scores, mask, axes)
    # Only a row with nothing allowed still needs its zeros: one number a row, not one a score.
    return weights if mask is None else weights * some_allowed(mask, weights.dtype, axes)


def attended(scores, mask, mix):
    """What `mix` makes of the weights, heads `(b, t, h, e)`, and the weights `(b, h, t, s)`, which are `masked_softmax`'s.

    A query with nothing allowed gets its zeros in the heads, mostly fewer numbers than weights; in a graph, nobody computes
    weights that are not asked for.
    """
    weights = softmax_of_allowed(scores, mask)
    if mask is None:
        return mix(weights), weights
    some = some_allowed(mask, weights.dtype)
    return mix(weights) * ops.transpose(some, (0, 2, 1, 3)), weights * some


def softmax_of_allowed(scores, mask, axes=-1):
    """`masked_softmax`, but for rows with nothing allowed: what is made of them must be multiplied by 0, slopes included."""
    dtype = keras.backend.standardize_dtype(scores.dtype)
    if dtype in ("float16", "bfloat16"):
        scores = ops.cast(scores, "float32")
    if mask is not None:
        scores = lowered(scores, mask)
    if axes == -1 and scores.shape[-1] == 1:
        weights = ops.ones_like(scores)  # all there is; Keras would warn of a softmax over one number
    elif isinstance(axes, int):
        weights = ops.softmax(scores, axis=axes)
    else:
        weights = ops.exp(scores - ops.logsumexp(scores, axis=axes, keepdims=True))
    return ops.cast(weights, dtype)


def some_allowed(mask, dtype, axes=-1):
    """1 for a row with something allowed, else 0."""
    return ops.cast(ops.any(mask, axis=axes, keepdims=True), dtype)


def lowered(scores, mask):
    """Scores for a softmax that gives what is forbidden exactly 0."""
    # Finite, because a row of −inf alone is NaN; far below any score.
    lowest = ops.cast(-1e30, scores.dtype)
    if keras.backend.backend() != "tensorflow":
        return ops.where(mask, scores, lowest)

    @ops.custom_gradient  # a weight of 0 has no slope already, with something else allowed: TensorFlow need not choose once more
    def chosen(scores):
        return ops.where(mask, scores, lowest), lambda *args, upstream=None: args[0] if upstream is None else upstream

    return chosen(scores)


@keras.saving.register_keras_serializable(package="layers")
class MaskedSoftmax(keras.layers.Layer):
    """Softmax that gives forbidden positions exactly zero.

    Computes equation (1) of `reference/masked_softmax.py`, in at least float32.

    Axes: any; with attention scores, `b` batch, `h` head, `t` query position, `s` key position.

    Args:
        mask_expansion_axes: Where `mask` lacks axes that the scores have: an axis, inserted as often as needed; or a list of
            axes, inserted one after the other. Needed only if the ranks differ.
        normalization_axes: The axis or axes that sum to 1. Defaults to the last.

    Call arguments:
        scores: Float tensor.
        mask: Tensor of any dtype that, with its new axes, broadcasts to the shape of `scores`: not zero where allowed.

    Returns:
        Tensor of the shape of `scores`, in the compute dtype. A row with nothing allowed is all zeros.

    Raises:
        ValueError: if the mask does not fit the scores.

    Example:

    >>> MaskedSoftmax()(keras.ops.array([[1.0, 1.0, 5.0]]), keras.ops.array([[1, 1, 0]])).numpy().tolist()
    [[0.5, 0.5, 0.0]]

    Differs from the Model Garden:
        The mask is boolean, not a number that is added to the scores: there a 2, or a token id, is a bonus of 10⁹. A row with
        nothing allowed is zeros in every dtype; there it is uniform in float32, and NaN in float16 if a score is negative.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.1.
    """

    def __init__(self, mask_expansion_axes=None, normalization_axes=None, **kwargs):
        super().__init__(**kwargs)
        self.mask_expansion_axes = mask_expansion_axes
        self.normalization_axes = normalization_axes
        self.supports_masking = True  # an argument called mask is, for Keras, the mask of its scores

    def call(self, scores, mask=None):
        axes = -1 if self.normalization_axes is None else self.normalization_axes
        axes = axes if isinstance(axes, int) else tuple(axes)
        if mask is None:
            return masked_softmax(scores, axes=axes)
        return masked_softmax(scores, self.with_axes_of(scores, ops.not_equal(mask, 0)), axes)

    def with_axes_of(self, scores, mask):
        axes, missing = self.mask_expansion_axes, len(scores.shape) - len(mask.shape)
        if missing > 0 and axes is not None:
            axes = [axes] if isinstance(axes, int) else list(axes)
            for axis in axes * missing if len(axes) == 1 else axes:
                mask = ops.expand_dims(mask, axis)
        check_broadcastable("mask, with mask_expansion_axes", mask.shape, scores.shape)
        return mask

    def compute_mask(self, scores, mask=None):
        return None  # weights are numbers like any other: no later layer should skip some of them

    def compute_output_shape(self, scores_shape, mask_shape=None):
        return scores_shape

    def get_config(self):
        return super().get_config() | {
            "mask_expansion_axes": self.mask_expansion_axes,
            "normalization_axes": self.normalization_axes,
        }
