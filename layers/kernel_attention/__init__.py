"""Attention whose cost is linear in the length, not quadratic (Keras 3)."""

import math
from functools import partial

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.kernel_attention import exponential_sums, linear_sums, stream
from layers.kernel_attention.arguments import ARGUMENTS, check_arguments, check_call, window_of
from layers.kernel_attention.features import (
    ELEMENTWISE,
    EXPONENTIAL,
    draw_projection,
    exact_exponents,
    features,
    least_kernel,
    normalized,
    redraw_projection,
    scaled_by_length,
    widened,
)
from layers.kernel_attention.pairs import causal_structure, divided, pairs_of, window_structure


@keras.saving.register_keras_serializable(package="layers")
class KernelAttention(MultiHeadAttention):
    """Multi-head attention that replaces the exponential of softmax by a kernel φ(q)·φ(k), so sums over keys serve all queries.

    Computes equation (3) of `reference/kernel_attention/`, in time and memory linear in the length, or (1) for `is_short_seq`.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size, `r` feature.

    Args:
        feature_transform: "elu", elu(x) + 1 of the linear transformer; "exp", FAVOR+, the Performer's positive features of the
            softmax; "expplus", FAVOR++, with less variance; "expmod", "exp" without ‖x‖²/2; "relu", the Performer's ReLU kernel;
            "rfa", sine and cosine of normalized q and k; "square", x²; "identity", x, whose weights may be negative.
        num_random_features: Number of random projections, `r`, or 0 for none. Defaults to 0 for "elu", and to 256 otherwise.
        seed: Seed of the projection and of the dropout. Give each layer its own.
        redraw: Whether each training call draws a new projection. All other calls use the weight `projection`.
        is_short_seq: Whether to compute a weight for each pair, with the exact kernel instead of its estimate by random features.
        begin_kernel: Number of queries at the start that use exact softmax attention; False is 0.
        scale: Factor of q·k. Defaults to 1 for "elu", and to 1/√d otherwise. For "rfa", it is 1/σ², and defaults to 1.
        scale_by_length: Whether to multiply the scale by log₅₁₂ n for n unmasked keys; not for "rfa" or causal attention.
        use_causal_windowed: Whether each chunk of queries attends to its own chunk, in both directions, and to earlier chunks.
        causal_chunk_length: Number of tokens in a chunk.
        causal_window_length: Number of chunks that a query sees, including its own.
        causal_window_decay: Factor, in (0, 1], by which each chunk further back counts less. Defaults to 1.
        causal_padding: Which chunk may be shorter than the others: "left", the first, or "right", the last. Defaults to neither.
        use_gate: Whether a gate g = σ(x W + b) at each key decays earlier keys, as in RFA; requires `use_causal_mask`.
        trainable_bandwidth: Whether "rfa" learns 1/σ for each head and each of its `d` axes, as the weight `inverse_bandwidth`.
        **kwargs: The other arguments of `MultiHeadAttention`. `dropout` applies to the outputs of the heads.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value, key: Tensors of shape `(b, s, m)`. `key` defaults to `value`.
        attention_mask: Nonzero where the key is a token, `(b, s)`. A query without keys gets zeros before the output projection.
            For "expplus", it also marks queries in the statistics, if there are as many queries as keys.
        cache: Dict from `init_cache` or an earlier call, which summarizes the earlier tokens of a stream.
        training: Whether to apply dropout and to redraw.
        use_causal_mask: Whether query t sees only keys s ≤ t. True if a cache is given, except with windows.
        value_mask, key_mask: As in `MultiHeadAttention`, `(b, s)`; as if they were part of `attention_mask`, also in the cache.

    Returns:
        Tensor of shape `(b, t, m)`; with a cache, also the new cache.

    Raises:
        ValueError: if arguments are out of range or incompatible, or inputs, mask and cache do not fit together.

    Example:

    >>> layer = KernelAttention("exp", num_random_features=16, num_heads=2, key_dim=4)
    >>> layer(keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8)), attention_mask=keras.ops.ones((1, 5))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        "elu" has no projection and no 1/√d by default, so `num_random_features` defaults to None. No projection is an error for
        "exp", "expmod" and "expplus", whose features estimate a kernel only by their random directions; there, they are e^x of
        each number, or x itself. "exp" has ‖x‖²/2 in the exponent, and stabilizers that cancel: one for each query, and one for
        each feature of the keys that it sees. "expplus" is scaled once. "rfa", `use_gate`, `trainable_bandwidth` and
        `use_causal_mask` are new. Weights sum to 1: nothing is added to denominators. `begin_kernel` and `is_short_seq` are
        exact, and ignore masked keys. A new cache is returned. It holds the window: streaming gives the same result as one call.
        As in `MultiHeadAttention`, `seed` is that of the dropout too.

    Reference:
        [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236), [Choromanski et al., 2021](https://arxiv.org/abs/2009.14794),
        [Peng et al., 2021](https://arxiv.org/abs/2103.02143), [Likhosherstov et al., 2022](https://arxiv.org/abs/2205.15317).
    """

    def __init__(
        self,
        feature_transform="exp",
        num_random_features=None,
        seed=0,
        redraw=False,
        is_short_seq=False,
        begin_kernel=0,
        scale=None,
        scale_by_length=False,
        use_causal_windowed=False,
        causal_chunk_length=1,
        causal_window_length=3,
        causal_window_decay=None,
        causal_padding=None,
        *,
        use_gate=False,
        trainable_bandwidth=False,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        if num_random_features is None:
            num_random_features = 0 if feature_transform == "elu" else 256
        self.feature_transform = feature_transform
        self.num_random_features = num_random_features
        self.redraw = redraw
        self.is_short_seq = is_short_seq
        self.begin_kernel = 0 if begin_kernel is False else begin_kernel
        self.scale = scale
        self.scale_by_length = scale_by_length
        self.use_causal_windowed = use_causal_windowed
        self.causal_chunk_length = causal_chunk_length
        self.causal_window_length = causal_window_length
        self.causal_window_decay = causal_window_decay
        self.causal_padding = causal_padding
        self.use_gate = use_gate
        self.trainable_bandwidth = trainable_bandwidth
        check_arguments(self)
        self.autocast = False  # keep a cache in float32; the linear maps cast their inputs themselves

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        r, d, h = self.num_random_features, self.key_dim, self.num_heads
        self.projection = self.inverse_bandwidth = None
        if r:
            rows = draw_projection(self.seed, r, d)
            self.projection = self.add_weight(
                name="projection", shape=(r, d), initializer=lambda shape, dtype: ops.cast(rows, dtype), trainable=False
            )
        if self.redraw:
            self.generator = keras.random.SeedGenerator(self.seed)
        if self.trainable_bandwidth:
            start = keras.initializers.Constant(math.sqrt(self.scale or 1.0))
            self.inverse_bandwidth = self.add_weight(name="inverse_bandwidth", shape=(h, d), initializer=start)
        if self.use_gate:
            shape = (None, None, (key_shape or value_shape)[-1])
            self.gate_dense = self.make_projection("gate", "bsm,mh->bsh", (None, h), "h" if self.use_bias else None, shape)

    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        cache=None,
        training=None,
        use_causal_mask=False,
        value_mask=None,
        key_mask=None,
    ):
        key = value if key is None else key
        causal = use_causal_mask or (cache is not None and not self.use_causal_windowed)
        masks = {"attention_mask": attention_mask, "value_mask": value_mask, "key_mask": key_mask}
        mask = check_call(self, query, value, masks, cache, causal)  # (b, 1, s)
        q, k, v = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        q, k, v = (ops.transpose(widened(x), (0, 2, 1, 3)) for x in (q, k, v))
        u = ops.concatenate([v, ops.ones_like(v[..., :1])], axis=-1)  # the sums over the ones are the denominators
        log_gate = None
        if self.use_gate:
            x = ops.transpose(widened(self.gate_dense(key)), (0, 2, 1))
            log_gate, u = ops.log_sigmoid(x), u * ops.expand_dims(ops.sigmoid(-x), -1)
        if mask is not None:
            k, u = (ops.where(ops.expand_dims(mask, -1), x, 0.0) for x in (k, u))
            log_gate = log_gate if log_gate is None else ops.where(mask, log_gate, 0.0)
        if self.scale_by_length:
            q = scaled_by_length(q, k, mask)

        if self.is_short_seq:
            heads = self.by_pairs(self.feature_transform, *self.scaled(q, k), u, mask, causal, log_gate)
        else:
            heads, cache = self.by_sums(*self.scaled(q, k), u, mask, causal, log_gate, cache, training)
        if self.begin_kernel:
            scale = self.key_dim**-0.5 if self.scale is None or self.feature_transform == "rfa" else self.scale
            first = self.by_pairs("exp", q[:, :, : self.begin_kernel] * scale, k, u, mask, causal, log_gate)
            heads = ops.concatenate([first, heads[:, :, self.begin_kernel :]], axis=2)
        heads = ops.cast(ops.transpose(heads, (0, 2, 1, 3)), self.compute_dtype)
        output = self.output_dense(self.dropout_layer(heads, training=training))
        return output if cache is None else (output, cache)

    def by_sums(self, q, k, u, mask, causal, log_gate, cache, training):
        """Equation (3): the heads `(b, h, t, e)` and, if a cache is given, the cache after these tokens."""
        state, total = stream.unpacked(cache, q)
        phi_q, phi_k = features(self.feature_transform, q, k, self.rows(training), mask)
        summed = self.summation(causal, log_gate)
        sums, state = summed(phi_q, phi_k, u, state=state)
        least = None
        if self.feature_transform == "rfa":
            ones = (ops.ones_like(x[..., :1]) for x in (phi_q, phi_k))
            weight, total = summed(*ones, u[..., -1:], state=total)
            least = least_kernel(self.inverse_scale) * weight
        heads = divided(sums, least)
        return heads, None if cache is None else stream.packed(state, total)

    def by_pairs(self, transform, q, k, u, mask, causal, log_gate):
        """Equation (1): the heads `(b, h, t, e)`, from a weight for every pair."""
        structure, rows, columns = None, ops.shape(q)[2], ops.shape(k)[2]
        if self.use_causal_windowed:
            structure = window_structure(rows, columns, q.dtype, **window_of(self))
        elif causal:
            structure = causal_structure(rows, columns, q.dtype, log_gate)
        if transform in ELEMENTWISE:
            phi_q, phi_k = features(transform, q, k, self.rows())
            pairs = ops.matmul(phi_q, ops.swapaxes(phi_k, 2, 3)) * (1.0 if structure is None else ops.exp(structure))
        else:
            pairs = pairs_of(exact_exponents(transform, q, k), structure, mask)
        return divided(ops.matmul(pairs, u))

    def rows(self, training=False):
        """The projection to use in this call, or None."""
        if self.redraw and training:
            return redraw_projection(self.generator, *self.projection.shape, widened(self.projection).dtype)
        return None if self.projection is None else widened(self.projection)

    def summation(self, causal, log_gate):
        """The function that computes the sums over the keys that each query sees."""
        sums = exponential_sums if self.feature_transform in EXPONENTIAL else linear_sums
        if self.use_causal_windowed:
            return partial(sums.windowed, **window_of(self))
        return partial(sums.causal, log_gate=log_gate) if causal else sums.over_all

    def scaled(self, q, k):
        """Queries and keys, each multiplied by √scale; for "rfa", normalized to length 1 and multiplied by 1/σ."""
        if self.feature_transform == "rfa":
            return normalized(q) * self.inverse_scale, normalized(k) * self.inverse_scale
        scale = self.scale or (1.0 if self.feature_transform == "elu" else self.key_dim**-0.5)
        return q * math.sqrt(scale), k * math.sqrt(scale)

    @property
    def inverse_scale(self):
        """1/σ for "rfa", which broadcasts to `(b, h, t, d)`."""
        return math.sqrt(self.scale or 1.0) if self.inverse_bandwidth is None else widened(self.inverse_bandwidth)[:, None]

    def init_cache(self, batch_size):
        """The cache before the first token, as a dict of tensors; of one row, for any batch, if `batch_size` is None."""
        return stream.empty(self, batch_size)

    def get_config(self):
        return super().get_config() | {name: getattr(self, name) for name in ARGUMENTS}
