r"""Text from a language model: tokens are chosen one by one, each from the logits that follow the tokens before it.

Paper
    Fan et al. (2018), "Hierarchical Neural Story Generation", section 5.4, for top-k. https://arxiv.org/abs/1805.04833
    Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration", section 3.1, for top-p.
    https://arxiv.org/abs/1904.09751

Equations
    (7)  greedy: x_{t+1} = argmax_i z_i,   z being the logits after x_0 … x_t
    (8)  p_i = exp(z_i / T) / Σ_j exp(z_j / T),   the sum being over the k tokens with the largest z
         nucleus: the fewest of the most probable tokens with Σ p_i ≥ p
    (9)  x_{t+1} is the first token of the nucleus for which Σ p up to and with itself exceeds u Σ p,   u uniform in [0, 1)
    (10) the text ends after `length` new tokens, or with the end token

Axes
    n vocabulary

Differs from the paper
    - (9) names the draw: with u as an argument, the layer draws the same tokens. Tokens are in the order of their ids, or, with
      top-k or top-p, of their probabilities, equal ones in the order of their ids.
    - Top-k and top-p may be combined: the nucleus is then that of the k tokens.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


def next_token(
    z: Float[Array, " n"], u: float = 0.0, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None
) -> int:
    """Equation (7) if `temperature` is 0, otherwise (8) and (9)."""
    if temperature == 0:
        return int(np.argmax(z))
    order = np.arange(len(z)) if top_k is None and top_p is None else np.argsort(-z, kind="stable")
    order = order[:top_k]
    p = np.exp((z[order] - z.max()) / temperature)
    p /= p.sum()
    kept = len(p)
    if top_p is not None:
        kept = next(count for count in range(1, len(p) + 1) if count == len(p) or p[:count].sum() >= top_p)
    bound, sum_so_far = u * p[:kept].sum(), 0.0
    for i in range(kept):
        sum_so_far += p[i]
        if sum_so_far > bound:
            return int(order[i])
    return int(order[:kept][p[:kept] > 0][-1])  # rounding


def generate(
    logits_after: Callable[[list[int]], Float[Array, " n"]],
    prompt: list[int],
    length: int,
    u: Float[Array, " _"] | None = None,
    end: int | None = None,
    **choice,
) -> list[int]:
    """Equation (10): `prompt` and its continuation. Every token reads the whole text again: no cache.

    Args:
        logits_after: Gives z for the tokens so far.
        prompt: The first tokens.
        length: The most tokens to add.
        u: A number for each new token, for (9).
        end: The id after which nothing follows.
        **choice: `temperature`, `top_k` and `top_p` of `next_token`.
    """
    text = list(prompt)
    for i in range(length):
        text.append(next_token(logits_after(text), 0.0 if u is None else float(u[i]), **choice))
        if text[-1] == end:
            break
    return text
