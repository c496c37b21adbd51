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
# # Positions: rows, waves and distances
#
# Attention alone does not know the order of its tokens. There are three classic ways to tell it: a learned row for each position, sines and cosines of each position, or a learned bias for each distance.
#
# Papers: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805), [Vaswani et al., 2017, section 3.5](https://arxiv.org/abs/1706.03762), [Raffel et al., 2019, section 2.1](https://arxiv.org/abs/1910.10683) · NumPy:
# [`reference/positional_embedding.py`](../reference/positional_embedding.py) · Layers: [`layers/positional_embedding/`](../layers/positional_embedding/__init__.py) · 35 minutes · You should know: [attention](attention.ipynb), [token embedding](on_device_embedding.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.positional_embedding import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments import positional_embedding as experiment
from experiments.common.results import stored
from layers.positional_embedding import RelativePositionEmbedding
from reference import attention
from reference import positional_embedding as ref

figures.use_style()
rng = np.random.default_rng(0)
results = stored("positional_embedding")

# %% [markdown]
# ## The question
#
# "Dog bites man" and "man bites dog" are the same words. **What does attention make of each word in the two sentences?** We take the word vectors and the first attention layer of MiniLM (a small trained BERT, see
# [attention](attention.ipynb)), once with its positions and once without.

# %%
model = minilm.load()
name = "embeddings.position_embeddings.weight"
unplaced = model._replace(tensors=model.tensors | {name: np.zeros_like(model.tensors[name])})


def read(sentence, model):
    """{token: what the attention of layer 0 gives it}."""
    pieces = minilm.wordpieces(model, sentence)
    x = minilm.embed(model, pieces)
    y, _ = attention.multi_head_attention(x, x, minilm.attention_weights(model, layer=0))
    return dict(zip(pieces, y[0]))


# %%
words = ("dog", "bites", "man")


def changes(model):
    """How far what a word gets differs between the two sentences, relative to its size."""
    one, other = read("dog bites man", model), read("man bites dog", model)
    return [np.linalg.norm(one[word] - other[word]) / np.linalg.norm(one[word]) for word in words]


without, with_rows = changes(unplaced), changes(model)

# %%
_, ax = plt.subplots(figsize=(6.5, 2.8))
for offset, values, hatch, name in ((-0.2, without, "", "without"), (0.2, with_rows, "//", "with")):
    bars = ax.bar(np.arange(3) + offset, values, 0.4, hatch=hatch, edgecolor="black")
    ax.bar_label(bars, [f"{name}: {value:.2f}" for value in values], fontsize="small", padding=2)
ax.set_xticks(range(3), [f"“{word}”" for word in words])
ax.set(ylabel="relative difference", ylim=(0, 1.3 * max(with_rows)))
ax.set_title("without positions, both sentences are the same to attention")
figures.show()

# %%
print("without positions:", np.round(without, 12), " with:", np.round(with_rows, 2))
assert max(without) < 1e-12 < 1e-3 < min(with_rows)

# %% [markdown]
# Without positions, attention cannot know who bit whom.
#
# ## The picture

# %%
boxes = {"ids": Box("ids", 0, 0, "data"), "table": Box("token table", 0, 1, "map"), "add": Box("+", 0, 2)}
boxes |= {"t": Box("positions t", 1.6, 1, "data"), "rows": Box("rows (1), or\nwaves (2), (3)", 1.6, 2, "trained", 1.1)}
boxes |= {"scores": Box("$QK^\\top/\\sqrt{d}$", 0, 3), "sum": Box("+", 0, 4), "softmax": Box("softmax over s", 0, 5)}
boxes |= {"n": Box("distances s − t", 1.6, 3, "data"), "bias": Box("bias (5) of its\nbucket (6)", 1.6, 4, "trained", 1.1)}

# %%
arrows = [("ids", "table", "(b, t)"), ("table", "add", "(b, t, m)"), ("t", "rows", "(t,)"), ("rows", "add", "(t, m)")]
arrows += [("add", "scores", "(b, t, m)"), ("scores", "sum", "(b, h, t, s)"), ("n", "bias", "(t, s)")]
diagram(boxes, [*arrows, ("bias", "sum", "(1, h, t, s)"), ("sum", "softmax", "(b, h, t, s)")])
figures.show()

