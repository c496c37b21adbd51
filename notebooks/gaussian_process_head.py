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
# # Gaussian process head
#
# A classifier's last layer that also returns a variance: small near the examples of training, and that of the prior far from all of them.
#
# Paper: [Liu et al., 2020, section 3](https://arxiv.org/abs/2006.10108) · NumPy: [`reference/gaussian_process_head/`](../reference/gaussian_process_head/__init__.py) · Layer:
# [`layers/gaussian_process_head.py`](../layers/gaussian_process_head.py) · 35 minutes · You should know: [spectral normalization](spectral_normalization.ipynb) and the
# [Gaussian process on random features](gaussian_process.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from crosscheck.cases.gaussian_process_head import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import weights_of
from experiments import gaussian_process_head as experiment
from experiments.common.results import stored
from experiments.gaussian_process_head import networks
from layers.gaussian_process_head import GaussianProcessClassificationHead
from reference import gaussian_process_head as ref
from reference.common.activations import sigmoid
from reference.gaussian_process import random_features
from reference.gaussian_process_head.posterior import mean_field_logits

figures.use_style()
rng = np.random.default_rng(0)
pinwheel = stored("gaussian_process_head")["pinwheel"]

# %% [markdown]
# ## The question
#
# A network learns to tell the three arms of a pinwheel apart, from 200 examples. The arms overlap: even with the true probabilities, one answer in twelve is wrong. Around them lies a square, most of which has no example. How
# sure is the network there? And is the mean of five networks, trained from different starts, less sure?

# %%
rates = {row: experiment.rate_of(pinwheel, row) for row in experiment.ROWS}
ensemble, x, y, draw = experiment.trained("ensemble", rates["ensemble of five"], seed=0)
line = np.linspace(-networks.HALF, networks.HALF, 61)
square = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
new, answers = networks.pinwheel(draw, 1000)
outside = {place: networks.unknown(draw, x, place) for place in networks.PLACES}


# %%
def surface(ax, values, title, levels):
    """Values over the square, with the examples."""
    image = ax.contourf(line, line, values.reshape(61, 61), levels=levels, cmap="cividis")
    for label, marker in enumerate("os^"):
        ax.plot(*x[y == label].T, marker, color="white", markeredgecolor="black", markersize=3.5, linestyle="none")
    ax.set(title=title, xlabel="$x_1$", aspect="equal")
    ax.grid(False)
    return image


# %%
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), sharey=True)
titles = {"alone": "one network is sure where it has seen nothing", "averaged": "so is the mean of five"}
for ax, (reading, (_, doubt)) in zip(axes, ensemble.answers(square).items()):
    image = surface(ax, 1 - doubt, titles[reading], np.linspace(0.3, 1, 15))
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes, label="confidence: the largest probability")
figures.show()

# %%
sure = {
    (reading, place): (1 - doubt).mean()
    for place, points in {"new examples": new, **outside}.items()
    for reading, (_, doubt) in ensemble.answers(points).items()
}
print(f"the true probabilities: {experiment.of_truth(pinwheel, 'right').mean():.3f} of the answers right")
for reading in titles:
    print(f"{reading:9} mean confidence:", {place: round(float(sure[reading, place]), 2) for place in ("new examples", *outside)})
    assert sure[reading, "far"] > sure[reading, "new examples"]

