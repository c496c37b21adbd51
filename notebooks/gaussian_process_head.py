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
# # Gaussian process head: unsure where it has seen nothing
#
# A classifier is sure of everything, also of what it has never seen. A body that keeps distances, and a head that measures them, know better.
#
# Paper: [Liu et al., 2020, section 3](https://arxiv.org/abs/2006.10108) · NumPy: [`reference/gaussian_process_head/`](../reference/gaussian_process_head/__init__.py) · Layer:
# [`layers/gaussian_process_head.py`](../layers/gaussian_process_head.py) · 30 minutes · You should know: [spectral normalization](spectral_normalization.ipynb) and the
# [Gaussian process on random features](gaussian_process.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.gaussian_process_head import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from crosscheck.weights import weights_of
from layers.gaussian_process.callback import ResetCovarianceCallback
from layers.gaussian_process_head import GaussianProcessClassificationHead
from layers.spectral_normalization import SpectralNormalization
from reference import gaussian_process as gp
from reference import gaussian_process_head as ref
from reference.gaussian_process_head import calibration
from reference.gaussian_process_head.posterior import mean_field_logits

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Two half-moons to tell apart, and a place, beyond them, from which no example came. What does a network say there? We train five at once, with different starts, to see whether asking several helps.


# %%
def moons(count, noise=0.1):
    y, angle = np.arange(count) % 2, rng.uniform(0, np.pi, count)
    x = np.stack([np.cos(angle) + y - 0.5, (1 - 2 * y) * np.sin(angle) + 0.5 * y - 0.25], axis=1)
    return x + noise * rng.normal(size=x.shape), y


def body(x, bounded, width=64):
    """A fixed map into `width` dimensions, and six residual layers."""
    start = keras.initializers.RandomNormal(stddev=np.sqrt(0.5))
    x = keras.layers.Dense(width, use_bias=False, trainable=False, kernel_initializer=start)(x)
    for _ in range(6):
        layer = keras.layers.Dense(width, "relu")
        x = x + (SpectralNormalization(layer, norm_multiplier=0.95) if bounded else layer)(x)
    return x


# %%
def fit(model, x, y, rate, steps=600):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, steps_per_execution=100, jit_compile=False)
    order = rng.integers(0, len(x), steps * 128)
    model.fit(x[order], y[order], batch_size=128, shuffle=False, verbose=0)
    return model


def trained_ensemble(x, y, classes, members=5):
    """Networks that share nothing but the examples; Adam treats the sum of their losses as it would treat each alone."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    logits = [keras.layers.Dense(classes)(body(inputs, bounded=False)) for _ in range(members)]
    return fit(keras.Model(inputs, keras.ops.stack(logits, axis=1)), x, np.repeat(y[:, None], members, axis=1), rate=1e-3)


# %%
x, y = moons(1000)
outside = np.array([2.5, -1.75]) + 0.2 * rng.normal(size=(500, 2))
ensemble = trained_ensemble(x, y, 2)


def probabilities(model, x):
    """Of an ensemble's members `(b, members, c)`, or of a model with logits `(b, c)`."""
    logits = np.asarray(model(x.astype("float32")), "float64")  # as predict does, which would compile for each number of examples
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def surface(ax, points, labels, confidence, title, half=3.5):
    """Confidence over the plane, with some of the examples."""
    line = np.linspace(-half, half, 71)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    image = ax.contourf(line, line, confidence(grid).reshape(71, 71), levels=np.linspace(0.3, 1, 15), cmap="cividis")
    for label, marker in enumerate("os^"[: labels.max() + 1]):
        ax.plot(*points[labels == label][:60].T, marker, color="white", markeredgecolor="black", markersize=3.5, linestyle="none")
    ax.set(title=title, xlabel="$x_1$", aspect="equal")
    return image


# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.1), sharey=True)
for k, ax in enumerate(axes):
    image = surface(ax, x, y, lambda grid, k=k: probabilities(ensemble, grid)[:, k].max(axis=-1), f"network {k + 1}")
    ax.plot(*outside[:60].T, "x", color="black", markersize=3, linestyle="none")
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes, label="confidence")
plt.show()

# %% [markdown]
# A network is in doubt along one line, and sure of all else: of the crosses, where nothing is known, at least as sure as of its examples. So are the others, whose lines differ only where nobody asks.

