"""Padding that Keras knows of, and the axes of attention masks and biases.

The output of `keras.layers.Embedding(mask_zero=True)` or `keras.layers.Masking` carries a padding mask, True at tokens. Keras
hands it on from layer to layer, and fills in call arguments with it: `query_mask` with the mask of `query`, and so on, or `mask`
where there is a single argument with tensors. Attention layers and blocks use it as `keras.layers.MultiHeadAttention` does:

- No query attends to padding, whatever `attention_mask` allows.
- A query at padding attends to nothing (but for `KernelAttention`, whose masks are those of keys).
- The output carries the mask of the first input, so that a following pooling or loss ignores padding.

The masks count in the call in which they are given. A cache or memory of keys does not remember which of them are padding:
later calls need an `attention_mask`. (The cache of `KernelAttention` holds sums without padding.) The operator `+` gives tensors
without a mask; `keras.layers.Add` keeps it. Layers that take padding as a required argument, or take ids (`BertEncoder`,
`MobileBertEmbedding`, `SelfAttentionMask`, `SentenceEmbedding`, the text layers), do not look for another mask.
"""

import inspect

from keras import ops, tree

from layers.common.checks import check_shape


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
    names = inspect.signature(layer.call).parameters
    return {name: mask for name, mask in masks.items() if mask is not None and name in names}


def first_mask(previous_mask):
    """The mask of the first of a layer's inputs, for `compute_mask`."""
    if isinstance(previous_mask, dict):
        return None
    return next(iter(tree.flatten(previous_mask)), None)
