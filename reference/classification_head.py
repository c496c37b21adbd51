r"""A classifier of sequences: the vector of one token, a pooler, and a score for each class.

Paper
    Devlin et al. (2018), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", sections 3 and 4.1.
    https://arxiv.org/abs/1810.04805

Equations
    (1)  C = φ(x_CLS W_p + b_p)            φ = tanh
    (2)  logits = C W + b
    (3)  P(class) = softmax(logits)

Axes
    b batch    t position    m model    f pooler    c class

Differs from the paper
    - In the paper's text C is the last hidden vector of [CLS] itself. The pooler (1) is in the authors' code, where it is trained
      with the next-sentence task; without a pooler, C = x_CLS.
    - W is (m, c), the transpose of the paper's, and has a bias, as in the authors' code.
    - The token is an argument: the first in BERT, the last in XLNet.
    - (3) is part of the loss and is not computed here.

Layer: layers/classification_head.py    Notebook: notebooks/classification_head.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from reference.common.projection import Projection, dense


class ClassificationHeadWeights(NamedTuple):
    """Named as in the layer: W_p and b_p, if there is a pooler, then W and b."""

    pooler_dense: Projection | None
    logits: Projection


def classify_one(x: Float[Array, " m"], weights: ClassificationHeadWeights, phi: Callable = np.tanh) -> Float[Array, " c"]:
    """Equations (1) and (2) for the vector of one token: the definition everything else must match."""
    pooled = x
    if weights.pooler_dense is not None:
        kernel, bias = weights.pooler_dense
        pooled = phi(np.array([column @ x + b for column, b in zip(kernel.T, bias)]))
    kernel, bias = weights.logits
    return np.array([column @ pooled + b for column, b in zip(kernel.T, bias)])


def classification_head(
    features: Float[Array, "b *t m"], weights: ClassificationHeadWeights, cls_token_idx: int = 0, phi: Callable = np.tanh
) -> tuple[Float[Array, "b c"], Float[Array, "b _"]]:
    """Equations (1) and (2) for every sequence.

    Args:
        features: Sequences `(b, t, m)`, or one vector for each, `(b, m)`.
        weights: Without a `pooler_dense`, (1) is left out.
        cls_token_idx: The position whose vector is classified; a negative one counts from the end.
        phi: The activation φ.

    Returns:
        The logits, and what they are made from: C.

    Raises:
        IndexError: for a position outside the sequence.
    """
    pooled = features[:, cls_token_idx] if features.ndim == 3 else features
    if weights.pooler_dense is not None:
        pooled = phi(dense(pooled, weights.pooler_dense))
    return dense(pooled, weights.logits), pooled
