"""The encodings of distances that relative attention and Transformer-XL take (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least, check_flags, check_rank_at_least
from layers.common.output_shapes import TracedLayer
from layers.common.sinusoids import sines_and_cosines, timescales


@keras.saving.register_keras_serializable(package="layers")
class RelativePositionEncoding(TracedLayer):
    """Sines and cosines of each distance between a query and a key, for any number of both; nothing is learned.

    Computes `relative_position_encoding` of `reference/relative_attention.py`: the R of equation (1) there, which the blocks of
    `reference/transformer_xl.py` share. What it returns is the `relative_position_encoding` of `TransformerXL`,
    `TransformerXLBlock`, `MultiHeadRelativeAttention` and `TwoStreamRelativeAttention`, called with the same tensors.

    Axes: `b` batch, `t` query position, `s` key position (the memory's included), `l` relative position, `m` model size.

    Args:
        hidden_size: Number of columns, `m`, which is even: half for sines and half for cosines.
        causal: Whether there are only rows for the distances s, …, 0, without which keys after a query are not attended to. By
            default there are t + s rows, for s, …, 1 − t.

    Call arguments:
        query: Tensor of shape `(b, t, ...)`. As of the others, only the length is read.
        value: Tensor of shape `(b, s, ...)`, or `(b, s − memory, ...)` with a memory. Defaults to `query`.
        state: The memory before `value`: a tensor `(b, memory, m)`; or what `TransformerXL` returns or takes as `state`, a list
            of such tensors or of None, or one tensor `(num_layers, b, memory, m)`. None for no memory.

    Returns:
        Tensor of shape `(1, l, m)` in the compute dtype, accurate to the last digits of float32, or of float64, at any distance.

    Raises:
        ValueError: if `hidden_size` is odd or below 2, `causal` is no flag, or a tensor has too few axes.

    Example:

    >>> x, memory = keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8))
    >>> encoding = RelativePositionEncoding(hidden_size=8)(x, state=memory)
    >>> encoding.shape  # 3 queries, and 8 keys
    TensorShape([1, 11, 8])

    Differs from the Model Garden:
        There, the layer of this name in the network of XLNet takes the distances, in the order of the rows, which the caller
        computes; here, it takes the tensors whose distances they are. `batch_size` does not exist: the encodings are the same
        for every example. Distances keep their digits in float32, however large they are.

    Reference:
        [Dai et al., 2019](https://arxiv.org/abs/1901.02860), section 3.3.
    """

    def __init__(self, hidden_size, causal=False, **kwargs):
        super().__init__(**kwargs)
        check_at_least(2, hidden_size=hidden_size)
        if hidden_size % 2:
            raise ValueError(
                f"hidden_size must be even, half for sines and half for cosines. Received: hidden_size={hidden_size}"
            )
        check_flags(causal=causal)
        self.hidden_size = hidden_size
        self.causal = causal
        self.supports_masking = True

    def compute_mask(self, *args, **kwargs):
        return None  # distances are no tokens of examples

    def call(self, query, value=None, state=None):
        value = query if value is None else value
        check_rank_at_least(2, query=query.shape, value=value.shape)
        t, s = ops.shape(query)[1], ops.shape(value)[1] + length_of_memory(state)
        rows = self.waves(s + 1)
        # Distances s, …, 0, then −1, …, 1 − t, whose sines have the other sign.
        parts = [ops.flip(wave, axis=0) for wave in rows]
        if not self.causal:
            sin, cos = (wave[1:] for wave in self.waves(t))
            parts = [ops.concatenate(halves, axis=0)[: t + s] for halves in zip(parts, (-sin, cos))]  # without 0, if t is 0
        return ops.cast(ops.concatenate(parts, axis=-1)[None], self.compute_dtype)

    def waves(self, length):
        """The sines and the cosines of the distances from 0 to `length` − 1, each `(length, m / 2)`."""
        half = self.hidden_size // 2
        omega = 1 / timescales(half, half, 1.0, 1e4)
        return sines_and_cosines(length, omega, "float64" if self.compute_dtype == "float64" else "float32")

    def get_config(self):
        return super().get_config() | {"hidden_size": self.hidden_size, "causal": self.causal}


def length_of_memory(state):
    """The number of positions in a memory, in the first of a list, or in each of a tensor `(num_layers, b, memory, m)`."""
    if isinstance(state, (list, tuple)):
        state = state[0] if state else None
    if state is None:
        return 0
    check_rank_at_least(3, state=state.shape)
    return ops.shape(state)[1 if len(state.shape) == 3 else 2]
