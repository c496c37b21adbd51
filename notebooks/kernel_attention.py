# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Kernel attention: sum the keys first
#
# If the weight of a key is a product of something of the query and something of the key, the keys can be summed once, for all queries.
#
# Papers: [Katharopoulos et al., 2020, section 3](https://arxiv.org/abs/2006.16236), [Choromanski et al., 2021, section 2](https://arxiv.org/abs/2009.14794), [Peng et al., 2021,
# section 3](https://arxiv.org/abs/2103.02143) · NumPy: [`reference/kernel_attention/`](../reference/kernel_attention/__init__.py), [`features.py`](../reference/kernel_attention/features.py) · Layer:
# [`layers/kernel_attention/`](../layers/kernel_attention/__init__.py) · 45 minutes · You should know: [multi-head attention](attention.ipynb), means and variances

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.kernel_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments import kernel_attention as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.kernel_attention import KernelAttention
from reference import kernel_attention as ref
from reference.common.projection import into_heads
from reference.kernel_attention import exponents, features
from reference.self_attention_mask import causal_mask

figures.use_style()
rng = np.random.default_rng(0)
copy = stored("kernel_attention")["copy"]

# %% [markdown]
# ## The question
#
# Softmax attention weighs key $y_s$ for query $x_t$ with $e^{x_t \cdot y_s}$, so every query must visit every key: $n^2$ exponentials. With a product of *features*, $\phi(x_t) \cdot \phi(y_s)$, the keys could be
# summed once, before any query comes. **Can such products replace the exponential?** Here is one head of MiniLM, a small BERT, on a sentence of a novel: with its softmax, and with three kinds of features.

# %%
real = minilm.load()
weights = minilm.attention_weights(real, layer=0)
sentences = [s.replace("\n", " ").strip() for s in novel.TEXT.split(".")[200:1000] if 60 < len(s) < 140]


# %%
def heads_of(sentence):
    """Queries, keys and values of MiniLM's layer 0, `(1, t, h, d)`; queries and keys are divided by d^(1/4)."""
    embedded = minilm.embed(real, minilm.wordpieces(real, sentence))
    q, k, v = (into_heads(embedded, w) for w in weights[:3])
    return q * q.shape[-1] ** -0.25, k * k.shape[-1] ** -0.25, v


# %%
x, y, v = (part[:, :, 7:8] for part in heads_of(sentences[0]))
everyone = np.ones((1, 1, x.shape[1], x.shape[1]))
few, many = (features.draw_projection(np.random.default_rng(1), r, 32) for r in (16, 16384))
kernels = {
    "softmax": ref.exact_kernel("exp", x, y),
    "elu + 1: flat": ref.kernel_of(*(features.generalized_features(part, "elu", None) for part in (x, y))),
    "16 random features: wrong": ref.kernel_of(*(features.positive_features(part, few) for part in (x, y))),
    "16,384 of them: close": ref.kernel_of(*(features.positive_features(part, many) for part in (x, y))),
}
maps = {title: ref.attend(kernel, v, everyone)[1][0, 0] for title, kernel in kernels.items()}

# %%
figures.maps(maps.values(), maps, "weight", 0.2, size=(10.8, 2.9))
figures.show()

# %%
softmax, flat, wrong, close = maps.values()
distances = {title: np.abs(p - softmax).sum(axis=-1).mean() / 2 for title, p in maps.items()}
lines = [f"{title}: {distance:.2f}" for title, distance in distances.items()]
print("weight that lies on other keys than the softmax puts it on:", *lines, sep="\n")
assert distances["16,384 of them: close"] < min(distances["elu + 1: flat"], distances["16 random features: wrong"])

# %% [markdown]
# All four are distributions. elu + 1 is an attention of its own. Random features aim at the softmax, and the number of them decides how close they come.
#
# ## The picture

# %%
boxes = {"x": Box("query", 0, 0, "data"), "y": Box("key", 1, 0, "data"), "z": Box("value", 2, 0, "data")}
boxes |= {"q": Box("$W^Q$", 0, 1, "map"), "k": Box("$W^K$", 1, 1, "map"), "v": Box("$W^V$", 2, 1, "map")}
boxes |= {"phi_q": Box("φ", 0, 2), "phi_k": Box("φ", 1, 2)}
boxes |= {"sum": Box("$z=\\Sigma\\,\\phi(k)$", 0.9, 3.1), "state": Box("$S=\\Sigma\\,\\phi(k)\\,v^\\top$", 2, 3.1)}
boxes |= {"read": Box("$\\phi(q)^\\top S\\,/\\,\\phi(q)\\cdot z$", 0.9, 4.3, width=1.5), "o": Box("$W^O$", 0.9, 5.3, "map")}
boxes |= {"output": Box("output", 0.9, 6.2, "data")}

