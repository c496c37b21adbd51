"""The cache of kernel attention for a stream: sums over the earlier keys (Keras 3).

A cache is a dict of "kv", Σ φ(k) vᵀ, `(b, h, r, e)`, and "k_sum", Σ φ(k), `(b, h, r)`. If features are exponentials, it also has
"peak", `(b, h, r)`, the largest exponent of each feature, which was subtracted. For "rfa", it also has "total", the sum of the
keys' weights without the kernel, `(b, h)`. With a window, each entry has an axis after `h` for the earlier chunks of the window.
"""

from keras import ops

from layers.common.caches import for_each_example, rows_for
from layers.kernel_attention.features import EXPONENTIAL, LOWEST, widened


def shapes_of(layer, batch_size):
    """The shape of each entry of a layer's cache."""
    r, is_rfa = layer.num_random_features or layer.key_dim, layer.feature_transform == "rfa"
    features = 2 * r if is_rfa else r
    outer = (batch_size, layer.num_heads) + ((layer.causal_window_length - 1,) if layer.use_causal_windowed else ())
    entries = {"kv": (*outer, features, layer.value_dim), "k_sum": (*outer, features)}
    if layer.feature_transform in EXPONENTIAL:
        entries["peak"] = (*outer, features)
    if is_rfa:
        entries["total"] = outer
    return entries


def empty(layer, batch_size):
    """A layer's cache before the first key, in float64 if the layer computes in float64, else in float32.

    `batch_size` is an integer or a scalar tensor; None for one row, which a call repeats for each example.
    """
    dtype = "float64" if layer.compute_dtype == "float64" else "float32"
    entries = shapes_of(layer, rows_for(batch_size, "batch_size"))
    return {name: ops.full(shape, LOWEST if name == "peak" else 0.0, dtype) for name, shape in entries.items()}


def unpacked(cache, q):
    """The state and the total of a cache, with a row for each example of `q`, as the functions that compute sums take them.

    The state is the columns of "kv" and "k_sum"; if there is a peak, it is a summary of
    `layers/kernel_attention/exponential_sums.py`. The total has the form of sums of a single feature.
    """
    if cache is None:
        return None, None
    cache = {name: widened(x) for name, x in for_each_example(cache, q).items()}
    state = ops.concatenate([cache["kv"], ops.expand_dims(cache["k_sum"], -1)], axis=-1)
    if "peak" in cache:
        # In float16, `LOWEST` becomes −∞, and −∞ − (−∞) is NaN.
        state = state, ops.expand_dims(ops.maximum(cache["peak"], LOWEST), -1)
    return state, cache["total"][..., None, None] if "total" in cache else None


def packed(state, total):
    """The inverse of `unpacked`: a cache from a state and a total."""
    sums, peak = state if isinstance(state, tuple) else (state, None)
    cache = {"kv": sums[..., :-1], "k_sum": sums[..., -1]}
    if peak is not None:
        cache["peak"] = peak[..., 0]
    if total is not None:
        cache["total"] = total[..., 0, 0]
    return cache
