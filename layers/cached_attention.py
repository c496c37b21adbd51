"""Attention with a cache of keys and values, for decoding (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.checks import check_at_least, check_rank, check_same
from layers.masked_softmax import masked_softmax


@keras.saving.register_keras_serializable(package="layers")
class CachedAttention(MultiHeadAttention):
    """Multi-head attention that keeps keys and values, so that each token of a text is projected once.

    Computes equations (1) to (3) of `reference/cached_attention.py`, plus dropout on the attention weights. Decoding token by
    token, by any cache, gives what one causal pass gives.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, attention_axes, seed, kernel_initializer and so on:
            As for `MultiHeadAttention`; inputs have one sequence axis.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, s, m)`; with a cache, the `t` new tokens.
        key: Tensor of shape `(b, s, m)`. Defaults to `value`.
        attention_mask: Not zero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`, where `s` are all
            keys of the new cache. With a cache, attention is causal whatever the mask allows.
        cache: `{"key": (b, s, h, d), "value": (b, s, h, e)}`, as `init_cache` or a call returned it. Without one, only
            `attention_mask` says who attends to whom: for a causal pass give a causal mask, or an empty cache.
        decode_loop_step: Slot of the cache, an integer or a scalar tensor, that the first new token is written to. Without it the
            new tokens are appended.
        return_attention_scores: Also return the weights, as they were before dropout. Never changes the output.
        training: Whether to drop weights.

    With a cache, the `i`-th new token has position `p + i`, where `p` is `decode_loop_step` or else the length of the cache. It
    attends to keys at positions 0 to `p + i`: to what was cached before, which with `decode_loop_step` means slots 0 to `p - 1`,
    and to the new tokens up to itself. Later slots are never attended. What was in the slots written to is replaced.

    In a compiled function give `decode_loop_step` as a tensor: an integer is compiled anew for each step. A tensor whose value
    is not known while tracing cannot raise an error: if the new tokens do not all fit, none is written and their queries attend
    to nothing. The cache comes back as it was, and scores and heads are zeros.

    Returns:
        `(output, cache)`, or `(output, scores, cache)`: output `(b, t, m)`, scores `(b, h, t, s)`, and a new cache. Without
        `cache` it has the keys and values of this call. The argument is not changed.

    Raises:
        ValueError: as `MultiHeadAttention`; for a cache that does not fit, a step without a cache, a step that is known and
            leaves no room for the new tokens, and, with a cache, for a query and a value of different lengths.

    Example:

    >>> layer = CachedAttention(num_heads=2, key_dim=4)
    >>> token = keras.ops.ones((1, 1, 8))
    >>> output, cache = layer(token, token, cache=layer.init_cache(batch=1, length=5), decode_loop_step=0)
    >>> output.shape, cache["key"].shape
    (TensorShape([1, 1, 8]), TensorShape([1, 5, 2, 4]))

    Differs from the Model Garden:
        A slot is replaced, not added to: there, writing twice doubles it. Slots that are not filled are never attended: there,
        they have a score of 0 unless the caller masks them. The new cache is returned and the old one left alone: there, the
        dictionary is changed in place. Several new tokens are causal among themselves, and a step beyond the cache is an error.

    Reference:
        [Shazeer, 2019](https://arxiv.org/abs/1911.02150), section 2.4.
    """

    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        cache=None,
        decode_loop_step=None,
        return_attention_scores=False,
        training=None,
    ):
        self.check_shapes(query.shape, value.shape, value.shape if key is None else key.shape)
        q = self.query_dense(query)
        k = new_k = self.key_dense(value if key is None else key)
        v = new_v = self.value_dense(value)
        causal = None
        if cache is not None:
            check_cache(cache, q, k, v)
            if decode_loop_step is None:
                position, fits = ops.shape(cache["key"])[1], True
                k, v = (ops.concatenate([cache[name], new], axis=1) for name, new in (("key", k), ("value", v)))
            else:
                position, fits = place(decode_loop_step, cache["key"], k)
                k, v = (write(cache[name], new, position, fits) for name, new in (("key", k), ("value", v)))
            if decode_loop_step is not None or q.shape[1] != 1:  # one token alone at the end may attend to everything
                causal = up_to_itself(q, k, position, fits)
        elif decode_loop_step is not None:
            raise ValueError(f"decode_loop_step needs a cache. Received: decode_loop_step={decode_loop_step}, cache=None")

        mask = self.allowed(q, k, attention_mask)
        if causal is not None:
            mask = causal if mask is None else ops.logical_and(mask, causal)
        if decode_loop_step is not None and q.shape[1] == 1 and self.compute_dtype in ("float32", "float64"):
            heads, weights = self.attend_with(new_k, new_v, position, fits, q, cache, mask, training)
        else:
            heads, weights = self.attend(q, k, v, mask, training)
        output, cache = self.output_dense(heads), {"key": k, "value": v}
        return (output, weights, cache) if return_attention_scores else (output, cache)

    def attend_with(self, new_k, new_v, position, fits, q, cache, mask, training):
        """`attend` for one query and the cache with what is new at `position`, which is read once, where it is.

        A product for each head would move the whole cache before it begins.
        """
        is_new = ops.logical_and(ops.arange(ops.shape(cache["key"])[1]) == position, fits)
        k, v = (ops.where(is_new[:, None, None], 0.0, cache[name]) for name in ("key", "value"))
        q, (b, s, h, d) = q * self.key_dim**-0.5, ops.shape(k)
        # Σ_d q k; for a product with ones, XLA keeps no q k.
        scores = ops.reshape(ops.matmul(ops.reshape(q * k, (-1, d)), ops.ones((d, 1), k.dtype)), (b, s, h))
        scores = ops.where(is_new[:, None], ops.sum(q * new_k, axis=-1), scores)
        weights = masked_softmax(ops.transpose(scores, (0, 2, 1))[:, :, None], mask)
        w = ops.transpose(self.dropout_layer(weights, training=training), (0, 3, 1, 2))
        w_new = ops.sum(ops.where(is_new[:, None, None], w, 0.0), axis=1, keepdims=True)
        return ops.sum(w * v, axis=1, keepdims=True) + w_new * new_v, weights

    def init_cache(self, batch, length):
        """A cache of `length` slots for `decode_loop_step`; of 0, to append to."""
        check_at_least(0, length=length)
        if not ops.is_tensor(batch):
            check_at_least(1, batch=batch)
        h, sizes = self.num_heads, {"key": self.key_dim, "value": self.value_dim}
        return {name: ops.zeros((batch, length, h, size), self.compute_dtype) for name, size in sizes.items()}

    def check_shapes(self, query, value, key):
        super().check_shapes(query, value, key)
        check_rank(3, query=query)

    def compute_output_shape(self, query_shape, value_shape, key_shape=None, cache_shape=None, decode_loop_step=None):
        slots = value_shape[1]
        if cache_shape is not None:
            before = cache_shape["key"][1]
            appended = None if before is None or slots is None else before + slots
            slots = appended if decode_loop_step is None else before
        sizes = {"key": self.key_dim, "value": self.value_dim}
        cache = {name: (query_shape[0], slots, self.num_heads, size) for name, size in sizes.items()}
        return super().compute_output_shape(query_shape, value_shape, key_shape), cache


def place(step, cache, new):
    """The slot of `cache` to write `new` to, and whether there is room for it: True, if that is known.

    Raises:
        ValueError: if there is known to be none, or `step` is no integer.
    """
    dtype = keras.backend.standardize_dtype(getattr(step, "dtype", "int32" if type(step) is int else "bool"))
    if "int" not in dtype or len(getattr(step, "shape", ())) > 0:
        raise ValueError(f"decode_loop_step must be an integer or a scalar tensor of one. Received: decode_loop_step={step}")
    value, slots, t = known(step), cache.shape[1], new.shape[1]
    if slots is not None and t is not None:
        if slots < t or not (value is None or 0 <= value <= slots - t):
            raise ValueError(
                f"decode_loop_step must leave room for {t} new tokens in {slots} slots. Received: decode_loop_step={step}"
            )
        if value is not None:
            return value, True
    step = ops.cast(step, "int32")
    fits = ops.logical_and(step >= 0, step <= ops.shape(cache)[1] - ops.shape(new)[1])
    return ops.where(fits, step, 0), fits


def known(step):
    """The value of an integer, or of a tensor that has one; None for a tensor that has none while tracing."""
    try:
        return step.__index__()
    except (AttributeError, TypeError):
        return None


def write(cache, new, start, fits):
    """`new` in the slots of `cache` from `start` on, or the cache as it is if `new` does not fit."""
    where = (start * 0, start, start * 0, start * 0)  # JAX wants one dtype for all four
    if fits is not True:
        new = ops.where(fits, new, ops.slice(cache, where, ops.shape(new)))

    # XLA updates a slice in place; a product with one-hot steps, or a choice for each slot, would touch the whole cache.
    if keras.backend.backend() != "tensorflow":
        return ops.slice_update(cache, where, new)

    @ops.custom_gradient  # TensorFlow has none for it; on JAX, one that closes over a step being traced cannot be differentiated
    def update(cache, new):
        def gradient(*args, upstream=None):
            slope = args[0] if upstream is None else upstream
            slope_of_new = ops.slice(slope, where, ops.shape(new))
            return ops.slice_update(slope, where, ops.zeros_like(slope_of_new)), slope_of_new

        return ops.slice_update(cache, where, new), gradient

    return update(cache, new)


def up_to_itself(q, k, position, fits):
    """The mask `(1, 1, t, s)` of keys at or before each query, the first of which stands at `position`; if it `fits` at all."""
    causal = ops.arange(ops.shape(k)[1])[None, :] <= position + ops.arange(ops.shape(q)[1])[:, None]
    causal = causal[None, None]
    return causal if fits is True else ops.logical_and(causal, fits)


def check_parts(cache):
    """Raise a ValueError unless `cache` has the two parts of one."""
    if not isinstance(cache, dict) or set(cache) != {"key", "value"}:
        received = sorted(cache) if isinstance(cache, dict) else type(cache).__name__
        raise ValueError(f'cache must be a dictionary of "key" and "value". Received: {received}')


def check_cache(cache, q, k, v):
    check_parts(cache)
    check_same("length, with a cache", query=q.shape[1], value=k.shape[1])
    slots = {name: tuple(part.shape)[1:2] for name, part in cache.items()}
    for name, new in (("key", k), ("value", v)):
        shape, expected = tuple(cache[name].shape), (new.shape[0], None, *new.shape[2:])
        if len(shape) != 4 or any(None not in sizes and sizes[0] != sizes[1] for sizes in zip(shape, expected)):
            raise ValueError(f'cache["{name}"] must have the shape {expected}. Received: {shape}')
    check_same("number of slots", **{f'cache["{name}"]': slot[0] for name, slot in slots.items()})