# %%
inside, _ = moons(1000)
certain = {
    name: probabilities(ensemble, points).max(axis=-1).mean(axis=0) for name, points in (("inside", inside), ("outside", outside))
}
print("mean confidence above 0.95, in each of five networks:", {name: bool((c > 0.95).all()) for name, c in certain.items()})
assert all((c > 0.95).all() for c in certain.values())

# %% [markdown]
# ## The equation
#
# $$h = \varphi(x_{\mathrm{CLS}} \bar W + b), \qquad \bar W = W \min(1, c/\hat\sigma) \tag{1}$$
#
# $$g = \Phi(h)\, \beta, \qquad v = \rho\, \Phi(h)^\top P^{-1} \Phi(h), \qquad P = \rho I + \sum_i \Phi(h_i) \Phi(h_i)^\top \tag{2}$$
#
# $$\text{logits} = g / \sqrt{1 + \lambda v} \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x_{\mathrm{CLS}}$ | one token's vector | `features` | `(b, m)` |
# | $\bar W$ | pooler, which cannot stretch | `pooler_dense` | `(m, f)` |
# | $\Phi(h)$ | random features | `phi` | `(b, r)` |
# | $g$, $v$ | logits and their variance | `logits`, `covariance` | `(b, c)`, `(b)` |
# | $P$ | precision: all that was seen | `precision_matrix` | `(r, r)` |
# | $\lambda$ | factor of the mean field | `temperature` | |
#
# Far from every $h_i$, $\Phi(h)$ is like nothing in $P$ and $v$ is that of the prior, 1. Two things must hold for this to help: what is far in $x$ must be far in $h$ (that is what the bound is for: a residual layer with $c < 1$
# neither folds nor tears), and a logit must be worth less if its variance is large (3).
#
# ## By hand
#
# Take features that are the input itself (a linear kernel), $\rho = 1$, two examples at 1 and 2, and $\beta = 4$. Then $P = 1 + 1 + 4 = 6$. At $x = 3$ we have $g = 12$ and $v = 9/6 = 1.5$; with $\lambda = 10$ the logit is
# $12/\sqrt{1 + 15} = 3$.

# %%
head = GaussianProcessClassificationHead(0, 1, temperature=10, gp_kernel_type="linear", gp_cov_momentum=-1, dtype="float64")
head(np.array([[1.0], [2.0]]), training=True)
head.logits.gp_output_weights.kernel.assign([[4.0]])
logit, covariance = head(np.array([[3.0]]), return_covmat=True)
print("precision", np.asarray(head.logits.precision_matrix), " variance", np.round(covariance, 6), " logit", np.round(logit, 6))
assert np.isclose(covariance, 1.5) and np.isclose(logit, 3)
assert np.isclose(mean_field_logits(np.array([[12.0]]), np.array([1.5]), 10.0), 3)

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.head_one))
print(inspect.getsource(mean_field_logits))

# %%
layer, inputs = CHAPTER.cases[0].make()
weights = weights_of(layer, ref.GaussianProcessHeadWeights)
together = ref.gaussian_process_head(inputs["features"], weights, factor=np.pi / 8).logits
alone = [ref.head_one(x_cls, weights, np.pi / 8) for x_cls in inputs["features"][:, 0]]
assert np.allclose(together, alone, rtol=1e-12) and np.allclose(together, layer(**inputs), rtol=1e-12)
print("one by one, all at once, and the layer agree")

# %% [markdown]
# ## What it does
#
# **Does such a network know what it does not know?** The same body with bounded layers, and the head. `fit` trains both. One more pass, at a rate of zero, leaves in $P$ what the trained network has seen; a callback resets it first.


