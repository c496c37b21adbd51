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
# # Masked softmax: nothing means nothing
#
# Softmax turns scores into weights. A mask must make some of them zero; how that is done decides what happens when a row has nothing left.
#
# Paper: [Vaswani et al., 2017, section 3.2.1](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/masked_softmax.py`](../reference/masked_softmax.py) · Layer:
# [`layers/masked_softmax.py`](../layers/masked_softmax.py) · 15 minutes · You should know: [masks](self_attention_mask.ipynb)

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.masked_softmax import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from layers.masked_softmax import MaskedSoftmax
from reference.masked_softmax import masked_softmax, masked_softmax_row

figures.use_style()
rng = np.random.default_rng(0)


def softmax(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


# %% [markdown]
# ## The question
#
# A common recipe adds a large negative number to the scores that are forbidden: $-10^9$, or $-\infty$ as the paper has it. **What does each make of a row in which everything is forbidden**, such as
# that of an empty document in a batch?

# %%
scores = np.array([2.0, 1.0, 0.0, -1.0], "float32")
with np.errstate(invalid="ignore"):
    rows = {
        "add −10⁹": softmax(scores + np.float32(-1e9)),
        "set to −∞": softmax(np.full_like(scores, -np.inf)),
        "ours": masked_softmax(scores, np.zeros(4, bool)),
    }
fig, axes = plt.subplots(1, 3, figsize=(8, 2.4), sharey=True)
for ax, (name, row) in zip(axes, rows.items()):
    ax.bar(range(4), np.nan_to_num(row), color=figures.COLORS[0])
    ax.text(1.5, 0.15, "NaN" if np.isnan(row).any() else "", ha="center", fontsize=20)
    ax.set(title=name, xlabel="position", ylim=(0, 0.4))
axes[0].set_ylabel("weight")
plt.show()

# %% [markdown]
# The first attends evenly to everything it was told to ignore, the second is not a number and will spread, the third attends to nothing.

# %%
print({name: row.tolist() for name, row in rows.items()})
assert np.allclose(rows["add −10⁹"], 1 / 4) and np.isnan(rows["set to −∞"]).all() and not rows["ours"].any()

# %% [markdown]
# ## The equation
#
# $$p_i = \frac{e^{x_i}}{\sum_{j\ \text{allowed}} e^{x_j}} \text{ where } i \text{ is allowed}, \qquad p_i = 0 \text{ where it is not} \tag{1}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x$ | `x` | any |
# | allowed | `mask` | broadcasts to `x` |
# | the $i$ that share a sum | `axes` | one axis or several |

# %% [markdown]
# A row with nothing allowed has an empty sum. The second half of (1) already says what its weights are: zero, every one.
#
# ## By hand
#
# Scores $\ln 3$, $0$ and $7$, the last forbidden: the weights are $3/4$, $1/4$ and $0$, and the 7 does not matter.

# %%
weights = masked_softmax_row(np.array([np.log(3), 0, 7]), np.array([True, True, False]))
print(weights.round(6).tolist())
assert np.allclose(weights, [3 / 4, 1 / 4, 0], rtol=1e-15)

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(masked_softmax))

# %%
x, mask = rng.normal(size=(3, 5)), rng.random((3, 5)) < 0.7
rows = [masked_softmax_row(row, allowed) for row, allowed in zip(x, mask)]
assert np.allclose(masked_softmax(x, mask), rows, rtol=1e-14)
print("row by row and all at once agree")

# %% [markdown]
# Subtracting the largest score changes nothing in (1), and everything in the computer: $e^{800}$ does not exist.

# %%
big = np.array([800.0, 799.0])
with np.errstate(all="ignore"):
    naive = np.exp(big) / np.exp(big).sum()
print("as written:", naive.tolist(), " shifted:", masked_softmax(big).round(4).tolist())
assert np.isnan(naive).all() and np.allclose(masked_softmax(big), masked_softmax(big - 800))

# %% [markdown]
# ## What it does
#
# **How does the size of the scores decide how many positions share the weight?** The same 16 scores, multiplied by more and more; entropy 1 means all weigh the same, 0 that one takes all.

# %%
scores, factors = rng.normal(size=(200, 16)), np.geomspace(0.05, 50, 25)
weights = masked_softmax(scores * factors[:, None, None])
entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=-1).mean(axis=-1) / np.log(16)
fig, ax = plt.subplots()
ax.semilogx(factors, entropy)
ax.set(xlabel="factor on the scores", ylabel="entropy / log s", title="from an average to a choice")
plt.show()

# %% [markdown]
# Small scores average, large ones choose; in between lies a factor of about a hundred. That is why attention cares about the scale of its scores.

# %%
assert (np.diff(entropy) < 0).all() and entropy[0] > 0.99 and entropy[-1] < 0.05
print(f"entropy at factor 0.05: {entropy[0]:.2f}, at 50: {entropy[-1]:.2f}")

# %% [markdown]
# **Does a forbidden position have any influence at all?** Put larger and larger scores there.

# %%
mask = np.array([True, True, True, False])
expected = masked_softmax(np.array([1.0, 2.0, 3.0, 0.0]), mask)
for forbidden in (1e3, 1e9, 1e30, np.inf):
    assert np.array_equal(masked_softmax(np.array([1.0, 2.0, 3.0, forbidden]), mask), expected)
