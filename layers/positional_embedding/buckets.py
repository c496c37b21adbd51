"""Ranges of distances between a query and a key, which grow with the distance (Keras 3)."""

import numpy as np
from keras import ops

from layers.common.ids import wide_enough
from layers.common.positions import value_of


def buckets_between(t, s, offset, buckets, most, both_ways):
    """The bucket of each of `t` queries, the first at position `offset`, and each of `s` keys, `(t, s)`."""
    # If both lengths and the offset are known, the buckets are constants in the graph.
    xp = np if all(isinstance(size, int) for size in (t, s, value_of(offset))) else ops
    first = value_of(offset) if xp is np else far_at_most(offset)
    return relative_buckets(xp.arange(s)[None, :] - xp.arange(t)[:, None] - first, buckets, most, both_ways, xp)


def relative_buckets(n, buckets, most, both_ways, xp=ops):
    """Equation (6) of `reference/positional_embedding.py`: integers below `buckets`, of the shape of `n`.

    A bucket is the number of ranges that begin at or before the distance. This needs no logarithm, whose rounding could choose
    the wrong bucket.

    Args:
        n: Integers, a key's position less a query's; an array of `xp`.
        buckets, most, both_ways: As in `check_buckets`, which says what they must satisfy.
    """
    if not both_ways:
        return places(xp.maximum(-n, 0), first_distances(buckets, most), xp)
    ahead = xp.where(n > 0, buckets // 2, 0)
    return ahead + places(xp.abs(n), first_distances(buckets // 2, most), xp)


def far_at_most(offset):
    """`offset` as int32, at most a distance so large that it shares its bucket with all larger ones, so that none overflows."""
    offset = wide_enough(ops.convert_to_tensor(offset))
    return ops.cast(ops.clip(offset, -(2**30), 2**30), "int32")


def places(n, firsts, xp=ops):
    """For each distance in `n`, the number of `firsts` that are at most that distance."""
    return sum(xp.where(n >= int(first), 1, 0) for first in firsts)


def first_distances(r, most):
    """The first distance of each bucket after bucket 0: 1, 2, …, e = ⌊r/2⌋, then those of ranges that grow geometrically.

    Computed in integers: range k begins with the first n for which (n/e)^{r−e} ≥ (most/e)^k.
    """
    e = r // 2
    firsts = list(range(1, e + 1))
    for k in range(1, r - e):
        n = int(e * (most / e) ** (k / (r - e)))  # rounding may leave it one off; the next line corrects it
        n = next(n for n in range(max(n - 1, e), most + 1) if n ** (r - e) * e**k >= most**k * e ** (r - e))
        firsts.append(n)
    return np.array(firsts)


def check_buckets(buckets, most, both_ways):
    """Raise a ValueError unless the arguments give valid ranges, naming the arguments as `RelativePositionBias` does."""
    least = 4 if both_ways else 2
    if not isinstance(buckets, int) or isinstance(buckets, bool) or buckets < least or (both_ways and buckets % 2):
        kind = "an even integer of at least 4, half for each direction" if both_ways else "an integer of at least 2"
        raise ValueError(f"relative_attention_num_buckets must be {kind}. Received: relative_attention_num_buckets={buckets!r}")
    exact = buckets // least
    if not isinstance(most, int) or isinstance(most, bool) or most <= exact:
        raise ValueError(
            f"relative_attention_max_distance must be an integer above {exact}, the first distance that may share a bucket. "
            f"Received: relative_attention_max_distance={most!r}"
        )
