"""Attention with a cache of keys and values, for decoding (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.caches import check_parts, for_each_example, rows_for
from layers.common.checks import check_at_least, check_rank, check_same
from layers.common.masks import after, check_bias
from layers.common.output_shapes import appended_spec
from layers.common.positions import check_position, value_of, within_room
from layers.common.sizes import comparable, known_shape
from layers.common.slices import section_from
from layers.masked_softmax import masked_softmax


@keras.saving.register_keras_serializable(package="layers")
class CachedAttention(MultiHeadAttention):
    """Multi-head attention that caches keys and values, so that decoding projects each token only once.

    Computes equations (1) to (3) of `reference/cached_attention.py`, plus dropout on the attention weights. Decoding token by
    token with a cache gives the same result as one causal pass.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, attention_axes, seed, and the initializers, regularizers
            and constraints: As in `MultiHeadAttention`. Inputs must have a single sequence axis.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, s, m)`; with a cache, the `t` new tokens.
        key: Tensor of shape `(b, s, m)`. Defaults to `value`.
        attention_mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`, where `s` is the
            number of keys in the new cache. With a cache, attention is always causal too.
        cache: `{"key": (b, s, h, d), "value": (b, s, h, e)}`, from `init_cache` or an earlier call. A cache of one row is
            repeated for each example. Without a cache, only `attention_mask` restricts attention: for a causal pass, pass a
            causal mask or an empty cache.
        decode_loop_step: Slot of the cache to which the first new token is written, an integer or a scalar tensor. By default,
            the new tokens are appended to the cache.
        return_attention_scores: Whether to return the weights too, before dropout. Does not change the output.
        training: Whether to apply dropout.
        query_mask, value_mask, key_mask: As in `MultiHeadAttention`, of the tokens of this call. The cache does not remember
            padding: while there is some in it, `attention_mask` must say so.
        attention_bias: As in `MultiHeadAttention`, over all keys of the new cache.

    With a cache, the `i`-th new token, counted from 0, has position `p + i`, where `p` is `decode_loop_step` or, if tokens are
    appended, the length of the cache. It attends to the cached keys at positions 0 to `p - 1` and to the new tokens up to itself.
    With `decode_loop_step`, new tokens replace the contents of their slots, and later slots are ignored.

    In a compiled function, pass `decode_loop_step` as a tensor, because each new integer causes a recompilation. A tensor whose
    value is unknown during tracing cannot raise an error. If the new tokens do not fit, none of them is written: the returned
    cache is unchanged, and the weights and heads of the new tokens are zeros.

    Returns:
        `(output, cache)`, or `(output, scores, cache)` with `return_attention_scores`: the output, `(b, t, m)`, the attention
        weights, `(b, h, t, s)`, and a new cache. Without the argument `cache`, the new cache holds the keys and values of this
        call. The argument itself is not modified.

    Raises:
        ValueError: as in `MultiHeadAttention`, and if `cache` has the wrong entries or shapes, `decode_loop_step` is given
            without a cache or leaves no room for the new tokens, or query and value differ in length although a cache is given.

    Example:

    >>> layer = CachedAttention(num_heads=2, key_dim=4)
    >>> token = keras.ops.ones((1, 1, 8))
    >>> output, cache = layer(token, token, cache=layer.init_cache(batch=1, length=5), decode_loop_step=0)
    >>> output.shape, cache["key"].shape
    (TensorShape([1, 1, 8]), TensorShape([1, 5, 2, 4]))

    Differs from the Model Garden:
        New tokens replace the contents of a slot; there, they are added to it. Empty slots are ignored; there, they have a score
        of 0 unless the caller masks them. A new cache is returned; there, the dictionary is modified in place. Several new
        tokens attend to each other causally. A step beyond the cache is an error. Without a cache, the keys and values of this
        call are returned, with which decoding can go on; there, None. `seed` is new. `attention_bias` is new.

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
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_bias=None,
    ):
        self.check_shapes(query.shape, value.shape, value.shape if key is None else key.shape)
        q = self.query_dense(query)
        k = new_k = self.key_dense(value if key is None else key)
        v = new_v = self.value_dense(value)
        causal, key_masks = None, [value_mask, None if key_mask is value_mask else key_mask]
        if cache is not None:
            check_parts(cache)
            cache = for_each_example(cache, q)
            check_cache(cache, q, k, v)
            if decode_loop_step is None:
                position, fits = ops.shape(cache["key"])[1], True
                k, v = (ops.concatenate([cache[name], new], axis=1) for name, new in (("key", k), ("value", v)))
                key_masks = [after(cache["key"], mask) for mask in key_masks]
            else:
                position, fits = place(decode_loop_step, cache["key"], k)
                k, v = (write(cache[name], new, position, fits) for name, new in (("key", k), ("value", v)))
                key_masks = [in_slots(cache["key"], mask, position, fits) for mask in key_masks]
            if decode_loop_step is not None or q.shape[1] != 1:  # a single appended token may attend to all keys
                causal = up_to_itself(q, k, position, fits)
        elif decode_loop_step is not None:
            raise ValueError(f"decode_loop_step needs a cache. Received: decode_loop_step={decode_loop_step}, cache=None")

        mask = self.allowed(q, k, attention_mask, False, query_mask, *key_masks)
        if causal is not None:
            mask = causal if mask is None else ops.logical_and(mask, causal)
        if decode_loop_step is not None and q.shape[1] == 1 and self.compute_dtype in ("float32", "float64"):
            check_bias(attention_bias, q.shape[0], self.num_heads, 1, k.shape[1])
            heads, weights = self.attend_with(new_k, new_v, position, fits, q, cache, mask, training, attention_bias)
        else:
            heads, weights = self.attend(q, k, v, mask, training, attention_bias)
        output, cache = self.output_dense(heads), {"key": k, "value": v}
        return (output, weights, cache) if return_attention_scores else (output, cache)

    def attend_with(self, new_k, new_v, position, fits, q, cache, mask, training, bias):
        """`attend` for one query and the cache with the new key and value at `position`, without copying the cache.

        A matrix product for each head would first transpose the whole cache.
        """
        is_new = ops.logical_and(ops.arange(0, ops.shape(cache["key"])[1]) == position, fits)
        k, v = (ops.where(is_new[:, None, None], 0.0, cache[name]) for name in ("key", "value"))
        q, (b, s, h, d) = q * self.key_dim**-0.5, ops.shape(k)
        # Σ_d q k as a product with ones, for which XLA does not store q k.
        scores = ops.reshape(ops.matmul(ops.reshape(q * k, (-1, d)), ops.ones((d, 1), k.dtype)), (b, s, h))
        scores = ops.where(is_new[:, None], ops.sum(q * new_k, axis=-1), scores)
        weights = masked_softmax(ops.expand_dims(ops.transpose(scores, (0, 2, 1)), 2), mask, bias=bias)
        w = ops.transpose(self.dropout_layer(weights, training=training), (0, 3, 1, 2))
        w_new = ops.sum(ops.where(is_new[:, None, None], w, 0.0), axis=1, keepdims=True)
        return ops.sum(w * v, axis=1, keepdims=True) + w_new * new_v, weights

    def init_cache(self, batch, length):
        """An empty cache.

        Args:
            batch: Batch size, an integer or a scalar tensor; None if it is not known yet, as in a functional model.
            length: Number of slots, for use with `decode_loop_step`; 0 for a cache to which tokens are appended.

        Returns:
            Dict of "key", zeros of shape `(batch, length, h, d)`, and "value", zeros of shape `(batch, length, h, e)`. If `batch`
            is None, there is one row, which a call repeats for each example.
        """
        check_at_least(0, length=length)
        b, h, sizes = rows_for(batch), self.num_heads, {"key": self.key_dim, "value": self.value_dim}
        return {name: ops.zeros((b, length, h, size), self.compute_dtype) for name, size in sizes.items()}

    def check_shapes(self, query, value, key):
        check_rank(3, query=query)
        return super().check_shapes(query, value, key)

    def untraced_spec(self, query, value, attention_mask=None, cache=None, decode_loop_step=None, **others):
        if (cache := appended_spec(attention_mask, cache, decode_loop_step, value)) is None:
            return None
        b, t, m = query.shape
        output = self.symbol(b, t, *(self.output_shape or (m,)))
        scores = self.symbol(b, self.num_heads, t, cache["key"].shape[1])
        return (output, scores, cache) if others.get("return_attention_scores") else (output, cache)