# %%
arrows = [("x", "q", "(b, t, m)"), ("y", "k", "(b, s, m)"), ("z", "v", "(b, s, m)"), ("q", "phi_q", "(b, t, h, d)")]
arrows += [("k", "phi_k", "(b, s, h, d)"), ("phi_q", "read", "(b, t, h, r)"), ("phi_k", "sum", "(b, s, h, r)")]
arrows += [
    ("phi_k", "state", ""),
    ("v", "state", "(b, s, h, e)"),
    ("sum", "read", "(b, h, r)"),
    ("state", "read", "(b, h, r, e)"),
]
arrows += [("read", "o", "(b, t, h, e)"), ("o", "output", "(b, t, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# No array has both a `t` and an `s`. The sums have no length at all.
#
# ## The equation
#
# $$y_t = \sum_s p_{ts}\, v_s, \qquad p_{ts} = \frac{w_{ts}\, \kappa(q_t, k_s)}{\sum_j w_{tj}\, \kappa(q_t, k_j)}, \tag{1}$$
#
# $$\kappa(q, k) = \phi(q) \cdot \phi(k), \tag{2}$$
#
# $$y_t = \frac{\phi(q_t)^\top S_t}{\phi(q_t) \cdot z_t}, \qquad S_t = \sum_s w_{ts}\, \phi(k_s)\, v_s^\top, \quad z_t = \sum_s w_{ts}\, \phi(k_s). \tag{3}$$
#
# Without a mask, $S$ and $z$ are the same for all queries. With a causal one they grow by a term per token, so the layer is a recurrent network:
#
# $$S_t = S_{t-1} + \phi(k_t)\, v_t^\top, \qquad z_t = z_{t-1} + \phi(k_t). \tag{4}$$
#
# The linear transformer takes $\phi(x) = \mathrm{elu}(x) + 1$. **Random features** draw the rows of $W$ from $\mathcal N(0, I)$, and estimate a kernel without bias:
#
# $$\text{positive (Performer):}\quad \phi(x) = \tfrac{1}{\sqrt r}\, e^{W x - \|x\|^2/2}, \qquad \mathbb E\, \phi(x) \cdot \phi(y) = e^{x \cdot y}$$
#
# $$\text{sines and cosines (RFA):}\quad \phi(x) = \tfrac{1}{\sqrt r}\, [\sin W x, \cos W x], \qquad \mathbb E\, \phi(x) \cdot \phi(y) = e^{-\|x-y\|^2/2}$$
#
# RFA gives $x$ and $y$ the same length first; then both kernels are proportional. Without that, sines and cosines times $e^{\|x\|^2/2}$ estimate $e^{x \cdot y}$ too.
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $\phi(q), \phi(k)$ | features | `phi_q`, `phi_k` | `(b, t, h, r)`, `(b, s, h, r)` |
# | $S, z$ | sums over keys | `state`, `z` | `(b, h, r, e)`, `(b, h, r)` |
# | $w_{ts}$ | mask, causality, window or gate | `w` | `(b, h, t, s)` |
# | $W$ | random directions | `projection` | `(r, d)` |
#
# ## By hand
#
# One feature, $\phi(x) = \mathrm{elu}(x) + 1$, so $\phi(0) = 1$ and $\phi(2) = 3$. The query is 0, the keys 0 and 2, the values 8 and 4: the keys weigh 1 to 3, and mix to $\tfrac14 \cdot 8 + \tfrac34 \cdot 4 = 5$. By sums: $S = 1 \cdot 8 + 3 \cdot 4 = 20$ and
# $z = 4$. A third key, 2, with value 12 only adds: $S = 56$, $z = 7$, and the output is 8.

# %%
keys, values, state, z = np.array([0.0, 2.0, 2.0]), np.array([8.0, 4.0, 12.0]), 0.0, 0.0
phi = features.generalized_features(keys, "elu", None)
lines = []
for key, feature, value in zip(keys, phi, values):
    state, z = state + feature * value, z + feature
    lines.append(f"{key:3.0f}{value:7.0f}{feature:6.0f}{state:6.0f}{z:6.0f}{state / z:6.0f}")
print("key  value  φ(k)     S     z   output of a query 0", *lines, sep="\n")
assert (state, z) == (56, 7) and np.isclose(ref.attend_one(np.ones(1), phi[:2, None], values[:2, None], np.ones(2)), 5)

# %% [markdown]
# ## In NumPy
#
# **One query.** By the definition, each key gets a weight. By sums, no key does.

# %%
phi_q, phi_k, v = rng.random(5), rng.random((7, 5)), rng.normal(size=(7, 4))
by_pairs = ref.attend_one(phi_q, phi_k, v, np.ones(7))
state, z = phi_k.T @ v, phi_k.sum(axis=0)  # the query is not in here
by_sums = phi_q @ state / (phi_q @ z)
print("by pairs", by_pairs.round(3), "\nby sums ", by_sums.round(3))
assert np.allclose(by_sums, by_pairs)

# %% [markdown]
# **All queries, heads and examples** are more letters of an einsum. This is the reference.

# %%
print(inspect.getsource(ref.factored))
phi_q, phi_k, v = rng.random((2, 7, 3, 5)), rng.random((2, 7, 3, 5)), rng.normal(size=(2, 7, 3, 4))
expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, np.ones((1, 1, 7, 7)))
assert np.allclose(ref.factored(phi_q, phi_k, v)[0], expected, rtol=1e-12)

# %% [markdown]
# **Causal.** A loop over tokens; what it carries has a fixed size. Its outputs equal those of a matrix of all pairs with its upper half set to zero.

# %%
state, z, outputs = np.zeros((2, 3, 5, 4)), np.zeros((2, 3, 5)), []
for t in range(7):
    state = state + np.einsum("bhr,bhe->bhre", phi_k[:, t], v[:, t])
    z = z + phi_k[:, t]
    outputs.append(np.einsum("bhr,bhre->bhe", phi_q[:, t], state) / np.einsum("bhr,bhr->bh", phi_q[:, t], z)[..., None])

# %%
expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, causal_mask(7, 7)[None, None].astype(float))
assert np.allclose(np.stack(outputs, axis=1), expected, rtol=1e-12)
assert np.allclose(ref.recurrent(phi_q, phi_k, v)[0], expected, rtol=1e-12)

