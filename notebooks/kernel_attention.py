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
# If the weight of a key is a product of something of the query and something of the key, all keys can be summed before the first query is asked.
#
# Papers: [Katharopoulos et al., 2020, section 3](https://arxiv.org/abs/2006.16236), [Choromanski et al., 2021, section 2](https://arxiv.org/abs/2009.14794), [Peng et al., 2021,
# section 3](https://arxiv.org/abs/2103.02143) · NumPy: [`reference/kernel_attention/`](../reference/kernel_attention/__init__.py), [`kernel_features.py`](../reference/kernel_attention/features.py) · Layer:
# [`layers/kernel_attention/`](../layers/kernel_attention/__init__.py) · 45 minutes · You should know: [multi-head attention](attention.ipynb), means and variances

# %%
import inspect
from dataclasses import replace

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.kernel_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from layers.attention import MultiHeadAttention
from layers.kernel_attention import KernelAttention
from reference import kernel_attention as ref
from reference.kernel_attention import exponents, features
from reference.self_attention_mask import causal_mask

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Softmax attention weighs key $s$ for query $t$ with $e^{q_t \cdot k_s}$. Nothing about a key is final before a query comes, so every query must visit every key. A product $\phi(q_t) \cdot \phi(k_s)$ of features
# would be different: $\sum_s \phi(k_s)$ can be made once. **Can such products replace the exponential?** Here are the weights of twelve queries, from the exponential and from three kinds of features.


# %%
def inputs(n, d, size, seed=0):
    """Queries, keys and values of one head, queries and keys already divided by d^(1/4)."""
    q, k, v = np.random.default_rng(seed).normal(size=(3, 1, n, 1, d))
    return size * q * d**-0.25, size * k * d**-0.25, v


q, k, v = inputs(12, 8, 0.7)
everyone = np.ones((1, 1, 12, 12))
wide, narrow = (features.draw_projection(rng, r, 8) for r in (4096, 16))
pairs = {
    r"softmax: $e^{q\cdot k}$": ref.exact_kernel("exp", q, k),
    r"$\phi(x)$ = elu(x) + 1": ref.kernel_of(*(features.generalized_features(x, "elu", None) for x in (q, k))),
    "16 random features": ref.kernel_of(*(features.positive_features(x, narrow) for x in (q, k))),
    "4096 random features": ref.kernel_of(*(features.positive_features(x, wide) for x in (q, k))),
}
maps = {title: ref.attend(kernel, v, everyone)[1][0, 0] for title, kernel in pairs.items()}

# %%
softmax, elu, few, many = maps.values()
fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.7), sharey=True)
for ax, (title, weights) in zip(axes, maps.items()):
    figures.attention_map(ax, weights, title=title, largest=softmax.max())
    ax.label_outer()
plt.show()
assert np.abs(many - softmax).mean() < np.abs(few - softmax).mean() / 2 and elu.max() < softmax.max()
assert all(np.allclose(p.sum(-1), 1) and p.min() > 0 for p in maps.values())

# %% [markdown]
# All four are distributions. elu + 1 is another, flatter attention; random features aim at the softmax, and with many of them they come closer.
#
# ## The equation
#
# $$y_t = \frac{\sum_s w_{ts}\, \phi(q_t)\cdot\phi(k_s)\; v_s}{\sum_s w_{ts}\, \phi(q_t)\cdot\phi(k_s)} = \frac{\phi(q_t)^\top S_t}{\phi(q_t) \cdot z_t}, \qquad S_t = \sum_s w_{ts}\, \phi(k_s)\, v_s^\top, \quad z_t = \sum_s w_{ts}\, \phi(k_s) \tag{1–3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $\phi(q), \phi(k)$ | features | `phi_q`, `phi_k` | `(b, t, h, r)`, `(b, s, h, r)` |
# | $S, z$ | sums over keys | `state`, `z` | `(b, h, r, e)`, `(b, h, r)` |
# | $w_{ts}$ | mask, causality, window or gate | `w` | `(b, h, t, s)` |
# | $W$, rows $w_i$ | random directions | `projection` | `(r, d)` |
#
# Without a mask $S$ is one for all queries. With a causal one it grows by a term per token: $S_t = S_{t-1} + \phi(k_t)\, v_t^\top$.
#
# ## By hand
#
# One feature, $\phi(x) = \mathrm{elu}(x) + 1$, so $\phi(0) = 1$ and $\phi(2) = 3$. The query is 0, the keys 0 and 2, the values 8 and 4: the keys weigh 1 to 3, and mix to $\tfrac14 \cdot 8 + \tfrac34 \cdot 4 = 5$. By sums: $S = 1 \cdot 8 + 3 \cdot 4 = 20$ and
# $z = 4$. A third key, 2, with value 12 only adds: $S = 56$, $z = 7$, and the query reads 8.