print("the same bits, whatever stands there")

# %% [markdown]
# **Can one softmax run over two axes?** An image patch may want one distribution over rows and columns together.

# %%
picture = rng.normal(size=(4, 6))
both = masked_softmax(picture, axes=(0, 1))
assert np.allclose(both.ravel(), masked_softmax(picture.ravel())) and np.isclose(both.sum(), 1)
print("two axes at once are the flattened picture")

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
# **The scores vanish in the large number.** Near $10^9$, neighboring float32 numbers are 64 apart, so a row of $x - 10^9$ no longer knows its $x$: it is uniform, not a softmax of $x$.

# %%
near = np.float32(1e9)
print("distance between float32 numbers at 1e9:", np.spacing(near))
assert np.spacing(near) == 64 and (np.array([5, 0, -5], "float32") - near == -near).all()

# %% [markdown]
# **Half precision.** float16 ends at −65504. Add that to a negative score and the sum is $-\infty$; a whole row of those is NaN.

# %%
scores = np.array([[-40, -50, -60]], "float16")
with np.errstate(all="ignore"):
    recipe = softmax(scores + np.float16(-65504))
ours = np.asarray(MaskedSoftmax(dtype="float16")(scores, np.zeros((1, 3))))
print("recipe:", recipe.tolist(), " layer:", ours.tolist())
assert np.isnan(recipe).all() and not ours.any()

# %% [markdown]
# **A mask that is a number.** Where the mask is used as $(1 - m)\cdot(-10^9)$, a 2 is a bonus of a billion. Token ids passed as a mask then silently pick the largest ids.

# %%
ids = np.array([[2, 1, 0]])
recipe = softmax(np.zeros((1, 3)) + (1 - ids) * -1e9)
ours = np.asarray(MaskedSoftmax()(np.zeros((1, 3), "float32"), ids))
print("recipe:", recipe.tolist(), " layer:", ours.tolist())
assert recipe.tolist() == [[1, 0, 0]] and ours.tolist() == [[0.5, 0.5, 0]]

# %% [markdown]
# **Differs from the paper.** The paper's $-\infty$ is equation (1) while a row has something allowed. For a row that has nothing the paper says nothing, and we chose zeros.
#
# ## What it costs
#
# For each of $b\,h\,t\,s$ scores: one exponential, one addition, one division. Doubling the length makes four times as many; the mask adds a comparison each, and one number per row.

# %%
h, lengths = 8, np.array([64, 128, 256, 512])
exponentials = [masked_softmax(np.zeros((1, h, n, n), "float32")).size for n in lengths]
assert exponentials == list(h * lengths**2)
fig, ax = plt.subplots()
ax.loglog(lengths, exponentials, base=2)
ax.set(xlabel="length t = s", ylabel="exponentials", title="8 heads, one example")
plt.show()

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). The logarithm of the softmax of a vector `x`, safe for scores of ±1,000.


# %%
def log_softmax(x):
    return None  # your turn


_ = check("masked_softmax/1", log_softmax)

# %% [markdown]
# <details><summary>Hint</summary>The logarithm of a quotient is a difference; shift first.</details>
# <details><summary>Solution</summary><code>x - x.max() - np.log(np.exp(x - x.max()).sum())</code></details>
#
# **2** (medium, 10 minutes). The gradient of $c \cdot \mathrm{softmax}(x)$ with respect to $x$, for one row in which only some positions are `allowed`. Where nothing is allowed, it is zero.


# %%
def gradient(x, allowed, c):
    return None  # your turn


_ = check("masked_softmax/2", gradient)

# %% [markdown]
# <details><summary>Hint</summary>∂pᵢ/∂xⱼ = pᵢ([i = j] − pⱼ), and a forbidden position has p = 0.</details>
# <details><summary>Solution</summary><code>p = masked_softmax(x, allowed); return p * (c - p @ c)</code></details>
#
# **3** (hard, 15 minutes). Scores arrive in pieces. `pieces` is an iterator over arrays, which can be read once, and there is no room to keep them. Return the logarithm of the sum of all exponentials, safe for scores of ±1,000.


# %%
def log_total(pieces):
    return None  # your turn


_ = check("masked_softmax/3", log_total)

# %% [markdown]
# <details><summary>Hint</summary>Keep the largest score so far, and the sum of exponentials below it. When the largest rises from a to b, the sum shrinks by exp(a − b).</details>
# <details><summary>Solution</summary>
#
# ```python
# def log_total(pieces):
#     peak, total = -np.inf, 0.0
#     for piece in pieces:
#         higher = max(peak, piece.max())
#         total = total * np.exp(peak - higher) + np.exp(piece - higher).sum()
#         peak = higher
#     return peak + np.log(total)
# ```
# </details>
#
# **To discuss.** For a row with nothing allowed, one library returns zeros, one the average of all values, and one NaN. Which would you rather find in a model that people use, and how would you notice each?
#
# ## Summary
#
# - Forbidden positions weigh exactly 0, and a row with nothing allowed is zeros: no average of padding, no NaN.
# - Adding a large number to the scores is neither exact nor safe in half precision, and takes a 2 in the mask for a bonus.
# - The scale of the scores decides between averaging and choosing.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the softmax in attention. [Milakov and Gimelshein, 2018](https://arxiv.org/abs/1805.02867): the merge of
# exercise 3, over a stream of scores.
