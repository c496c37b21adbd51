"""What kernel attention keeps of a stream: sums over keys, and what makes them comparable with the keys to come (Keras 3).

A cache is a dict: "kv", Σ φ(k) vᵀ, `(b, h, r, e)`; "k_sum", Σ φ(k), `(b, h, r)`; where features are exponentials "peak", the
largest that was taken out of each, `(b, h, r)`; for "rfa" also "total", the weight of all keys beside their kernel, `(b, h)`.
With a window the sums are kept for each of its earlier chunks, on an axis after `h`.
"""

from keras import ops

from layers.kernel_attention.features import LOWEST, widened


def shapes(batch_size, heads, features, values, chunks, has_peak, has_total):
    """{entry: shape}; `chunks` is None without a window."""
    outer = (batch_size, heads) if chunks is None else (batch_size, heads, chunks)
    entries = {"kv": (*outer, features, values), "k_sum": (*outer, features)}
    if has_peak:
        entries["peak"] = (*outer, features)
    if has_total:
        entries["total"] = outer
    return entries


def empty(entries, dtype):
    """The cache before the first key, in at least float32."""
    dtype = "float64" if dtype == "float64" else "float32"
    return {name: ops.full(shape, LOWEST if name == "peak" else 0.0, dtype) for name, shape in entries.items()}


def unpacked(cache):
    """The sums, with a column for "k_sum" beside those of "kv", and with a peak if there is one, as the summaries of
    `layers/kernel_attention/exponential_sums.py`; and the total, as sums of one feature."""
    if cache is None:
        return None, None
    cache = {name: widened(x) for name, x in cache.items()}
    state = ops.concatenate([cache["kv"], cache["k_sum"][..., None]], axis=-1)
    if "peak" in cache:
        # In float16 the lowest exponent is −∞, whose difference to itself is no number.
        state = state, ops.maximum(cache["peak"], LOWEST)[..., None]
    return state, cache["total"][..., None, None] if "total" in cache else None


def packed(state, total):
    """The cache that `unpacked` takes apart."""
    sums, peak = state if isinstance(state, tuple) else (state, None)
    cache = {"kv": sums[..., :-1], "k_sum": sums[..., -1]}
    if peak is not None:
        cache["peak"] = peak[..., 0]
    if total is not None:
        cache["total"] = total[..., 0, 0]
    return cache