# %%
def trained_sngp(x, y, classes):
    keras.utils.set_random_seed(0)
    inputs, process = keras.Input((2,)), {"num_inducing": 256, "gp_kernel_scale": 20.0, "gp_cov_momentum": -1}
    head = GaussianProcessClassificationHead(0, classes, temperature=np.pi / 8, **process)
    model = fit(keras.Model(inputs, head(body(inputs, bounded=True))), x, y, rate=5e-3)
    model.optimizer.learning_rate = 0.0
    model.fit(x, y, batch_size=len(x) // 100, verbose=0, callbacks=[ResetCovarianceCallback()])
    return model


sngp = trained_sngp(x, y, 2)
models = {
    "one network": lambda points: probabilities(ensemble, points)[:, 0],
    "ensemble of five": lambda points: probabilities(ensemble, points).mean(axis=1),
    "bounded, with the head": lambda points: probabilities(sngp, points),
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3.1), sharey=True)
for ax, (name, model) in zip(axes, models.items()):
    image = surface(ax, x, y, lambda points, model=model: model(points).max(axis=-1), name)
    ax.plot(*outside[:60].T, "x", color="black", markersize=3, linestyle="none")
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes, label="confidence")
plt.show()

# %% [markdown]
# The mean of five networks is as sure of the crosses as one. The head is sure near the moons and in doubt elsewhere. If we take one example from inside and one from outside, how often is the outer one the less certain? That is the
# area under the ROC curve: 1 if always, ½ for guessing.


# %%
def report(models, points, labels, others):
    """For each model, the share of right answers, the calibration error and the AUROC of 1 − confidence."""
    rows = {}
    for name, model in models.items():
        p, confidence_outside = model(points), model(others).max(axis=-1)
        right, confidence = p.argmax(axis=-1) == labels, p.max(axis=-1)
        error = calibration.expected_calibration_error(confidence, right)
        rows[name] = (right.mean(), error, calibration.auroc(1 - confidence, 1 - confidence_outside), confidence, right)
    return rows


# %% tags=["nbval-ignore-output"]
rows = report(models, *moons(2000), outside)
for name, (accuracy, error, auroc, *_) in rows.items():
    print(f"{name:24} right {accuracy:.3f}   calibration error {error:.3f}   AUROC {auroc:.3f}")
assert min(accuracy for accuracy, *_ in rows.values()) > 0.98
assert rows["one network"][2] < 0.5 and rows["ensemble of five"][2] < 0.5 < 0.98 < rows["bounded, with the head"][2]

# %% [markdown]
# **And does confidence come true?** Our own examples now: three arms of a pinwheel, 200 examples, and so much noise that one in twelve is wrong at best; and outside, a circle of twice its radius. Of all predictions with a confidence of about
# 0.8, 0.8 should be right. The *expected calibration error* is the mean distance from that.


# %%
def pinwheel(count, noise=0.6):
    y, radius = np.arange(count) % 3, rng.uniform(0.3, 2, count)
    angle = 2 * np.pi * y / 3 + 1.2 * radius + noise * rng.normal(size=count)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), y


x3, y3 = pinwheel(200)
circle = rng.uniform(0, 2 * np.pi, 500)
circle = 4 * np.stack([np.cos(circle), np.sin(circle)], axis=1)
ensemble3, sngp3 = trained_ensemble(x3, y3, 3), trained_sngp(x3, y3, 3)
models3 = {
    "one network": lambda points: probabilities(ensemble3, points)[:, 0],
    "ensemble of five": lambda points: probabilities(ensemble3, points).mean(axis=1),
    "bounded, with the head": lambda points: probabilities(sngp3, points),
}

# %%
rows3 = report(models3, *pinwheel(3000), circle)
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
image = surface(
    axes[0], x3, y3, lambda points: models3["bounded, with the head"](points).max(axis=-1), "bounded, with the head", 4.5
)
axes[0].plot(*circle[:100].T, "x", color="black", markersize=3, linestyle="none")
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes[0], label="confidence")
for name, (*_, confidence, right) in rows3.items():
    accuracy, mean, count = calibration.reliability(confidence, right)
    axes[1].plot(mean[count > 20], accuracy[count > 20], label=name)
axes[1].plot([0.3, 1], [0.3, 1], color="black", linestyle=":", marker="none")
axes[1].set(xlabel="confidence", ylabel="share of right answers", title="reliability, on new examples")
axes[1].legend()
plt.show()

# %% [markdown]
# Where one network says 0.8 to 0.9, fewer than three in four of its answers are right, and the mean of five is little better: all have learned the same wrong labels. What the head says comes true more nearly. And the circle, of
# which the others are sure, leaves it in doubt.

# %% tags=["nbval-ignore-output"]
for name, (accuracy, error, auroc, *_) in rows3.items():
    print(f"{name:24} right {accuracy:.3f}   calibration error {error:.3f}   AUROC {auroc:.3f}")
