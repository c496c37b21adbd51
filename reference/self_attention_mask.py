r"""Which keys a query may attend to.

Paper
    Vaswani et al. (2017), "Attention Is All You Need", section 3.2.3 (a position must not see later ones).
    https://arxiv.org/abs/1706.03762
    Krell et al. (2021), "Efficient Sequence Packing without Cross-contamination" (texts packed into one row must not see
    each other). https://arxiv.org/abs/2107.02027

Equations
    (1)  self-attention   M[b, t, s] = 1 where token s of example b is a token, 0 where it is padding
    (2)  causal           M[t, s] = 1 where s ≤ t
    (3)  padding          M[b, s] = 1 where s < length of example b
    (4)  segment          M[b, t, s] = 1 where tokens t and s belong to the same segment

Axes
    b batch    t query position    s key position

Differs from the paper
    - Vaswani et al. set the scores of forbidden keys to −∞. Here a mask only says which keys these are; how it changes the
      softmax is in `reference/masked_softmax.py`.
    - In the papers, t and s of a causal mask run over the same tokens. Here both lengths are arguments, and both count from 0.

Layer: layers/self_attention_mask.py    Notebook: notebooks/self_attention_mask.ipynb
"""

import numpy as np
from jaxtyping import Bool, Int, Shaped
from numpy import ndarray as Array


def may_attend(to_mask: Shaped[Array, "b s"], b: int, t: int, s: int) -> bool:
    """Equation (1) for one query and one key: only the key matters, so a padded query attends like any other."""
    return bool(to_mask[b, s] != 0)


def self_attention_mask(t: int, to_mask: Shaped[Array, "b s"]) -> Bool[Array, "b t s"]:
    """Equation (1) for `t` queries: every one may attend to every key whose `to_mask` is not zero."""
    return np.repeat(to_mask[:, None, :] != 0, t, axis=1)


def causal_mask(t: int, s: int) -> Bool[Array, "t s"]:
    """Equation (2): no query may attend to a later key."""
    return np.arange(s)[None, :] <= np.arange(t)[:, None]


def padding_mask(lengths: Int[Array, " b"], s: int) -> Bool[Array, "b s"]:
    """Equation (3): the first `lengths[b]` of `s` keys are tokens.

    Raises:
        ValueError: if a length is negative or above `s`.
    """
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= s:
        raise ValueError(f"lengths must be between 0 and s={s}. Received: lengths={lengths.tolist()}")
    return np.arange(s)[None, :] < lengths[:, None]


def segment_mask(from_ids: Int[Array, "b t"], to_ids: Int[Array, "b s"]) -> Bool[Array, "b t s"]:
    """Equation (4): a query may attend to the keys of its own segment."""
    return from_ids[:, :, None] == to_ids[:, None, :]
