"""Talking-heads attention (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.masks import check_bias
from layers.common.projection import fresh
from layers.masked_softmax import masked_softmax


@keras.saving.register_keras_serializable(package="layers")
class TalkingHeadsAttention(MultiHeadAttention):
    """Multi-head attention that mixes the heads' scores before the softmax and their weights after it.

    Computes equation (5) of `reference/talking_heads_attention.py`, plus dropout on the mixed weights. It has the weights of
    `MultiHeadAttention` and two of shape `(h, h)`, `pre_softmax_weight` and `post_softmax_weight`, whose entry [i, j] is the
    coefficient of head i in the sum that becomes head j. If both are the identity, this is `MultiHeadAttention`.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, attention_axes, seed: As in `MultiHeadAttention`.
        kernel_initializer, kernel_regularizer, kernel_constraint: For the projections' kernels and the two mixing weights. The
            default initializes mixing weights with a variance of 1/h, so that scores keep their size. With a much smaller
            variance, such as BERT's standard deviation of 0.02, attention starts nearly uniform and nearly zero. In that case,
            or to start as multi-head attention, build the layer and assign `np.eye(h)` to both.
        bias_initializer, bias_regularizer, bias_constraint, activity_regularizer: For the projections, as in `ProjectingLayer`.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, s, m)`; `m` may differ from the query's.
        key: Tensor of shape `(b, s, m)`; its `m` may differ too. Defaults to `value`.
        attention_mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`. It applies to the
            softmax, between the two mixings. A key that is forbidden in every head has no influence, and a query with no allowed
            key in any head gets the zero vector before the output projection. A key that is forbidden in one head only can still
            influence that head through the second mixing. With `attention_axes`: batch axes, then optionally heads, then the
            query's attended axes, then the keys'.
        return_attention_scores: Whether to return the weights of the values too, after the second mixing and before dropout.
            They may be negative and need not sum to 1. Does not change the output.
        training: Whether to apply dropout.
        use_causal_mask: Whether each query may attend only to keys at or before its own position.
        query_mask, value_mask, key_mask: As in `MultiHeadAttention`.
        attention_bias: As in `MultiHeadAttention`, added where the mask applies, between the two mixings.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the weights `(b, h, t, s)`.

    Raises:
        ValueError: as in `MultiHeadAttention`.

    Example:

    >>> layer = TalkingHeadsAttention(num_heads=2, key_dim=4)
    >>> layer(keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        A query with no allowed key gets zeros; there, it gets the mean of the values, or NaN in float16. The mask is boolean: a
        2 means "allowed" and does not raise the scores. The two mixing weights always start with different random numbers.
        `seed` is new. `attention_bias` is new.

    Reference:
        [Shazeer et al., 2020](https://arxiv.org/abs/2003.02436), section 4.
    """

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        self.pre_softmax_weight = self.mixing_weight("pre_softmax_weight")
        self.post_softmax_weight = self.mixing_weight("post_softmax_weight")

    def attend(self, q, k, v, mask, training, bias=None):
        """Equations (1) to (4): the heads `(b, t, h, e)` and the mixed weights `(b, h, t, s)`."""
        # The reference scales the scores; q has fewer numbers to scale.
        scores = ops.einsum("bthd,bshd->bhts", q * self.key_dim**-0.5, k)
        check_bias(bias, q.shape[0], self.num_heads, q.shape[1], k.shape[1])
        softmax = masked_softmax(mix(scores, self.pre_softmax_weight), mask, bias=bias)
        weights = mix(softmax, self.post_softmax_weight)
        return ops.einsum("bhts,bshe->bthe", self.dropout_layer(weights, training=training), v), weights

    def mixing_weight(self, name):
        return self.add_weight(
            name=name,
            shape=(self.num_heads, self.num_heads),
            initializer=fresh(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )


def mix(x, weight):
    """Equations (2) and (4): new head g is the sum of the heads h of `x` `(b, h, t, s)`, each times `weight[h, g]`."""
    # Σ_h x_h weight_hg as a matrix product, (g, h) by (h, t·s), because einsum would transpose the heads twice.
    b, h, t, s = ops.shape(x)
    return ops.reshape(ops.matmul(ops.transpose(weight), ops.reshape(x, (b, h, t * s))), (b, h, t, s))
