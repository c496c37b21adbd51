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
# # ReZero: begin as nothing
#
# A deep network is hard to start. Multiply what every layer adds by a number that starts at zero, and it begins as the identity, at any depth.
#
# Paper: [Bachlechner et al., 2020, sections 3 and 5](https://arxiv.org/abs/2003.04887) · NumPy: [`reference/rezero_transformer.py`](../reference/rezero_transformer.py) · Layer:
# [`layers/rezero_transformer.py`](../layers/rezero_transformer.py) · 25 minutes · You should know: [the encoder block](transformer_encoder.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.rezero_transformer import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import draw_weights, weights_of
from layers.rezero_transformer import ReZeroTransformer
from layers.transformer_encoder import TransformerEncoderBlock
from reference import rezero_transformer as ref

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A gradient reaches the first layer of a deep network through the Jacobian $\partial x_L / \partial x_0$ of all the others. Directions with a singular value far below 1 carry nothing back; far above 1, they explode. **What are
# the singular values of 64 layers that have just been made?** Four kinds, each with $F(x) = \max(0, W x)$ and random $W$ of width 64.


# %%
def norm(x):
    """Without γ and β, and its Jacobian."""
    centered = x - x.mean()
    size = np.sqrt((centered**2).mean())
    slope = (np.eye(64) - 1 / 64 - np.outer(centered, centered) / (64 * size**2)) / size
    return centered / size, slope


def through(kind, layers):
    """The singular values of the Jacobian of `layers` of one kind, from the largest down."""
    x, jacobian = rng.normal(size=64), np.eye(64)
    for w in layers:
        normed, slope = norm(x) if kind == "pre-norm" else (x, np.eye(64))
        f, gate = np.maximum(w @ normed, 0), w * (w @ normed > 0)[:, None]
        alpha = 0 if kind == "ReZero" else 1
        x, step = (f if kind == "layers alone" else x + alpha * f), alpha * gate @ slope
        jacobian = (step if kind == "layers alone" else np.eye(64) + step) @ jacobian
    return np.linalg.svd(jacobian, compute_uv=False)


# %%
layers = np.sqrt(2 / 64) * rng.normal(size=(64, 64, 64))
kinds = ("layers alone", "residual", "pre-norm", "ReZero")
values = {kind: through(kind, layers) for kind in kinds}

fig, ax = plt.subplots()
for kind, line in values.items():
    ax.semilogy(np.maximum(line, 1e-20), label=kind, markevery=8)
ax.set(xlabel="which singular value, from the largest", ylabel=r"singular value of $\partial x_{64} / \partial x_0$")
ax.legend(loc="lower left")
plt.show()

# %% [markdown]
# Layers alone lose nearly every direction, residual layers blow some up without measure, norms keep them within a few powers of ten. ReZero's are all exactly 1.

# %%
assert np.median(values["layers alone"]) < 1e-10 and values["residual"].max() > 1e10
assert 10 < values["pre-norm"].max() < 1e3 and 1e-4 < values["pre-norm"].min() < 0.1
assert np.array_equal(values["ReZero"], np.ones(64))
print("ReZero: every singular value is 1")

# %% [markdown]
# ## The equation
#
# $$x_{i+1} = x_i + \alpha_i F(x_i), \qquad \alpha_i = 0 \text{ at the start} \tag{1}$$
#
# $$y = x + \alpha\, \mathrm{MultiHead}(x, x, x), \qquad z = y + \alpha\, \mathrm{FFN}(y) \tag{2}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $\alpha$ | `weights.rezero_alpha` | a number |
# | $\alpha$ of the FFN, if it has its own | `weights.rezero_alpha_ffn` | a number |
# | MultiHead | `weights.self_attention` | see [attention](attention.ipynb) |
# | FFN | `weights.intermediate`, `weights.output` | `(m, f)`, `(f, m)` and biases |
#
# One number a block is all that is new, and both norms are gone. In the paper attention and the feed-forward network share the number.
#
# ## By hand
#
# Let every layer be $F(x) = w x$ with $w = 8$. Fifty residual layers make of 1 the number $9^{50}$; with $\alpha = 0$ they make 1. Two layers with $\alpha = \tfrac14$ make $(1 + \tfrac14 \cdot 8)^2 = 9$.

# %%
x = np.array([1.0])
quarter = ref.rezero(ref.rezero(x, 0.25, lambda x: 8 * x), 0.25, lambda x: 8 * x)
print("alpha = 1/4, twice:", quarter, " alpha = 0:", ref.rezero(x, 0.0, lambda x: 8 * x))
assert quarter.tolist() == [9] and ref.rezero(x, 0.0, lambda x: 8 * x).tolist() == [1]

# %% [markdown]
# At $\alpha = 0$, what does the loss $\ell = \tfrac12 (x_1 - y)^2$ with target $y = 3$ tell the two weights? $\partial \ell / \partial w = (x_1 - y)\, \alpha\, x_0 = 0$, but $\partial \ell / \partial \alpha = (x_1 - y)\, w x_0 = -16$: first
# $\alpha$ moves, then $w$ can learn.