# %% [markdown]
# Both are surer of points far from every example (2 and more away) than of examples. ReLU networks are: beyond the last kink they are straight, so their logits grow with the distance
# ([Hein et al., 2018](https://arxiv.org/abs/1812.05720)). That more networks do not help is the less obvious part: all five grow.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("$x_{CLS}$", 0.5, 0, "data"), "pool": Box("$\\bar{W}$, bounded", 0.5, 1, "map"), "tanh": Box("tanh", 0.5, 2)}
boxes |= {"phi": Box("$\\Phi$: fixed waves", 0.5, 3, width=1.2), "beta": Box("$\\beta$", 0, 4, "map")}
boxes |= {"p": Box("$P$: examples seen", 1.7, 3, "data"), "v": Box("$\\rho\\,\\Phi^\\top P^{-1}\\Phi$", 1, 4, width=1.1)}
boxes |= {"field": Box("$g/\\sqrt{1+\\lambda v}$", 0.5, 5, width=1.1), "out": Box("logits", 0.5, 6, "data")}
arrows = [("x", "pool", "(b, m)"), ("pool", "tanh", "(b, f)"), ("tanh", "phi", "h (b, f)"), ("phi", "beta", "(b, r)")]
arrows += [("phi", "v", "(b, r)"), ("p", "v", "(r, r)"), ("beta", "field", "g (b, c)"), ("v", "field", "v (b)")]
diagram(boxes, [*arrows, ("field", "out", "(b, c)")])
figures.show()

# %% [markdown]
# Blue boxes have trained weights. $P$ is not trained: it adds up the features of all examples, in one pass.
#
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
# | $\bar W$ | pooler, whose spectral norm $\hat\sigma$ is bounded by $c$ | `pooler_dense` | `(m, f)` |
# | $\Phi(h)$ | random features | `phi` | `(b, r)` |
# | $g$, $v$ | logits and their variance, the same for all classes | `logits`, `covariance` | `(b, c)`, `(b)` |
# | $P$ | precision: what was seen | `precision_matrix` | `(r, r)` |
# | $\lambda$ | factor of the mean field | `temperature` | |
#
# The paper gives three reasons. The **process** (2) returns to its prior far from all $h_i$: $g$ to 0, $v$ to 1. The **bound** (1), on every layer of the network, keeps what is far in $x$ far in $h$. The **mean field** (3) makes a logit count less if its
# variance is large. Below we take away each of them.
#
# One thing is known before: $v$ is at most that of the prior, about 1, so (3) divides by at most $\sqrt{1 + \lambda}$. It can soften an answer, and not more.
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

# %% [markdown]
# ## In NumPy
#
# **The pooler**, for one vector. We use the exact spectral norm where the layer has an estimate by power iteration.

# %%
layer, inputs = CHAPTER.cases[0].make()
weights = weights_of(layer, ref.GaussianProcessHeadWeights)
token = inputs["features"][0, 0]
kernel, bias = weights.pooler_dense[0]
norm = np.linalg.norm(kernel, 2)
h = np.tanh(token @ kernel * min(1, 0.95 / norm) + bias)
print(f"norm of the kernel {norm:.2f}, bounded {min(norm, 0.95):.2f}; h has {len(h)} numbers")
assert np.allclose(h, ref.pooled(token[None], weights.pooler_dense)[0])

# %% [markdown]
# **Features**: waves with directions and starts that are drawn once.

# %%
process = weights.logits
waves, starts = process.random_features
phi = np.sqrt(2 / len(starts)) * np.cos(h @ waves / np.exp(process.log_kernel_scale / 2) + starts)
print("features", phi.shape, " their square length, the prior variance:", (phi @ phi).round(2))

# %% [markdown]
# **Logits and variance**: one product, and one linear system. With few features the prior variance is near 1, not exactly 1.

# %%
g = phi @ process.gp_output_weights.kernel + process.gp_output_bias
v = phi @ np.linalg.solve(process.precision_matrix, phi)
print("logits", g.round(2), " variance", v.round(2))

# %% [markdown]
# **The mean field**; and the reference, which is these four steps.

# %%
logits = g / np.sqrt(1 + np.pi / 8 * v)
print("divided by", np.sqrt(1 + np.pi / 8 * v).round(2), "to", logits.round(2))
print(inspect.getsource(ref.head_one))
assert np.allclose(logits, ref.head_one(token, weights, np.pi / 8))

# %% [markdown]
# **For a batch**, each step has one more axis.

# %%
print(inspect.getsource(ref.gaussian_process_head).split('"""')[2])
together = ref.gaussian_process_head(inputs["features"], weights, factor=np.pi / 8).logits
alone = [ref.head_one(one, weights, np.pi / 8) for one in inputs["features"][:, 0]]
assert np.allclose(together, alone, rtol=1e-12) and np.allclose(together, layer(**inputs), rtol=1e-12)