# %% [markdown]
# Positions enter at one of two places: they are added to the tokens, or a bias is added to the scores. A model has one of the two green boxes. The waves have no weights.
#
# ## The equation
#
# A learned row for each position, as in BERT:
#
# $$ y_t = P_t \tag{1} $$
#
# Sines and cosines, with frequencies that fall geometrically; as printed by Vaswani et al., and as in the code that they published, Tensor2Tensor:
#
# $$ y_{t,2i} = \sin \omega_i t, \quad y_{t,2i+1} = \cos \omega_i t, \quad \omega_i = 10000^{-2i/m} \tag{2} $$
#
# $$ y_t = [\sin \omega_0 t, \dots, \sin \omega_{k-1} t, \cos \omega_0 t, \dots, \cos \omega_{k-1} t], \quad k = m/2, \quad \omega_i = 10000^{-i/(k-1)} \tag{3} $$
#
# With either, a shift by $k$ positions is one matrix for all $t$. It turns each pair by the angle $\omega_i k$:
#
# $$ \begin{pmatrix} \sin \omega (t + k) \\ \cos \omega (t + k) \end{pmatrix} = \begin{pmatrix} \cos \omega k & \sin \omega k \\ -\sin \omega k & \cos \omega k \end{pmatrix} \begin{pmatrix} \sin \omega t \\ \cos \omega t \end{pmatrix} \tag{4} $$
#
# T5 adds nothing to the tokens. Each head $h$ adds a learned number to each score. The number depends on the distance $n = s - t$ alone, and large distances share buckets:
#
# $$ \mathrm{score}_{h,t,s} = \frac{q_t \cdot k_s}{\sqrt d} + B_{\mathrm{bucket}(s - t),\, h} \tag{5} $$
#
# $$ \mathrm{bucket}(n) = 16\,[n > 0] + \mathrm{place}(|n|), \qquad \mathrm{place}(n) = \begin{cases} n & n < 8 \\ \min\!\left(15,\; 8 + \left\lfloor 8\, \frac{\log (n / 8)}{\log (128 / 8)} \right\rfloor\right) & n \ge 8 \end{cases} \tag{6} $$
#
# | symbol | what it is | name in the code | shape | trained numbers |
# |---|---|---|---|---|
# | $P$ | a row for each position | `embeddings` of `PositionalEmbedding` | `(max_length, m)` | $\mathrm{max\_length} \cdot m$ |
# | $\omega$ | frequencies | `frequencies(...)` | `(m / 2,)` | none |
# | $B$ | a number for each bucket and head | `embeddings` of `RelativePositionBias` | `(buckets, h)` | $32\,h$ |
#
# (6) is for 32 buckets that cover distances up to 128 on both sides, as in T5's encoder.
#
# ## By hand
#
# Four columns, position 3. By (2) the frequencies are 1 and 1/100: sin 3, cos 3, sin 0.03, cos 0.03. By (3) they are 1 and 1/10000.

# %%
paper, other = ref.interleaved(np.array([3]), 4)[0], ref.concatenated(np.array([3]), 4)[0]
print(np.round(paper, 4), np.round(other, 4))
assert np.allclose(paper, [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)])
assert np.allclose(other, [np.sin(3), np.sin(0.0003), np.cos(3), np.cos(0.0003)])

# %% [markdown]
# Distance −16: it lies behind the query, so its bucket is $8 + \lfloor 8 \log 2 / \log 16 \rfloor = 8 + 2$. Distance 16 lies ahead, so 16 is added.

# %%
print({n: ref.bucket(n) for n in (0, -1, -7, -8, -16, 1, 16)})
assert ref.bucket(-16) == 10 and ref.bucket(16) == 16 + 10 and ref.bucket(-7) == 7

# %% [markdown]
# ## In NumPy
#
# **Waves.** An angle for each position and frequency; then sine and cosine side by side.

