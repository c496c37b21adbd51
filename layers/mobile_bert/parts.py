"""Parts of MobileBERT's embedding and block: norms, tables and linear maps with shared options, and trigrams."""

import keras
from keras import ops

from layers.common.blocks import BlockLayer
from layers.common.checks import check_rank, check_same, interpreted
from layers.common.normalization import LayerNorm, NoNorm
from layers.common.projection import fresh
from layers.common.slices import section
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import PositionalEmbedding

NORMS = ("no_norm", "layer_norm")
RENAMED = {"kernel_initializer": "initializer"}


class MobileBertLayer(BlockLayer):
    """A layer whose norms all have one type, and whose tables and linear maps all use one initializer.

    Args:
        normalization_type: "no_norm", γ ⊙ x + β, or "layer_norm", with an epsilon of 1e-12.
        initializer: `kernel_initializer` of `ProjectingLayer`. Defaults to a truncated normal of standard deviation 0.02.
    """

    renamed_arguments = RENAMED
    integer_arguments = ("input_ids", "token_type_ids")

    def __init__(self, normalization_type="no_norm", initializer=None, **kwargs):
        # Created for each layer: a shared initializer would give maps of the same shape the same numbers.
        start = keras.initializers.TruncatedNormal(stddev=0.02) if initializer is None else initializer
        [start] = interpreted(keras.initializers.get, initializer=start)
        super().__init__(kernel_initializer=start, **kwargs)
        if normalization_type not in NORMS:
            raise ValueError(f"normalization_type must be one of {NORMS}. Received: normalization_type={normalization_type!r}")
        self.normalization_type = normalization_type
        self.initializer = self.kernel_initializer

    def make_norm(self, name, size):
        if self.normalization_type == "layer_norm":
            norm = LayerNorm(epsilon=self.norm_epsilon, name=name, dtype=self.dtype_policy)
        else:
            norm = NoNorm(name=name, dtype=self.dtype_policy)
        norm.build((None, None, size))
        return norm

    def with_norm(self, name, input_size, output_size):
        """A built linear map, and the norm after it."""
        return self.make_dense(name, input_size, output_size), self.make_norm(f"{name}_norm", output_size)

    def make_table(self, name, rows, size, **options):
        """A built table with a row for each id."""
        table = OnDeviceEmbedding(rows, size, fresh(self.initializer), name=name, dtype=self.dtype_policy, **options)
        table.build((None, None))
        return table

    def make_positions(self, name, rows, size):
        """A built table with a row for each position."""
        table = PositionalEmbedding(rows, fresh(self.initializer), name=name, dtype=self.dtype_policy)
        table.build((None, None, size))
        return table

    def get_config(self):
        config = super().get_config() | {"normalization_type": self.normalization_type}
        return {RENAMED.get(name, name): value for name, value in config.items()}


def trigram(e):
    """Equation (1) of `reference/mobile_bert.py`."""
    padded, t = ops.pad(e, ((0, 0), (1, 1), (0, 0))), ops.shape(e)[1]
    return ops.concatenate([section(padded, start, start + t, axis=1) for start in (2, 1, 0)], axis=-1)


def check_alike(rank, **tensors):
    """Raise a ValueError unless all `tensors` that are not None have `rank` axes and the same known sizes."""
    shapes = {name: x.shape for name, x in tensors.items() if x is not None}
    check_rank(rank, **shapes)
    for axis in range(rank):
        check_same(f"size of axis {axis}", **{name: shape[axis] for name, shape in shapes.items()})


def check_input(shape, hidden_size):
    """Raise a ValueError unless `shape` is `(b, t, hidden_size)`."""
    if len(shape) != 3 or shape[-1] != hidden_size:
        raise ValueError(f"input_tensor must have the shape (b, t, {hidden_size}). Received: {tuple(shape)}")