# %% [markdown]
# ## What it does
#
# **Does a network with this head know where it has seen nothing?** The same body with bounded layers, and the head, trained just now. [The experiment](../experiments/gaussian_process_head/__init__.py) trains it, and each rival, with three
# learning rates on ten draws of the examples, 400 steps each. Each takes the rate with the least loss on further examples; unknown points have no say in it.

# %%
rate = rates["full"]
network, x, y, draw = experiment.trained("full", rate, seed=0)
chosen_on, labels = networks.pinwheel(draw, 1000)
loss = experiment.loss_of(network.answers(chosen_on)["mean field"][0], labels)
print(
    f"loss on further examples, trained just now: {loss:.2f} nats (the true probabilities: {pinwheel.values('truth', 'full')[0]['nll']:.2f})"
)
assert pinwheel.contains(loss, "nll", "full", rate)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), sharey=True)
readings = network.answers(square)
image = surface(axes[0], 1 - readings["mean field"][1], "with the head, it is unsure there", np.linspace(0.3, 1, 15))
fig.colorbar(image, ax=axes[0], label="confidence")
image = surface(axes[1], readings["variance"][1], "its variance is that of the prior", np.linspace(0, 1.2, 13))
fig.colorbar(image, ax=axes[1], label="variance v")
axes[0].set_ylabel("$x_2$")
figures.show()

# %% [markdown]
# **Which part does that?** If one unknown point and one new example are drawn, how often is the network less sure of the unknown one? That is the area under the ROC curve (AUROC): 1 is always, ½ is guessing. Unknown points
# "nearby" are between 0.5 and 1 away from the nearest example, those "far" more than 2. The rows take one part away, or ask another way: *variance alone* is the doubt $v$ of the full network, without any probability.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.3), sharey=True)
for ax, place in zip(axes, ("near", "far")):
    for row, name in enumerate(experiment.ROWS):
        color = figures.COLORS[0 if name in experiment.WITH_PROCESS else 1]
        found = experiment.measured(pinwheel, place, name)
        ax.plot(found, [row] * len(found), "o", color=color, linestyle="none", alpha=0.6, clip_on=False)
    ax.axvline(0.5, color="black", linestyle=":", marker="none")
    ax.set(
        xlim=(0, 1),
        xlabel="AUROC, ten draws (dotted: guessing)",
        title=f"unknown points {'nearby' if place == 'near' else place}",
    )
axes[0].set_yticks(range(len(experiment.ROWS)), experiment.ROWS)
axes[0].set_ylim(len(experiment.ROWS) - 0.5, -0.5)
fig.suptitle("the Gaussian process does it (blue); without it, worse than guessing", fontsize="medium")
figures.show()

# %%
print(f"{'':18}rate    nearby: worst, median   far: worst, median")
for row in experiment.ROWS:
    near, far = (experiment.measured(pinwheel, place, row) for place in ("near", "far"))
    print(f"{row:18}{rates[row]:<8g}{near.min():.3f}, {np.median(near):.3f}{'':12}{far.min():.3f}, {np.median(far):.3f}")

# %%
by_row = {
    row: np.concatenate([experiment.measured(pinwheel, place, row) for place in networks.PLACES]) for row in experiment.ROWS
}
assert min(by_row[row].min() for row in experiment.WITH_PROCESS) > 1 / 2  # whatever the draw
assert max(by_row[row].max() for row in experiment.WITHOUT) < 1 / 2
sides = {
    (row, rate): np.concatenate([experiment.measured(pinwheel, place, row, rate) for place in networks.PLACES])
    for row in experiment.ROWS
    for rate in pinwheel.experiment.rates
}
assert all(((values > 1 / 2) == (row in experiment.WITH_PROCESS)).all() for (row, _), values in sides.items())

# %%
for more, less in (("full", "no mean field"), ("variance alone", "full"), ("full", "no bound"), ("no bound", "no bound, no sum")):
    parts = [experiment.gains(pinwheel, more, less, place) for place in ("near", "far")]
    print(f"{more} over {less}:", *(f"{place} {experiment.span(part, 3)}  " for place, part in zip(("near", "far"), parts)))