# %% [markdown]
# **A random feature.** One row $w$ gives an estimate of $e^{x \cdot y}$ that is right on average and far off alone. More rows, averaged, come closer.

# %%
x, y = np.array([0.6, 0.2]), np.array([0.3, -0.5])
for r in (1, 10, 100, 10_000):
    estimates = [np.mean(np.exp(w @ x - x @ x / 2) * np.exp(w @ y - y @ y / 2)) for w in rng.normal(size=(20, r, 2))]
    print(f"{r:6} rows: estimates from {min(estimates):.2f} to {max(estimates):.2f}; e^(x·y) = {np.exp(x @ y):.2f}")
assert abs(np.mean(estimates) - np.exp(x @ y)) < 0.02

# %%
print(inspect.getsource(features.positive_features))
w = rng.normal(size=(9, 2))
by_hand = np.mean(np.exp(w @ x - x @ x / 2) * np.exp(w @ y - y @ y / 2))
assert np.isclose(features.positive_features(x, w) @ features.positive_features(y, w), by_hand)

# %% [markdown]
# ## What it does
#
# **How far off is a random feature?** The Performer's Lemma 2 has the mean square errors of $m$ rows in closed form, with $K = e^{x \cdot y}$:
#
# $$\text{positive:}\ \tfrac1m\, e^{\|x+y\|^2} K^2 \left(1 - e^{-\|x+y\|^2}\right), \qquad \text{sines and cosines:}\ \tfrac1{2m}\, e^{\|x+y\|^2} K^{-2} \left(1 - e^{-\|x-y\|^2}\right)^2$$
#
# We draw 20,000 projections of 16 rows, for $x$ and $y$ of length 0.7 at different angles.


# %%
def lemma_2(theta, length, m=1):
    """Mean square errors of m rows, for x and y of one length with the angle theta between them."""
    kernel, total, between = (np.exp(length**2 * c) for c in (np.cos(theta), 2 + 2 * np.cos(theta), 2 - 2 * np.cos(theta)))
    positive = total * kernel**2 * (1 - 1 / total) / m
    return {"sin and cos": total / kernel**2 * (1 - 1 / between) ** 2 / (2 * m), "positive": positive}


def estimates_of(phi, x, y, w, m):
    """Estimates of e^(x·y), each from m rows of w."""
    draws = len(w) // m
    return (phi(x, w) * phi(y, w) * draws).reshape(-1, draws, m).sum(axis=(0, 2))


# %%
kinds = {"sin and cos": features.trigonometric_features, "positive": features.positive_features}
angles, m = np.pi * np.arange(1, 8) / 8, 16
w = np.random.default_rng(1).normal(size=(20_000 * m, 2))  # only the plane of x and y matters
measured, spread = {name: [] for name in kinds}, {name: [] for name in kinds}
for theta in angles:
    x, y = 0.7 * np.array([[1, 0], [np.cos(theta), np.sin(theta)]])
    for name, phi in kinds.items():
        squares = (estimates_of(phi, x, y, w, m) - np.exp(x @ y)) ** 2
        measured[name].append(squares.mean())
        spread[name].append(squares.std() / np.sqrt(len(squares)))
worst = max(np.abs((measured[name] - lemma_2(angles, 0.7, m)[name]) / spread[name]).max() for name in kinds)
print(f"measured and by formula: {len(angles) * len(kinds)} mean squares differ by at most {worst:.1f} standard errors")
assert worst < 4

# %%
fine = np.linspace(0.02, np.pi - 0.02, 100)
grid, lengths = np.meshgrid(fine, np.linspace(0.05, 2, 100))
errors = lemma_2(grid, lengths)
ratio = np.log10(errors["sin and cos"] / errors["positive"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4))
for name, color, marker, place in zip(kinds, figures.COLORS, figures.MARKERS, (5, 1)):
    axes[0].semilogy(fine, lemma_2(fine, 0.7, m)[name], color=color, marker="none", linestyle="-")
    axes[0].semilogy(angles, measured[name], color=color, marker=marker, linestyle="none")
    axes[0].annotate(name, (angles[place], measured[name][place]), (6, 6), textcoords="offset points", color=color)
axes[0].set(xlabel="angle between x and y", ylabel="mean square error", ylim=(1e-4, 3), title="dots measured, lines by formula")
image = axes[1].pcolormesh(grid, lengths, np.clip(ratio, -4, 4), cmap="PuOr", vmin=-4, vmax=4, rasterized=True)
axes[1].contour(grid, lengths, ratio, levels=[0], colors="black")
axes[1].set(xlabel="angle between x and y", ylabel="length of x and y", title="positive features win right of the line")
axes[1].grid(False)
fig.colorbar(image, ax=axes[1], label="log₁₀ of error: sin and cos / positive", extend="both")
figures.show()

# %% [markdown]
# Positive features are better where the kernel is small. Most pairs of an attention matrix are such pairs, and with sines and cosines their errors drown the few large weights. For similar $x$ and $y$, sines and cosines are better.
#
# **Do orthogonal rows help?** The Performer makes blocks of $d$ rows orthogonal. Its Theorem 2, in the revised version, bounds the error of positive features from above:
#
# $$\mathrm{MSE}(\text{orthogonal}) \le \mathrm{MSE}(\text{independent}) - \tfrac{2(m-1)}{m(d+2)} \left(K - e^{-(\|x\|^2 + \|y\|^2)/2}\right)^2$$
#
# We measure both errors with $m = d = 8$, an angle of 60°, and five times 5,000 draws.


