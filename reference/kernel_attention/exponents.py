r"""Exponential features for exponents of any size: which factors may be taken out of them, and which may not.

Paper
    Choromanski et al. (2021), "Rethinking Attention with Performers", section 2.3 and, for causal sums, appendix B.1.
    https://arxiv.org/abs/2009.14794

Equations
    (1)  κ(q_t, k_s) = Σ_r e^{a_tr + b_sr},   for "exp" a = W q,  b = W k − ‖k‖²/2
    (2)  y_t = Σ_s w_ts κ(q_t, k_s) v_s / Σ_s w_ts κ(q_t, k_s) does not change when a constant is added to a row t of a, or when
         a feature's peak p_r is moved from b to a; but whether it survives in floating point does change
    (3)  with p_tr = max of b_sr over the keys s that query t sees, and c_t = max over r of a_tr + p_tr, the largest term of the
         sum Σ_sr e^{a_tr + p_tr − c_t} e^{b_sr − p_tr} is 1
    (4)  one token at a time, g a gate or 1:   p_t = max(p_{t−1} + log g_t, b_t),
         S_t = e^{p_{t−1} + log g_t − p_t} S_{t−1} + (1 − g_t or 1) e^{b_t − p_t} v_tᵀ
    (5)  by halves: every query of the later half sees every key of the earlier half, so these keys share one peak

Axes
    b batch    t query position    s key position    h head    e value size    r random feature

Differs from the paper
    - Its code subtracts one number for all keys of a (batch, head), including later ones. If a later key is much larger than the
      keys that a causal query sees, the sums of that query underflow to 0.

Layer: layers/kernel_attention/exponential_sums.py    Notebook: notebooks/kernel_attention.ipynb
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array


def attend_one(a: Float[Array, " r"], b: Float[Array, "s r"], v: Float[Array, "s e"]) -> Float[Array, " e"]:
    """Equations (1) and (2) for one query and the keys that it sees, in logarithms: the definition everything else must match."""
    log_kernel = np.logaddexp.reduce(a + b, axis=-1)
    return np.exp(log_kernel - np.logaddexp.reduce(log_kernel)) @ v


def stabilized(
    a: Float[Array, "b t h r"], b: Float[Array, "b s h r"], mask: Bool[Array, "b s"]
) -> tuple[Float[Array, "b t h r"], Float[Array, "b s h r"]]:
    """Equation (3) where every query sees every key that the mask allows: features for `factored`."""
    b = np.where(mask[:, :, None, None], b, -np.inf)
    peak = b.max(axis=1, keepdims=True)
    return np.exp(a + peak - (a + peak).max(axis=-1, keepdims=True)), np.exp(b - peak)


def recurrent(
    a: Float[Array, "b t h r"],
    b: Float[Array, "b t h r"],
    v: Float[Array, "b t h e"],
    gate: Float[Array, "b t h"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h r e"], Float[Array, "b h r"], Float[Array, "b h r"]]:
    """Equation (4), causal. Returns outputs and, after the last token, S, the sum z of its features alone, and the peak p."""
    state, z, peak, outputs = np.zeros((*b[:, 0].shape, v.shape[-1])), np.zeros_like(b[:, 0]), np.full_like(b[:, 0], -np.inf), []
    for i in range(b.shape[1]):
        keep, take = (0.0, 1.0) if gate is None else (np.log(gate[:, i])[..., None], 1 - gate[:, i][..., None])
        before, peak = peak, np.maximum(peak + keep, b[:, i])
        kept, phi = np.exp(before + keep - peak), take * np.exp(b[:, i] - peak)
        state, z = kept[..., None] * state + np.einsum("bhr,bhe->bhre", phi, v[:, i]), kept * z + phi
        phi_q = np.exp(a[:, i] + peak - (a[:, i] + peak).max(axis=-1, keepdims=True))
        outputs.append(np.einsum("bhr,bhre->bhe", phi_q, state) / np.einsum("bhr,bhr->bh", phi_q, z)[..., None])
    return np.stack(outputs, axis=1), state, z, peak


def reading(
    a: Float[Array, "t r"], b: Float[Array, "s r"], u: Float[Array, "s e"]
) -> tuple[Float[Array, "t e"], Float[Array, "t 1"]]:
    """e^{−c_t} Σ_s κ(q_t, k_s) u_s and c_t, for queries of one head that see every key: equation (3)."""
    peak = b.max(axis=0)
    top = (a + peak).max(axis=-1, keepdims=True)
    return np.exp(a + peak - top) @ (np.exp(b - peak).T @ u), top


def causal_by_halves(
    a: Float[Array, "t r"], b: Float[Array, "t r"], u: Float[Array, "t e"]
) -> tuple[Float[Array, "t e"], Float[Array, "t 1"]]:
    """Equation (5), for one head: the reading of each query from the keys up to its own. A column of ones in `u` gives the
    denominators."""
    if len(a) == 1:
        return reading(a, b, u)
    half = len(a) // 2
    (first, first_top), (own, own_top) = (causal_by_halves(a[i], b[i], u[i]) for i in (slice(half), slice(half, None)))
    earlier, earlier_top = reading(a[half:], b[:half], u[:half])
    top = np.maximum(own_top, earlier_top)
    second = own * np.exp(own_top - top) + earlier * np.exp(earlier_top - top)
    return np.concatenate([first, second]), np.concatenate([first_top, top])
