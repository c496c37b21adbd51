"""Padding that Keras knows of, and the axes of attention masks and biases.

The output of `keras.layers.Embedding(mask_zero=True)` or `keras.layers.Masking` carries a padding mask, True at tokens. Keras
hands it on from layer to layer, and fills in call arguments with it: `query_mask` with the mask of `query`, and so on, or `mask`
where there is a single argument with tensors. Attention layers and blocks use it as `keras.layers.MultiHeadAttention` does:

- No query attends to padding, whatever `attention_mask` allows.
- A query at padding attends to nothing (but for `KernelAttention`, whose masks are those of keys).
- The output carries the mask of the first input, so that a following pooling or loss ignores padding.

The masks count in the call in which they are given. A cache or memory of keys does not remember which of them are padding:
later calls need an `attention_mask`. (The cache of `KernelAttention` holds sums without padding.) The operator `+` gives tensors
without a mask; `keras.layers.Add` keeps it where each of its inputs has one. What `RelativePositionEmbedding` returns has
neither a mask nor the batch axis that `Add` needs: add it with `+`, and give later layers the mask as an argument. Layers that
take padding as a required argument, or take ids (`BertEncoder`, `MobileBertEmbedding`, `SelfAttentionMask`, `SentenceEmbedding`,
the text layers), do not look for another mask.

A mask with 2 axes is `(t, s)`, as in `keras.layers.MultiHeadAttention`, so that a causal mask from there need not be changed. A
padding mask `(b, s)`, as BigBird and kernel attention take it, would be misread where there are as many examples as queries. So a
mask whose first size could be the number of examples is an error, which says how to write both.

An `attention_bias` is added to the scores, after they are divided by √d and before masks apply: no bias can allow what a mask
forbids. What must not be attended to is for a mask to say. In additive masks, a number such as −10⁹ says it; added here, in at
least float32, it hides the scores, so that keys that have it weigh the same if they are all that is allowed.
"""

import keras
import numpy as np
from keras import ops, tree
from keras.layers import Layer

from layers.common.checks import check_broadcastable, check_shape


def check_two_axes(name, shape, b, t):
    """Raise a ValueError unless a mask of 2 axes is clearly `(t, s)`, the same for every example, and not `(b, s)`.

    It has `t` rows, or one, and there are not as many examples. A size that is not an integer is unknown.
    """
    rows = shape[0]
    if not isinstance(rows, int) or (rows != 1 and (rows != t or rows == b)):
        raise ValueError(
            f"{name} with 2 axes is (t, s), the same for every example, and its first size must not allow another reading. Write "
            f"{name}[None] for (t, s), and {name}[:, None, :] for the padding mask (b, s). "
            f"Received: {name} of shape {tuple(shape)}, where b={b} and t={t}"
        )


def over_heads(mask, b, h, t, s):
    """An `attention_mask` as a boolean `(b, h, t, s)`, each axis of which may have size 1.

    Args:
        mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`; or `(t, s)`, unless that could
            be `(b, s)`.
        b, h, t, s: Sizes; None is unknown.

    Raises:
        ValueError: if the mask has another shape.
    """
    mask = ops.cast(mask, "bool")
    if len(mask.shape) == 3:
        mask = ops.expand_dims(mask, 1)  # the same mask for every head
    elif len(mask.shape) == 2:
        check_two_axes("attention_mask", mask.shape, b, t)
        mask = ops.expand_dims(mask, (0, 1))
    check_broadcastable("attention_mask", mask.shape, (b, h, t, s))
    return mask


def check_bias(bias, b, h, t, s):
    """Raise a ValueError unless `bias` is None or has 4 axes and broadcasts to `(b, h, t, s)`. A size of None is unknown."""
    if bias is not None and len(bias.shape) != 4:
        raise ValueError(
            f"attention_bias must have the 4 axes (b, h, t, s), each of which may be 1. Received: {tuple(bias.shape)}"
        )
    if bias is not None:
        check_broadcastable("attention_bias", bias.shape, (b, h, t, s))


def biased(scores, bias):
    """Scores `(b, h, t, s)`, in at least float32, plus a bias that broadcasts to them; None adds nothing.

    A bias may be as low as the numbers that stand for −∞ in additive masks. It stays far above those of forbidden positions.
    """
    if bias is None:
        return scores
    least = lowest(scores.dtype) / 4  # to which scores can be added
    return scores + ops.maximum(ops.cast(bias, scores.dtype), ops.cast(least, scores.dtype))


def lowest(dtype):
    """The lowest finite number of float32 or float64."""
    return np.finfo(keras.backend.standardize_dtype(dtype)).min


def both(mask, other):
    """What two boolean masks both allow; None allows everything."""
    if mask is None or other is None:
        return other if mask is None else mask
    return ops.logical_and(mask, ops.cast(other, "bool"))


def tokens_only(mask, t, s, query_mask=None, value_mask=None, key_mask=None):
    """A boolean mask `(b, h, t, s)`, or None, without the padding of queries, `(b, t)`, and of keys, `(b, s)`.

    Args:
        mask: Boolean, broadcastable to `(b, h, t, s)`, or None.
        t, s: Static sizes that the padding masks must have; None is unknown.
        query_mask, value_mask, key_mask: Nonzero at tokens, or None.
    """
    if key_mask is value_mask:
        key_mask = None
    for name, padding, size, axes in (
        ("query_mask", query_mask, t, (1, 3)),
        ("value_mask", value_mask, s, (1, 2)),
        ("key_mask", key_mask, s, (1, 2)),
    ):
        if padding is not None:
            check_shape(name, padding, (None, size))
            mask = both(mask, ops.expand_dims(ops.cast(padding, "bool"), axes))
    return mask


def after(earlier, mask):
    """`mask`, `(b, s)` or None, after the keys of `earlier`, `(b, keys, …)` or None: as far as is known, none is padding."""
    if mask is None or earlier is None:
        return mask
    return ops.concatenate([ops.ones(ops.shape(earlier)[:2], "bool"), ops.cast(mask, "bool")], axis=1)


def of_inputs(forms, mask, inputs_mask):
    """The padding masks of the parts of a block's `inputs`, in the order of the longest of `forms`; None for each without one.

    Keras fills in `mask` if `inputs` is the only argument with tensors, and `inputs_mask` otherwise.
    """
    masks = mask if inputs_mask is None else inputs_mask
    masks = masks if isinstance(masks, (list, tuple)) else [masks]
    given = dict(zip(forms.get(len(masks), forms[max(forms)]), masks))
    return [given.get(name) for name in forms[max(forms)]]


def accepted(layer, **masks):
    """Those of `masks` that are given and that `layer`, which may be anyone's, takes as call arguments."""
    names = layer.call_signature_parameters if isinstance(layer, Layer) else ()
    return {name: mask for name, mask in masks.items() if mask is not None and name in names}


def first_mask(previous_mask):
    """The mask of the first of a layer's inputs, for `compute_mask`."""
    if isinstance(previous_mask, dict):
        return None
    return next(iter(tree.flatten(previous_mask)), None)
