r"""The position of a token: as a learned row, as a row of sines and cosines, or as a bias for each distance.

Paper
    Devlin et al. (2018), "BERT", section 3: a learned row for each position. https://arxiv.org/abs/1810.04805
    Vaswani et al. (2017), "Attention Is All You Need", section 3.5: sines and cosines. https://arxiv.org/abs/1706.03762
    Raffel et al. (2019), "Exploring the Limits of Transfer Learning" (T5), section 2.1: a bias for each range of distances.
    https://arxiv.org/abs/1910.10683

Equations
    (1)  y_t = P_t
    (2)  y_{t,2i} = sin(ω_i t),  y_{t,2i+1} = cos(ω_i t),   1/ω_i = c_min (c_max / c_min)^{2i/m}   interleaved, the paper's
    (3)  y_t = [sin(ω_0 t), …, sin(ω_{k−1} t), cos(ω_0 t), …, cos(ω_{k−1} t)],   k = ⌊m/2⌋         concatenated
         1/ω_i = c_min (c_max / c_min)^{i/(k−1)}
    (4)  (sin ω(t+s), cos ω(t+s)) = R(ωs) (sin ωt, cos ωt),   R a rotation: a shift is a linear map, the same for every t
    (5)  bias_{h,t,s} = B_{bucket(s − t), h}
    (6)  bucket(n) = [n > 0] r + place(|n|)      bidirectional, with r = buckets / 2
         bucket(n) = place(max(−n, 0))           backward only, with r = buckets
         place(n) = n, if n < e = ⌊r/2⌋;   else min(r − 1, e + ⌊(r − e) log(n/e) / log(N/e)⌋)

Axes
    b batch    t query position    s key position    h head    m model    l relative position

Differs from the paper
    - Vaswani et al. print (2) with c_min = 1 and c_max = 10000. Their code, Tensor2Tensor, has (3), with a different
      order of columns and different wavelengths: the last one is 2π c_max, where (2) stops one step earlier. XLNet's code has the
      wavelengths of (2) in the columns of (3); this is `relative_position_encoding` of `reference/relative_attention.py`.
    - If m is odd, the last sine of (2) has no cosine, and the last column of (3) is zero. With k = 1, (3) has one wavelength,
      2π c_min.
    - Raffel et al. say "logarithmically up to an offset of 128" and leave (6) to their code. In that code the last range
      starts at 91, not at 128, and only 31 of 32 buckets are used: bucket 16 would need a distance of 0 that is above 0.

Layer: layers/positional_embedding/    Notebook: notebooks/positional_embedding.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array


class PositionalEmbeddingWeights(NamedTuple):
    """P of equation (1)."""

    embeddings: Float[Array, "t m"]


class RelativePositionBiasWeights(NamedTuple):
    """B of equation (5), a row for each bucket of distances."""

    embeddings: Float[Array, "l h"]


def learned(x: Float[Array, "..."], table: Float[Array, "t m"], axis: int = 1, offset: int = 0) -> Float[Array, "..."]:
    """Equation (1): the row of each position along `axis`, repeated for every example to the shape of `x`.

    Raises:
        ValueError: if the positions, the first of which is `offset`, are not all rows of the table.
    """
    count = x.shape[axis]
    if not 0 <= offset <= len(table) - count:
        raise ValueError(f"offset must be from 0 to {len(table)} - {count}. Received: offset={offset}")
    y = np.zeros(x.shape)
    for t in range(count):
        np.moveaxis(y, axis, 0)[t] = table[offset + t]
    return y


def wave(t: int, omega: float) -> tuple[float, float]:
    """Sine and cosine of one position at one frequency."""
    return np.sin(omega * t), np.cos(omega * t)


def frequencies(count: int, steps: float, least: float = 1.0, most: float = 1e4) -> Float[Array, " _"]:
    """ω_i for i < count. The timescales 1/ω_i grow geometrically from `least` and reach `most` after `steps` steps."""
    return 1 / (least * (most / least) ** (np.arange(count) / steps))


def interleaved(positions: Int[Array, " t"], m: int, least: float = 1.0, most: float = 1e4) -> Float[Array, "t m"]:
    """Equation (2)."""
    angles = np.outer(positions, frequencies((m + 1) // 2, m / 2, least, most))
    y = np.zeros((len(positions), m))
    y[:, 0::2], y[:, 1::2] = np.sin(angles), np.cos(angles[:, : m // 2])
    return y


def concatenated(positions: Int[Array, " t"], m: int, least: float = 1.0, most: float = 1e4) -> Float[Array, "t m"]:
    """Equation (3)."""
    y = sines_then_cosines(positions, frequencies(m // 2, max(m // 2 - 1.0, 1.0), least, most))
    return np.pad(y, [(0, 0), (0, m % 2)])


def sines_then_cosines(positions: Int[Array, " t"], omega: Float[Array, " _"]) -> Float[Array, "t _"]:
    """The columns of (3) for arbitrary frequencies."""
    angles = np.outer(positions, omega)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def rotation(k: int, m: int, least: float = 1.0, most: float = 1e4) -> Float[Array, "m m"]:
    """Equation (4): the matrix R with `interleaved(t + k) = R interleaved(t)` for every t. m must be even."""
    matrix = np.zeros((m, m))
    for i, omega in enumerate(frequencies(m // 2, m / 2, least, most)):
        sin, cos = wave(k, omega)
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cos, sin], [-sin, cos]]
    return matrix


def bucket(n: int, buckets: int = 32, most: int = 128, both_ways: bool = True) -> int:
    """Equation (6) for one distance n = key position − query position."""
    if both_ways:
        return (buckets // 2 if n > 0 else 0) + place(abs(n), buckets // 2, most)
    return place(max(-n, 0), buckets, most)


def place(n: int, r: int, most: int) -> int:
    """place(n) of equation (6), exactly.

    The logarithm has reached k steps when (n/e)^{r−e} ≥ (most/e)^k, which integers can tell without rounding: at n = 16, 32, 64
    the ratio of logarithms is an integer, and floating-point numbers may come out just below it.
    """
    e = r // 2
    if n < e:
        return n
    k = 0
    while k < r - e - 1 and n ** (r - e) * e ** (k + 1) >= most ** (k + 1) * e ** (r - e):
        k += 1
    return e + k


def relative_position_bias(
    t: int, s: int, table: Float[Array, "l h"], most: int = 128, both_ways: bool = True, offset: int = 0
) -> Float[Array, "1 h t s"]:
    """Equation (5) for every query and key. The first query is at position `offset`, the first key at 0."""
    bias = np.zeros((1, table.shape[1], t, s))
    for i, j in np.ndindex(t, s):
        bias[0, :, i, j] = table[bucket(j - (offset + i), len(table), most, both_ways)]
    return bias