# %% [markdown]
# **The process does it.** With it, in every draw, unknown points are told from examples, whatever else is taken away. Without it, bounded or not, one network or five, the AUROC is below one half: the network is surer of the unknown points.
#
# **The mean field is not needed for this.** Without it the AUROC is hardly lower, because far from all examples the mean logits fall to 0 by themselves. The variance alone tells best: it does not confuse an unknown point with an example on the border
# between two arms, where probabilities are even too.
#
# **Nor is the bound, here.** Without it, points nearby are told apart a little better and far ones a little worse. The argument for the bound is that layers may map distant points to one place. Three layers on points of a plane do not; without the residual
# sums as well, nearby points suffer most. So this experiment gives the bound no credit for the AUROC. It does not show that a deep network could do without it.
#
# **When does only the variance warn?** Above, the mean logit falls to 0 as fast as the variance rises to 1, so one says what the other does. That is because no class is more frequent. Let one in twenty be ill, and give the logit a
# bias, as any classifier of rare things needs. Far away $g$ is then the bias: the answer is "healthy", as often as people are healthy. Here for one measurement; weights and bias by Newton's method, ten draws.


# %%
def newton(phi, ill, steps=8):
    """Output weights, with a penalty of ‖β‖²/2, and a bias without one."""
    phi = np.append(phi, np.ones((len(phi), 1)), axis=1)
    penalty, beta = np.eye(phi.shape[1]), np.zeros(phi.shape[1])
    penalty[-1, -1] = 0
    for _ in range(steps):
        p = sigmoid(phi @ beta)
        beta -= np.linalg.solve(penalty + (p * (1 - p) * phi.T) @ phi, phi.T @ (p - ill) + penalty @ beta)
    return beta[:-1], beta[-1]


# %%
def screening(seed, count=400):
    """A head that was fitted to one measurement of people of whom one in twenty is ill, the measurements, and who is ill."""
    rng, ill = np.random.default_rng(seed), np.arange(count) % 20 == 0
    x = (rng.normal(size=count) + 4 * ill)[:, None]
    options = {"num_inducing": 512, "gp_cov_momentum": -1, "dtype": "float64"}
    head = GaussianProcessClassificationHead(0, 1, temperature=np.pi / 8, seed=seed, **options)
    head.build((None, 1))
    features = weights_of(head, ref.GaussianProcessHeadWeights).logits.random_features
    beta, bias = newton(random_features(x, features), ill)
    head.logits.gp_output_weights.kernel.assign(beta[:, None])
    head.logits.output_bias.assign([bias])
    head(x, training=True)
    return head, x, ill


# %%
def read(head, x):
    """Probability of being ill by the mean, the same after the mean field, and the variance."""
    g, v = (ops.convert_to_numpy(part) for part in head.logits(x, diagonal=True))
    return sigmoid(g[:, 0]), sigmoid(mean_field_logits(g, v)[:, 0]), v


# %%
asked = np.linspace(-15, 15, 301)[:, None]
head, measured, ill = screening(0)
mean, field, v = read(head, asked)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3), sharex=True)
for values, name, shift in ((mean, "by the mean", (0, -14)), (field, "after the mean field", (0, 8))):
    (curve,) = axes[0].plot(asked, values, marker="none")
    axes[0].annotate(name, (-14, values[10]), shift, textcoords="offset points", color=curve.get_color())
axes[0].plot(measured, ill, "|", color="black", linestyle="none", markersize=8)
axes[0].set(
    xlabel="measurement (ticks: examples)", ylabel="probability of being ill", title='far away: "healthy"', ylim=(-0.1, 1.1)
)
axes[1].plot(asked, v, marker="none")
axes[1].set(xlabel="measurement", ylabel="variance v", title="only the variance warns", ylim=(0, 1.2))
figures.show()

