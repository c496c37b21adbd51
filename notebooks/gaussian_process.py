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
# # Gaussian process on random features: an answer, and how far it reaches
#
# An output layer that says with each logit how much it rests on what was seen in training.
#
# Papers: [Rahimi and Recht, 2007, section 3](https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines),
# [Liu et al., 2020, section 3.1](https://arxiv.org/abs/2006.10108) · NumPy: [`reference/gaussian_process.py`](../reference/gaussian_process.py) · Layer:
# [`layers/gaussian_process/`](../layers/gaussian_process/__init__.py) · 35 minutes · You should know: logistic regression, and what a covariance is
#
# The exact posterior, with which one figure compares, is part of [a later lesson](gaussian_process_head.ipynb).

# %%
import inspect
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.gaussian_process import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.weights import weights_of
from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.gaussian_process import posterior as posterior_covariance
from reference import gaussian_process as ref
from reference.common.activations import sigmoid
from reference.gaussian_process_head import posterior as exact

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Forty examples of two classes lie between −3 and 3. Logistic regression separates them, with some doubt in the middle. **How sure is it at 30, ten times further out than anything that it has seen?**


# %%
def newton(phi, labels, ridge=1.0, steps=30):
    """Output weights of least logistic loss, with a penalty of ridge ‖β‖²/2."""
    beta = np.zeros(phi.shape[1])
    for _ in range(steps):
        p = sigmoid(phi @ beta)
        curvature = ridge * np.eye(len(beta)) + (p * (1 - p) * phi.T) @ phi
        beta -= np.linalg.solve(curvature, phi.T @ (p - labels) + ridge * beta)
    return beta


seen = rng.uniform(-3, 3, size=(40, 1))
labels = (rng.random(40) < sigmoid(2 * seen[:, 0])).astype(float)
line = np.linspace(-30, 30, 601)[:, None]
plain = sigmoid(line[:, 0] * newton(seen, labels))

fig, ax = plt.subplots()
ax.plot(line, plain, marker="none", label="logistic regression")
ax.plot(seen, labels, "o", linestyle="none", label="examples")
ax.set(xlabel="input x", ylabel="probability of class 1")
ax.legend(loc="center right")
plt.show()

# %% [markdown]
# It is surer there than anywhere near its examples. Its logit is a straight line, and a line knows nothing of where the examples end.

# %%
assert plain[-1] > 1 - 1e-9 > sigmoid(np.array(3.0) * newton(seen, labels)).item()
print("more certain at 30 than one in a billion:", bool(1 - plain[-1] < 1e-9))

# %% [markdown]
# ## The equation
#
# $$\varphi(x) = \sqrt{2/r}\,\cos(W x/\sqrt{s} + b),\quad W \sim \mathcal N(0, 1),\ b \sim U(0, 2\pi),\qquad \mathrm{E}\,\varphi(x)\cdot\varphi(y) = e^{-\|x-y\|^2/(2s)} \tag{1}$$
#
# $$g(x) = \beta\cdot\varphi(x) + \mathrm{bias},\qquad \beta\sim\mathcal N(0, I) \tag{2}$$
#
# $$P = \rho I + \sum_i w_i\,\varphi(x_i)\,\varphi(x_i)^\top \tag{3}$$
#
# $$\mathrm{cov}(x, y) = \rho\,\varphi(x)^\top P^{-1} \varphi(y) \tag{4}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $W$, $b$ | drawn once, never trained | `random_features` | `(m, r)`, `(r)` |
# | $s$ | scale of the kernel: a squared distance | `gp_kernel_scale` | |
# | $\beta$ | the only weights that are trained | `gp_output_weights` | `(r, c)` |
# | $\rho$ | ridge: variance of the noise | `gp_cov_ridge_penalty` | |
# | $P$ | precision: what the examples say of $\beta$ | `precision_matrix` | `(r, r)` |
# | $w_i$ | 1; logistic: $p(1-p)$; Poisson: $e^g$ | `gp_cov_likelihood` | `(b)` |
#
# ## By hand
#
# Two features, and one example with $\varphi = (1, 1)$. With $\rho = 1$, $P = \begin{pmatrix}2&1\\1&2\end{pmatrix}$ and $P^{-1} = \frac13\begin{pmatrix}2&-1\\-1&2\end{pmatrix}$.
# Ask where the example was: $(1, 1)\,P^{-1}(1, 1)^\top = 2/3$, down from 2. Ask at right angles to it: $(1, -1)$ still has 2.

