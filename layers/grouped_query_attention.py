"""Attention in which groups of query heads share keys and values (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.checks import check_at_least
from layers.common.masks import check_bias
from layers.masked_softmax import attended


@keras.saving.register_keras_serializable(package="layers")
class GroupedQueryAttention(MultiHeadAttention):
    """Multi-head attention in which several query heads share one key and value head.

    Computes `reference/grouped_query_attention.py`, plus dropout on the attention weights. With `num_kv_heads` equal to
    `num_heads`, this is multi-head attention; with `num_kv_heads=1`, it is multi-query attention.

    Axes: `b` batch, `t` query position, `s` key position, `h` query head, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads: Number of query heads, `h`.
        key_dim: Size of each query and key, `d`.
        num_kv_heads: Number of key and value heads, a divisor of `num_heads`. The kernels of key and value have the shapes
            `(m, num_kv_heads, d)` and `(m, num_kv_heads, e)`.
        **kwargs: The other arguments of `MultiHeadAttention`.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, s, m)`; `m` may differ from the query's.
        key, attention_mask, return_attention_scores, training, use_causal_mask, query_mask, value_mask, key_mask,
            attention_bias: As in `MultiHeadAttention`.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the attention weights `(b, h, t, s)`.

    Raises:
        ValueError: as in `MultiHeadAttention`, and if `num_kv_heads` is below 1 or does not divide `num_heads`.

    Example:

    >>> layer = GroupedQueryAttention(num_heads=4, key_dim=4, num_kv_heads=2)
    >>> layer(keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8))).shape
    TensorShape([1, 3, 8])

    Reference:
        [Ainslie et al., 2023](https://arxiv.org/abs/2305.13245), section 2.2.
    """

    def __init__(self, num_heads, key_dim, num_kv_heads, **kwargs):
        super().__init__(num_heads, key_dim, **kwargs)
        check_at_least(1, num_kv_heads=num_kv_heads)
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads must divide num_heads={num_heads}. Received: num_kv_heads={num_kv_heads}")
        self.num_kv_heads = num_kv_heads

    def heads_of(self, name):
        return self.num_heads if name == "query" else self.num_kv_heads

    def attend(self, q, k, v, mask, training, bias=None):
        check_bias(bias, q.shape[0], self.num_heads, q.shape[1], k.shape[1])
        # Consecutive query heads form a group, whose queries are one matrix: (b, groups, heads of a group · t, d). Products of
        # matrices, because einsum fails on TensorFlow if there are no queries.
        b, t, h, d = ops.shape(q)
        s, groups = ops.shape(k)[1], self.num_kv_heads
        q = ops.reshape(ops.transpose(q * self.key_dim**-0.5, (0, 2, 1, 3)), (b, groups, h // groups * t, d))
        scores = ops.reshape(ops.matmul(q, ops.transpose(k, (0, 2, 3, 1))), (b, h, t, s))

        def mix(weights):
            dropped = ops.reshape(self.dropout_layer(weights, training=training), (b, groups, h // groups * t, s))
            heads = ops.matmul(dropped, ops.transpose(v, (0, 2, 1, 3)))
            return ops.transpose(ops.reshape(heads, (b, h, t, self.value_dim)), (0, 2, 1, 3))

        return attended(scores, mask, mix, bias)

    def get_config(self):
        return super().get_config() | {"num_kv_heads": self.num_kv_heads}
