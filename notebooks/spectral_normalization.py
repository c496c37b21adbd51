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
# # Spectral normalization: a limit on how far a layer can stretch
#
# A layer multiplies differences between its inputs. Spectral normalization puts a bound on by how much.
#
# Paper: [Miyato et al., 2018, section 2.1](https://arxiv.org/abs/1802.05957) · NumPy: [`reference/spectral_normalization/`](../reference/spectral_normalization/__init__.py) · Layer:
# [`layers/spectral_normalization/`](../layers/spectral_normalization/__init__.py) · 25 minutes · You should know: what a singular value is

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.backends import differentiate
from crosscheck.case import TOLERANCE
from crosscheck.cases.spectral_normalization import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from layers.spectral_normalization import SpectralNormalization
from reference import spectral_normalization as ref

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Eighty points, bright to the right and dark to the left, but eight have the wrong label. A network of 128 and 128 units learns them all. What does it believe between the points, and what does one whose three kernels may
# each stretch by 1.5 at most?


# %%
def trained(x, y, bound=None, steps=600):
    """A network after so many steps on all of x; with a bound, one on each of its kernels."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(128, "relu"), keras.layers.Dense(1)]
    if bound:
        layers = [SpectralNormalization(layer, norm_multiplier=bound) for layer in layers]
    model = keras.Sequential(layers)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, steps_per_execution=100, jit_compile=False)
    model.fit(np.tile(x, (steps, 1)), np.tile(y, steps), batch_size=len(x), shuffle=False, verbose=0)
    return model


def steepness(model, x):
    """‖∂logit / ∂x‖ at every x."""
    inputs = {"x": keras.ops.convert_to_tensor(x, "float32")}
    return np.linalg.norm(differentiate(lambda f, x: f(x), model, inputs, {"output": np.ones((len(x), 1))})[2]["x"], axis=1)


# %%
x = rng.uniform(-2, 2, (80, 2))
y = (x[:, 0] > 0) ^ (np.arange(80) < 8)
line = np.linspace(-2.5, 2.5, 61)
grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
models = {"no bound": trained(x, y), "bound 1.5": trained(x, y, 1.5)}

fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), sharey=True)
for ax, (name, model) in zip(axes, models.items()):
    surface = (1 + np.tanh(np.asarray(model(grid)).reshape(61, 61) / 2)) / 2
    image = ax.contourf(line, line, surface, levels=np.linspace(0, 1, 11), cmap="cividis")
    for label, marker in ((0, "s"), (1, "o")):
        ax.plot(*x[y == label].T, marker, color="black" if label == 0 else "white", markeredgecolor="gray", linestyle="none")
    ax.set(title=name, xlabel="$x_1$", aspect="equal")
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes, label="probability of a circle")
plt.show()

# %% [markdown]
# Without a bound there are cliffs around the wrong labels. With one, the network passes over most of them: it *cannot* be steeper than $1.5^3 = 3.375$.

# %% tags=["nbval-ignore-output"]
steepest = {name: steepness(model, grid).max() for name, model in models.items()}
print({name: round(float(value), 1) for name, value in steepest.items()})
assert steepest["no bound"] > 3 * 1.5**3
assert steepest["bound 1.5"] <= 1.5**3 * 1.02

# %% [markdown]
# ## The equation
#
# $$\sigma(W) = \max_x \|x W\| / \|x\| \tag{1}$$
#
# $$v \leftarrow W u / \|W u\|, \qquad u \leftarrow W^\top v / \|W^\top v\| \tag{2}$$
#
# $$\hat\sigma = v^\top W u \tag{3}$$
#
# $$\bar W = W \cdot \min(1, c / \hat\sigma) \tag{4}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $W$ | kernel | `w`, `kernel` | `(m, f)` |
# | $u$, $v$ | the output and the input that are stretched most | `u`, `v` | `(f)`, `(m)` |
# | $\hat\sigma$ | estimate of the largest singular value | `sigma` | |
# | $c$ | bound | `c`, `norm_multiplier` | |
#
# $u$ and $v$ are kept from one training step to the next, each of which does (2) once. Gradients take them for constants, so that $\partial\hat\sigma / \partial W = v u^\top$.
#
# ## By hand
#
# Let $W$ stretch the first axis by 2 and leave the second, and $u = (1, 1)/\sqrt 2$. Then $Wu \propto (2, 1)$, so $v = (2, 1)/\sqrt 5$; $W^\top v \propto (4, 1)$, so $u = (4, 1)/\sqrt{17}$. One round turned $1 : 1$ into
# $4 : 1$, and $\hat\sigma = \|W^\top v\| = \sqrt{17/5} \approx 1.84$. With $c = 0.92$, which is half of that, $\bar W$ is about $W/2$.

# %%
w = np.diag([2.0, 1.0])
sigma, u, v = ref.power_iteration(w, np.array([1.0, 1.0]) / np.sqrt(2))
print("v ∝", v / v[1], " u ∝", u / u[1], f" estimate {sigma:.3f}")
assert np.allclose(v / v[1], [2, 1]) and np.allclose(u / u[1], [4, 1])
assert np.isclose(sigma, np.sqrt(17 / 5)) and np.isclose(ref.estimated_norm(w, u, v), sigma)
assert np.allclose(ref.bounded(w, sigma, sigma / 2), w / 2)

# %% [markdown]
# ## In NumPy

# %%
for function in (ref.stretch, ref.power_iteration, ref.bounded):
    print(inspect.getsource(function))

# %%
w = rng.normal(size=(64, 48))
values = np.linalg.svd(w, compute_uv=False)
sigma, u, v = ref.power_iteration(w, rng.normal(size=48), 200)
stretches = [ref.stretch(x, w) for x in rng.normal(size=(1000, 64))]
print(f"random inputs are stretched by {min(stretches):.1f} to {max(stretches):.1f}, v by {ref.stretch(v, w):.3f}")
assert max(stretches) < sigma and np.isclose(sigma, values[0], rtol=1e-12)

# %% [markdown]
# ## What it does
#
# **How fast does it converge?** Each half of (2) multiplies what is left of the second direction by $\sigma_2/\sigma_1$, and the error of $\hat\sigma$ goes with its square: a factor of $(\sigma_2/\sigma_1)^4$ in each iteration.
# **And is one iteration a step enough?** We let a kernel change a little at each step, and start from the last $u$, or from a new one each time.

# %%
left, right = (np.linalg.qr(rng.normal(size=(n, 5)))[0] for n in (64, 48))
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
rates = {}
for ratio in (0.95, 0.8, 0.5):
    matrix = (left * np.array([1, ratio, 0.3, 0.2, 0.1])) @ right.T
    errors = np.array([1 - ref.power_iteration(matrix, np.ones(48), n)[0] for n in range(1, 31)])
    rates[ratio] = (errors[6] / errors[3]) ** (1 / 3)
    axes[0].semilogy(range(1, 31), np.maximum(errors, 1e-16), markevery=4, label=rf"$\sigma_2/\sigma_1$ = {ratio}")
drift, kept, warm, cold = rng.normal(size=(64, 48)) / 48, u, [], []
for step in range(100):
    drifting = w + step * drift
    largest = ref.spectral_norm(drifting)
    estimate, kept, _ = ref.power_iteration(drifting, rng.normal(size=48) if step == 0 else kept)
    warm.append(1 - estimate / largest)
    cold.append(1 - ref.power_iteration(drifting, rng.normal(size=48))[0] / largest)
axes[1].semilogy(cold, label="a new u each time", markevery=10)
axes[1].semilogy(warm, label="the last u", markevery=10)
axes[0].set(xlabel="iterations", ylabel="relative error of σ̂")
axes[1].set(xlabel="step of training", ylabel="relative error of σ̂")
_ = [ax.legend() for ax in axes]
plt.show()

# %% [markdown]
# The slopes are those of the formula. And a kept $u$ follows a kernel that moves slowly, with one iteration a step, from which a new one would always be far away.

# %%
print({ratio: f"{rate:.3f} for {ratio**4:.3f}" for ratio, rate in rates.items()})
assert all(abs(rate / ratio**4 - 1) < 0.1 for ratio, rate in rates.items())
assert max(warm[50:]) < 0.01 < 0.1 < min(cold)

# %% [markdown]
# **What does a bound change in a trained network?** In twenty dimensions, 200 points, a tenth of them with a wrong label. Both networks learn all of them by heart. How steep are they at 2,000 points that they have not seen?

# %%
x, x_test = rng.normal(size=(200, 20)), rng.normal(size=(2000, 20))
teacher = rng.normal(size=20)
y = (x @ teacher > 0) ^ (np.arange(200) < 20)
right_answers, steep, learned = {}, {}, {}
for name, bound in (("no bound", None), ("bound 1.5", 1.5)):
    model = trained(x, y, bound)
    learned[name] = np.mean((np.asarray(model(x))[:, 0] > 0) == y)
    right_answers[name] = np.mean((np.asarray(model(x_test))[:, 0] > 0) == (x_test @ teacher > 0))
    steep[name] = steepness(model, x_test)

fig, ax = plt.subplots(figsize=(6.5, 2.8))
for (name, values), style in zip(steep.items(), ("stepfilled", "step")):
    ax.hist(values, bins=np.geomspace(0.3, 50, 50), histtype=style, linewidth=2, alpha=0.7, label=name)
ax.axvline(1.5**3, color="black", linestyle=":", label="$1.5^3$")
ax.set(xscale="log", xlabel=r"steepness $\|\partial\,\mathrm{logit} / \partial x\|$", ylabel="points")
ax.legend()
plt.show()

# %% [markdown]
# The bounded network is several times less steep, although it knows the same. It also gets a few more of the new points right, but so few that one draw of the examples is **no** evidence that it generalizes better.

# %% tags=["nbval-ignore-output"]
for name in steep:
    print(f"{name}: learned {learned[name]:.2f}, right {right_answers[name]:.2f}, median steepness {np.median(steep[name]):.1f}")
assert min(learned.values()) > 0.98
assert np.median(steep["no bound"]) > 2.5 * np.median(steep["bound 1.5"]) and steep["bound 1.5"].max() < 1.5**3 * 1.02
assert -0.03 < right_answers["bound 1.5"] - right_answers["no bound"] < 0.12

# %% [markdown]
# **Which definition does a library mean?** Four are in use. Miyato et al. divide: $W/\hat\sigma$. Liu et al. bound: (4). Gouk et al., and the Model Garden, bound and write the result into the trained kernel. Keras divides, and
# writes. We call each twenty times, on a kernel with $\sigma = 3$ and on one with $\sigma = 0.3$.


# %%
def calls(definition, start, count=20):
    """σ of the kernel that each call uses, and of the trained kernel after the last; none of them starts warm."""
    used, w, u = [], start, np.ones(48)
    if definition == "Keras":
        layer = keras.layers.SpectralNormalization(keras.layers.Dense(48, use_bias=False))
        layer.build((None, 64))
        layer.set_weights([start, np.random.default_rng(0).normal(size=(1, 48))])
    for _ in range(count):
        if definition == "Keras":
            layer(np.zeros((1, 64)), training=True)
            used.append(ref.spectral_norm(np.asarray(layer.layer.kernel, "float64")))
            continue
        sigma, u, _ = ref.power_iteration(w, u)
        effective = w / sigma if definition == "divided" else ref.bounded(w, sigma, 0.95)
        w = effective if definition == "projected" else w
        used.append(ref.spectral_norm(effective))
    return used, used[-1] if definition == "Keras" else ref.spectral_norm(w)


# %%
names = {
    "divided": "divided (Miyato)",
    "bounded": "bounded (here)",
    "projected": "projected (Model Garden)",
    "Keras": "Keras core",
}
results = {
    start: {name: calls(name, w / values_of * start) for name in names}
    for values_of in [ref.spectral_norm(w)]
    for start in (3.0, 0.3)
}

fig, axes = plt.subplots(1, 2, figsize=(9, 3))
for ax, (start, by_name) in zip(axes, results.items()):
    for name, label in names.items():
        ax.plot(range(1, 21), by_name[name][0], markevery=3, label=label)
    ax.set(title=f"trained kernel with σ = {start}", xlabel="training calls", ylabel="σ of the kernel in use", ylim=(0, None))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# A large kernel ends at the bound, or at 1, in all of them. The small one shows the difference: a bound leaves it alone, division stretches it to 1. And two of the four have replaced the kernel that was being trained, so that the
# optimizer, whose averages belong to the old one, no longer knows where it is.

# %%
after = {start: {name: round(float(kept), 2) for name, (_, kept) in by_name.items()} for start, by_name in results.items()}
print("σ of the trained kernel afterwards:", after)
used = {start: {name: series[-1] for name, (series, _) in by_name.items()} for start, by_name in results.items()}
assert all(0.93 < used[3.0][name] < 1.05 for name in names)
assert np.isclose(used[0.3]["bounded"], 0.3) and np.isclose(used[0.3]["projected"], 0.3)
assert used[0.3]["divided"] > 0.95 and used[0.3]["Keras"] > 0.95
assert np.isclose(after[3.0]["divided"], 3) and np.isclose(after[3.0]["bounded"], 3)
assert max(after[3.0]["projected"], after[3.0]["Keras"]) < 1.1

# %% [markdown]
# All four start above their bound, because the first estimates are too small. Ours does so here alone: the layer runs the iteration on its initial kernel when it is built.

# %%
start = keras.initializers.RandomNormal(stddev=1.0, seed=0)
first = {}
layer = SpectralNormalization(keras.layers.Dense(48, use_bias=False, kernel_initializer=start))
first["ours"] = ref.spectral_norm(np.asarray(layer(np.eye(64)), "float64"))
first["one iteration"] = results[3.0]["bounded"][0][0]
print({name: round(float(value), 2) for name, value in first.items()})
assert abs(first["ours"] - 0.95) < 1e-3 and first["one iteration"] > 1.1

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A convolution is not its kernel.** The paper reshapes a kernel of $3 \times 3$ windows to a matrix and bounds that. But the windows overlap, so that a pixel counts up to nine times. How far does a convolution, whose
# reshaped kernel has $\sigma = 0.95$, stretch an image? Let us ask for images of growing size, with one kernel drawn at random and one that averages.

# %%
sizes = range(1, 11)
kernels = {"random": rng.normal(size=(3, 3, 2, 2)), "average": np.ones((3, 3, 1, 1))}
fig, ax = plt.subplots()
norms = {}
for name, kernel in kernels.items():
    kernel = ref.bounded(kernel, ref.spectral_norm(kernel.reshape(-1, kernel.shape[-1])), 0.95)
    norms[name] = [ref.spectral_norm(ref.convolution_matrix(kernel, (n, n), (1, 1), "same")) for n in sizes]
    ax.plot(sizes, norms[name], label=f"{name} kernel")
ax.axhline(0.95, color="black", linestyle=":", label="σ of the reshaped kernel")
ax.axhline(0.95 * 3, color="black", linestyle="--", label="that, times √9")
ax.set(xlabel="height and width of the image", ylabel="σ of the convolution", ylim=(0, 3.1))
ax.legend(ncols=2, loc="lower right")
plt.show()

# %% [markdown]
# By more than twice as far as it should, and at most $\sqrt{9}$ times. With `image_size` the layer iterates with the convolution and its transpose, and the bound holds for what it does.

# %%
bound = {}
for image_size in (None, (8, 8)):
    start = keras.initializers.Constant(1.0)
    convolution = keras.layers.Conv2D(1, 3, padding="same", use_bias=False, kernel_initializer=start, dtype="float64")
    layer = SpectralNormalization(convolution, image_size=image_size)
    bound[image_size] = ref.spectral_norm(np.reshape(layer(np.eye(64).reshape(64, 8, 8, 1)), (64, 64)))
print({str(size): round(float(value), 3) for size, value in bound.items()})
assert bound[None] > 2 * 0.95 and np.isclose(bound[8, 8], 0.95)
assert all(max(series) <= 0.95 * 3 and np.all(np.diff(series) > 0) for series in norms.values())

# %% [markdown]
# **Differs from the paper.** A kernel below the bound is left alone (4), where the paper divides; the iteration starts warm; and the map of an EinsumDense is taken for what it is, whichever axis its kernel has last.
#
# ## What it costs
#
# One iteration is two products with the kernel, $2 m f$ multiply-adds, and $\hat\sigma$ a third. The layer itself needs $m f$ for each row of its input. Beside the kernel there are $m + f$ more numbers, and while it is used a
# second kernel.

# %%
m, f = 64, 48
with multiply_adds() as counted:
    ref.power_iteration(rng.normal(size=(m, f)), np.ones(f), 5)
layer = SpectralNormalization(keras.layers.Dense(f))
layer.build((None, m))
vectors = [variable.shape[0] for variable in layer.non_trainable_variables]
print("multiply-adds of five iterations:", sum(counted[:-1]), " numbers in u and v:", sum(vectors))
assert sum(counted[:-1]) == 5 * 2 * m * f and sum(vectors) == m + f

# %%
rows = 2 ** np.arange(0, 14)
fig, ax = plt.subplots(figsize=(6.5, 2.8))
for iteration in (1, 5):
    ax.loglog(rows, (2 * iteration + 1) / rows, base=2, label=f"iteration={iteration}")
ax.axhline(0.01, color="black", linestyle=":", marker="none", label="one in a hundred")
ax.set(xlabel="rows of the input, b t", ylabel="σ̂ / forward pass")
ax.legend()
plt.show()

# %% [markdown]
# The price does not grow with the input: from 300 rows on it is under a hundredth of the forward pass.
#
# ## Exercises
#
# **1** (easy, 5 minutes). One power iteration for `w` `(m, f)` and `u` `(f)`, which need not have length one: return $\hat\sigma$, and the new $u$ and $v$.


# %%
def one_step(w, u):
    return None  # your turn


_ = check("spectral_normalization/1", one_step)

# %% [markdown]
# <details><summary>Hint</summary>Equation (2) from left to right; then the new vectors go into (3).</details>
# <details><summary>Solution</summary><code>v = w @ u / np.linalg.norm(w @ u); u = v @ w / np.linalg.norm(v @ w); return v @ w @ u, u, v</code></details>
#
# **2** (medium, 10 minutes). The heads' outputs go back to the model through a kernel `(h, e, m)`, summed over heads. By how much can that map stretch?


# %%
def out_of_heads_norm(kernel):
    return None  # your turn


_ = check("spectral_normalization/2", out_of_heads_norm)

# %% [markdown]
# <details><summary>Hint</summary>What goes in has h · e numbers. <code>np.linalg.norm(matrix, 2)</code> is the largest singular value.</details>
# <details><summary>Solution</summary><code>h, e, m = kernel.shape; return np.linalg.norm(kernel.reshape(h * e, m), 2)</code></details>
#
# **3** (hard, 15 minutes). The gradient. With `g` `(m, f)` the gradient of the loss for $\bar W = W c / \hat\sigma$, where $\hat\sigma = v^\top W u$, return the one for $W$; `u` and `v` are constant.


# %%
def through_the_norm(w, u, v, g, c):
    return None  # your turn


_ = check("spectral_normalization/3", through_the_norm)

# %% [markdown]
# <details><summary>Hint</summary>A product rule: W counts once where it is multiplied, and once in $\hat\sigma$, whose gradient is $v u^\top$.</details>
# <details><summary>Solution</summary><code>s = v @ w @ u; return c / s * (g - np.sum(g * w) / s * np.outer(v, u))</code></details>
#
# **To discuss.** A bound on every layer is a bound on the whole network, and often a very loose one. How would you measure how loose it is, and would a tighter one help?
#
# ## Summary
#
# - The largest singular value is the most that a layer stretches; power iteration finds it at the price of a few rows, and a kept $u$ keeps up with training.
# - A bounded network is less steep, however much it has learned. Bounding is not dividing, and neither should overwrite what is being trained.
# - For a convolution the reshaped kernel is not the map: ask for the map with `image_size`.
#
# **Further reading.** [Miyato et al., 2018](https://arxiv.org/abs/1802.05957): the paper. [Yoshida and Miyato, 2017](https://arxiv.org/abs/1705.10941): the same norm as a penalty. [Gouk et al., 2018](https://arxiv.org/abs/1804.04368):
# projection after each step, and convolutions. [Sedghi et al., 2018](https://arxiv.org/abs/1805.10408): all singular values of a convolution. [Liu et al., 2020](https://arxiv.org/abs/2006.10108): why a network that should know
# what it does not know needs the bound, in the [next chapters](gaussian_process.ipynb).
