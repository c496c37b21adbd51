"""The arguments of kernel attention and their checks (Keras 3)."""

from keras import ops

from layers.common.caches import has_one_row
from layers.common.checks import (
    check_at_least,
    check_broadcastable,
    check_flags,
    check_number,
    check_rank,
    check_same,
    check_shape,
)
from layers.common.masks import both
from layers.common.sizes import known
from layers.kernel_attention.features import ELEMENTWISE, TRANSFORMS
from layers.kernel_attention.stream import shapes_of

ARGUMENTS = (
    "feature_transform",
    "num_random_features",
    "redraw",
    "is_short_seq",
    "begin_kernel",
    "scale",
    "scale_by_length",
    "use_causal_windowed",
    "causal_chunk_length",
    "causal_window_length",
    "causal_window_decay",
    "causal_padding",
    "use_gate",
    "trainable_bandwidth",
)
FLAGS = ("redraw", "is_short_seq", "scale_by_length", "use_causal_windowed", "use_gate", "trainable_bandwidth")


def check_arguments(layer):
    """Raise a ValueError if constructor arguments are out of range or incompatible."""
    transform = layer.feature_transform
    if transform not in TRANSFORMS:
        raise ValueError(f"feature_transform must be one of {', '.join(TRANSFORMS)}. Received: feature_transform={transform!r}")
    check_at_least(
        0 if transform in ELEMENTWISE else 1,  # estimates of a kernel need random features
        num_random_features=layer.num_random_features,
    )
    check_at_least(0, begin_kernel=layer.begin_kernel)
    check_at_least(1, causal_chunk_length=layer.causal_chunk_length, causal_window_length=layer.causal_window_length)
    check_flags(**{name: getattr(layer, name) for name in FLAGS})
    if layer.scale is not None:
        check_number("above 0", lambda scale: scale > 0, scale=layer.scale)
    if layer.causal_window_decay is not None:
        decay = layer.causal_window_decay
        check_number("above 0 and at most 1", lambda decay: 0 < decay <= 1, causal_window_decay=decay)
    if layer.causal_padding not in (None, "left", "right"):
        raise ValueError(f"causal_padding must be 'left', 'right' or None. Received: causal_padding={layer.causal_padding!r}")
    for argument, excluded in (
        ("redraw", not layer.num_random_features),
        ("trainable_bandwidth", transform != "rfa"),
        ("scale_by_length", transform == "rfa" or layer.use_causal_windowed or layer.use_gate),
        ("use_gate", layer.use_causal_windowed),
        ("use_causal_windowed", transform == "expplus"),  # its statistics need the whole sequence
    ):
        if excluded and getattr(layer, argument):
            given = {
                name: getattr(layer, name)
                for name in ("feature_transform", "num_random_features", "use_causal_windowed", "use_gate")
            }
            raise ValueError(f"{argument} must be False with these other arguments. Received: {argument}=True, {given}")


def window_of(layer):
    """The arguments of sums over a window, from those of `layer`."""
    size, window, decay = layer.causal_chunk_length, layer.causal_window_length, layer.causal_window_decay
    return {"size": size, "window": window, "decay": decay, "left": layer.causal_padding == "left"}


def check_call(layer, query, value, masks, cache, causal):
    """Raise a ValueError if call arguments do not fit together.

    Returns:
        What all of `masks`, {name: mask or None}, allow, as a boolean `(b, 1, s)`; None if there are none.
    """
    check_rank(3, query=query.shape, value=value.shape)
    needs_all_keys = layer.feature_transform == "expplus" or layer.scale_by_length
    for expected, broken in (
        ("use_causal_mask must be False", causal and layer.use_causal_windowed),
        ("use_causal_mask must be False and cache must be None", causal and needs_all_keys),
        ("use_causal_mask must be True", layer.use_gate and not causal),
        ("cache must be None", cache is not None and (layer.is_short_seq or layer.begin_kernel)),
    ):
        if broken:
            names = ("feature_transform", "use_causal_windowed", "scale_by_length", "use_gate", "is_short_seq", "begin_kernel")
            given = {name: getattr(layer, name) for name in names}
            raise ValueError(f"{expected} with this layer's arguments. Received: a layer with {given}")
    if causal or layer.use_causal_windowed:
        check_same("length if attention is causal", query=query.shape[1], value=value.shape[1])
    if layer.use_causal_windowed and (layer.causal_padding is None or cache is not None):
        length, size = value.shape[1], layer.causal_chunk_length
        if known(length) is not None and length % size:
            raise ValueError(
                f"value must have a length that is a multiple of causal_chunk_length={size}, unless causal_padding is given and "
                f"cache is None. Received: value of length {length}"
            )
    if cache is not None:
        expected = shapes_of(layer, 1 if has_one_row(cache) else value.shape[0])
        if set(cache) != set(expected):
            raise ValueError(f"cache must have the entries {', '.join(expected)}. Received: {', '.join(cache)}")
        for name, shape in expected.items():
            check_shape(f"cache[{name!r}]", cache[name], shape)
    allowed = None
    for name, mask in masks.items():
        if mask is not None:
            check_broadcastable(name, mask.shape, (value.shape[0], value.shape[1]))
            allowed = both(allowed, ops.cast(mask, "bool"))
    return None if allowed is None else both(allowed, ops.ones(ops.shape(value)[:2], "bool"))[:, None]
