"""Attention whose query heads share keys and values in groups (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.checks import check_at_least
from layers.masked_softmax import attended


@keras.saving.register_keras_serializable(package="layers")
class GroupedQueryAttention(MultiHeadAttention):
    """Multi-head attention in which each head of keys and values serves several heads of queries.

    Computes `reference/grouped_query_attention.py`. With as many key heads as query heads it is multi-head attention, with one it
    is multi-query attention. Arguments, call arguments and weights are those of `MultiHeadAttention`, but for:

    Args:
        num_kv_heads: Number of heads of keys and of values, which have kernels `(m, num_kv_heads, d)`. It divides `num_heads`.

    Raises:
        ValueError: if it does not.

    Reference:
        [Ainslie et al., 2023](https://arxiv.org/abs/2305.13245), section 2.2.
    """

    def __init__(self, num_heads, key_dim, num_kv_heads, **kwargs):
        super().__init__(num_heads, key_dim, **kwargs)
        check_at_least(1, num_kv_heads=num_kv_heads)
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads must divide the number of heads, {num_heads}. Received: num_kv_heads={num_kv_heads}")
        self.num_kv_heads = num_kv_heads

    def heads_of(self, name):
        return self.num_heads if name == "query" else self.num_kv_heads

    def attend(self, q, k, v, mask, training):
        # The query heads of one group stand beside each other: (b, t, groups, heads of a group, d).
        b, t, h, d = ops.shape(q)
        q = ops.reshape(q, (b, t, self.num_kv_heads, h // self.num_kv_heads, d))
        scores = ops.einsum("btgid,bsgd->bgits", q * self.key_dim**-0.5, k)

        def mix(weights):
            dropped = ops.reshape(self.dropout_layer(weights, training=training), ops.shape(scores))
            return ops.reshape(ops.einsum("bgits,bsge->btgie", dropped, v), (b, t, h, self.value_dim))

        return attended(ops.reshape(scores, (b, h, t, -1)), mask, mix)

    def get_config(self):
        return super().get_config() | {"num_kv_heads": self.num_kv_heads}