# %%
def loss(alpha, w):
    return 0.5 * (ref.rezero(x, alpha, lambda x: w * x).item() - 3) ** 2


step = 1e-6
slopes = (loss(step, 8) - loss(-step, 8)) / (2 * step), (loss(0, 8 + step) - loss(0, 8 - step)) / (2 * step)
print("slope along alpha, along w:", np.round(slopes, 3).tolist())
assert np.allclose(slopes, [-16, 0])

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.rezero_one))

# %%
block = ReZeroTransformer(3, 7, "gelu", dtype="float64")
block.build((None, None, 12))
draw_weights(block, rng)
w, x = weights_of(block, ref.ReZeroWeights), rng.normal(size=(2, 5, 12))
output = ref.rezero_transformer(x, w).output
assert all(np.allclose(output[b, t], ref.rezero_one(x[b], t, w)) for b, t in np.ndindex(2, 5))
assert np.array_equal(ref.rezero_transformer(x, w._replace(rezero_alpha=np.array(0.0))).output, x)
print("position by position and all at once agree; with alpha = 0 the input comes back to the last bit")

# %% [markdown]
# ## What it does
#
# **Does a deep transformer start faster?** The paper's claim is that 12 layers converge 56 % faster on enwik8, with no norm and no warm-up. Our small version: read twelve symbols and write them in reverse, through 12 blocks of
# width 32, all with the same optimizer. A guess costs $\ln 12 = 2.48$.

# %%
n, m, h, steps = 12, 32, 4, 100


class Reverser(keras.Model):
    def __init__(self, block, last):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place = (keras.layers.Embedding(n, m, embeddings_initializer=normal) for _ in range(2))
        self.blocks = [block() for _ in range(12)]
        self.last, self.logits = last, keras.layers.Dense(n)

    def call(self, ids):
        x = self.token(ids) + self.place(keras.ops.arange(n))
        for block in self.blocks:
            x = block(x)
        return self.logits(self.last(x))


class EveryLoss(keras.callbacks.Callback):
    """Keras reports means over an epoch; their sums differ by the loss of each batch."""

    def on_train_batch_end(self, batch, logs):
        self.sums = [*getattr(self, "sums", [0.0]), logs["loss"] * (batch + 1)]


# %%
def losses(block, last):
    """The loss of each of the first steps, which does not know the batch it is measured on."""
    keras.utils.set_random_seed(0)
    model, note = Reverser(block, last), EveryLoss()
    model.compile(keras.optimizers.Adam(4e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, ids, ids[:, ::-1], batch_size=32, shuffle=False, callbacks=[note])
    return np.diff(note.sums), model


ids = rng.integers(0, n, (32 * steps, n))
nothing, a_norm = keras.layers.Identity(), keras.layers.LayerNormalization(epsilon=1e-12)
curves = {}
curves["ReZero"], trained = losses(lambda: ReZeroTransformer(h, 2 * m, "relu"), nothing)

# %%
curves["pre-norm"], _ = losses(lambda: TransformerEncoderBlock(h, 2 * m, "relu", norm_first=True), a_norm)

# %%
curves["post-norm"], _ = losses(lambda: TransformerEncoderBlock(h, 2 * m, "relu"), nothing)

# %%
fig, ax = plt.subplots()
for kind, curve in curves.items():
    ax.plot(curve, label=kind, markevery=10)
ax.axhline(np.log(n), color="black", linestyle=":", marker="none", label="guessing, ln 12")
ax.set(xlabel="step", ylabel="loss", ylim=(0, 4))
ax.legend()
plt.show()
first = np.flatnonzero(curves["ReZero"] < 1)[0]

# %% [markdown]
# ReZero falls below a loss of 1 within the hundred steps. Pre-norm has come some way by then, and post-norm has not begun to learn at all: without a warm-up, 12 layers are too many for it.

# %%
print("ReZero is below 1 before step 90; at that step the others are above 1.5 and 2.3")
assert first < 90 and curves["ReZero"][-5:].mean() < 0.5
assert curves["pre-norm"][first] > 1.5 and curves["pre-norm"][-5:].mean() < 2.3
assert curves["post-norm"][-10:].mean() > 2.3

# %% [markdown]
# **What becomes of the α?** Each block chose how much it adds.

# %%
alphas = [float(block.rezero_alpha) for block in trained.blocks]
fig, ax = plt.subplots(figsize=(6.5, 2.4))
ax.bar(range(1, 13), alphas, color=figures.COLORS[0])
ax.axhline(0, color="black", linewidth=0.8, linestyle="-", marker="none")
ax.set(xlabel="block", ylabel=r"$\alpha$ after 100 steps")
plt.show()

# %% [markdown]
# All have left zero, and none has gone far: a tenth or so of what a plain residual layer adds was enough. The sign is free, since $F$ can learn to turn around.

# %%
print("every alpha is away from 0 and below 0.3 in size; some are negative")
assert 1e-4 < min(np.abs(alphas)) and max(np.abs(alphas)) < 0.3 and min(alphas) < 0 < max(alphas)

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error < TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A norm behind the sum undoes the point.** With `use_layer_norm=True`, a new block is not the identity but two norms, which forget the size of what they are given.

# %%
with_norms = ReZeroTransformer(3, 7, use_layer_norm=True, dtype="float64")
x = rng.normal(size=(2, 5, 12))
same = np.allclose(with_norms(x), with_norms(100 * x))
print("new, with norms: the same output for x and 100 x:", same)
assert same and not np.allclose(with_norms(x), x)

# %% [markdown]
# **An α that does not start at zero.** Start it at 1, and 12 blocks without norms blow the stream up before the first step.

# %%
growth = {}
for alpha in (0.0, 0.1, 1.0):
    x = start = rng.normal(size=(1, 12, 12))
    for _ in range(12):
        draw_weights(block, rng)
        x = ref.rezero_transformer(x, weights_of(block, ref.ReZeroWeights)._replace(rezero_alpha=np.array(alpha))).output
    growth[alpha] = x.std() / start.std()
print("size of the stream after 12 blocks:", {alpha: f"{size:.0e}" for alpha, size in growth.items()})
assert growth[0.0] == 1 and growth[0.1] < 3 and growth[1.0] > 20

# %% [markdown]
# **Differs from the paper.** The two sublayers may have an α each, keys may come from another sequence, and there may be norms after all. α is no part of any regularizer: decay would pull it back to where nothing is learned.
#
# ## What it costs
#
# The multiply-adds of the block it replaces, less two norms, plus a multiplication by α for each number that is added. Parameters: one α (or two) in place of $4m$.

# %%
n, m, h, f = 5, 12, 3, 48
block = ReZeroTransformer(h, f, "relu", dtype="float64")
block.build((None, None, m))
with multiply_adds() as counted:
    ref.rezero_transformer(rng.normal(size=(1, n, m)), weights_of(block, ref.ReZeroWeights))

encoder = TransformerEncoderBlock(h, f, "relu")
encoder.build((None, None, m))
print(f"parameters: {block.count_params()}, of the encoder block: {encoder.count_params()}; multiply-adds: {sum(counted)}")
assert block.count_params() == encoder.count_params() - 4 * m + 1
assert sum(counted) == 4 * n * m**2 + 2 * n**2 * m + 2 * n * m * f

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). What do `layers` layers $x + \alpha\, w\, x$, all with the same numbers α and w, make of the vector `x`? No loop.


