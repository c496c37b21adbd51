r"""Kernel attention: features whose product replaces the exponential of the softmax, so that keys can be summed before queries.

Paper
    Katharopoulos et al. (2020), "Transformers are RNNs", sections 3.2 to 3.4.
    https://arxiv.org/abs/2006.16236
    Choromanski et al. (2021), "Rethinking Attention with Performers", sections 2.2 and 2.3. https://arxiv.org/abs/2009.14794
    Peng et al. (2021), "Random Feature Attention", sections 3.1 and 3.2. https://arxiv.org/abs/2103.02143

Equations
    (1)  y_t = Σ_s p_ts v_s,   p_ts = w_ts κ(q_t, k_s) / Σ_j w_tj κ(q_t, k_j)
    (2)  κ(q, k) = φ(q)·φ(k), or the kernel that φ estimates; features and kernels: `reference/kernel_attention/features.py`
    (3)  y_t = φ(q_t)ᵀ S_t / φ(q_t)·z_t,   S_t = Σ_s w_ts φ(k_s) v_sᵀ,   z_t = Σ_s w_ts φ(k_s)
    (4)  causal, one token at a time:   S_t = S_{t−1} + φ(k_t) v_tᵀ,   z_t = z_{t−1} + φ(k_t)
    (5)  with a gate:   S_t = g_t S_{t−1} + (1 − g_t) φ(k_t) v_tᵀ,   z_t likewise,   g_t = sigmoid(x_t W + b)
    (6)  w_ts of a window:   λ^n where key s lies n chunks before query t, 0 ≤ n < window; else 0

Axes
    b batch    t query position    s key position    h head    m model    d key size    e value size    r random feature

Differs from the paper
    - Masked keys have w_ts = 0, and a gate there is 1. A query with no key gets zeros.
    - With sines and cosines, the estimate of a kernel may be below the minimum of the exact kernel, even below 0. The denominator
      of (1) is therefore at least its value for the minimal kernel at every key, so that no output exceeds e^{2/σ²} times every
      value. RFA's paper leaves this open; its code takes at least 1.
    - (6) is the Model Garden's. Inside a chunk it looks in both directions.
    - Exponentials are computed directly. For large exponents see `reference/kernel_attention/exponents.py`.
    - A scale times log₅₁₂ of the number of keys is the Model Garden's.

Layer: layers/kernel_attention/    Notebook: notebooks/kernel_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.common.activations import sigmoid
from reference.common.projection import Projection, dense, into_heads, out_of_heads
from reference.kernel_attention import features
from reference.kernel_attention.structure import gate_structure, window_weight


class KernelAttentionWeights(NamedTuple):
    """Named as in the layer: the weights of attention, and those of the transform. The gate's kernel is (m, h), its bias (h)."""

    query: Projection
    key: Projection
    value: Projection
    attention_output: Projection
    projection: Float[Array, "r d"] | None = None
    gate: Projection | None = None
    inverse_bandwidth: Float[Array, "h d"] | None = None


def attend_one(
    phi_q: Float[Array, " r"], phi_k: Float[Array, "s r"], v: Float[Array, "s e"], w: Float[Array, " s"]
) -> Float[Array, " e"]:
    """Equations (1) and (2) for one query of one head: the definition everything else must match."""
    kernel = np.array([w_s * (phi_q @ phi_s) for w_s, phi_s in zip(w, phi_k)])
    return sum(p_s * v_s for p_s, v_s in zip(kernel / sum(kernel), v))