# %%
precision = ref.precision_by_loop(np.array([[1.0, 1.0]]), np.ones(1))
asked = np.array([[1.0, 1.0], [1.0, -1.0]])
print(precision.tolist(), [round(ref.variance_one(phi, precision), 3) for phi in asked])
assert precision.tolist() == [[2, 1], [1, 2]]
assert np.allclose(ref.covariance(asked, precision), [[2 / 3, 0], [0, 2]])

# %% [markdown]
# A second look at the same place leaves $2/5$, a tenth $2/21$: what is seen becomes certain, and nothing else does.

# %%
for times in (2, 10):
    again = ref.precision_by_loop(np.ones((times, 2)), np.ones(times))
    assert np.isclose(ref.variance_one(asked[0], again), 2 / (2 * times + 1)) and np.isclose(ref.variance_one(asked[1], again), 2)

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.features_one))
print(inspect.getsource(ref.add_batch))

# %%
weights, x = ref.draw_random_features(rng, 5, 64), rng.normal(size=(23, 5))
phi = ref.random_features(x, weights, 2.5)
assert np.allclose(phi, [ref.features_one(one, *weights, 2.5) for one in x])
summed = np.eye(64)
for part in np.split(phi, [4, 5, 16]):
    summed = ref.add_batch(summed, part, np.ones(len(part)))
assert np.allclose(summed, ref.precision_by_loop(phi, np.ones(23)))
print("batch after batch, and example by example, the precision is the same")

# %% [markdown]
# ## What it does
#
# **How many waves make a kernel?** We draw 64 to 16,384 features and compare $\varphi(x)\cdot\varphi(y)$ with the kernel, for all pairs of 60 points.

# %%
x, sizes, s = rng.normal(size=(60, 5)), 4 ** np.arange(3, 8), 5.0
kernel, claimed = exact.gaussian_kernel(x, x, s), exact.gaussian_kernel(x, x, s / 2)
errors = []
for r in sizes:
    draws = [ref.random_features(x, ref.draw_random_features(rng, 5, r), s) for _ in range(4)]
    errors.append([np.sqrt(np.mean([(phi @ phi.T - k) ** 2 for phi in draws])) for k in (kernel, claimed)])
errors = np.array(errors).T

fig, ax = plt.subplots()
ax.loglog(sizes, errors[0], label=r"from $e^{-\|x-y\|^2/(2s)}$")
ax.loglog(sizes, errors[1], label=r"from $e^{-\|x-y\|^2/s}$")
ax.loglog(sizes, 1 / np.sqrt(sizes), color="black", marker="none", label=r"$1/\sqrt{r}$")
ax.set(xlabel="random features r", ylabel="error, root mean square")
ax.legend()
plt.show()

# %% [markdown]
# As $1/\sqrt r$: four times the features halve the error. And only from the kernel in (1): the Model Garden's documentation names the other one, where the error stays.

# %%
slope = np.polyfit(np.log(sizes), np.log(errors[0]), 1)[0]
print("error times root r:", (errors[0] * np.sqrt(sizes)).round(1))
assert -0.55 < slope < -0.45 and (errors[0] * np.sqrt(sizes) < 1.1).all()
assert errors[1].min() > 0.05 > 5 * errors[0][-1]

# %% [markdown]
# **Does the layer come to the exact posterior?** A Gaussian process needs no features; it solves a system as large as the data. We give the layer twelve points of a curve with a gap, and draw its mean and two standard
# deviations beside the exact ones, for ever more features.