# %%
def deep(x, alpha, w, layers):
    return None  # your turn


_ = check("rezero_transformer/1", deep)

# %% [markdown]
# <details><summary>Hint</summary>Each layer multiplies by the same number.</details>
# <details><summary>Solution</summary><code>x * (1 + alpha * w) ** layers</code></details>
#
# **2** (medium, 10 minutes). The gradient of $\tfrac12 \lVert x + \alpha W x - y \rVert^2$ with respect to α and to $W$; return both. What is left of it at α = 0?


# %%
def slopes_of(x, y, alpha, w):
    return None  # your turn


_ = check("rezero_transformer/2", slopes_of)

# %% [markdown]
# <details><summary>Hint</summary>With e the error, a change dα moves it by dα W x, and a change dW by α dW x.</details>
# <details><summary>Solution</summary><code>e = x + alpha * w @ x - y; return e @ (w @ x), alpha * e[:, None] * x[None, :]</code></details>
#
# **3** (hard, 15 minutes). The singular values of the Jacobian of a stack of linear ReZero layers $x + \alpha_i W_i x$, from the largest down. `ws` is `(layers, m, m)`; there may be no layer.


# %%
def singular_values(alphas, ws):
    return None  # your turn


_ = check("rezero_transformer/3", singular_values)

# %% [markdown]
# <details><summary>Hint</summary>The Jacobian of a composition is a product; the layer that comes last stands first.</details>
# <details><summary>Solution</summary>
#
# ```python
# def singular_values(alphas, ws):
#     jacobian = np.eye(ws.shape[-1])
#     for alpha, w in zip(alphas, ws):
#         jacobian = (np.eye(len(w)) + alpha * w) @ jacobian
#     return np.linalg.svd(jacobian, compute_uv=False)
# ```
# </details>
#
# **To discuss.** At α = 0 every layer is the identity, and no weight inside a layer has a gradient. Why does training start at all, and what would stop it?
#
# ## Summary
#
# - α = 0 makes a stack of any depth the identity: every singular value of its Jacobian is 1.
# - At the first step α alone has a gradient; once it has moved, everything has.
# - Twelve blocks then learn in a hundred steps what pre-norm has only begun to learn, and post-norm, without a warm-up, has not.
#
# **Further reading.** [Bachlechner et al., 2020](https://arxiv.org/abs/2003.04887): the paper. [Zhang et al., 2019](https://arxiv.org/abs/1901.09321): Fixup, which starts without norms by scaling the weights instead.
# [De and Smith, 2020](https://arxiv.org/abs/2002.10444): how batch norm, too, starts deep residual networks near the identity.