# %%
t, m = np.arange(9), 6
omega = 10000.0 ** (-2 * np.arange(m // 2) / m)
angles = np.outer(t, omega)
table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(t), m)
print("frequencies", omega.round(4), "\nposition 1 ", table[1].round(4))
assert np.allclose(table, ref.interleaved(t, m))

# %% [markdown]
# **A shift.** Equation (4) for one frequency, and two places further on.

# %%
cos, sin = np.cos(2 * omega[1]), np.sin(2 * omega[1])
turn = np.array([[cos, sin], [-sin, cos]])
pair = table[:, 2:4]
print("turned by two places:", (turn @ pair[3]).round(4), " at position 5:", pair[5].round(4))
assert np.allclose(pair[:-2] @ turn.T, pair[2:]) and np.allclose(table[:-2] @ ref.rotation(2, m).T, table[2:])

# %% [markdown]
# **Buckets.** Equation (6), for distances behind the query. The quotients of logarithms are whole numbers at 16, 32 and 64, and rounding must not put them just below.

# %%
n = np.arange(1, 128)
steps = np.floor(8 * np.log(n / 8) / np.log(128 / 8) + 1e-9).astype(int)
place = np.where(n < 8, n, np.minimum(15, 8 + steps))
print("buckets 8 to 15 begin at the distances", [int(n[place == bucket].min()) for bucket in range(8, 16)])
assert place.tolist() == [ref.bucket(-int(distance)) for distance in n] and n[place == 15].min() == 91

# %% [markdown]
# Fine near the query, coarse far away. The last bucket begins at 91; "up to 128", as the paper says, is where one more would begin.
#
# **A bias for each pair of places** is a row of $B$ for each distance.

# %%
B = rng.normal(size=(32, 4))
distances = np.arange(7)[None, :] - np.arange(5)[:, None]
buckets = np.where(distances > 0, 16, 0) + np.append(0, place)[np.abs(distances)]
bias = B[buckets].transpose(2, 0, 1)[None]
print("buckets of 5 queries and 7 keys:\n", buckets)
assert np.allclose(bias, ref.relative_position_bias(5, 7, B))

# %%
print(inspect.getsource(ref.relative_position_bias))

# %% [markdown]
# ## What it does
#
# **What do learned rows learn?** Nobody told BERT's table that position 8 is between 7 and 9. Here are the 510 rows of MiniLM between the first and the last one: their cosine similarity, and how the variance of the columns is spread over
# frequencies. There are two nulls: the same rows in a random order, and random walks, in which each row is like its neighbors too, but nothing is a wave.


# %%
def power(table):
    """The share of the variance along the positions in each frequency, from one wave in the whole table on."""
    waves = np.abs(np.fft.rfft(table - table.mean(axis=0), axis=0)) ** 2
    return waves.sum(axis=1)[1:] / waves.sum(axis=1)[1:].sum()


def strongest(table, count=16):
    return np.sort(power(table))[-count:].sum()


def fast(table):
    """The share of more than 16 waves in the whole table."""
    return power(table)[16:].sum()


learned = model.tensors["embeddings.position_embeddings.weight"][1:-1].astype("float64")
walks = rng.normal(size=(5, *learned.shape)).cumsum(axis=1)
share, null = strongest(learned), max(strongest(rng.permutation(learned)) for _ in range(20))

# %%
print(f"share of the variance in 16 of {len(power(learned))} frequencies: {share:.2f}; shuffled, at most {null:.2f}")
print(f"share in frequencies above 16 waves: {fast(learned):.2f}; walks, at most {max(map(fast, walks)):.2f}")
assert share > (1 + null) / 2  # more than halfway from chance to all
assert fast(learned) > 2 * max(map(fast, walks))

# %%
unit = (learned - learned.mean(axis=0)) / np.linalg.norm(learned - learned.mean(axis=0), axis=1, keepdims=True)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(1, 1.3))
image = axes[0].imshow(unit[:120] @ unit[:120].T, vmin=-1, vmax=1, cmap="RdBu_r")
fig.colorbar(image, ax=axes[0], label="cosine similarity")
axes[0].set(title="MiniLM's rows: like their neighbors, and in waves", xlabel="position", ylabel="position")
axes[0].grid(False)
nulls = ((rng.permutation(learned), "shuffled", (1.1, 0.0013)), (walks[0], "a random walk", (1.3, 0.5)))
for table, name, place in ((learned, "MiniLM's rows", (33, 0.06)), *nulls):
    (line,) = axes[1].loglog(1 + np.arange(255), power(table), marker="none")
    axes[1].annotate(name, place, color=line.get_color())