# %%
known = np.concatenate([np.linspace(-4, -1.5, 6), np.linspace(1.5, 3, 6)])[:, None]
y, ridge = np.sin(2 * known) + 0.05 * rng.normal(size=known.shape), 0.01
asked = np.linspace(-9, 9, 181)[:, None]
truth = exact.exact_posterior(asked, known, y, exact.gaussian_kernel, ridge)
found = {}
for r in (8, 64, 2048):
    layer = RandomFeatureGaussianProcess(
        1, r, gp_cov_momentum=-1, gp_cov_ridge_penalty=ridge, return_random_features=True, dtype="float64"
    )
    layer(known, training=True)
    phi = np.asarray(layer(known)[2])
    layer.gp_output_weights.kernel.assign(phi.T @ np.linalg.solve(phi @ phi.T + ridge * np.eye(12), y))
    mean, variance, _ = layer(asked, diagonal=True)
    found[r] = np.asarray(mean)[:, 0], np.sqrt(variance)

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
center, spread = truth.mean[:, 0], np.sqrt(np.maximum(np.diagonal(truth.covariance), 0))
for ax, (r, (mean, deviation)) in zip(axes, found.items()):
    ax.fill_between(asked[:, 0], mean - 2 * deviation, mean + 2 * deviation, color="#cccccc", label="layer, ±2 deviations")
    ax.plot(asked, mean, marker="none", label="layer, mean")
    for sign in (-2, 0, 2):
        ax.plot(asked, center + sign * spread, color="black", linestyle=":", marker="none", label="exact" if sign == 0 else None)
    ax.plot(known, y, "o", color="#E69F00", linestyle="none")
    ax.set(title=f"r = {r}", xlabel="input x")
axes[0].set_ylabel("value g")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# Few features are waves that go on for ever: the layer is sure where it has seen nothing. With many it opens up in the gap, and outside it returns to what it knew at first: mean 0, variance 1.

# %%
far = np.abs(asked[:, 0]) > 7
differences = {r: (round(np.abs(m - center).max(), 2), round(np.abs(d - spread).max(), 2)) for r, (m, d) in found.items()}
print("largest difference in mean and in deviation:", {r: tuple(map(float, pair)) for r, pair in differences.items()})
assert max(differences[8]) > 2 * max(differences[64]) > 4 * max(differences[2048]) and max(differences[2048]) < 0.4
assert found[8][1][far].min() < 0.6 and np.abs(found[2048][1][far] - 1).max() < 0.1 and np.abs(found[2048][0][far]).max() < 0.4
assert found[2048][1][90] > 0.5 and found[2048][1][np.abs(asked[:, 0] - 2) < 0.3].max() < 0.1

# %% [markdown]
# **What is a doubtful logit as a probability?** It is the mean of $\sigma(g)$ over $g\sim\mathcal N(\mu, v)$, an integral without a formula. The mean field replaces it by $\sigma(\mu/\sqrt{1+\lambda v})$, $\lambda=\pi/8$. We draw
# 100,000 logits for each $\mu$ and $v$. And we ask the question from the start again, of the layer, with a logistic likelihood.

# %%
mu, normal = np.linspace(-8, 8, 17), rng.normal(size=100_000)
sampled = {v: sigmoid(mu[:, None] + np.sqrt(v) * normal).mean(axis=1) for v in (0, 4, 16)}
field = {v: sigmoid(exact.mean_field_logits(mu[:, None], np.full(17, float(v))))[:, 0] for v in sampled}

layer = RandomFeatureGaussianProcess(
    1, 1024, gp_kernel_scale=4.0, gp_cov_momentum=-1, gp_cov_likelihood="binary_logistic", dtype="float64"
)
layer.build((None, 1))
phi = ref.random_features(seen, weights_of(layer, ref.GaussianProcessWeights).random_features, 4.0)
layer.gp_output_weights.kernel.assign(newton(phi, labels)[:, None])
layer(seen, training=True)
logits, variance = (np.asarray(part) for part in layer(line, diagonal=True))
wary = sigmoid(exact.mean_field_logits(logits, variance))[:, 0]

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
for step, v in enumerate(sampled):
    left.plot(mu, field[v], marker="none", color=figures.COLORS[step], label=f"mean field, v = {v}")
    left.plot(mu, sampled[v], figures.MARKERS[step], color=figures.COLORS[step], linestyle="none")