# %%
far = np.array([[-40.0], [-30.0], [30.0], [40.0]])
parts = [(read(head, far), read(head, known)[2]) for head, known, _ in map(screening, range(10))]
means, fields, variances = np.array([part for part, _ in parts]).transpose(1, 0, 2)
known = [np.quantile(v, 0.99) for _, v in parts]
print(f"probability of being ill, far away: by the mean {experiment.span(means)}, after the mean field {experiment.span(fields)}")
print(f"variance: far away {experiment.span(variances)}; 99 of 100 examples below {np.max(known):.2f}")
assert fields.max() < 1 / 4 and variances.min() > max(known)  # a quarter is halfway from healthy for certain to unsure

# %% [markdown]
# Far away the answer is "healthy": a probability well below one half, at a place where nobody was ever measured. The mean field moves it little, because it divides the logit by at most $\sqrt{1 + \pi/8}$. The variance is the prior's, far above that of the
# examples. Whoever sees only probabilities is not warned: a head like this has to report $v$ beside them.
#
# **Does the confidence come true?** Of all answers with a confidence of about 0.8, 0.8 should be right. The *expected calibration error* is the mean distance from that. It is not 0 for the true probabilities either, because
# the 3,000 new examples of a draw are few; that is the bound. Ten draws, each with 200 examples of its own.

# %%
rows = ("full", "no mean field", "no bound", "no process", "one network", "ensemble of five")
errors = {row: experiment.measured(pinwheel, "ece", row) for row in rows} | {"the truth": experiment.of_truth(pinwheel, "ece")}
fig, ax = plt.subplots(figsize=(6.8, 3.1))
for row, (name, values) in enumerate(errors.items()):
    color = figures.COLORS[4 if name == "the truth" else 0 if name in experiment.WITH_PROCESS else 1]
    ax.plot(values, [row] * len(values), "o", color=color, linestyle="none", alpha=0.6, clip_on=False)
    ax.plot(np.median(values), row, "|", color=color, markersize=16, markeredgewidth=2)
ax.set_yticks(range(len(errors)), errors)
ax.set(xlim=(0, None), ylim=(len(errors) - 0.5, -0.5), xlabel="expected calibration error, ten draws (bar: median)")
ax.set_title("at its best rate, the head comes nearest to the truth")
figures.show()

# %%
full = errors["full"]
for name, values in errors.items():
    better = "" if name in ("full", "the truth") else f"   full is better in {(full < values).sum()} of {len(full)} draws"
    print(f"{name:18}{np.median(values):.3f} ({experiment.span(values, 3)}){better}")
for row in ("full", "one network", "ensemble of five"):
    by_rate = {rate: np.median(experiment.measured(pinwheel, "ece", row, rate)) for rate in pinwheel.experiment.rates}
    print(f"{row:18}median by rate:", *(f"{rate:g}: {error:.3f}  " for rate, error in by_rate.items()))

# %%
paper = {"one network": (0.159, 0.0231), "full": (0.134, 0.007)}
for row, (nll, ece) in paper.items():
    ours = np.median(experiment.measured(pinwheel, "nll", row))
    print(
        f"{row:13}authors, CIFAR-10: loss {nll:.3f}, error {ece:.3f}   here: loss {ours:.3f}, error {np.median(errors[row]):.3f}"
    )

# %% [markdown]
# Each at its best rate, the head is better calibrated than its rivals in eight or nine of ten draws: on average, not always. By the medians, the bound alone (*no process*) takes the error of one network from 0.039 to 0.026, the process
# alone (*no bound*) to 0.021, and both to 0.014. Is that so at every rate? We add one part at a time, at equal rates:

# %%
added = {"process, to one network": ("no bound", "one network"), "process, to the bound": ("full", "no process")}
added |= {"bound, to one network": ("no process", "one network"), "bound, to the process": ("full", "no bound")}
added |= {"mean field": ("full", "no mean field")}
wins = {
    part: [
        int((experiment.measured(pinwheel, "ece", more, rate) < experiment.measured(pinwheel, "ece", less, rate)).sum())
        for rate in pinwheel.experiment.rates
    ]
    for part, (more, less) in added.items()
}
for part, counts in wins.items():
    print(f"{part:24}lowers the error in {counts} of 10 draws, at rates {pinwheel.experiment.rates}")