axes[1].set(xlabel="waves in the whole table", ylabel="share of the variance", title="MiniLM's rows have peaks, a walk has none")
figures.show()

# %% [markdown]
# After training, the rows are waves of a kind: 16 of 255 frequencies hold three quarters of their variance, and unlike those of a walk they are not just the slowest. **Is a shift a linear map there too**, as equation (4) has it for sinusoids?
# We fit one matrix that takes each row to the one $k$ places later on the first half of the positions, and try it on the second half. There are two rivals: no matrix, which says that nothing changes, and a matrix for a walk.


# %%
def coordinates(table):
    """The rows in the axes of the first half, the one with most variance first."""
    half = table[: len(table) // 2]
    axes = np.linalg.svd(half - half.mean(axis=0), full_matrices=False)[2]
    return (table - half.mean(axis=0)) @ axes.T


def explained(z, k, rank=20, fit=True):
    """The share of the variance of rows k places later that a matrix from the first half predicts in the second."""
    half, z = len(z) // 2, z[:, :rank]
    matrix = np.linalg.lstsq(z[: half - k], z[k:half], rcond=None)[0] if fit else np.eye(rank)
    before, after = z[half:-k], z[half + k :]
    return 1 - np.var(after - before @ matrix, axis=0).sum() / np.var(after, axis=0).sum()


# %%
shifts, z, nulls = (1, 5, 20, 50), coordinates(learned), [coordinates(walk) for walk in walks]
fits = {"MiniLM's rows": [explained(z, k) for k in shifts], "no matrix": [explained(z, k, fit=False) for k in shifts]}
fits["best of five walks"] = np.max([[explained(walk, k) for k in shifts] for walk in nulls], axis=0)
for name, values in fits.items():
    print(f"{name:18} 1, 5, 20, 50 places later: {np.maximum(values, 0).round(2)}")
assert all(explained(z, 5, rank) > max(explained(walk, 5, rank) for walk in nulls) for rank in (10, 20, 40))
assert fits["MiniLM's rows"][1] > 1 / 2 > fits["no matrix"][1]

# %% [markdown]
# (What is below zero, worse than the mean, is shown as zero.) One place later says little: there, any smooth table does well. Five places later the matrix still holds for MiniLM's rows, better than for any walk; 20 places later hardly. So over short shifts, learned rows come near to what sinusoids have
# built in.
#
# **Are learned rows or sinusoids better?** Vaswani et al. report no difference: in their Table 3, row (E), the model with learned rows has perplexity 4.92 and BLEU 25.7, and the one with sinusoids 4.92 and 25.8. They kept the sinusoids, since "it may allow
# the model to extrapolate to sequence lengths longer than the ones encountered during training". **Does it?** A task: at each place, say the word before. One attention layer trains on texts of 16 words, and then
# reads 32 and 64. Texts of 16 train only some of T5's 32 buckets, so T5's bias is tried in two forms: as it is, for distances up to 128, and with 16 buckets for distances up to 16, of which the last holds all larger ones. [The experiment](../experiments/positional_embedding.py) gives
# each arm three learning rates and five seeds; the best rate is the one with which it reads 32 best.

# %%
longer = results["longer"]
kinds = ("learned rows", "sinusoids", "T5's bias, up to 16")


def draw_places(ax, length, labels):
    for number, arm in enumerate(kinds):
        values, color = longer.values(f"at {length}", arm), figures.COLORS[number]
        ax.fill_between(np.arange(1, length), values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
        ax.plot(np.arange(1, length), np.median(values, axis=0), color=color, linestyle=figures.DASHES[number], marker="none")
        if arm in labels:
            ax.annotate(arm, labels[arm], color=color)
    ax.axhline(1 / 16, color="black", linestyle=":", marker="none")
    ax.set(xlabel="position t", ylim=(0, 1.08))


# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), width_ratios=(1, 2), sharey=True)
draw_places(axes[0], 16, {})
axes[0].annotate("all three", (5, 0.92))
axes[0].annotate("chance", (1, 1 / 16), (0, 3), textcoords="offset points", fontsize="small")
draw_places(axes[1], 32, {"learned rows": (16.4, 0.3), "sinusoids": (23, 0.7), "T5's bias, up to 16": (22.5, 1.02)})
axes[1].axvspan(0, 15.5, color="#dddddd", zorder=0)
axes[1].annotate("positions of training", (1, 0.3))
axes[0].set(ylabel="fraction right", title="texts of 16, as in training: no fault")
axes[1].set(title="texts of 32: only the bias for distances goes on")
figures.show()

# %% [markdown]
# In texts as long as those of training, all three read without fault. In longer ones, learned rows end where training did: the rows beyond are as they were drawn. Sinusoids do a little better there, but the guess does not hold.
# They make faults even at the places of training. All that is new there are the keys at unseen places.

# %%
print(f"{'':30}best rate  at 16         32: seen places  unseen places  all of 64")
for arm in experiment.ARMS:
    cells = [longer.values(what, arm) for what in ("right 16", "seen", "beyond", "right 64")]
    print(f"{arm:30}{longer.best_rate(arm):<9g}", *(f"{cell.min():.2f} to {cell.max():.2f} " for cell in cells))

# %%
halfway, rates = (1 / 16 + 1) / 2, longer.experiment.rates
at_16 = min(longer.worst("right 16", arm) for arm in experiment.ARMS if arm != "no positions")
bias_beyond = min(longer.worst("beyond", "T5's bias, up to 16", rate) for rate in rates)
others = ("learned rows", "sinusoids", "a bias for each pair")
best_other = max(longer.values("beyond", arm, rate).max() for arm in others for rate in rates)
print(f"at 16, worst seed {at_16:.2f}; without positions at most {longer.values('right 16', 'no positions').max():.2f}")
print(
    f"unseen places, any rate and seed: T5's bias, up to 16, at least {bias_beyond:.2f}; {', '.join(others)} at most {best_other:.2f}"
)
assert longer.values("right 16", "no positions").max() < halfway < at_16 and best_other < halfway < bias_beyond

# %% [markdown]
# **Is it because distances are shared?** We take parts away. *A bias for each pair* of places also adds a trained number to each score, but two pairs of one distance do not share it. *Begun anywhere* lets the texts of training begin at a random position
# from 0 to 48, so that no position is new.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True)
arms = list(experiment.ARMS)
for ax, length in zip(axes, experiment.LENGTHS):
    for row, arm in enumerate(arms):
        found = longer.values(f"right {length}", arm)
        ax.plot(found, [row] * len(found), "o", color=figures.COLORS[0], linestyle="none", clip_on=False)
    ax.axvline(1 / 16, color="black", linestyle=":", marker="none")
    ax.set(xlim=(0, 1.02), ylim=(len(arms) - 0.5, -0.5), title=f"texts of {length}", xlabel="fraction right, five seeds")
axes[0].set_yticks(range(len(arms)), arms)
fig.suptitle("after training on texts of 16, what meets little that is new goes on (dotted: chance)")
figures.show()

# %%
anywhere = {arm: longer.values("beyond", f"{arm}, begun anywhere") for arm in ("learned rows", "sinusoids")}
print({arm: f"begun anywhere, unseen places: {values.min():.2f} to {values.max():.2f}" for arm, values in anywhere.items()})
assert min(values.min() for values in anywhere.values()) > halfway > best_other

# %% [markdown]
# Yes, and more exactly: **what was trained at some place must be what is used at a new one**. Unshared biases fail as learned rows do. Learned rows and sinusoids read on where training has shown all positions, but in texts of 64 they make faults. No position is new there, but pairs of places more than 15 apart are.
# Is it those? We train that arm with sinusoids once more, here and now. It reads 64 words twice: once as it is, and once with every pair forbidden that is further apart than in training.

# %% tags=["nbval-ignore-output"]
arm = "sinusoids, begun anywhere"
anywhere_live = experiment.train_reader(arm, longer.best_rate(arm), seed=0, keep=True)
every_pair, near_pairs = (experiment.right_within(anywhere_live["model"], most) for most in (63, 15))
print(f"texts of 64: {every_pair:.2f}; with pairs up to 15 apart alone {near_pairs:.2f}")
assert near_pairs > (1 + every_pair) / 2  # most of the faults are gone

# %% [markdown]
# With sinusoids it is: if no word may attend that far, nearly all faults are gone.
#
# **And T5's bias as it is?** It reads 32 well in these seeds, and 64 worse. To see what decides, we train it once more, here and now, and draw only those buckets anew that texts of 16 never reach. They are drawn as at the start, twenty times, and then all set to one number; nothing else changes.

# %%
live = experiment.train_reader("T5's bias", longer.best_rate("T5's bias"), seed=0, keep=True)
assert longer.contains(live["right 16"], "right 16", "T5's bias")
redrawn = {length: experiment.with_buckets_redrawn(live["model"], length) for length in (32, 64)}
low, high = (experiment.with_buckets_redrawn(live["model"], 64, value=value).item() for value in (-2, 2))

# %% tags=["nbval-ignore-output"]
untrained = {ref.bucket(n) for n in range(-63, 64)} - {ref.bucket(n) for n in range(-15, 16)}
cut = longer.values("right 64", "T5's bias, up to 16")
print(f"buckets that texts of 64 use and texts of 16 do not train: {len(untrained)}")
print({length: f"{values.min():.2f} to {values.max():.2f}" for length, values in redrawn.items()})
print(f"texts of 64 with T5's bias, up to 16: {cut.min():.2f} to {cut.max():.2f}")
print(f"texts of 64, those buckets all at the lowest number of a draw, −2: {low:.2f}; at the highest, 2: {high:.2f}")
assert high < np.median(redrawn[64]) < low and high < halfway < low

# %% [markdown]
# It depends on the draw, then. A bucket that no training text reaches keeps the numbers that it was drawn with, and a longer text uses them. If all of them are low, nothing happens; if they are high, far words take the weight. Only without such buckets does the bias read 64 words nearly without fault whatever was drawn.
#
# ## Where it breaks
#
# **Two sinusoids with one name.** Equations (2) and (3) are both called the sinusoidal encoding, and libraries have either. Are they the same columns in another order?

# %%
forms = {name: RelativePositionEmbedding(32, convention=name)(None, length=64) for name in ("interleaved", "concatenated")}
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharey=True)
for ax, (name, table) in zip(axes, forms.items()):
    image = ax.imshow(np.asarray(table), aspect="auto", vmin=-1, vmax=1, cmap="RdBu_r")
    ax.set(title=f"{name}, equation {'(2)' if name == 'interleaved' else '(3)'}", xlabel="column")
    ax.grid(False)
axes[0].set_ylabel("position t")
fig.colorbar(image, ax=axes, label="value")
figures.show()

# %%
reordered = ref.concatenated(np.arange(64), 32).reshape(64, 2, 16).transpose(0, 2, 1).reshape(64, 32)
error = np.abs(reordered - ref.interleaved(np.arange(64), 32)).max()
print(f"in the same order of columns, they still differ by up to {error:.2f}; second frequency of 32 columns:", end=" ")
print(*(f"{frequency:.3f}" for frequency in (ref.frequencies(16, 16.0)[1], ref.frequencies(16, 15.0)[1])))
assert error > 1

# %% [markdown]
# No: the wavelengths differ too. Those of (3) reach $2\pi \cdot 10000$, and those of (2) stop one step before. A learned map can undo an order, but not the wavelengths. Weights that were trained with one equation go with that one only. The layer follows the paper, and has the other with
# `convention="concatenated"`.
#
# **Differs from the paper.** The timescales may be chosen. An odd number of columns leaves a sine without its cosine. Positions keep their digits: the layer takes sines from a table and turns one by the other, equation (4), in place of the sine of a large angle in float32.
# A text longer than the table of learned rows is an error.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Most language models turn queries and keys by the angles of equation (4), so that scores depend on distances: RoPE ([Su et al., 2021](https://arxiv.org/abs/2104.09864)), in Llama, Qwen and many others. It has to be stretched for longer texts than those of training ([Peng et al., 2023](https://arxiv.org/abs/2309.00071)).
# A bias that falls linearly with distance needs no training at all: ALiBi ([Press et al., 2021](https://arxiv.org/abs/2108.12409)), in BLOOM and MPT. Learned rows are still in BERT's descendants and in vision transformers, T5's bias in the T5 family. Decoders with a causal mask can do without any
# positions ([Kazemnejad et al., 2023](https://arxiv.org/abs/2305.19466)). Training at positions drawn from a longer range is a method of its own ([Ruoss et al., 2023](https://arxiv.org/abs/2305.16843)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). The `m` waves of position `t`, equation (2) as in the paper; `m` is even.


# %%
def waves_of(t, m):
    return None  # your turn


_ = check("positional_embedding/1", waves_of)

# %% [markdown]
# <details><summary>Hint</summary><code>np.stack</code> along a last axis and <code>ravel</code> interleave.</details>
# <details><summary>Solution</summary><code>a = t / 10000 ** (np.arange(0, m, 2) / m); return np.stack([np.sin(a), np.cos(a)], axis=-1).ravel()</code></details>
#
# **2** (medium, 10 minutes). The rows `y` `(t, m)` are the paper's waves at positions that you are not told. Return the rows `k` places later; a negative `k` is earlier.


# %%
def later(y, k):
    return None  # your turn


_ = check("positional_embedding/2", later)

# %% [markdown]
# <details><summary>Hint</summary>Read a pair as the complex number cos + i sin: then a turn is a product.</details>
# <details><summary>Solution</summary>
#
# ```python
# def later(y, k):
#     m = y.shape[1]
#     turned = (y[:, 1::2] + 1j * y[:, ::2]) * np.exp(1j * k / 10000 ** (np.arange(0, m, 2) / m))
#     return np.stack([turned.imag, turned.real], axis=-1).reshape(y.shape)
# ```
# </details>
#
# **3** (hard, 15 minutes). Equation (6), both ways, for an array `n` of distances: the numbers of their buckets, of which there are `buckets`, for distances up to `most`. No loop over `n`.


# %%
def buckets_of(n, buckets, most):
    return None  # your turn


_ = check("positional_embedding/3", buckets_of)

# %% [markdown]
# <details><summary>Hint</summary>Beyond <code>most</code> nothing changes, so a table of that length is enough. With a logarithm instead, mind what rounding does to 16, 32 and 64.</details>
# <details><summary>Solution</summary>
#
# ```python
# def buckets_of(n, buckets, most):
#     table = np.array([ref.place(distance, buckets // 2, most) for distance in range(most + 1)])
#     return buckets // 2 * (n > 0) + table[np.minimum(np.abs(n), most)]
# ```
# </details>
#
# **To discuss.** A model was trained on texts of 512 tokens and has to read 2,000. For learned rows, for waves and for T5's bias: what happens at position 600, and what would you change?
#
# ## Summary
#
# - Attention without positions cannot tell "dog bites man" from "man bites dog".
# - Learned rows and sinusoids are equally good at the lengths of training, and learned rows come to look like waves. Neither goes on at positions that training has not shown.
# - A bias for distances does go on: what was learned at one place is used at another. It needs luck where a longer text uses buckets that were not trained.
#
# **Further reading.** [Shaw et al., 2018](https://arxiv.org/abs/1803.02155): the first relative positions. [Wang and Chen, 2020](https://arxiv.org/abs/2010.04903): what the learned rows of BERT, GPT-2 and RoBERTa look like. [Press et al., 2021](https://arxiv.org/abs/2108.12409): which positions
# go on in longer texts of a real language model. [Relative attention](relative_attention.ipynb): sinusoids of distances inside the scores.