# %%
def error_of(phi, length, orthogonal, seed, d=8, draws=5000):
    """Mean square error of d rows."""
    rng = np.random.default_rng(seed)
    w = features.draw_projection(rng, draws * d, d) if orthogonal else rng.normal(size=(draws * d, d))
    x, y = length * np.eye(d)[0], length * (np.cos(np.pi / 3) * np.eye(d)[0] + np.sin(np.pi / 3) * np.eye(d)[1])
    return np.mean((estimates_of(phi, x, y, w, d) - np.exp(x @ y)) ** 2)


def theorem_2(length, d=8):
    """The bound on the ratio of the errors, orthogonal to independent."""
    gain = 2 * (d - 1) / (d * (d + 2)) * (np.exp(length**2 / 2) - np.exp(-(length**2))) ** 2
    return 1 - gain / lemma_2(np.pi / 3, length, d)["positive"]


# %%
sizes = (0.25, 0.5, 0.75, 1.0, 1.5)
gains = {
    name: np.array([[error_of(phi, s, True, i) / error_of(phi, s, False, 100 + i) for i in range(5)] for s in sizes])
    for name, phi in kinds.items()
}

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for shift, (name, found) in zip((-0.01, 0.01), gains.items()):
    color = figures.COLORS[list(kinds).index(name)]
    ax.plot(np.repeat(sizes, 5) + shift, found.ravel(), color=color, linestyle="none", alpha=0.6)
    ax.annotate(name, (0.3, 0.34 if name == "sin and cos" else 2), color=color)
grid_of_sizes = np.linspace(0.25, 1.5, 50)
ax.plot(grid_of_sizes, [theorem_2(s) for s in grid_of_sizes], color="black", marker="none", linestyle=":")
ax.annotate("Theorem 2 (positive)", (0.3, theorem_2(0.3)), (0, -13), textcoords="offset points", fontsize="small")
ax.axhline(1, color="black", linewidth=0.8, marker="none")
ax.set(xlabel="length of x and y", ylabel="error, orthogonal /\nindependent", yscale="log")
ax.set_title("orthogonal rows help positive features only while vectors are short")
figures.show()

# %%
for name, found in gains.items():
    print(f"{name:12}", *(f"length {s}: {low:.2f} to {high:.2f}  " for s, low, high in zip(sizes, found.min(1), found.max(1))))
assert gains["sin and cos"].max() < 1 and gains["positive"][:2].max() < 1 < gains["positive"][-1].max()

# %% [markdown]
# At this angle, orthogonal rows cut the error of sines and cosines to about a third or less. That of positive features falls a little, as long as vectors are short. For longer ones the five measurements disagree even about who wins, because means of 5,000 draws are ruled by a few rare ones; the gain that the theorem promises
# is then too small to be seen.
#
# **How large are the vectors of a real model?** Relative to the kernel itself, the error of a positive feature is $\sqrt{(e^{\|x+y\|^2} - 1)/m}$. So it takes about $e^{\|x+y\|^2}$ features. We take the pairs that the twelve heads of MiniLM's layer 0 look at, in twelve sentences.

# %%
chosen = [heads_of(sentence) for sentence in sentences[:12]]
exact = [ref.attend(ref.exact_kernel("exp", x, y), v, np.ones((1, 1, len(v[0]), len(v[0])))) for x, y, v in chosen]
squares = [
    (p[0] * np.moveaxis(features.square_of_sums(x, y)[0], -1, 0)).sum(-1).mean(-1) for (x, y, _), (_, p) in zip(chosen, exact)
]
squares = np.median(squares, axis=0)
print("‖x + y‖² of the pairs that a head looks at, median over sentences:", *squares.round())


# %%
def off(phi, rows, seed):
    """Squared errors of the outputs, each head divided by those of equal weights: median over sentences, `(h,)`."""
    w, found = features.draw_projection(np.random.default_rng(seed), rows, 32), []
    for (x, y, v), (wanted, _) in zip(chosen, exact):
        everyone = np.ones((1, 1, len(v[0]), len(v[0])))
        output, _ = ref.attend(ref.kernel_of(phi(x, w), phi(y, w)), v, everyone)
        null = np.sum((v.mean(axis=1, keepdims=True) - wanted) ** 2, axis=(0, 1, 3))
        found.append(np.sum((output - wanted) ** 2, axis=(0, 1, 3)) / null)
    return np.median(found, axis=0)


