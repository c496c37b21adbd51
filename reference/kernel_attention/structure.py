r"""The weight of a key for a query in addition to the kernel: equations (5) and (6) of `reference/kernel_attention/`, by pairs.

Axes
    b batch    t query position    s key position    h head
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array


def window_weight(t: int, s: int, size: int, window: int, decay: float) -> float:
    """Equation (6) for one query and one key, in chunks of `size` tokens."""
    behind = t // size - s // size
    return decay**behind if 0 <= behind < window else 0.0


def window_structure(t: int, size: int, window: int, decay: float = 1.0, left: bool = False) -> Float[Array, "t t"]:
    """Equation (6) for every pair. If `t` is not a multiple of `size`, the last chunk is shorter (with `left`, the first)."""
    before = -t % size if left else 0
    places = range(before, t + before)
    return np.array([[window_weight(i, j, size, window, decay) for j in places] for i in places])


def gate_structure(gate: Float[Array, "b s h"], mask: Bool[Array, "b s"]) -> Float[Array, "b h s s"]:
    """w_ts of equation (5), unrolled: (1 − g_s) Π_{j=s+1..t} g_j where s ≤ t, else 0. At a masked key the gate is 1."""
    b, s, h = gate.shape
    gate = np.where(mask[..., None], gate, 1.0)
    w = np.zeros((b, s, s, h))
    for j in range(s):
        w[:, j, j] = 1 - gate[:, j]
        w[:, j + 1 :, j] = w[:, j, j, None] * np.cumprod(gate[:, j + 1 :], axis=1)
    return np.moveaxis(w, -1, 1)