left.set(xlabel=r"mean of the logit, $\mu$", ylabel=r"mean of $\sigma(g)$; marks: sampled")
right.plot(line, plain, marker="none", label="logistic regression")
right.plot(line, wary, marker="none", label="Gaussian process, mean field")
right.plot(seen, labels, "o", linestyle="none", markersize=3, label="examples")
right.set(xlabel="input x", ylabel="probability of class 1")
for ax in (left, right):
    ax.legend(fontsize="small", loc="upper left")
plt.show()

# %% [markdown]
# The formula is within 0.02 of the samples. And at 30 the layer says: one half.

# %%
worst = max(np.abs(field[v] - sampled[v]).max() for v in sampled)
print(f"largest error of the mean field below 0.02: {bool(worst < 0.02)}; probability at 30: {wary[-1]:.1f}")
assert worst < 0.02 and abs(wary[-1] - 0.5) < 0.1
assert ((wary > 0.5) == (plain > 0.5))[np.abs(line[:, 0] - 2) < 1].all() and (np.abs(wary - 0.5) < 0.15)[
    np.abs(line[:, 0]) > 15
].all()

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A mean forgets how much it has seen.** With `gp_cov_momentum` above 0, the default, $P \leftarrow mP + (1-m)(\rho I + B^{-1}\sum_i\varphi_i\varphi_i^\top)$: at the end, $\rho I$ plus the *mean* over the examples. Fifty, or five thousand? The variance
# cannot tell. What is the sum of one pass worth instead?

# %%
layers = {m: RandomFeatureGaussianProcess(1, 128, gp_cov_momentum=m, dtype="float64") for m in (-1, 0.9)}
table = {}
for n in (50, 5000):
    x = rng.uniform(-2, 2, size=(n, 1))
    for layer in layers.values():
        layer(x, training=True)
        layer.reset_covariance_matrix()
    layers[-1](x, training=True)
    for _ in range(100):
        layers[0.9](x, training=True)
    table[n] = {m: float(np.mean(layer(x[:50], diagonal=True)[1])) for m, layer in layers.items()}
    print(n, "examples:", {("sum" if m < 0 else "mean"): round(value, 3) for m, value in table[n].items()})
assert table[50][-1] > 30 * table[5000][-1]
assert abs(table[50][0.9] / table[5000][0.9] - 1) < 0.1 and table[5000][0.9] > 100 * table[5000][-1]

# %% [markdown]
# A hundred times the examples: the sum's variance falls with them, the mean's stays. The sum has a trap of its own: it needs one pass, and a reset before the next (`reset_covariance_matrix`, or `ResetCovarianceCallback` in `fit`), or three epochs
# count three times.
#
# In the Model Garden the ridge is only what $P$ starts with, and decays as $m^t$. For an input unlike any other, the variance then *grows* with training.

# %%
phi, unseen = np.array([[1.0, 0.0]] * 8), np.array([0.0, 1.0])
ours, theirs = np.eye(2), np.eye(2)
for _ in range(1000):
    ours = ref.add_batch(ours, phi, np.ones(8), momentum=0.99)
    theirs = 0.99 * theirs + 0.01 * phi.T @ phi / 8
print("prior 1; after 1000 batches:", round(ref.variance_one(unseen, ours), 3), "and", round(ref.variance_one(unseen, theirs)))
assert np.isclose(ref.variance_one(unseen, ours), 1) and ref.variance_one(unseen, theirs) > 20_000

# %% [markdown]
# **Differs from the paper.** With $\rho$ in (4) the far variance is the kernel's, whatever the ridge. One $P$ serves all classes, with $w = 1$, which is the most that an example can say; the paper has one for each class.
# While training the layer returns no covariance: $P$ is not complete, and the identity, which the Model Garden returns, looks like an answer.
#
# ## What it costs
#
# The features take $m r$ multiply-adds per example, the logits $r c$. For a batch of $b$ the covariance takes $b r^2 + b^2 r$, the variances alone $b r^2 + b r$. Inverting takes about $\frac23 r^3$, so the layer does it when $P$ has changed and
# not when you ask. We count.

# %%
b, m, r, c = 6, 5, 32, 3
layer, x = RandomFeatureGaussianProcess(c, r, gp_cov_momentum=-1, dtype="float64"), rng.normal(size=(b, m))
layer(x, training=True)
with (
    multiply_adds() as counted,
    patch.object(posterior_covariance, "covariance_factor", wraps=posterior_covariance.covariance_factor) as invert,
):
    ref.gaussian_process(x, weights_of(layer, ref.GaussianProcessWeights))
    for _ in range(5):
        layer(x)