# %%
counts = (16, 64, 256, 1024, 4096)
positive = np.median([[off(kinds["positive"], r, seed) for r in counts] for seed in range(3)], axis=0)
waves = np.median([[off(kinds["sin and cos"], r // 2, seed) for r in counts[:3]] for seed in range(3)], axis=0)

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for head in range(12):
    ax.loglog(counts, positive[:, head], color=figures.COLORS[0], marker="none", linestyle="-", alpha=0.5, linewidth=1)
ax.loglog(counts, np.median(positive, axis=1), color=figures.COLORS[0], linestyle="-")
ax.axhline(1, color="black", linestyle=":", marker="none")
ax.annotate("equal weights for all keys", (16, 1), (0, -11), textcoords="offset points", fontsize="small")
ax.annotate("12 heads and their median", (1024, 1.15), color=figures.COLORS[0], fontsize="small")
ax.set_xticks(counts, [f"{r:,}" for r in counts])
ax.set_yticks([0.3, 1, 3], ["0.3", "1", "3"])
ax.set(xlabel="positive random features r", ylabel="squared error of the output,\nequal weights = 1")
ax.minorticks_off()
ax.set_title("in MiniLM, 256 features are about as far off as equal weights")
figures.show()

# %%
for r, found in zip(counts, positive):
    print(f"{r:5} positive features: median {np.median(found):.2f}, heads from {found.min():.2f} to {found.max():.2f}")
print(f"{counts[2]:5} sines and cosines:  best head {waves[2].min():.1f}")
assert np.median(positive[0]) > 1 and positive[-1].max() < 1 < waves.min()

# %% [markdown]
# A key has 32 numbers here. 256 features, the layer's default, are eight times as many, and still most heads would do about as well without looking at the text. (Equal weights are the null here: the mean of the values, whatever the query.) So features put in place of this trained softmax are no approximation of
# it. Long vectors are the reason: for $\|x+y\|^2 = 9$ the formula asks for $e^9 \approx 8{,}000$ features.
#
# **Can a layer learn with random features?** Then it need not approximate anything. A copy task, as in the linear transformer's Figure 2, but for one head alone: 32 random symbols of 16 kinds are read, and said again. Two things are known in advance.
#
# - *Chance.* A layer that mixes all keys equally knows which symbols there are, not where. The best guess is the most frequent one.
# - *A bound.* The weights of an example form an $n \times n$ matrix whose rows sum to 1. No eigenvalue of such a matrix exceeds 1, and with $r$ features at most $r$ of them are not zero. So the trace is at most $r$: however it is trained, **the mean weight on the right key is at most $r/n$**.
#
# [The experiment](../experiments/kernel_attention.py) trains each kind with four learning rates and three seeds; each gets its best rate.

# %%
chance = np.mean([np.bincount(row).max() for row in rng.integers(0, 16, (20_000, 32))]) / 32
sizes_of = {"elu + 1": 16, "positive, 16": 16, "positive, 64": 64, "positive, 256": 256, "positive, 256, redrawn": 256}
print(f"chance {chance:.2f}\n{'':24}rate   accuracy (worst, best seed)   weight on the right key   bound")
for arm in ("softmax", *sizes_of):
    (low, _, high), (_, right, _) = copy.spread("accuracy", arm), copy.spread("right", arm)
    bound = min(1, sizes_of.get(arm, 32) / 32)
    print(f"{arm:24}{copy.best_rate(arm):<7g}{low:.2f} to {high:.2f}{'':18}{right:.2f}{'':22}{bound:.2f}")

# %%
for arm, r in sizes_of.items():
    assert all(copy.values("right", arm, rate).max() <= min(1, r / 32) + 1e-4 for rate in copy.experiment.rates)
assert (
    copy.worst("accuracy", "positive, 16") > chance
    and copy.worst("accuracy", "positive, 256") > copy.values("accuracy", "positive, 16").max()
)

# %%
names = {"softmax": "softmax", "positive, 256": "256 features: as sharp", "positive, 16": "16 features: a blur"}
names |= {"elu + 1": "elu + 1, 16 numbers: a blur"}
# One example, with one rate and seed.
panels = [np.array(copy.found["tensorflow", arm, 0.01, 0]["map"]) for arm in names]
figures.maps(panels, names.values(), "weight", 1.0, size=(10.8, 2.9))
figures.show()

# %% [markdown]
# With 256 features a trained head copies about as well as the softmax. With 16, of either kind, it does not: the bound says that it cannot put more than half of its weight where it belongs, and the positive features come close to that bound. elu + 1 puts less weight on the right key and yet makes fewer errors, so at equal size random features are not the better ones.
#
# In the linear transformer's Figure 2, elu + 1 reaches the loss of the softmax, and in its Table 1 it is close (0.644 bits a dimension on MNIST, softmax 0.621). There, several heads and layers share the work. Is our difference one of speed? The loss says no:

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
labels = {"softmax": "\nsoftmax", "positive, 256": "256 features\n", "elu + 1": "elu + 1", "positive, 16": "16 features"}
figures.curves(ax, copy, "loss", labels, dict.fromkeys(labels, 3e-3), yscale="log", ylim=(1e-4, 4), xlim=(0, 370))
ax.set(xlabel="step (all with rate 0.003)", ylabel="loss in nats", title="more steps do not replace features")
figures.show()

# %% [markdown]
# One of the stored runs, live:

# %% tags=["nbval-ignore-output"]
live = experiment.train_copier("positive, 16", copy.best_rate("positive, 16"), seed=0)
print(f"accuracy with 16 features, trained just now: {live['accuracy']:.2f}")
assert copy.contains(live["accuracy"], "accuracy", "positive, 16")

# %% [markdown]
# **Has it learned the softmax, or these features?** If the trained layer used its features as an estimate of $e^{x \cdot y}$, another draw of $W$ would do, and so would the exact softmax. We give the trained layers both, without more training. In one arm, $W$ was drawn anew at each
# step of training, as the Performer's paper advises.

# %%
given = {"accuracy": "as trained", "new": "a new W", "other": "exact softmax"}
tried = ("positive, 16", "positive, 64", "positive, 256", "positive, 256, redrawn")
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for (what, label), shift, color, marker in zip(given.items(), (-0.15, 0, 0.15), figures.COLORS, figures.MARKERS):
    for row, arm in enumerate(tried):
        values = copy.values(what, arm)
        ax.plot(values, [row + shift] * len(values), marker, color=color, linestyle="none", label=label if row == 0 else None)
ax.axvline(chance, color="black", linestyle=":", marker="none")
ax.annotate("chance", (chance, 3.45), (3, 0), textcoords="offset points", fontsize="small")
ax.set_yticks(range(4), tried)
ax.set(xlabel="accuracy of three seeds", xlim=(0, 1.03), ylim=(3.6, -0.5), title="a layer learns the features that it was given")
fig.legend(loc="outside lower center", ncols=3, frameon=False)
figures.show()

# %%
for arm in tried:
    print(
        f"{arm:24}",
        *(
            f"{label}: {copy.values(what, arm).min():.2f} to {copy.values(what, arm).max():.2f}  "
            for what, label in given.items()
        ),
    )
assert all(copy.values("new", arm).max() < copy.worst("accuracy", arm) for arm in tried[:3])

# %% [markdown]
# One draw of $W$, used throughout, becomes part of the layer. With another draw most is lost, and a layer trained with 256 features does worse even with the exact softmax. That comes from keeping $W$: a layer that gets a new $W$ at each step loses little with another draw, and is best with the exact softmax, which it has
# learned to use. With 256 features it pays for that in accuracy, at least after 300 steps, when its loss is still falling.
#
# **And the other way round: features in place of a trained softmax?** The softmax arm gets 256 positive features after training. A second model has queries and keys of one length, so that no $\|x+y\|^2$ exceeds 16; it was trained with its exact softmax too, and gets 256 sines and cosines.

# %%
for arm in ("softmax", "softmax, unit vectors"):
    own, found, square = (copy.values(what, arm) for what in ("accuracy", "other", "square"))
    print(f"{arm:22} as trained {own.min():.2f}, with features {found.min():.2f} to {found.max():.2f}", end="; ")
    print(f"‖x + y‖² of the right pairs {np.median(square):.0f}")
assert copy.values("other", "softmax").max() < copy.values("other", "softmax, unit vectors").min()

# %%
second, lines = {}, []
for rate in copy.experiment.rates:
    second[rate] = [copy.curves(*which, rate)[1][:, 1] for which in (("tuned", "softmax"), ("loss", "positive, 256"))]
    ranges = [f"{found.min():.2f} to {found.max():.2f}" for found in second[rate]]
    lines.append(f"rate {rate:<20g}{ranges[0]:31}{ranges[1]}")
print("loss in steps 11 to 20   from the softmax's weights     from scratch", *lines, sep="\n")
best = min(scratch.min() for _, scratch in second.values())
assert all(second[rate][0].max() < best < second[3e-2][0].min() for rate in (1e-3, 3e-3, 1e-2))

# %%
squares, given_features = ({rate: copy.values(what, "softmax", rate) for rate in second} for what in ("square", "other"))
for rate, found in given_features.items():
    print(f"rate {rate:<6g} ‖x + y‖² {np.median(squares[rate]):4.0f}, with features {found.min():.2f} to {found.max():.2f}")
assert given_features[3e-2].max() < min(given_features[rate].min() for rate in (1e-3, 3e-3, 1e-2))

# %% [markdown]
# The trained softmax has long vectors, as MiniLM has, and with 256 features in its place the layer finds only about half of the symbols or fewer. With RFA's recipe almost nothing is lost. (It changes two things, the lengths and the features; this experiment does not tell which one does it.)
#
# And the softmax's weights are a head start: with features, they reach in steps 11 to 20 a loss that no rate reaches from scratch in that time. Rate 0.03 is the exception. Trained with it, the softmax has vectors so long that features
# in its place do hardly better than chance, so there is little to start from. (Each softmax goes on with its own rate, so these runs do not separate the start from the steps that follow.)
#
# ## Where it breaks
#
# **A later key erases earlier ones.** Exponentials overflow, so code subtracts a maximum. For a query any constant cancels. For keys it must be the same for all of them, and the Performer's own code takes the largest exponent of *all* keys. In a causal layer that includes
# keys which the query may not see. One feature, five tokens, float32; the fourth key is large:

# %%
b = np.array([0, 1, 0, 200, 0], "float32")
v = np.array([5, 1, 5, 3, 3], "float32")
shared = np.exp(b - b.max())
running = np.array([np.exp(b[: t + 1] - b[: t + 1].max()).sum() for t in range(5)])
wanted, *_ = exponents.recurrent(np.zeros((1, 5, 1, 1), "float32"), b[None, :, None, None], v[None, :, None, None])

# %%
lines = [
    f"{t:3}{exponent:11.0f}{shared[: t + 1].sum():18.0f}{b[: t + 1].max():27.0f}{running[t]:10.2f}{wanted[0, t, 0, 0]:14.2f}"
    for t, exponent in enumerate(b)
]
print("token  exponent   one maximum: denominator   running maximum: it, denominator, output", *lines, sep="\n")
assert (np.cumsum(shared)[:3] == 0).all() and running.min() >= 1

# %% [markdown]
# With one maximum, the first three queries divide zero by zero. No mask prevents it, since the later key is not read; its exponent alone does the harm. What is taken out for a query may only come from keys that it sees.
#
# ### Numerics: exponents, caches, denominators
#
# The rest of this section is for those who write such a layer; nothing later needs it.
#
# *Exponents.* The recurrence keeps a running maximum $p_t$ for each feature, and shrinks what it has when the maximum rises, as the online softmax does:
#
# $$p_t = \max(p_{t-1}, b_t), \qquad S_t = e^{p_{t-1} - p_t}\, S_{t-1} + e^{b_t - p_t}\, v_t^\top$$
#
# where $\phi(k_t) = e^{b_t}$. That is a loop over tokens. The layer does it in $\log_2 n$ rounds: all queries of the later half see all keys of the earlier half, so these may share a maximum; then the same inside each half.

# %% tags=["nbval-ignore-output"]
x, y = 16 * rng.normal(size=(2, 64, 16)) / 2
w = features.draw_projection(rng, 32, 16)
a, b = features.project(x, w), features.project(y, w) - features.half_square(y)
u = np.concatenate([rng.normal(size=(64, 3)), np.ones((64, 1))], axis=1)  # a column of ones sums the denominators
sums, _ = exponents.causal_by_halves(*(part.astype("float32") for part in (a, b, u)))
exact_rows = np.array([exponents.attend_one(a[t], b[: t + 1], u[: t + 1, :3]) for t in range(64)])
off_by = np.abs(sums[:, :3] / sums[:, 3:] - exact_rows).max()
print(
    f"exponents from {b.min():.0f} to {b.max():.0f}; float32 by halves, least denominator {sums[:, 3].min():.2f}, error {off_by:.0e}"
)
assert sums[:, 3].min() >= 1 and off_by < 1e-2

# %% [markdown]
# *Caches.* $S$, $z$ and $p$ are all that a stream must keep, however long it is. Token by token, the layer gives what it gives for all tokens at once.

# %%
layer, tokens = (
    KernelAttention("exp", num_random_features=32, num_heads=2, key_dim=8, dtype="float64"),
    rng.normal(size=(1, 8, 16)),
)
whole, cache, sizes = layer(tokens, tokens, use_causal_mask=True), layer.init_cache(1), set()
for t in range(8):
    output, cache = layer(tokens[:, t : t + 1], tokens[:, t : t + 1], cache=cache)
    sizes.add(sum(np.asarray(part).nbytes for part in cache.values()))
    assert np.allclose(output[:, 0], whole[:, t], rtol=1e-10, atol=1e-12)
print("bytes of the cache after each of 8 tokens:", sizes)
assert len(sizes) == 1

# %% [markdown]
# *Denominators.* Sines and cosines estimate a kernel that is positive, and the estimate may be negative. Then so may a sum of few of them, and an output can be any size. The exact kernel of unit vectors is at least $e^{-2/\sigma^2}$; our layer counts at least that for each key.

# %%
x, y, v = rng.normal(size=(3, 1, 256, 1, 16))
w = features.draw_projection(np.random.default_rng(0), 2, 16)
phi_x, phi_y = (features.fourier_features(part / np.linalg.norm(part, axis=-1, keepdims=True), w) for part in (x, y))
kernel, seen = ref.kernel_of(phi_x, phi_y), causal_mask(256, 256)[None, None].astype(float)
free, guarded = (np.abs(ref.attend(kernel, v, seen, least)[0]).max() / np.abs(v).max() for least in (0.0, np.exp(-2.0)))
print(f"least denominator {(kernel * seen).sum(-1).min():.2f}; largest output / largest value: {free:.1f}, guarded {guarded:.1f}")
assert (kernel * seen).sum(-1).min() < 0 and guarded <= np.exp(2) and guarded < free

# %% [markdown]
# ## What it costs
#
# For each head, with $n$ tokens, $r$ features and $e = d$: softmax attention needs $2 n^2 d$ multiply-adds and holds $n^2$ weights; the sums need $2 n r d + n r$, and hold $r d + r$ numbers.

# %%
n, d, r = 40, 8, 24
phi, v = rng.random((1, n, 1, r)), rng.normal(size=(1, n, 1, d))
with multiply_adds() as by_sums:
    _, state, z = ref.factored(phi, phi, v)
with multiply_adds() as by_pairs:
    _, p = ref.attend(ref.exact_kernel("exp", v, v), v, np.ones((1, 1, n, n)))
print(f"multiply-adds by sums {sum(by_sums)}, by pairs {sum(by_pairs)}; numbers held {state.size + z.size}, {p.size}")
assert (sum(by_sums), sum(by_pairs), state.size + z.size, p.size) == (2 * n * r * d + n * r, 2 * n**2 * d, r * d + r, n**2)

# %%
lengths, d = 2 ** np.arange(5, 15), 64
costs = {"softmax": 2 * lengths**2 * d}
costs |= {name: 2 * lengths * r * d + lengths * r for r, name in ((64, "elu + 1 (r = d = 64)"), (256, "256 random features"))}
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for (name, cost), color in zip(costs.items(), figures.COLORS):
    ax.loglog(lengths, cost, base=2, color=color)
    ax.annotate(name, (lengths[-1], cost[-1]), (6, -3), textcoords="offset points", color=color)
ax.set(
    xlabel="length n",
    ylabel="multiply-adds of a head",
    xlim=(32, 2**18),
    title="sums win once there are more tokens than features",
)
figures.show()
assert 2 * 256**2 * d <= 2 * 256 * 256 * d + 256 * 256 < 2 * 512**2 * d

# %% [markdown]
# ## Does the layer agree?
#
# One case for each mechanism of this lesson; the tests hold all cases to the same limits.

# %% tags=["nbval-ignore-output"]
shown = ("elu", "exp", "rfa-bandwidth", "exact", "causal-exp", "causal-gate", "stream-exp")
cases = tuple(case for case in CHAPTER.cases if case.name.split("/")[1] in shown)
line, agrees = figures.agreement_line(replace(CHAPTER, cases=cases))
assert agrees and len(cases) == len(shown)
line

# %% [markdown]
# ## Today
#
# Random features did not last: estimates of the softmax were left for features that are learned, or for none at all. What lasted is equation (4), the state of fixed size. RetNet ([Sun et al., 2023](https://arxiv.org/abs/2307.08621)) lets it
# decay at a fixed rate, gated linear attention ([Yang et al., 2023](https://arxiv.org/abs/2312.06635)) and Mamba-2 ([Dao and Gu, 2024](https://arxiv.org/abs/2405.21060)) by a gate like RFA's, and the delta rule ([Yang et al., 2024](https://arxiv.org/abs/2406.06484))
# overwrites what a key held before. A state of fixed size still recalls less than attention does ([Arora et al., 2024](https://arxiv.org/abs/2402.18668)). So large models mix: MiniMax-01 ([2025](https://arxiv.org/abs/2501.08313)) and Kimi Linear
# ([2025](https://arxiv.org/abs/2510.26692)) have several linear layers for each one with a softmax.

# %% [markdown]
# ## Exercises
#
# **1** (easy, 10 minutes). One head, every query sees every key that is `allowed` `(s,)`: from `phi_q` `(t, r)`, `phi_k` `(s, r)` and `v` `(s, e)` compute the outputs without a matrix of `t` times `s`. Features are positive. With no key, outputs are zero.


# %%
def one_head(phi_q, phi_k, v, allowed):
    return None  # your turn


_ = check("kernel_attention/1", one_head)

# %% [markdown]
# <details><summary>Hint</summary>First <code>phi_k.T @ v</code>; the denominators come from <code>phi_k.sum(axis=0)</code>. A key that is not allowed has no features.</details>
# <details><summary>Solution</summary>
#
# ```python
# def one_head(phi_q, phi_k, v, allowed):
#     phi_k = phi_k * allowed[:, None]
#     total = phi_q @ phi_k.sum(axis=0)
#     return phi_q @ (phi_k.T @ v) / np.where(total > 0, total, 1)[:, None]
# ```
# </details>
#
# **2** (medium, 15 minutes). RFA's gate, for one head: $S_t = g_t S_{t-1} + (1 - g_t)\,\phi(k_t) v_t^\top$, and $z_t$ likewise. `tokens` is an iterator over `(phi_q, phi_k, v, gate)` that can be read once, and there is no room for all keys. The first gate is below 1. Return the outputs.


# %%
def gated(tokens):
    return None  # your turn


_ = check("kernel_attention/2", gated)

# %% [markdown]
# <details><summary>Hint</summary>A loop over tokens with two running sums; <code>np.outer</code> makes the matrix.</details>
# <details><summary>Solution</summary>
#
# ```python
# def gated(tokens):
#     state, z, outputs = 0.0, 0.0, []
#     for q, k, v_t, g in tokens:
#         state, z = g * state + (1 - g) * np.outer(k, v_t), g * z + (1 - g) * k
#         outputs.append(q @ state / (q @ z))
#     return np.array(outputs)
# ```
# </details>
#
# **3** (hard, 25 minutes). Causal and without a gate, in chunks of `size` tokens: inside a chunk by pairs, without a loop over its tokens; from the chunks before by their sum. There is no room for all pairs, nor for a state of each token. Return the outputs and $S$ after each chunk, `(chunks, r, e)`; the last chunk may be shorter. This is how the layer does it.


# %%
def chunked(phi_q, phi_k, v, size):
    return None  # your turn


_ = check("kernel_attention/3", chunked)

# %% [markdown]
# <details><summary>Hint</summary>Put a column of ones beside <code>v</code>: its sums are the denominators. <code>np.tril</code> keeps the pairs of a chunk causal.</details>
# <details><summary>Solution</summary>
#
# ```python
# def chunked(phi_q, phi_k, v, size):
#     u, outputs, states = np.concatenate([v, np.ones((len(v), 1))], axis=1), [], []
#     state = np.zeros((phi_k.shape[1], u.shape[1]))
#     for i in range(0, len(v), size):
#         q, k, part = (x[i : i + size] for x in (phi_q, phi_k, u))
#         outputs.append(np.tril(q @ k.T) @ part + q @ state)
#         state = state + k.T @ part
#         states.append(state[:, :-1])
#     sums = np.concatenate(outputs)
#     return sums[:, :-1] / sums[:, -1:], np.array(states)
# ```
# </details>
#
# **To discuss.** A recurrent state of fixed size holds all of a text. Which questions about the text can it not answer, however it is trained? Find a task of two lines that shows it, and say what the softmax does there.
#
# ## Summary
#
# - A kernel that is a product of features lets keys be summed before queries come: linear time, and a causal layer that is a recurrent network with a state of fixed size.
# - Random features estimate the softmax without bias, with about $e^{\|x+y\|^2}$ of them. Real heads have long vectors, so swapping them in afterward fails. Trained with them, a layer learns its features, up to the bound $r/n$.
# - What is taken out of exponents must come from keys that the query sees; what may be negative needs a guard.
#
# **Further reading.** [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236): the recurrent view. [Choromanski et al., 2021](https://arxiv.org/abs/2009.14794): positive, orthogonal features; take the
# revised version. [Peng et al., 2021](https://arxiv.org/abs/2103.02143): sines, cosines and a gate. [Likhosherstov et al., 2022](https://arxiv.org/abs/2205.15317): FAVOR++, the variance lowered further.