def place(step, cache, new):
    """The slot of `cache` to which `new` is written, and whether `new` fits: True, or a tensor if that is not known.

    Raises:
        ValueError: if `new` is known not to fit, or `step` is not an integer.
    """
    check_position(decode_loop_step=step)
    value, (slots, t) = value_of(step), known_shape((cache.shape[1], new.shape[1]))
    if slots is not None and t is not None:
        if slots < t or not (value is None or 0 <= value <= slots - t):
            raise ValueError(
                f"decode_loop_step must leave room for {t} new tokens in {slots} slots. Received: decode_loop_step={step}"
            )
        if value is not None:
            return value, True
    return within_room(step, comparable(ops.shape(cache)[1] - ops.shape(new)[1]))


def write(cache, new, start, fits):
    """`cache` with `new` in the slots from `start` on; unchanged if `new` does not fit."""
    if keras.backend.backend() == "jax" and None in known_shape((cache.shape[1], new.shape[1])):
        return written_by_slot(cache, new, start, fits)
    where = (start * 0, start, start * 0, start * 0)  # on JAX, all four must have the same dtype
    new = ops.cast(new, cache.dtype)  # a projection may have a dtype of its own
    if fits is not True:
        new = ops.where(fits, new, section_from(cache, start, ops.shape(new)[1], axis=1))

    # XLA updates a slice in place. A product with one-hot vectors, or `where`, would read and write the whole cache.
    if keras.backend.backend() != "tensorflow":
        return ops.slice_update(cache, where, new)

    @ops.custom_gradient  # TensorFlow lacks this gradient; on JAX, a custom gradient cannot use a traced step
    def update(cache, new):
        def gradient(*args, upstream=None):
            slope = args[0] if upstream is None else upstream
            slope_of_new = section_from(slope, start, ops.shape(new)[1], axis=1)
            return ops.slice_update(slope, where, ops.zeros_like(slope_of_new)), slope_of_new

        return ops.slice_update(cache, where, new), gradient

    return update(cache, new)