print("multiply-adds of features, logits and pairs:", counted, " predictions: 5, inversions:", invert.call_count)
assert counted == [b * m * r, b * r * c, b * b * r] and invert.call_count == 1
assert layer.count_params() == m * r + r + r * c + c + 1 + 2 * r * r + 2 * r + 2
assert sum(np.prod(v.shape) for v in layer.trainable_variables) == r * c

# %%
r, b = 2.0 ** np.arange(6, 13), 128
fig, ax = plt.subplots()
ax.loglog(r, b * r**2 + b**2 * r, base=2, label="covariance")
ax.loglog(r, b * r**2 + b * r, base=2, label="variances")
ax.loglog(r, b * r**2 + b * r + 2 * r**3 / 3, base=2, label="variances, inverting first")
ax.set(xlabel="random features r", ylabel="multiply-adds", title=f"a batch of {b}")
ax.legend()
plt.show()

# %% [markdown]
# From 200 features on, inverting is the larger part, and grows with the cube. At 1024 it is five times the rest.

# %%
inverting, rest = 2 * r**3 / 3, b * r**2 + b * r
assert inverting[r == 128] < rest[r == 128] and inverting[r == 256] > rest[r == 256] and 5 < (inverting / rest)[r == 1024] < 6
print("inverting over the rest, at 1024 features:", float((inverting / rest)[r == 1024].round(1).item()))

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). The features of examples `x` `(t, m)`, with `w` `(m, r)`, `b` `(r)` and the scale; no loop.


# %%
def features(x, w, b, scale):
    return None  # your turn


_ = check("gaussian_process/1", features)

# %% [markdown]
# <details><summary>Hint</summary><code>x @ w</code> has all angles but for the scale and the start.</details>
# <details><summary>Solution</summary><code>np.sqrt(2 / len(b)) * np.cos(x @ w / np.sqrt(scale) + b)</code></details>
#
# **2** (medium, 10 minutes). The variances `(t,)` of asked features `phi` `(t, r)` after seeing `known` `(s, r)`, of which there may be none; without a matrix of `t` by `t`.


# %%
def variances(phi, known, ridge):
    return None  # your turn


_ = check("gaussian_process/2", variances)

# %% [markdown]
# <details><summary>Hint</summary>Solve for all rows at once, then multiply element by element and sum.</details>
# <details><summary>Solution</summary><code>p = ridge * np.eye(known.shape[1]) + known.T @ known; return ridge * np.sum(phi.T * np.linalg.solve(p, phi.T), axis=0)</code></details>
#
# **3** (hard, 15 minutes). `c` `(r, r)` is the covariance $\rho P^{-1}$ of $\beta$. Update it for one more example `phi` `(r)`, without inverting or solving anything.


# %%
def one_more(c, phi, ridge):
    return None  # your turn


_ = check("gaussian_process/3", one_more)

# %% [markdown]
# <details><summary>Hint</summary>Sherman and Morrison: what is taken away is the outer product of $C\varphi$ with itself, divided by a number.</details>
# <details><summary>Solution</summary><code>return c - np.outer(c @ phi, phi @ c) / (ridge + phi @ c @ phi)</code></details>
#
# **To discuss.** The variance grows with the distance from the data, in a space of features that was fixed before any data came. When is that the distance that matters, and when not?
#
# ## Summary
#
# - Random waves have products that estimate a kernel, with an error of $1/\sqrt r$; on them a Gaussian process is a linear layer.
# - The precision is a sum over the examples. Its inverse says how much is known in each direction, and far from all of them nothing.
# - Sum it in one pass, reset it before the next, and divide logits by $\sqrt{1+\lambda v}$.
#
# **Further reading**: [Rahimi and Recht, 2007](https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines), for the bound that holds everywhere at once;
# [Liu et al., 2020](https://arxiv.org/abs/2006.10108), for why the layers below must keep distances; [Rasmussen and Williams, 2006](https://gaussianprocess.org/gpml), chapter 2, for the process itself.