assert rows3["bounded, with the head"][1] < rows3["one network"][1]
assert calibration.reliability(*rows3["one network"][3:]).accuracy[8] < 0.75
assert rows3["bounded, with the head"][2] > 0.8 > 0.5 > max(rows3[name][2] for name in ("one network", "ensemble of five"))

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A mean is not a sum.** With `gp_cov_momentum` above 0, which is the default, $P$ is a moving average over batches, divided by their size. It forgets how many examples there were, and in the authors' code the ridge $\rho I$, which
# $P$ starts from, decays on top. What is left of the variance along a line through 200 examples of the moons?

# %%
known, _ = moons(200)
draw = gp.draw_random_features(rng, 2, 256)
phi = gp.random_features(known, draw, 0.5)
at = np.stack([np.linspace(-4, 4, 161), np.full(161, -0.25)], axis=1)
total, ridge = phi.T @ phi, np.eye(256)
precisions = {"sum (momentum ≤ 0)": ridge + total, "moving mean": ridge + total / 200}
precisions["moving mean, ridge decayed to 0.01"] = 0.01 * ridge + total / 200

fig, ax = plt.subplots(figsize=(7, 3))
for name, precision in precisions.items():
    ax.semilogy(at[:, 0], np.diagonal(gp.covariance(gp.random_features(at, draw, 0.5), precision)), markevery=20, label=name)
ax.axhline(1, color="black", linestyle=":", marker="none", label="prior")
ax.plot(known[:, 0], np.full(200, 0.02), "|", color="black", label="examples")
ax.set(xlabel="$x_1$", ylabel="variance v")
fig.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# The mean has hardly noticed the data: at the examples its variance is about 19 times too large. With the ridge gone it is larger than before any example was seen. Use `gp_cov_momentum=-1` and the callback, unless there are no epochs.

# %%
v = {name: np.diagonal(gp.covariance(phi, precision)) for name, precision in precisions.items()}
ratio = np.mean(v["moving mean"] / v["sum (momentum ≤ 0)"])
print(f"at the examples: {ratio:.0f} times too large")
assert 15 < ratio < 23 and v["moving mean, ridge decayed to 0.01"].mean() > 1

# %% [markdown]
# **π/8 is for one logit.** Under softmax all logits vary, and the difference of two has the variance $2v$: then $\lambda = \pi/4$ is right for two classes. We compare with means over draws.

# %%
g = np.stack([np.linspace(-4, 4, 9), np.zeros(9)], axis=1)
variance, draws = np.full(9, 4.0), rng.normal(size=(20000, 9, 2))
drawn = {"softmax": ref.expected_softmax(g, variance, draws)[:, 0]}
drawn["one logit"] = np.mean(1 / (1 + np.exp(-g[:, 0] - 2 * draws[..., 0])), axis=0)
off = {
    (what, part): np.abs(ref.softmax(mean_field_logits(g, variance, np.pi / part))[:, 0] - p).max()
    for what, p in drawn.items()
    for part in (8, 4)
}
for (what, part), error in off.items():
    print(f"{what}, λ = π/{part}: wrong by less than {0.02 if error < 0.02 else 0.1}")
assert max(off["one logit", 8], off["softmax", 4]) < 0.02 < min(off["one logit", 4], off["softmax", 8])

# %% [markdown]
# **Differs from the paper.** It averages softmax over draws, and has a precision for each class, weighted by $p(1-p)$; here one serves all, with weight 1. A variance that is too small is the worse error, and that weight never
# counts less than it should: it is the upper bound of them all.
#
# ## What it costs
#
# The head has $r c$ trained numbers in place of $f c$, and keeps $r^2$. A batch of $b$ adds $b r^2$ multiply-adds while training. After that, $P$ is inverted once, with about $r^3$, and each prediction costs $r^2$ more. An ensemble of five
# costs five networks, always.

# %%
m, r, c = 64, 256, 3
layer = GaussianProcessClassificationHead(0, c, num_inducing=r)
layer.build((None, m))
held = {variable.path.split("/")[-1]: tuple(variable.shape) for variable in layer.logits.non_trainable_variables}
print("trained:", [tuple(variable.shape) for variable in layer.trainable_variables], " precision:", held["precision_matrix"])
assert [tuple(variable.shape) for variable in layer.trainable_variables] == [(r, c)] and held["precision_matrix"] == (r, r)
network = 6 * m * m + m * c

