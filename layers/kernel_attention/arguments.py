"""Which arguments kernel attention takes together (Keras 3)."""

from keras import ops

from layers.common.checks import check_at_least, check_broadcastable, check_rank, check_same, check_shape
from layers.kernel_attention.features import ELEMENTWISE, TRANSFORMS

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


def check_arguments(layer):
    """Raise a ValueError for constructor arguments that are out of range or exclude each other."""
    transform = layer.feature_transform
    if transform not in TRANSFORMS:
        raise ValueError(f"feature_transform must be one of {', '.join(TRANSFORMS)}. Received: feature_transform={transform!r}")
    check_at_least(
        0 if transform in ELEMENTWISE else 1,  # estimates of a kernel need something random
        num_random_features=layer.num_random_features,
    )
    check_at_least(0, begin_kernel=layer.begin_kernel)
    check_at_least(1, causal_chunk_length=layer.causal_chunk_length, causal_window_length=layer.causal_window_length)
    if layer.scale is not None and not layer.scale > 0:
        raise ValueError(f"scale must be above 0. Received: scale={layer.scale!r}")
    if layer.causal_window_decay is not None and not 0 < layer.causal_window_decay <= 1:
        raise ValueError(f"causal_window_decay must be above 0 and at most 1. Received: {layer.causal_window_decay!r}")
    if layer.causal_padding not in (None, "left", "right"):
        raise ValueError(f"causal_padding must be 'left', 'right' or None. Received: causal_padding={layer.causal_padding!r}")
    for argument, excluded in (
        ("redraw", not layer.num_random_features),
        ("trainable_bandwidth", transform != "rfa"),
        ("scale_by_length", transform == "rfa" or layer.use_causal_windowed or layer.use_gate),
        ("use_gate", layer.use_causal_windowed),
        ("use_causal_windowed", transform == "expplus"),  # whose statistics are of the whole sequence
    ):
        if excluded and getattr(layer, argument):
            given = {
                name: getattr(layer, name)
                for name in ("feature_transform", "num_random_features", "use_causal_windowed", "use_gate")
            }
            raise ValueError(f"{argument} has no meaning with the other arguments. Received: {argument}=True, {given}")


def check_call(layer, query, value, attention_mask, cache, causal):
    """Raise a ValueError for call arguments that do not fit; return the mask as a boolean `(b, 1, s)`, or None."""
    check_rank(3, query=query.shape, value=value.shape)
    for argument, excluded in (
        (
            "use_causal_mask",
            causal and (layer.use_causal_windowed or layer.feature_transform == "expplus" or layer.scale_by_length),
        ),
        ("use_gate without use_causal_mask", layer.use_gate and not causal),
        ("cache", cache is not None and (layer.is_short_seq or layer.begin_kernel)),
    ):
        if excluded:
            given = {
                name: getattr(layer, name)
                for name in ("feature_transform", "use_causal_windowed", "scale_by_length", "is_short_seq", "begin_kernel")
            }
            raise ValueError(f"{argument} has no meaning with this layer's arguments. Received: {given}")
    if causal or layer.use_causal_windowed:
        check_same("length where attention is causal", query=query.shape[1], value=value.shape[1])
    if layer.use_causal_windowed and (layer.causal_padding is None or cache is not None):
        length, size = value.shape[1], layer.causal_chunk_length
        if length is not None and length % size:
            raise ValueError(f"the length must be a multiple of causal_chunk_length={size}, or padded. Received: {length}")
    if cache is not None:
        expected = layer.cache_shapes(value.shape[0])
        if set(cache) != set(expected):
            raise ValueError(f"cache must have the entries {', '.join(expected)}. Received: {', '.join(cache)}")
        for name, shape in expected.items():
            check_shape(f"cache[{name!r}]", cache[name], shape)
    if attention_mask is None:
        return None
    check_broadcastable("attention_mask", attention_mask.shape, (value.shape[0], value.shape[1]))
    mask = ops.cast(attention_mask, "bool")
    return ops.logical_and(mask, ops.ones(ops.shape(value)[:2], "bool"))[:, None]
