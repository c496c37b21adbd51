"""The mechanisms whose cost for long sequences is measured by `python -m crosscheck.bench.growth`, one per line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

HEADS, KEY_DIM = 8, 64
"""The sizes of every mechanism."""

LENGTHS = (2048, 4096)
"""The two lengths between which `python -m crosscheck.bench` measures growth."""


NOTHING = MappingProxyType({})


class Mechanism(NamedTuple):
    """Attributes:

    module: The module in `layers/`.
    layer: The name of the class.
    arguments: Constructor arguments other than `num_heads` and `key_dim`.
    call: Call arguments other than query and value.
    is_linear: Whether its time and memory should grow linearly with the length.
    """

    module: str
    layer: str
    arguments: Mapping = NOTHING
    call: Mapping = NOTHING
    is_linear: bool = True


def kernel(feature_transform, call=NOTHING, **arguments):
    """A linear mode of kernel attention."""
    return Mechanism("kernel_attention", "KernelAttention", {"feature_transform": feature_transform, **arguments}, call)


CAUSAL = {"use_causal_mask": True}
WINDOW = {"use_causal_windowed": True, "causal_chunk_length": 64}

MECHANISMS = {
    "full": Mechanism("attention", "MultiHeadAttention", is_linear=False),
    "bigbird": Mechanism("bigbird_attention", "BigBirdAttention"),
    "elu": kernel("elu"),
    "exp": kernel("exp"),
    "rfa": kernel("rfa"),
    "causal-window": kernel("elu", **WINDOW),
    "exp-window": kernel("exp", **WINDOW),
    "token-causal": kernel("elu", call=CAUSAL),
    "exp-causal": kernel("exp", call=CAUSAL),
    "rfa-gate": kernel("rfa", call=CAUSAL, use_gate=True),
}