# %%
features = 2 ** np.arange(5, 13)
fig, ax = plt.subplots(figsize=(6.5, 2.8))
ax.loglog(features, m * features + features * c + features**2, base=2, label="head: features, logits, variance")
ax.loglog(features, features**3 / 10_000, base=2, label="inversion, shared by 10,000 predictions")
ax.axhline(network, color="black", linestyle=":", label="the network of this lesson")
ax.axhline(5 * network, color="black", linestyle="--", label="five of them")
ax.set(xlabel="random features r", ylabel="multiply-adds")
ax.legend(fontsize="small")
plt.show()

# %% [markdown]
# Up to a few hundred features the head costs less than the four networks that an ensemble adds.
#
# ## Exercises
#
# **1** (easy, 5 minutes). The mean field: logits `(b, c)`, a variance for each example `(b)`, and the factor.


# %%
def shrunk(logits, variance, factor):
    return None  # your turn


_ = check("gaussian_process_head/1", shrunk)

# %% [markdown]
# <details><summary>Hint</summary>One root for each row: it needs an axis for the classes.</details>
# <details><summary>Solution</summary><code>logits / np.sqrt(1 + factor * variance)[:, None]</code></details>
#
# **2** (medium, 10 minutes). The AUROC, from the scores of examples inside and outside: the share of pairs in which the outer score is larger, an equal one counting half. There may be too many for a number for each pair.


# %%
def share_of_pairs(inside, outside):
    return None  # your turn


_ = check("gaussian_process_head/2", share_of_pairs)

# %% [markdown]
# <details><summary>Hint</summary>In a sorted array, <code>np.searchsorted</code> counts what is below a score (<code>side="left"</code>), or at most as large (<code>side="right"</code>).</details>
# <details><summary>Solution</summary>
#
# ```python
# def share_of_pairs(inside, outside):
#     ordered = np.sort(inside)
#     counts = [np.searchsorted(ordered, outside, side=side) for side in ("left", "right")]
#     return np.mean(counts) / len(inside)
# ```
# </details>
#
# **3** (hard, 15 minutes). Equation (2) of `reference/gaussian_process_head/calibration.py`: put predictions into bins of equal width by their confidence, `(k/K, (k + 1)/K]`, a confidence of 0 into the first; the gap between accuracy and mean confidence of each bin, weighed by its share of predictions. No loop over predictions; a bin may be empty.


# %%
def calibration_error(confidence, right, bins):
    return None  # your turn


_ = check("gaussian_process_head/3", calibration_error)

# %% [markdown]
# <details><summary>Hint</summary>The number in a bin cancels: what is left is the sum of <code>right - confidence</code> in each bin, which <code>np.bincount</code> gives.</details>
# <details><summary>Solution</summary>
#
# ```python
# def calibration_error(confidence, right, bins):
#     place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
#     gaps = np.bincount(place, weights=right - confidence, minlength=bins)
#     return np.abs(gaps).sum() / len(confidence)
# ```
# </details>
#
# **To discuss.** A model that answers 0.5 for everything is well calibrated on balanced data. What else do you have to report beside the calibration error, and for whom?
#
# ## Summary
#
# - Confidence far from the data is an answer to a question that training never asked. Five networks give the same answer as one.
# - A bounded body keeps distances, random features turn them into variance, and the mean field turns variance into doubt: an AUROC of nearly 1 where a plain network is below ½.
# - The sum over one pass is a posterior; the moving mean is not, by a factor that grows with the data.
#
# **Further reading.** [Liu et al., 2020](https://arxiv.org/abs/2006.10108): the paper (SNGP). [Lakshminarayanan et al., 2016](https://arxiv.org/abs/1612.01474): deep ensembles. [Guo et al., 2017](https://arxiv.org/abs/1706.04599):
# calibration, and that modern networks lack it. [Lu et al., 2020](https://arxiv.org/abs/2006.07584): mean fields for softmax. [Hein et al., 2018](https://arxiv.org/abs/1812.05720): why ReLU networks are sure far away.
