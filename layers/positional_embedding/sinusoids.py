"""The two conventions for sines and cosines of positions."""

from keras import ops

from layers.common.checks import check_number
from layers.common.sinusoids import sines_and_cosines, timescales

CONVENTIONS = ("interleaved", "concatenated")


def sinusoid(length, m, least, most, convention, dtype, offset=0):
    """Equation (2) or (3) of `reference/positional_embedding.py`, `(length, m)`; arguments as in `RelativePositionEmbedding`."""
    pairs = m // 2
    if convention == "interleaved":
        waves = sines_and_cosines(length, 1 / timescales((m + 1) // 2, m / 2, least, most), dtype, offset)
        return ops.reshape(ops.stack(waves, axis=-1), (length, m + m % 2))[:, :m]
    waves = sines_and_cosines(length, 1 / timescales(pairs, max(pairs - 1, 1), least, most), dtype, offset)
    return ops.pad(ops.concatenate(waves, axis=-1), [(0, 0), (0, m % 2)])


def check_sinusoid(least, most, convention):
    """Raise a ValueError unless 0 < `least` ≤ `most` < ∞ and the convention is known."""
    expected = "above 0 and at most max_timescale, which must be finite"
    check_number(expected, lambda scale: 0 < scale, min_timescale=least)
    check_number("a finite number of at least min_timescale", max_timescale=most)
    if least > most:
        raise ValueError(f"min_timescale must be {expected}. Received: min_timescale={least}, max_timescale={most}")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}. Received: convention={convention!r}")
