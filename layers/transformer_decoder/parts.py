"""The parts of a decoder block's inputs, and the attention that it is made of (Keras 3)."""

import keras

from layers.common.blocks import split_inputs
from layers.common.caches import check_parts
from layers.common.checks import check_broadcastable
from layers.common.registry import registered

NAMES = ("x", "memory", "cross_mask", "self_mask", "input_doc_probs")
FORMS = {count: NAMES[:count] for count in (2, 3, 4, 5)}


def parts_of(inputs):
    """The five parts of `inputs`, or of their shapes, None for each that is omitted. x and memory are required."""
    parts = split_inputs(inputs, FORMS)
    for name, part in zip(NAMES[:2], parts):
        if part is None:
            raise ValueError(f"{name} must be a tensor. Received: None")
    return parts


def attention_class(name, kind):
    """The class `kind`, which may be a class or its registered name; None for None.

    Raises:
        ValueError: if `kind` is anything else; the error names the argument `name`.
    """
    found = registered(kind) if isinstance(kind, str) else kind
    is_attention = isinstance(found, type) and any("__call__" in vars(base) for base in found.__mro__)
    if kind is not None and not is_attention:
        raise ValueError(f"{name} must be a layer class or the registered name of one. Received: {name}={kind!r}")
    return found


def built(attention, *shapes):
    """`attention`, built for inputs of `shapes` if it is a Keras layer."""
    if isinstance(attention, keras.layers.Layer):
        attention.build(*shapes)
    return attention


def attend(attention, query, value, training, **arguments):
    """The result of `attention`, a Keras layer, or another object, which knows no `training`."""
    if isinstance(attention, keras.layers.Layer):
        arguments["training"] = training
    return attention(query, value, **arguments)


def check_self_mask(h, x, self_mask, cache, decode_loop_step):
    """Raise a ValueError unless `self_mask` is None or fits `h` heads, the queries `x`, and the keys of call and cache."""
    if self_mask is None:
        return
    b, t, _ = x.shape
    keys = t
    if cache is not None:
        check_parts(cache)
        slots, *_ = *cache["key"].shape[1:2], None
        appended = None if None in (slots, t) else slots + t
        keys = appended if decode_loop_step is None else slots
    heads = (h,) * (len(self_mask.shape) == 4)
    check_broadcastable("self_mask", self_mask.shape, (b, *heads, t, keys))


def check_built(layer, what):
    """Raise a ValueError unless `layer`, called `what`, is built, as making its cache needs."""
    if not layer.built:
        raise ValueError(f"the {what} must be built before init_cache: call or build it first. Received: built=False")