# %%
keys, values = np.array([0.0, 2.0, 2.0]).reshape(1, 3, 1, 1), np.array([8.0, 4.0, 12.0]).reshape(1, 3, 1, 1)
phi_q, phi_k = (features.generalized_features(x, "elu", None) for x in (np.zeros((1, 3, 1, 1)), keys))
output, state, z = ref.recurrent(phi_q, phi_k, values)
print("outputs:", output.ravel().round(3), " S:", state.item(), " z:", z.item())
assert np.allclose(ref.attend_one(phi_q[0, 0, 0], phi_k[0, :2, 0], values[0, :2, 0], np.ones(2)), 5)
assert np.allclose(output.ravel(), [8, 5, 8]) and (state.item(), z.item()) == (56, 7)

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.factored))

phi_q, phi_k, v = rng.random((2, 7, 3, 5)), rng.random((2, 7, 3, 5)), rng.normal(size=(2, 7, 3, 4))
expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, np.ones((1, 1, 7, 7)))
output, state, z = ref.factored(phi_q, phi_k, v)
assert np.allclose(output, expected, rtol=1e-12)
print("a matrix of all pairs, and sums, agree")

# %%
print("\n".join(inspect.getsource(ref.recurrent).splitlines()[-11:]))

expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, causal_mask(7, 7)[None, None].astype(float))
output, last, last_z = ref.recurrent(phi_q, phi_k, v)
assert np.allclose(output, expected, rtol=1e-12)
assert np.allclose(last, state, rtol=1e-12) and np.allclose(last_z, z, rtol=1e-12)
print("so do a causal matrix and the recurrence, whose last state is the sum of all keys")

# %% [markdown]
# ## What it does
#
# **How far off is a random feature?** Two kinds estimate $e^{x \cdot y}$ without bias: sines and cosines, and the Performer's positive $e^{w \cdot x - \|x\|^2/2}$; hyperbolic ones use $w$ and $-w$ together.
# The Performer's Lemma 2 has their mean square errors in closed form. We draw 40,000 projections of 16 rows, for $x$ and $y$ of length 0.7 at different angles.


# %%
def lemma_2(theta, length, m=1):
    """Mean square errors of m rows, for x and y of one length with the angle theta between them."""
    dot = length**2 * np.cos(theta)
    plus, minus, kernel = np.exp(2 * length**2 + 2 * dot), np.exp(2 * dot - 2 * length**2), np.exp(dot)
    positive = plus * kernel**2 * (1 - 1 / plus) / m
    trigonometric = plus / kernel**2 * (1 - minus) ** 2 / (2 * m)
    return {"sin and cos": trigonometric, "positive": positive, "hyperbolic": (1 - 1 / plus) * positive / 2}


kinds = (features.trigonometric_features, features.positive_features, features.hyperbolic_features)
angles, m, draws = np.pi * np.arange(1, 8) / 8, 16, 40_000
w = np.random.default_rng(1).normal(size=(draws * m, 2))  # only the plane of x and y matters
measured = {name: [] for name in lemma_2(0, 1)}
for theta in angles:
    x, y = 0.7 * np.array([[1, 0], [np.cos(theta), np.sin(theta)]])
    for name, phi in zip(measured, kinds):
        both = (phi(x, w) * phi(y, w) * draws).reshape(-1, draws, m).sum(axis=(0, 2))
        measured[name].append(np.mean((both - np.exp(x @ y)) ** 2))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.3))
fine = np.linspace(0.05, np.pi - 0.05, 100)
for name, color, marker, dash in zip(measured, figures.COLORS, figures.MARKERS, figures.DASHES):
    axes[0].semilogy(fine, lemma_2(fine, 0.7, m)[name], color=color, marker="none", linestyle=dash)
    axes[0].semilogy(angles, measured[name], color=color, marker=marker, linestyle="none", label=name)