def in_slots(cache, mask, start, fits):
    """The padding `mask` of new tokens, `(b, t)` or None, in the slots of `cache`: True in all other slots."""
    if mask is None:
        return None
    new = ops.cast(mask, cache.dtype)[..., None, None]
    return write(ops.ones_like(cache[..., :1, :1]), new, start, fits)[..., 0, 0]


def written_by_slot(cache, new, start, fits):
    """The same for sizes that JAX does not know: it cannot slice the cache without knowing that it is long enough."""
    place = ops.arange(0, ops.shape(cache)[1]) - start
    inside = ops.logical_and(ops.logical_and(place >= 0, place < comparable(ops.shape(new)[1])), fits)
    return ops.where(inside[:, None, None], ops.take(new, ops.where(inside, place, 0), axis=1), cache)


def up_to_itself(q, k, position, fits):
    """The causal mask `(1, 1, t, s)`, where the first query is at `position`; all False unless the new tokens fit."""
    causal = ops.arange(0, ops.shape(k)[1])[None, :] <= position + ops.arange(0, ops.shape(q)[1])[:, None]
    causal = causal[None, None]
    return causal if fits is True else ops.logical_and(causal, fits)


def check_cache(cache, q, k, v):
    check_same("length if a cache is given", query=q.shape[1], value=k.shape[1])
    slots = {name: tuple(part.shape)[1:2] for name, part in cache.items()}
    for name, new in (("key", k), ("value", v)):
        shape, expected = known_shape(cache[name].shape), known_shape((new.shape[0], None, *new.shape[2:]))
        if len(shape) != 4 or any(None not in sizes and sizes[0] != sizes[1] for sizes in zip(shape, expected)):
            raise ValueError(f'cache["{name}"] must have the shape {expected}. Received: {shape}')
    check_same("number of slots", **{f'cache["{name}"]': slot[0] for name, slot in slots.items()})