def attend(
    kernel: Float[Array, "b h t s"],
    v: Float[Array, "b s h e"],
    w: Float[Array, "#b #h #t s"],
    least: Float[Array, "#h 1 1"] | float = 0.0,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h t s"]]:
    """Equation (1) from the kernel of every pair. Returns the outputs and the weights p.

    Args:
        kernel, v: κ(q_t, k_s), and the values.
        w: The weight of a key for a query, in addition to the kernel; 0 where the key is masked.
        least: The minimum of the exact kernel, if an estimate may be below it.
    """
    total = np.sum(w * kernel, axis=-1, keepdims=True)
    if np.any(least):
        total = np.maximum(total, least * np.sum(w, axis=-1, keepdims=True))
    p = np.divide(w * kernel, total, out=np.zeros_like(kernel), where=total != 0)
    return np.einsum("bhts,bshe->bthe", p, v), p


def kernel_of(phi_q: Float[Array, "b t h r"], phi_k: Float[Array, "b s h r"]) -> Float[Array, "b h t s"]:
    """Equation (2), the kernel matrix of features."""
    return np.einsum("bthr,bshr->bhts", phi_q, phi_k)


def factored(
    phi_q: Float[Array, "b t h r"], phi_k: Float[Array, "b s h r"], v: Float[Array, "b s h e"]
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h r e"], Float[Array, "b h r"]]:
    """Equation (3) where every query sees every key: nothing is as large as t times s. Returns outputs, S and z."""
    state, z = np.einsum("bshr,bshe->bhre", phi_k, v), phi_k.sum(axis=1)
    return np.einsum("bthr,bhre->bthe", phi_q, state) / np.einsum("bthr,bhr->bth", phi_q, z)[..., None], state, z


def recurrent(
    phi_q: Float[Array, "b t h r"],
    phi_k: Float[Array, "b t h r"],
    v: Float[Array, "b t h e"],
    gate: Float[Array, "b t h"] | None = None,
    state: Float[Array, "b h r e"] | None = None,
    z: Float[Array, "b h r"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h r e"], Float[Array, "b h r"]]:
    """Equation (4), or (5) with a gate: attention as a recurrent network. Returns outputs and the last S and z.

    Args:
        phi_q, phi_k, v, gate: Of the tokens, in their order.
        state, z: S and z after earlier tokens, if there were any.
    """
    b, t, h, r = phi_k.shape
    state = np.zeros((b, h, r, v.shape[-1])) if state is None else state
    z, outputs = np.zeros((b, h, r)) if z is None else z, []
    for i in range(t):
        keep, take = (np.ones((b, h)), np.ones((b, h))) if gate is None else (gate[:, i], 1 - gate[:, i])
        phi = take[..., None] * phi_k[:, i]
        state = keep[..., None, None] * state + np.einsum("bhr,bhe->bhre", phi, v[:, i])
        z = keep[..., None] * z + phi
        outputs.append(np.einsum("bhr,bhre->bhe", phi_q[:, i], state) / np.einsum("bhr,bhr->bh", phi_q[:, i], z)[..., None])
    return np.stack(outputs, axis=1), state, z


def windowed_by_loops(
    phi_q: Float[Array, "b t h r"],
    phi_k: Float[Array, "b t h r"],
    v: Float[Array, "b t h e"],
    size: int,
    window: int,
    decay: float = 1.0,
) -> Float[Array, "b t h e"]:
    """Equations (1) and (6), query by query and key by key."""
    output = np.zeros_like(v)
    for b, t, h in np.ndindex(v.shape[:3]):
        w = np.array([window_weight(t, s, size, window, decay) for s in range(v.shape[1])])
        output[b, t, h] = attend_one(phi_q[b, t, h], phi_k[b, :, h], v[b, :, h], w)
    return output


def windowed(
    phi_q: Float[Array, "b t h r"],
    phi_k: Float[Array, "b t h r"],
    v: Float[Array, "b t h e"],
    size: int,
    window: int,
    decay: float = 1.0,
) -> Float[Array, "b t h e"]:
    """Equations (3) and (6): sums for each chunk, added up over the window. No sum is taken away again, so nothing cancels."""
    chunks = [slice(i, i + size) for i in range(0, v.shape[1], size)]
    states = [np.einsum("bshr,bshe->bhre", phi_k[:, c], v[:, c]) for c in chunks]
    zs = [phi_k[:, c].sum(axis=1) for c in chunks]
    outputs = []
    for i, c in enumerate(chunks):
        seen = range(max(0, i - window + 1), i + 1)
        state, z = (sum(decay ** (i - j) * sums[j] for j in seen) for sums in (states, zs))
        outputs.append(np.einsum("bthr,bhre->bthe", phi_q[:, c], state) / np.einsum("bthr,bhr->bth", phi_q[:, c], z)[..., None])
    return np.concatenate(outputs, axis=1)


def features_of(
    transform: str,
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    projection: Float[Array, "r d"] | None,
    mask: Bool[Array, "b s"],
) -> tuple[Float[Array, "b t h _"], Float[Array, "b s h _"]]:
    """φ of scaled queries and keys. With as many queries as keys, the mask says which queries count in the mean of "expplus"."""
    if transform in features.GENERALIZED:
        return features.generalized_features(q, transform, projection), features.generalized_features(k, transform, projection)
    if transform == "expplus":
        queries = mask if q.shape[1] == k.shape[1] else np.ones(q.shape[:2], bool)
        a = features.favor_plus_plus_a(features.mean_square_of_sums(q, k, queries, mask), q.shape[-1])
        return features.favor_plus_plus_features(q, projection, a), features.favor_plus_plus_features(k, projection, a)
    phi = {
        "exp": features.positive_features,
        "expmod": lambda x, projection: np.exp(features.project(x, projection)) / np.sqrt(len(projection)),
        "rfa": features.fourier_features,
    }[transform]
    return phi(q, projection), phi(k, projection)


def exact_kernel(transform: str, q: Float[Array, "b t h d"], k: Float[Array, "b s h d"]) -> Float[Array, "b h t s"]:
    """The kernel that the random features of `transform` estimate."""
    if transform == "expmod":  # without its ‖x‖²/2 it estimates e^{q·k} times e^{‖q‖²/2 + ‖k‖²/2}
        kernel = np.exp(features.square_of_sums(q, k) / 2)
    elif transform == "rfa":
        kernel = np.exp(-features.square_of_sums(q, -k) / 2)  # ‖q − k‖²
    else:
        kernel = np.exp(np.einsum("bthd,bshd->btsh", q, k))
    return np.moveaxis(kernel, -1, 1)


def kernel_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: KernelAttentionWeights,
    transform: str = "exp",
    key: Float[Array, "b s _"] | None = None,
    mask: Bool[Array, "b s"] | None = None,
    structure: Float[Array, "t s"] | None = None,
    scale: float | None = None,
    scale_by_length: bool = False,
    exact: bool = False,
    begin: int = 0,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"]]:
    """The complete layer by equation (1), pair by pair. Returns the output and the weights p.

    Args:
        query, value, weights, key: As for `multi_head_attention`. With a gate in `weights`, equation (5).
        transform: "elu", "relu", "square", "identity", "exp", "expmod", "expplus" or "rfa".
        mask: Which keys exist.
        structure: The w of (1) in addition to mask and gate: a causal mask, or `window_structure`.
        scale: The scale of q·k, by default 1/√d, or 1 for "elu". For "rfa", which compares directions, 1/σ², by default 1.
        scale_by_length: Whether the scale is multiplied by log₅₁₂ of the number of keys.
        exact: Whether to use the exact kernel in place of its estimate by random features.
        begin: The number of first queries that get softmax attention.
    """
    source = value if key is None else key
    q, k, v = into_heads(query, weights.query), into_heads(source, weights.key), into_heads(value, weights.value)
    mask = np.ones(value.shape[:2], bool) if mask is None else mask
    w = mask[:, None, None] * (1.0 if structure is None else structure)
    if weights.gate is not None:
        w = w * gate_structure(sigmoid(dense(source, weights.gate)), mask)
    if scale_by_length:
        q = q * (np.log(np.maximum(mask.sum(axis=1), 1)) / np.log(512))[:, None, None, None]

    least = 0.0
    if transform == "rfa":
        inverse = np.full((1, 1), np.sqrt(scale or 1.0)) if weights.inverse_bandwidth is None else weights.inverse_bandwidth
        x, y = (inverse * side / np.linalg.norm(side, axis=-1, keepdims=True) for side in (q, k))
        least = np.exp(-2 * np.max(inverse**2, axis=-1))[:, None, None]  # two opposite directions
    else:
        root = np.sqrt(scale or (1.0 if transform == "elu" else q.shape[-1] ** -0.5))
        x, y = root * q, root * k
    if exact and transform not in features.GENERALIZED:
        kernel = exact_kernel(transform, x, y)
    else:
        kernel = kernel_of(*features_of(transform, x, y, weights.projection, mask))
    heads, p = attend(kernel, v, np.broadcast_to(w, (*w.shape[:2], *kernel.shape[2:])), least)
    if begin:
        scale = q.shape[-1] ** -0.5 if scale is None or transform == "rfa" else scale
        first, p_first = attend(exact_kernel("exp", scale * q, k), v, np.broadcast_to(w, (*w.shape[:2], *kernel.shape[2:])))
        heads[:, :begin], p[:, :, :begin] = first[:, :begin], p_first[:, :, :begin]
    return out_of_heads(heads, weights.attention_output), p