assert all(counts[1] > 5 for part, counts in wins.items() if part != "mean field")

# %% [markdown]
# **It depends on the rate.** At 0.003, the best rate of the head, process and bound both help, and the mean field makes no difference. At 0.01 the process by itself still helps, but adding the bound to it does harm in nine of ten draws, and the mean field helps in all ten. With 0.001 the head is not trained to its end after 400 steps, so it is too unsure, and its error is larger than its rivals'. (The AUROC above is on the
# same side of one half at every rate.) And a rival's confidence can be mended afterwards by one number that divides its logits ([Guo et al., 2017](https://arxiv.org/abs/1706.04599)); that is not tried here. The authors' numbers are for another network and other
# data: what carries over is the order.
#
# ## Where it breaks
#
# **π/8 is for one logit.** Under softmax all logits vary, and the difference of two has the variance $2v$. So for two classes $\lambda = \pi/4$ is right, which the experiment uses. We compare both with means over 20,000 draws, at $v = 4$.

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
    print(f"{what:9} λ = π/{part}: wrong by at most {error:.2f}")
assert off["one logit", 8] < off["one logit", 4] and off["softmax", 4] < off["softmax", 8]

# %% [markdown]
# **And $P$ must be a sum.** With `gp_cov_momentum` above 0, the default, it is a moving mean, and the variance is far too large near the examples. [The lesson on the process](gaussian_process.ipynb) shows by how much. Use
# `gp_cov_momentum=-1`, and add up the precision in one pass after training; in `fit`, `ResetCovarianceCallback` resets it before each epoch.
#
# **Differs from the paper.** It averages softmax over draws, and has a precision for each class, weighted by $p(1-p)$. Here one serves all, with weight 1, which is never smaller: examples count more than they should, and the variance is
# smaller than the paper's.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
shown = ("mean-field", "no-mean-field", "not-bounded", "no-pooler", "no-process")
cases = tuple(case for case in CHAPTER.cases if case.name.split("/")[1] in shown)
agreement, agrees = figures.agreement_line(replace(CHAPTER, cases=cases))
assert agrees
agreement

# %% [markdown]
# ## Today
#
# Heads of this kind stay in use where one network must do: in extensions of large pretrained models ([Tran et al., 2022](https://arxiv.org/abs/2207.07411)), and as Laplace approximations of a trained network's last layer
# ([Daxberger et al., 2021](https://arxiv.org/abs/2106.14806)). Others learn the process's inducing points together with a bounded body ([van Amersfoort et al., 2021](https://arxiv.org/abs/2102.11409)). For language models the question has
# moved: is the *answer* known? A model can be asked for the probability that its own answer is right ([Kadavath et al., 2022](https://arxiv.org/abs/2207.05221)), or several answers can be drawn and compared by meaning
# ([Kuhn et al., 2023](https://arxiv.org/abs/2302.09664)).
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
# - The Gaussian process tells unknown inputs from known ones: there, its logits fall to 0 and its variance rises to the prior's. One network, or the mean of five, is surer of unknown inputs than of examples.
# - Neither mean field nor bound is needed for that on these data. The variance alone tells best, and where one class is rare, only the variance warns.
# - Trained at its best rate, the head's confidence comes true better than that of one network or of five, in eight or nine of ten draws. There, the process and the bound both help; at a larger rate the bound does harm.
#
# **Further reading.** [Liu et al., 2020](https://arxiv.org/abs/2006.10108): the paper (SNGP). [Lakshminarayanan et al., 2016](https://arxiv.org/abs/1612.01474): deep ensembles. [Guo et al., 2017](https://arxiv.org/abs/1706.04599):
# calibration, and that modern networks lack it. [Lu et al., 2020](https://arxiv.org/abs/2006.07584): mean fields for softmax. [Hein et al., 2018](https://arxiv.org/abs/1812.05720): why ReLU networks are sure far away.
