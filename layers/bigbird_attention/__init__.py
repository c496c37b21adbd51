"""BigBird: block-sparse attention, whose cost is linear in the length (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.attention import MultiHeadAttention
from layers.bigbird_attention.blocks import gather_blocks, into_blocks, neighbors, seen_blocks
from layers.common.checks import check_at_least, check_broadcastable, check_rank, check_same
from layers.common.masks import both
from layers.common.output_shapes import TracedLayer
from layers.common.sizes import at_least, in_whole, known
from layers.common.slices import section
from layers.masked_softmax import softmax_of_allowed


@keras.saving.register_keras_serializable(package="layers")
class BigBirdAttention(MultiHeadAttention):
    """Multi-head attention in which each block of queries attends to a few blocks of keys: global, neighboring and random.

    Computes equation (1) of `reference/bigbird_attention.py` between the projections of multi-head attention, plus dropout on the
    attention weights. Time and memory grow linearly with the length, without a `(t, s)` array. Only sequences of at most
    `5 + num_rand_blocks` blocks use full attention.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size.

    Args:
        num_rand_blocks: Number of random blocks of keys for each block of queries.
        from_block_size: Number of tokens in a block. Sequences of any length are padded to whole blocks.
        to_block_size: Must equal `from_block_size`; kept for compatibility with the Model Garden.
        max_rand_mask_length: Length up to which each block of queries has its own random numbers. Longer sequences reuse them
            from the start, but their random blocks still come from the whole sequence.
        seed: Seed of the random blocks, which are drawn with NumPy when the layer is built, and of the dropout. By default, each
            layer has its own seed, which `keras.utils.set_random_seed` makes reproducible. Layers with the same seed have the
            same random blocks.
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, and the initializers, regularizers and constraints: As in
            `MultiHeadAttention`. `attention_axes` can only be the axis between batch and model axis.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, t, m)`; `m` may differ from the query's.
        key: Tensor of shape `(b, t, m)`; `m` may differ from both. Defaults to `value`.
        attention_mask: Nonzero where there is a token, `(b, t)`; or the output of `BigBirdMasks`. No query attends to padding. A
            query that is padding gets the zero vector before the output projection.
        training: Whether to apply dropout.
        query_mask, value_mask, key_mask: As in `MultiHeadAttention`, `(b, t)`; a token must be one in each of them.

    Returns:
        Tensor of shape `(b, t, m)`.

    Raises:
        ValueError: if a size is below 1, `num_rand_blocks` or `seed` is below 0, the block sizes differ, the inputs do not have 3
            axes or differ in batch size or length, or the mask is not `(b, t)` or was made for another block size.

    Example:

    >>> layer = BigBirdAttention(num_heads=2, key_dim=4, from_block_size=16, to_block_size=16)
    >>> x = keras.ops.ones((1, 300, 8))
    >>> layer(x, x).shape
    TensorShape([1, 300, 8])

    Differs from the Model Garden:
        Random blocks come from the whole sequence; there, from its first 1,024 tokens. A block of queries never sees a key twice;
        there, blocks near the end may. The random blocks are saved with the weights; there, they change each time a layer is
        created, and the seed of NumPy's global generator is set. Any length works; there, it must be a multiple of the block
        size, and below 1,024 tokens, indices are out of range unless `max_rand_mask_length` is that length. Dropout of the
        attention weights works, and the mask may be `(b, t)`. `seed` is that of the dropout too, as in `MultiHeadAttention`.

    Reference:
        [Zaheer et al., 2020](https://arxiv.org/abs/2007.14062), section 2 and appendix D.
    """

    def __init__(self, num_rand_blocks=3, from_block_size=64, to_block_size=64, max_rand_mask_length=4096, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        check_at_least(0, num_rand_blocks=num_rand_blocks, **({} if seed is None else {"seed": seed}))
        check_at_least(1, from_block_size=from_block_size, to_block_size=to_block_size, max_rand_mask_length=max_rand_mask_length)
        check_same("value", from_block_size=from_block_size, to_block_size=to_block_size)
        self.num_rand_blocks = num_rand_blocks
        self.from_block_size = from_block_size
        self.to_block_size = to_block_size
        self.max_rand_mask_length = max_rand_mask_length

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        shape = (self.num_heads, in_whole(self.max_rand_mask_length, self.from_block_size)[0], self.num_rand_blocks)
        # A Keras initializer without a seed draws a new one each time, which is reproducible after set_random_seed.
        seed = keras.initializers.RandomUniform().seed if self.seed is None else self.seed
        draws = np.random.default_rng(seed).integers(2**31 - 1, size=shape, dtype="int32")
        self.random_draws = self.add_weight(
            name="random_draws", shape=shape, dtype="int32", trainable=False, initializer=lambda *_, **__: draws
        )

    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        training=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
    ):
        q = self.query_dense(query)
        k = self.key_dense(value if key is None else key)
        v = self.value_dense(value)
        for axis, what in enumerate(("batch", "length")):
            check_same(what, query=q.shape[axis], key=k.shape[axis], value=v.shape[axis])
        mask = self.tokens(attention_mask, q)
        for name, padding in (("query_mask", query_mask), ("value_mask", value_mask), ("key_mask", key_mask)):
            mask = both(mask, None if padding is None else self.tokens(padding, q, name))
        heads = self.attend(q, k, v, mask, training)
        return self.output_dense(heads)

    def attend(self, q, k, v, mask, training):
        """Equation (1): the heads `(b, t, h, e)`; the mask is `(b, t)`, or None."""
        t, w = ops.shape(q)[1], self.from_block_size
        blocks, _ = in_whole(t, w)
        if known(blocks) is not None and blocks <= 5 + self.num_rand_blocks:
            pairs = None if mask is None else ops.logical_and(ops.expand_dims(mask, (1, 3)), ops.expand_dims(mask, (1, 2)))
            return super().attend(q, k, v, pairs, training)[0]

        blocks = at_least(2, blocks)  # the first and the last row
        missing, real = blocks * w - t, mask
        if mask is None and known(missing) != 0:
            real = ops.ones(ops.shape(q)[:2], "bool")
        q, k, v = (into_blocks(x, w, missing) for x in (q * self.key_dim**-0.5, k, v))
        real = None if real is None else into_blocks(ops.expand_dims(real, (2, 3)), w, missing)

        first, last = self.edge_rows(q, k, v, real, training)
        inner = self.inner_rows(section(q, 1, blocks - 1, axis=2), k, v, real, training)
        heads = ops.concatenate([first, inner, last], axis=2)
        heads = ops.reshape(heads, (ops.shape(q)[0], self.num_heads, blocks * w, self.value_dim))
        heads = section(ops.transpose(heads, (0, 2, 1, 3)), 0, t, axis=1)
        return heads if mask is None else heads * ops.cast(ops.expand_dims(mask, (2, 3)), heads.dtype)

    def inner_rows(self, q, k, v, real, training):
        """Equation (2): the queries of each row attend to the blocks that it sees, which are gathered once."""
        seen, counts = seen_blocks(self.random_draws, ops.shape(k)[2])
        allowed = ops.expand_dims(ops.repeat(counts, self.from_block_size, axis=-1), 0)
        if real is not None:
            of_every_head = ops.broadcast_to(real, (ops.shape(real)[0], self.num_heads, *ops.shape(real)[2:]))
            real_keys = ops.squeeze(gather_blocks(of_every_head, seen), -1)
            allowed = ops.logical_and(allowed, real_keys)  # of 4 axes: TFLite aborts the process where 5 are broadcast
        return self.mix_rows(q, gather_blocks(k, seen), gather_blocks(v, seen), ops.expand_dims(allowed, 3), training)

    def edge_rows(self, q, k, v, real, training):
        """Equation (3): the queries of the first and the last row attend to all keys; two tensors `(b, h, 1, block, e)`."""
        b, h, blocks, w, _ = ops.shape(k)
        q = ops.concatenate([section(q, start, start + 1, axis=2) for start in (0, blocks - 1)], axis=3)
        k, v = (ops.reshape(x, (b, h, 1, blocks * w, x.shape[-1])) for x in (k, v))
        heads = self.mix_rows(q, k, v, None if real is None else ops.reshape(real, (b, 1, 1, 1, blocks * w)), training)
        return (section(heads, start, start + w, axis=3) for start in (0, w))

    def mix_rows(self, q, k, v, mask, training):
        """The attention output of each row, from scaled queries, keys and values; all are `(b, h, rows, tokens, …)`."""
        # Each token sees at least itself. The output of padding is set to 0 or cut off later.
        weights = softmax_of_allowed(ops.matmul(q, ops.swapaxes(k, 3, 4)), mask)
        return ops.matmul(self.dropout_layer(weights, training=training), v)

    def tokens(self, attention_mask, q, name="attention_mask"):
        """The boolean mask `(b, t)`, from either form of `attention_mask`; None without a mask."""
        if attention_mask is None:
            return None
        if isinstance(attention_mask, (list, tuple)):
            if len(attention_mask) != 4:
                raise ValueError(
                    "attention_mask must be (b, t), or the list of 4 masks that BigBirdMasks returns. "
                    f"Received: a list of {len(attention_mask)}"
                )
            check_same("block size", from_block_size=self.from_block_size, attention_mask=attention_mask[3].shape[-1])
            attention_mask = attention_mask[2][:, 0, 0]
        mask = ops.cast(attention_mask, "bool")
        check_broadcastable(name, mask.shape, tuple(q.shape[:2]))
        return ops.broadcast_to(mask, ops.shape(q)[:2])

    def check_shapes(self, query, value, key):
        check_rank(3, query=query, value=value, key=key)
        check_same("length", query=query[1], value=value[1])
        return super().check_shapes(query, value, key)

    def get_config(self):
        return super().get_config() | {
            "num_rand_blocks": self.num_rand_blocks,
            "from_block_size": self.from_block_size,
            "to_block_size": self.to_block_size,
            "max_rand_mask_length": self.max_rand_mask_length,
        }


@keras.saving.register_keras_serializable(package="layers")
class BigBirdMasks(TracedLayer):
    """The masks with which the Model Garden calls its BigBird layers, computed once for all layers.

    Computes `masks` of `reference/bigbird_attention.py`. `BigBirdAttention` accepts these masks, or simply the `(b, t)` mask.

    Axes: `b` batch, `t` position.

    Args:
        block_size: Number of tokens in a block, the same as in the attention layers.

    Call arguments:
        inputs: Tensor of shape `(b, t, …)`. Only its shape is used.
        mask: Nonzero where there is a token, `(b, t)`.

    Returns:
        List of four tensors in the compute dtype, 1 at tokens and 0 at padding: the windows of all blocks except two at each end,
        `(b, 1, blocks − 4, block_size, 3 · block_size)`, 1 where query and key are both tokens; the queries, `(b, 1, t, 1)`; the
        keys, `(b, 1, 1, t)`; and the blocks, `(b, blocks, block_size)`.

    Raises:
        ValueError: if `block_size` is below 1, or the mask is not `(b, t)`.

    Example:

    >>> masks = BigBirdMasks(block_size=2)(keras.ops.ones((1, 3, 8)), keras.ops.array([[1, 1, 0]]))
    >>> keras.ops.convert_to_numpy(masks[3]).tolist()
    [[[1.0, 1.0], [0.0, 0.0]]]

    Differs from the Model Garden:
        The mask is boolean: any nonzero value marks a token. Any length works; the last block is padded with zeros.

    Reference:
        [Zaheer et al., 2020](https://arxiv.org/abs/2007.14062), appendix D.
    """

    def __init__(self, block_size, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, block_size=block_size)
        self.block_size = block_size
        self.supports_masking = True  # Keras treats an argument named mask as the mask of the inputs

    def call(self, inputs, mask):
        check_rank(2, mask=mask.shape)
        for axis, what in enumerate(("batch", "length")):
            check_same(what, inputs=inputs.shape[axis], mask=mask.shape[axis])
        mask = ops.cast(ops.not_equal(mask, 0), self.compute_dtype)
        t, w = ops.shape(mask)[1], self.block_size
        count, missing = in_whole(t, w)
        blocks = ops.squeeze(into_blocks(ops.expand_dims(mask, (2, 3)), w, missing), (1, 4))
        before, own, after = neighbors(blocks, at_least(0, count - 4))
        windows = ops.concatenate([before, own, after], axis=-1)
        band = ops.expand_dims(ops.expand_dims(own, 3) * ops.expand_dims(windows, 2), 1)
        return [band, ops.expand_dims(mask, (1, 3)), ops.expand_dims(mask, (1, 2)), blocks]

    def compute_mask(self, inputs, mask=None):
        return None  # the outputs are masks themselves

    def get_config(self):
        return super().get_config() | {"block_size": self.block_size}