axes[0].set(xlabel="angle between x and y", ylabel="mean square error", title="length 0.7: measured, and by formula (lines)")
axes[0].legend()
grid, lengths = np.meshgrid(fine, np.linspace(0.05, 2, 100))
errors = lemma_2(grid, lengths)
ratio = np.log10(errors["sin and cos"] / errors["positive"])
image = axes[1].pcolormesh(grid, lengths, np.clip(ratio, -4, 4), rasterized=True)
axes[1].contour(grid, lengths, ratio, levels=[0], colors="white")
axes[1].set(xlabel="angle between x and y", ylabel="length of x and y", title="log₁₀ error of sin and cos / positive")
axes[1].grid(False)
_ = fig.colorbar(image, ax=axes[1])
plt.show()

# %% [markdown]
# Formula and measurement agree. Positive features are better where the kernel is small, right of and above the white line: most pairs of an attention matrix, whose errors would drown the few large weights.
# Elsewhere, for short or similar $x$ and $y$, sines and cosines are better: they are exact at $x = y$, positive ones at $x = -y$.

# %%
for name, found in measured.items():
    assert np.allclose(found, lemma_2(angles, 0.7, m)[name], rtol=0.15)
assert (ratio[(grid > 0.6 * np.pi) & (lengths > 1)] > 0).all() and (ratio[grid < 0.2 * np.pi] < 0).all()

# %% [markdown]
# **What remains of it in an output?** As in the Performer's Figure 4: mean square error of attention outputs, for $m$ features (sines and cosines share $m/2$ directions), and directions drawn
# independently or orthogonal in blocks. Medians of 15 seeds, because the means are ruled by a few outliers.


# %%
def output_error(phi, rows, orthogonal, size, seed, n=128, d=16):
    q, k, v = inputs(n, d, size, seed)
    draw = np.random.default_rng(1000 + seed)
    w = features.draw_projection(draw, rows, d) if orthogonal else draw.normal(size=(rows, d))
    everyone = np.ones((1, 1, n, n))
    exact, _ = ref.attend(ref.exact_kernel("exp", q, k), v, everyone)
    return np.mean((ref.attend(ref.kernel_of(phi(q, w), phi(k, w)), v, everyone)[0] - exact) ** 2)


counts, curves = (16, 32, 64, 128, 256), {}
for size in (0.5, 1.0):
    for name, phi, per_row in (("sin and cos", kinds[0], 2), ("positive", kinds[1], 1)):
        for orthogonal in (False, True):
            errors = [[output_error(phi, m // per_row, orthogonal, size, seed) for seed in range(15)] for m in counts]
            curves[size, name, orthogonal] = np.median(errors, axis=1)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.1))
for (size, name, orthogonal), errors in curves.items():
    ax = axes[0 if size == 0.5 else 1]
    ax.semilogy(np.log2(counts), errors, label=name + (", orthogonal" if orthogonal else ", independent"))
    ax.set(xlabel="log₂ of features m", ylabel="median square error", title=f"entries of q and k: {size:g} × normal")
axes[0].legend(fontsize="small")
plt.show()

# %% [markdown]
# The claim is about large inputs: there, sines and cosines are useless. At half the size they are *better* than positive features once there are enough. Orthogonal directions help both, where the estimate
# works at all.

# %%
small, large = ({key[1:]: errors for key, errors in curves.items() if key[0] == size} for size in (0.5, 1.0))
assert all((large["sin and cos", o] > 20 * large["positive", o]).all() for o in (False, True))
assert small["sin and cos", True][-1] < small["positive", True][-1] / 2
assert (small["sin and cos", True] < small["sin and cos", False]).all()
assert np.mean(small["positive", True] / small["positive", False]) < 0.95

# %% [markdown]
# **A transformer that is a recurrent network.** The causal layer reads twenty tokens at once, then one by one with a cache of fixed size.

# %%
layer, x = KernelAttention("exp", num_random_features=32, num_heads=2, key_dim=8, dtype="float64"), rng.normal(size=(1, 20, 16))
whole, cache, sizes = layer(x, x, use_causal_mask=True), layer.init_cache(1), set()
for t in range(20):
    output, cache = layer(x[:, t : t + 1], x[:, t : t + 1], cache=cache)
    assert np.allclose(output[:, 0], whole[:, t], rtol=1e-10, atol=1e-12)
    sizes.add(sum(np.asarray(part).nbytes for part in cache.values()))
print("the stream equals the whole; bytes of the cache after each token:", sizes)
assert len(sizes) == 1

# %% [markdown]
# **Can it still learn to look back?** The copy task of the linear transformer's Figure 2, smaller: after twelve of ten symbols and a separator, say the twelve again.


# %%
class Copier(keras.Model):
    def __init__(self, make_attention):
        super().__init__()
        self.token, self.place = keras.layers.Embedding(11, 64), keras.layers.Embedding(24, 64)
        self.attentions = [make_attention() for _ in range(2)]
        self.norms = [keras.layers.LayerNormalization() for _ in range(4)]
        self.widen = [keras.layers.Dense(128, "relu") for _ in range(2)]
        self.narrow = [keras.layers.Dense(64) for _ in range(2)]
        self.logits = keras.layers.Dense(10)

    def call(self, ids):
        x = self.token(ids) + self.place(keras.ops.arange(24))
        for i in range(2):
            y = self.norms[i](x)
            x = x + self.attentions[i](y, y, use_causal_mask=True)
            x = x + self.narrow[i](self.widen[i](self.norms[2 + i](x)))
        return self.logits(x)[:, 12:]


# %%
symbols = rng.integers(0, 10, (64 * 30 * 24, 12))
ids = np.concatenate([symbols, np.full((len(symbols), 1), 10), symbols[:, :-1]], axis=1)
kinds_of_attention = {
    "softmax": lambda: MultiHeadAttention(num_heads=4, key_dim=16),
    "elu + 1": lambda: KernelAttention("elu", num_heads=4, key_dim=16),
}
losses = {}
for name, make in kinds_of_attention.items():
    keras.utils.set_random_seed(0)
    model = Copier(make)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses[name] = []
    for part, target in zip(np.split(ids, 24), np.split(symbols, 24)):  # 30 steps each, until it can
        losses[name] += model.fit(part, target, batch_size=64, verbose=0).history["loss"]
        if losses[name][-1] < 0.03:
            break
    accuracy = np.mean(np.argmax(model.predict(ids[:256], verbose=0), axis=-1) == symbols[:256])
    print(f"{name}: {accuracy:.0%} copied")
    assert accuracy > 0.98
assert len(losses["softmax"]) < len(losses["elu + 1"])

# %% [markdown]
# Both learn it; the linear one takes longer.
#
# ## Does the layer agree?
#
# One case for each of the mechanisms; the tests hold all of them to the same limits.

# %%
shown = (
    "elu",
    "relu",
    "exp",
    "expplus",
    "rfa-bandwidth",
    "exact",
    "begin",
    "causal-exp",
    "causal-gate",
    "stream-exp",
    "windowed-left",
)
cases = tuple(case for case in CHAPTER.cases if case.name.split("/")[1] in shown)
errors = figures.agreement_plot(replace(CHAPTER, cases=cases))
assert len(errors) == len(shown)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Large inputs.** The number of features that positive features need grows exponentially with $\|q + k\|^2$. We double and redouble the inputs, and quadruple the features.

# %%
print("size   relative error with 64, 256, 1024 features")
relative = {}
for size in (0.25, 0.5, 1.0, 2.0):
    power = np.mean(
        ref.attend(ref.exact_kernel("exp", *inputs(128, 16, size)[:2]), inputs(128, 16, size)[2], np.ones((1, 1, 128, 128)))[0]
        ** 2
    )
    errors = [np.median([output_error(kinds[1], m, True, size, seed) for seed in range(5)]) for m in (64, 256, 1024)]
    relative[size] = np.sqrt(errors / power)
    print(f"{size:4}  ", relative[size].round(2))
assert 3 < relative[0.25][0] / relative[0.25][2] < 6 and min(relative[1.0].min(), relative[2.0].min()) > 0.9

# %% [markdown]
# Small inputs: four times the features, half the error. At the normal size and above, more features do not help: one lucky key per feature takes all. Nothing overflows and weights sum to 1, but they are not the softmax's.
#
# **Stabilizers that do not cancel.** Exponentials need a maximum taken off. For a query any constant cancels; for keys it must be the same for all. Ours is one per *feature*, moved from keys to queries.
# A common one for all features also cancels in exact numbers, and nearly vanishes in real ones:

# %%
q, k, v = inputs(64, 16, 16.0)
w = features.draw_projection(rng, 32, 16)
a, b = features.project(q, w), features.project(k, w) - features.half_square(k)
common = np.exp(a - a.max(axis=-1, keepdims=True)), np.exp(b - b.max())
ours = exponents.stabilized(a, b, np.ones((1, 64), bool))
least = [ref.kernel_of(*(phi.astype("float32") for phi in pair)).sum(axis=-1).min() for pair in (common, ours)]
print(
    "least denominator in float32: common below 1e-15:", bool(least[0] < 1e-15), " per feature at least 1:", bool(least[1] >= 1)
)
assert least[0] < 1e-15 and least[1] >= 1

# %% [markdown]
# A causal query cannot share even that peak: beside a *later* key with larger exponents, its own keys vanish, and the future is seen by what it erases. So nothing may be taken out of a query but what it sees. By halves: all queries of the later half
# see all keys of the earlier half, with one peak; then the same inside both halves.

# %%
print(inspect.getsource(exponents.causal_by_halves))

seen = causal_mask(64, 64)
shared = np.sum(ref.kernel_of(*(phi.astype("float32") for phi in ours))[0, 0] * seen, axis=-1)
own, _ = exponents.causal_by_halves(*(x[0, :, 0].astype("float32") for x in (a, b)), np.ones((64, 1), "float32"))
print("causal denominators that are 0 in float32: one peak for all,", (shared == 0).sum(), "of 64; by halves,", (own == 0).sum())
assert shared[0] == 0 and own.min() >= 1

# %% [markdown]
# **Denominators below zero.** RFA takes sines and cosines of normalized $q$ and $k$. Their estimates can be negative; then so can a denominator, above all the early ones of a causal row. The exact kernel is at
# least $e^{-2/\sigma^2}$, and our denominators count at least that for each key.
#
# **Differs from the papers.** RFA's Theorem 1 is at times printed with frequencies of variance $\sigma^2$; the kernel needs $\sigma^{-2}$. The Performer's Theorem 2, as first printed, promises orthogonal rows a gain even at $y = -x$, where
# independent ones have no error at all; the revised one holds. The tests have both.

# %%
x, y, v = inputs(256, 16, 1.0)
few = features.draw_projection(np.random.default_rng(0), 2, 16)
phi_q, phi_k = (features.fourier_features(side / np.linalg.norm(side, axis=-1, keepdims=True), few) for side in (x, y))
kernel, seen = ref.kernel_of(phi_q, phi_k), causal_mask(256, 256)[None, None].astype(float)
free, guarded = (np.abs(ref.attend(kernel, v, seen, least)[0]).max() / np.abs(v).max() for least in (0.0, np.exp(-2.0)))
negative = (kernel * seen).sum(axis=-1).min() < 0
print("a denominator below 0:", bool(negative), " largest output / value:", free.round(), " guarded:", guarded.round(1))
assert negative and guarded <= np.exp(2) and free > 3 * guarded

x, sigma, w = np.array([0.3, -0.2]), 0.5, rng.normal(size=(100_000, 2))
estimate = {power: np.prod([features.fourier_features(s, w * sigma**power) for s in (x, -x)], axis=0).sum() for power in (-1, 1)}
wanted = np.exp(-np.sum((2 * x) ** 2) / (2 * sigma**2))
assert abs(estimate[-1] - wanted) < 0.02 < 0.3 < abs(estimate[1] - wanted)
opposite = features.positive_features(x, w[:9]) @ features.positive_features(-x, w[:9])
assert np.isclose(opposite, np.exp(-x @ x), rtol=1e-12)

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
assert (sum(by_sums), sum(by_pairs), state.size + z.size, p.size) == (2 * n * r * d + n * r, 2 * n**2 * d, r * d + r, n**2)
print("multiply-adds by sums and by pairs:", sum(by_sums), sum(by_pairs))

# %%
lengths, d = 2 ** np.arange(5, 15), 64
fig, ax = plt.subplots(figsize=(6.5, 3))
ax.loglog(lengths, 2 * lengths**2 * d, base=2, label="softmax")
for r, name in ((64, "elu + 1 (r = d = 64)"), (256, "256 random features")):
    ax.loglog(lengths, 2 * lengths * r * d + lengths * r, base=2, label=name)
_ = ax.set(xlabel="length n", ylabel="multiply-adds of a head"), ax.legend()
plt.show()
assert 2 * 256**2 * d <= 2 * 256 * 256 * d + 256 * 256 < 2 * 512**2 * d

# %% [markdown]
# Sums win once there are more tokens than features.
#
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
# - elu + 1 is an attention of its own. Random features estimate the softmax; positive ones where it matters, with small kernels, and none of them for large inputs.
# - What is taken off exponents must cancel and come from keys that the query sees; what may be negative needs a guard.
#
# **Further reading.** [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236): the recurrent view. [Choromanski et al., 2021](https://arxiv.org/abs/2009.14794): positive, orthogonal features; take the
# revised version. [Peng et al., 2021](https://arxiv.org/abs/2103.02143): sines, cosines and a gate. [Likhosherstov et al., 2022](https://arxiv.org/abs/2205.15317): FAVOR++, the variance lowered further.
