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
# # MobileBERT: wide outside, narrow inside
#
# A quarter of BERT's parameters at twice its depth, because all costly work is done on vectors of 128 numbers instead of 768; and a way to train so narrow a model.
#
# Paper: [Sun et al., 2020, section 3](https://arxiv.org/abs/2004.02984) · NumPy: [`reference/mobile_bert.py`](../reference/mobile_bert.py) · Layer:
# [`layers/mobile_bert/`](../layers/mobile_bert/__init__.py) · 30 minutes · You should know: the [transformer encoder block](transformer_encoder.ipynb),
# [token embedding](on_device_embedding.ipynb) and [positions](positional_embedding.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.mobile_bert import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import draw_weights, weights_of
from experiments import mobile_bert as experiment
from experiments.common.results import stored
from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer
from layers.transformer_encoder import TransformerEncoderBlock
from reference import mobile_bert as ref
from reference.attention import multi_head_attention
from reference.common.normalization import LayerNorm, layer_norm, no_norm
from reference.common.projection import dense
from reference.transformer_encoder import feed_forward

figures.use_style()
rng = np.random.default_rng(0)
copying = stored("mobile_bert")["copying"]


def built(layer, *shape):
    layer.build((None, *shape))
    return layer


# %% [markdown]
# ## The question
#
# BERT-base has 109 million parameters, too many for a phone. **Where are they, and where does MobileBERT save?** We build one block and the embedding of each, and count.


# %%
def parameters(layer, *names):
    """How many numbers are in the weights whose path holds one of `names`."""
    return sum(int(np.prod(v.shape)) for v in layer.weights if any(f"/{name}" in v.path for name in names))


bert = built(TransformerEncoderBlock(12, 3072, "gelu"), None, 768)
mobile, embedding = built(MobileBertTransformer(), None, 512), built(MobileBertEmbedding(30522, 128, 2, 512), None)
networks = ("intermediate_", *(f"output_{i}/" for i in range(4)))
bottlenecks = ("bottleneck_input/", "kq_shared_bottleneck/", "bottleneck_output/")
norms = ("attention_norm", "bottleneck_input_norm", "kq_shared_bottleneck_norm", "output_norm", "bottleneck_output_norm")

# %%
parts = {
    "embedding": ((30522 + 512 + 2 + 2) * 768, embedding.count_params()),
    "attention": (12 * parameters(bert, "self_attention/"), 24 * parameters(mobile, "attention/")),
    "feed-forward": (12 * parameters(bert, "intermediate/", "output/"), 24 * parameters(mobile, *networks)),
    "bottlenecks": (0, 24 * parameters(mobile, *bottlenecks)),
    "norms": (12 * 4 * 768, 24 * sum(parameters(mobile, name) for name in norms)),
    "pooler": (768 * 768 + 768, 0),
}
totals = [sum(counts) for counts in zip(*parts.values())]

# %%
fig, ax = plt.subplots(figsize=(8, 2.4))
left, hatches = np.zeros(2), ("", "//", "", "xx", "", "..")
for (name, counts), color, hatch in zip(parts.items(), figures.COLORS, hatches):
    counts = np.array(counts) / 1e6
    ax.barh(["BERT-base", "MobileBERT"], counts, left=left, color=color, hatch=hatch, edgecolor="white", label=name)
    left += counts
ax.set(xlabel="parameters, in millions", title="most is saved in the feed-forward networks")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=6, frameon=False, fontsize="small")
figures.show()

# %%
for name, counts in parts.items():
    print(f"{name:14}{counts[0]:>12,}{counts[1]:>12,}")
print(f"{'all':14}{totals[0]:>12,}{totals[1]:>12,}   ratio {totals[0] / totals[1]:.2f}")
heads = (512 * 512 + 512) + (512 * 512 + 512 + 2 * 512 + 30522) + (2 * 512 + 2)  # pooler, masked words, next sentence
print(
    f"with the heads of pre-training: {totals[1] + heads:,}; the paper has 25.3 million, {25.3e6 / (totals[1] + heads) - 1:.1%} more"
)
assert bert.count_params() * 12 + sum(parts[name][0] for name in ("embedding", "pooler")) == totals[0]
assert 2 * (parts["feed-forward"][0] - parts["feed-forward"][1]) > totals[0] - totals[1]
assert mobile.count_params() * 24 + embedding.count_params() == totals[1]

# %% [markdown]
# The feed-forward networks of 24 blocks have less than a quarter of the parameters of those of 12, and more than half of all that is saved is saved there; the embedding shrinks to less than a fifth. The bottlenecks are new. [The paper](https://arxiv.org/abs/2004.02984) has 25.3 million parameters and does not say what is counted; a small gap to our count stays open. Its MobileBERT scores 77.7 on GLUE, BERT-base 78.3.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("x: 512", -0.2, 0, "data"), "u": Box("$W_{in}$: 128", 0.4, 1.5, "map"), "w": Box("$W_{kq}$: 128", 2, 1, "map")}
boxes |= {"attend": Box("attention, 4 heads", 2, 2.2, "map", width=1.2), "add": Box("+", 0.4, 3), "norm": Box("NoNorm", 0.4, 4)}
boxes |= {"ffn": Box("FFN: 512", 0.4, 5, "map"), "plus": Box("+", 0.4, 6), "again": Box("NoNorm", 0.4, 7)}
boxes |= {"four": Box("four times", 1.4, 5.5, "data"), "out": Box("$W_{out}$: 512", 0.4, 8, "map"), "sum": Box("+", -0.9, 9)}
boxes |= {"last": Box("NoNorm", -0.9, 10), "z": Box("z: 512", -0.9, 11, "data")}

# %% tags=["hide-input"] jupyter={"source_hidden": true}
arrows = [("x", "u", ""), ("x", "w", "(b, t, m)"), ("x", "attend", "values (b, t, m)"), ("w", "attend", "queries, keys")]
arrows += [("u", "add", "u"), ("attend", "add", "(b, t, 128)"), ("add", "norm", ""), ("norm", "ffn", ""), ("ffn", "plus", "")]
arrows += [("norm", "plus", "", 1.0), ("plus", "again", ""), ("again", "out", "y"), ("out", "sum", "(b, t, m)")]
arrows += [("x", "sum", "x"), ("sum", "last", ""), ("last", "z", "")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Wide vectors of $m = 512$ go from block to block; everything inside has 128. (The norms after $W_{in}$ and $W_{kq}$ are left out.)
#
# ## The equation
#
# $$c_t = [e_{t+1};\ e_t;\ e_{t-1}] \tag{1}$$
#
# $$x_t = \mathrm{norm}(c_t W + b + P_t + S) \tag{2}$$
#
# $$\mathrm{NoNorm}(x) = \gamma \odot x + \beta \tag{3}$$
#
# $$u = \mathrm{norm}(x W_{in}), \qquad w = \mathrm{norm}(x W_{kq}) \tag{4}$$
#
# $$y = \mathrm{norm}\big(u + \mathrm{MultiHead}(Q = w, K = w, V = x)\big) \tag{5}$$
#
# $$y \leftarrow \mathrm{norm}\big(y + \mathrm{FFN}_i(y)\big), \quad i = 1 \ldots 4 \tag{6}$$
#
# $$z = \mathrm{norm}(x + y W_{out}) \tag{7}$$
#
# | symbol | what it is | name in the code | size in the paper |
# |---|---|---|---|
# | $e$ | words, short vectors | `word_embedding` | 128 |
# | $P, S$ | position and segment | `position_embedding`, `type_embedding` | 512 |
# | $x, z$ | between the blocks | `input_tensor` | 512 |
# | $u, y$ | inside a block | `bottleneck_input` | 128 |
# | $w$ | what queries and keys are made of | `kq_shared_bottleneck` | 128 |
# | $\mathrm{FFN}_i$ | four small networks | `intermediate_i`, `output_i` | 128 → 512 → 128 |
#
# ## By hand
#
# Let each word's vector be one number, and let $W$ weigh the next word by 100, this one by 10 and the previous one by 1. Then the words 3, 7, 5 become 730, 573 and 57: beyond both ends there are zeros.
#
# And (3): with $\gamma = (2, 3)$ and $\beta = (1, -1)$, NoNorm makes $(11, 20)$ of $(5, 7)$. LayerNorm first makes $(-1, 1)$ of it, and then $(-1, 2)$.

# %%
e, w = np.array([[3.0], [7.0], [5.0]]), np.array([[100.0], [10.0], [1.0]])
spelled = [float((ref.trigram_one(e, t) @ w).item()) for t in range(3)]
norm, x = LayerNorm(np.array([2.0, 3.0]), np.array([1.0, -1.0])), np.array([5.0, 7.0])
print(spelled, no_norm(x, norm), layer_norm(x, norm).round(6))
assert spelled == [730, 573, 57] and no_norm(x, norm).tolist() == [11, 20]
assert np.allclose(layer_norm(x, norm), [-1, 2])

# %% [markdown]
# ## In NumPy
#
# **Three words side by side**: the table of vectors, shifted to both sides. With a map behind it, this is a convolution of width 3, whose kernel is $W$ cut in three, the previous word's part first.

# %%
e, kernel = rng.normal(size=(2, 6, 4)), rng.normal(size=(12, 7))
nothing = np.zeros_like(e[:, :1])
c = np.concatenate([np.concatenate([e[:, 1:], nothing], axis=1), e, np.concatenate([nothing, e[:, :-1]], axis=1)], axis=-1)
conv = built(keras.layers.Conv1D(7, 3, padding="same", use_bias=False, dtype="float64"), None, 4)
conv.set_weights([ref.as_convolution(kernel)])
print("a word and its neighbors:", c.shape)
assert np.array_equal(c, ref.trigram(e)) and np.allclose(conv(e), c @ kernel)

# %% [markdown]
# **Two ways into a block**, equation (4), of a small one: 12 numbers outside, 8 inside.

# %%
block = MobileBertTransformer(12, 4, 9, intra_bottleneck_size=8, dtype="float64")
x = rng.normal(size=(2, 5, 12))
block(x)
draw_weights(block, rng)
weights = weights_of(block, ref.MobileBertWeights)
u = no_norm(dense(x, weights.bottleneck_input), weights.bottleneck_input_norm)
w = no_norm(dense(x, weights.kq_shared_bottleneck), weights.kq_shared_bottleneck_norm)
print("outside", x.shape, "inside", u.shape, w.shape)

# %% [markdown]
# **Attention**, (5): queries and keys from $w$, values from all of $x$, added to $u$.

# %%
attended, scores = multi_head_attention(w, x, weights.attention, key=w)
y = no_norm(u + attended, weights.attention_norm)

# %% [markdown]
# **Four networks** one after the other, (6), **and out**, (7).

# %%
for intermediate, output, norm in zip(weights.intermediate, weights.output, weights.output_norm):
    y = no_norm(y + feed_forward(y, intermediate, output), norm)
z = no_norm(x + dense(y, weights.bottleneck_output), weights.bottleneck_output_norm)
assert np.allclose(z, block(x))

# %% [markdown]
# The reference says the same in one function.

# %%
print(inspect.getsource(ref.mobile_bert_transformer).split('"""')[2])

# %%
assert np.allclose(z, ref.mobile_bert_transformer(x, weights)[0])
assert all(np.allclose(z[b, t], ref.mobile_bert_one(x[b], t, weights)) for b, t in np.ndindex(2, 5))
print("largest difference from the layer:", f"{figures.power_above(np.abs(z - block(x)).max())} or less")

# %% [markdown]
# ## What it does
#
# **Why four feed-forward networks?** The paper keeps a balance: in BERT, attention has half as many parameters as the feed-forward network. The bottleneck breaks it, because values are still made from 512 numbers, and a feed-forward network sees 128.

# %%
ratios = {}
for count in (1, 2, 4, 6):
    block_of = built(MobileBertTransformer(num_feedforward_networks=count), None, 512)
    attention, feeding = parameters(block_of, "attention/"), parameters(block_of, "bottleneck_input/", "kq_shared_bottleneck/")
    stacked = parameters(block_of, "intermediate_", *(f"output_{i}/" for i in range(count)))
    ratios[count] = attention / stacked, (attention + feeding) / stacked
    print(f"{count} networks: attention over feed-forward {ratios[count][0]:.2f}, with the maps into it {ratios[count][1]:.2f}")
of_bert = parts["attention"][0] / parts["feed-forward"][0]
print(f"BERT: {of_bert:.2f}")
assert ratios[4][0] < of_bert < ratios[1][0] and ratios[4][1] < of_bert < ratios[1][1]

# %% [markdown]
# With one network attention outweighs it; with four the balance is on BERT's side again, however one counts. (The ratio says nothing about quality.)
#
# **How does one train so narrow a model?** By copying, says the paper. A teacher has the same 512 numbers between its blocks, but is wide inside, with LayerNorm and GELU. Each block of the student learns to return what the teacher's returns (feature maps $H$), and to look where it
# looks (attention weights $a$); last, the student learns the words themselves from the text and from the teacher's probabilities, in equal parts:
#
# $$L_{FMT} = \frac{1}{TN} \sum_{t,n} (H^{tr}_{t,n} - H^{st}_{t,n})^2, \qquad L_{AT} = \frac{1}{TA} \sum_{t,a} D_{KL}(a^{tr}_{t,a} \,\|\, a^{st}_{t,a}), \qquad L_{PD} = \tfrac12 L_{MLM} + \tfrac12 L_{KD}$$
#
# ($L_{MLM}$ is the cross-entropy of the words, $L_{KD}$ that of the teacher's probabilities; the paper adds a loss for the next sentence.) The paper copies **block by block**: the first block, then the second while the first is held fixed, and so on (progressive knowledge transfer).
#
# **What does each kind of copying bring?** Our language is small, but looking at fixed places does not solve it. A sentence gives the colors of four names, and asks for two of them. Chance is 1/8; guessing among the colors of the sentence is right about a third of the time.

# %%
ids, hidden_words = experiment.sentences(3, np.random.default_rng(0))
names, colors = (
    ("Ann", "Bob", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"),
    ("red", "blue", "green", "white", "black", "pink", "gray", "gold"),
)
for row, answer in zip(ids, hidden_words):
    print(" ".join((*names, *colors, "[MASK]")[i] for i in row), "  →", " ".join(colors[i - 8] for i in answer))

# %%
teacher, student = experiment.fresh(experiment.Teacher), experiment.traced()
sizes = [sum(block.count_params() for block in model.blocks) for model in (teacher, student)]
print(f"parameters of the blocks: teacher {sizes[0]:,}, student {sizes[1]:,} (two blocks each)")
guess = experiment.guessing()
print(f"guessing among the colors of the sentence is right {guess:.2f} of the time; chance {1 / experiment.NAMES:.3f}")

# %% [markdown]
# [The experiment](../experiments/mobile_bert/__init__.py) trains a teacher for each of three seeds, and five kinds of students with three learning rates; each kind is shown at its own best one, for what is asked. All get the same number of steps and sentences. One kind spends them all on $L_{PD}$. The others copy during the first half, which
# **shows them no hidden word**, and spend the rest on $L_{PD}$; block by block, each of the two blocks gets half of the first half. Embedding and classifier are the teacher's, as in the paper, and stay as they are.

# %%
print(f"{'':22}after copying, at rate   right           distance        divergence         at the end, at rate   right")
for arm in experiment.ARMS:
    rates = [experiment.best_rate(copying, by, arm) for by in ("copied", "right")]
    text = [f"{experiment.best_span(copying, what, arm, 'copied'):15}" for what in ("copied", "distance", "apart")]
    first = [f"{'–':24}", *["–" + 14 * " "] * 3] if arm == experiment.PLAIN else [f"{rates[0]:<24g}", *text]
    print(f"{arm:22}{' '.join(first)}    {rates[1]:<21g}", experiment.best_span(copying, "right", arm))
untrained = np.median(copying.values("untrained", experiment.PLAIN), axis=0)
print(f"{'before training':46}", *(f"{value:<15.2f}" for value in untrained))
print("teachers, right:", experiment.best_span(copying, "teacher", experiment.PLAIN))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
for ax, what in zip(axes, ("copied", "right")):
    for number, arm in enumerate(experiment.ARMS):
        if (what, arm) != ("copied", experiment.PLAIN):
            values = np.array([copying.values(what, arm, rate) for rate in copying.experiment.rates])
            style = {"color": figures.COLORS[number], "marker": figures.MARKERS[number], "markersize": 4}
            ax.plot(copying.experiment.rates, values, linestyle="none", **style)
            line = {"linestyle": figures.DASHES[number], "label": arm if what == "right" else None}
            ax.plot(copying.experiment.rates, np.median(values, axis=1), **style | line)
    ax.axhline(guess, color="black", linestyle=":", marker="none")
    ax.set(xscale="log", ylim=(0, 1.02))
    ax.set_xticks(copying.experiment.rates, copying.experiment.rates)
    ax.minorticks_off()
axes[0].set(ylabel="right (dotted: guessing)", xlabel="learning rate (after copying, before any answer)")
axes[0].set_title("copying maps is enough to answer, attention is not")
axes[1].set(xlabel="learning rate (after all steps)", title="at the end, only the smallest rate sets them apart")
fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize="small")
figures.show()

# %%
fig, ax = plt.subplots(figsize=(7, 3))
shown = (experiment.PLAIN, experiment.BOTH, experiment.STEPWISE)
figures.curves(ax, copying, "learned", dict.fromkeys(shown, ""), xlim=(0, 205))
for arm, place, color in zip(shown, ((140, 0.7), (30, 0.92), (102, 0.1)), figures.COLORS):
    ax.annotate(arm, place, color=color)
ax.axvline(experiment.STEPS / 2, color="black", linestyle=":", marker="none")
ax.set(
    xlabel="step (dotted: the copying ends)",
    ylabel="right",
    title="copying both brings about as much as being shown answers",
    ylim=(0, 1.05),
)
figures.show()

# %% [markdown]
# **Copying feature maps teaches the task.** A student that has copied feature maps is mostly right at its best rate, before it has been shown a hidden word. A student that has copied attention alone is no better than chance, because nothing told it what to return.
#
# **Copying attention too** adds nothing at the best rate. What does it add if both kinds of students have the same rate? Then they also have the same teacher, sentences and start, so we compare seed by seed.

# %%
for rate in copying.experiment.rates:
    more = [
        copying.values(what, experiment.BOTH, rate) - copying.values(what, experiment.MAPS, rate) for what in ("copied", "right")
    ]
    after, at_end = (", ".join(f"{value:+.2f}" for value in values) for values in more)
    print(f"rate {rate:<6g} copying attention too adds {after} after copying, and {at_end} at the end")
    assert rate == copying.experiment.rates[-1] or more[0].min() > np.ptp(more[0])

# %% [markdown]
# After copying, it adds a lot in every seed at the two smaller rates. At the end it still does at the smallest. At 0.03 it adds nothing: there a student that copies maps alone finds its own way, and its attention is about as far from the teacher's as before training.
#
# **Block by block** is not better here than both blocks at once. With as many steps in all, each block gets half of them, and the second block starts from what the first has not yet copied well. In the paper each of 24 blocks has a stage of its own; our trial, with two blocks and few steps, says nothing about that.

# %%
for claim in experiment.CLAIMS:
    print(f"{claim.text}: {claim.measure(copying)[1]}")
assert experiment.unseen(copying)[1] == "yes"

# %% [markdown]
# **At the end** all kinds come close to each other, and with the best rate of each no kind of copying is better than none; at the smallest rate copying both is well ahead. (One kind is called better if its worst seed is above the other's range, widened by its own width, because three seeds do not reach the ends of what seeds can do.) What copying brings here is a student that answers before it was shown any answer. The words themselves
# teach the rest, with or without it. The curves have not all become flat, so all this is about speed.
#
# To repeat the copying of one run, call `experiment.train_student("both", 0.03, seed=0, copying_only=True)`. It is not part of this lesson, because it takes about as long as all other cells together: the teacher has to be trained first.

# %% [markdown]
# ## Where it breaks
#
# **Nothing holds NoNorm's numbers.** LayerNorm measures and divides; NoNorm only multiplies. How large do the numbers of 24 blocks become? Small blocks ($m = 32$, 8 inside), kernels with a standard deviation of $1/\sqrt{\text{inputs}}$, as most layers start, or of 0.02, as this one starts; five draws of each.

# %%
template = weights_of(built(MobileBertTransformer(32, 4, 32, intra_bottleneck_size=8), None, 32), ref.MobileBertWeights)


def drawn(seed, std):
    """The weights of a block: kernels of this standard deviation, or of 1/√inputs; no biases, γ = 1, β = 0."""
    source = np.random.default_rng(seed)

    def redraw(w):
        if w.ndim < 2 or not w.any():
            return w
        inputs = w.size / (w.shape[-1] if w.ndim == 2 else 8)
        return source.normal(size=w.shape) * (std or inputs**-0.5)

    return keras.tree.map_structure(redraw, template)


# %%
def largest(seed, std=None, norm=no_norm, dtype="float64", blocks=24):
    """The largest number in each block's output; infinity where one is not finite."""
    x, found = np.random.default_rng(seed).normal(size=(1, 6, 32)).astype(dtype), []
    for i in range(blocks):
        weights = keras.tree.map_structure(lambda w: w.astype(dtype), drawn(1000 * seed + i, std))
        with np.errstate(all="ignore"):
            x = ref.mobile_bert_transformer(x, weights, norm=norm)[0].astype(dtype)
        found.append(float(np.abs(x).max()) if np.isfinite(x).all() else np.inf)
    return found


# %%
kinds = {"NoNorm, 1/√inputs": {}, "NoNorm, 0.02": {"std": 0.02}, "LayerNorm, 1/√inputs": {"norm": layer_norm}}
grown = {name: np.array([largest(seed, **options) for seed in range(5)]) for name, options in kinds.items()}
half = np.array([largest(seed, dtype="float16") for seed in range(5)])
print("in float16, blocks before the first output without a number:", np.argmax(np.isinf(half), axis=1).tolist())

# %%
fig, ax = plt.subplots(figsize=(7, 3.2))
for number, (name, values) in enumerate(grown.items()):
    ax.semilogy(range(1, 25), values.T, color=figures.COLORS[number], linestyle=figures.DASHES[number], marker="none")
    place = (24, np.median(values[:, -1])), (5, (0, 7, -7)[number])
    ax.annotate(name, *place, textcoords="offset points", color=figures.COLORS[number], va="center")
ax.axhline(np.finfo("float16").max, color="black", linestyle=":", marker="none")
ax.annotate("largest number of float16", (24, np.finfo("float16").max), (5, 4), textcoords="offset points")
ax.set(
    xlabel="block",
    ylabel="largest number",
    xlim=(1, 34),
    ylim=(0.1, None),
    title="started like other layers, NoNorm leaves float16",
)
ax.set_xticks((1, 8, 16, 24))
figures.show()

# %%
small = max(grown["NoNorm, 0.02"].max(), grown["LayerNorm, 1/√inputs"].max())
print(f"with the small start, or with LayerNorm, the largest number is {small:.1f}")
assert np.isinf(half).any(axis=1).all()
assert small < np.finfo("float16").max < grown["NoNorm, 1/√inputs"][:, -1].min()

# %% [markdown]
# With an ordinary start float16 has no number left after about ten blocks, in each of five draws. bfloat16 has the range of float32, and holds these numbers. With the small start all is well; training may change that, because nothing in the equations limits the numbers.
#
# **Differs from the paper.** It calls the trigram a convolution and does not say what stands beyond its ends; order and zeros here are those of the published weights. With those, the last word also reads the vector of a [PAD] that follows it; the embedding's `input_mask`, which is ours, leaves padding out.
#
# ## What it costs
#
# Per token and block, in multiply-adds: $2 m w$ into the bottlenecks, $(2w + m) w$ for queries, keys and values, $w^2$ behind the heads, $8 w f$ in four networks, $w m$ out; and $2 t w$ for attention itself, with $m$ between blocks and $w$ inside.


# %%
def block_cost(t, m=512, w=128, f=512, networks=4):
    return t * (2 * m * w + (2 * w + m) * w + w * w + networks * 2 * w * f + w * m) + 2 * t * t * w


def bert_cost(t, m=768, f=3072):
    return t * (4 * m * m + 2 * m * f) + 2 * t * t * m


with multiply_adds() as counted:
    ref.mobile_bert_transformer(rng.normal(size=(1, 5, 12)), weights)
assert sum(counted) == block_cost(5, 12, 8, 9)

# %%
for t in (128, 512, 8192):
    costs = 12 * bert_cost(t), 24 * block_cost(t) + t * 384 * 512  # the trigram's map is part of the embedding
    print(
        f"{t} tokens: BERT-base {costs[0] / 1e9:.3f} billion, MobileBERT {costs[1] / 1e9:.3f} billion, ratio {costs[0] / costs[1]:.2f}"
    )
print(f"where only attention counts: {12 * 768 / (24 * 128):.0f}")

# %% [markdown]
# The ratio falls toward 3 where $t^2$ takes over, since $24 \cdot 128$ is a third of $12 \cdot 768$. On a Pixel 4, at 128 tokens, [the paper](https://arxiv.org/abs/2004.02984) measured 62 ms for MobileBERT and 342 ms for BERT-base, 5.5 times as long.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# MobileBERT is the language task of the MLPerf Mobile benchmark ([Janapa Reddi et al., 2020](https://arxiv.org/abs/2012.02328)). Language models for phones are again deep and narrow ([Liu et al., 2024](https://arxiv.org/abs/2402.14905)). Learning from a teacher's probabilities is common practice for small models
# ([Gemma 2, 2024](https://arxiv.org/abs/2408.00118)). Copying attention first, then blocks, then answers came back where the student is another kind of model: state-space models that copy transformers ([Bick et al., 2024](https://arxiv.org/abs/2408.10189)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). The trigrams of sentences `e` `(b, t, m)`: next, this, previous, side by side in `(b, t, 3 m)`; zeros beyond the ends of a sentence.


# %%
def trigrams(e):
    return None  # your turn


_ = check("mobile_bert/1", trigrams)

# %% [markdown]
# <details><summary>Hint</summary>Put zeros before and behind each sentence, and take three slices.</details>
# <details><summary>Solution</summary><code>p = np.pad(e, [(0, 0), (1, 1), (0, 0)]); return np.concatenate([p[:, 2:], p[:, 1:-1], p[:, :-2]], axis=2)</code></details>
#
# **2** (medium, 10 minutes). NoNorm costs nothing at all where a linear map follows: fold `gamma` and `beta` into the map `w` `(m, f)` with bias `b`. Return the new kernel and the new bias.


# %%
def folded(gamma, beta, w, b):
    return None  # your turn


_ = check("mobile_bert/2", folded)

# %% [markdown]
# <details><summary>Hint</summary>Write $(\gamma \odot x + \beta) W + b$ as $x W' + b'$.</details>
# <details><summary>Solution</summary><code>return gamma[:, None] * w, beta @ w + b</code></details>
#
# **3** (hard, 15 minutes). The parameters of a block with model size `m`, inside `w`, units `f` and `n` feed-forward networks, biases and norms included.


# %%
def size(m, w, f, n):
    return None  # your turn


_ = check("mobile_bert/3", size)

# %% [markdown]
# <details><summary>Hint</summary>A map from a to b has $ab + b$ numbers, a norm of size a has $2a$. There are two maps into bottlenecks, three into heads and one out of them.</details>
# <details><summary>Solution</summary><code>return 2 * (m*w + 3*w) + 2*(w*w + w) + (m*w + w) + (w*w + 3*w) + n*(2*w*f + f + 3*w) + (w*m + 3*m)</code></details>
#
# **To discuss.** MobileBERT is thin and deep, ALBERT shares its weights, DistilBERT has half of the layers. Which would you choose for a phone, and what three numbers would you measure on it before you decide?
#
# ## Summary
#
# - Between blocks the vectors are wide; inside, where the work is, they are narrow. 24 such blocks are a quarter of BERT-base.
# - A narrow student that copies its teacher's feature maps is mostly right before it has been shown an answer. Copying attention too helps at the smaller learning rates only, and copying block by block was not better in our small trial.
# - NoNorm costs little and holds nothing: with an ordinary start its numbers leave float16.
#
# **Further reading.** [Sun et al., 2020](https://arxiv.org/abs/2004.02984): the paper. [He et al., 2015](https://arxiv.org/abs/1512.03385): where bottlenecks come from. [Jiao et al., 2019](https://arxiv.org/abs/1909.10351): TinyBERT, the same kind of copying with fewer blocks. [Sanh et al., 2019](https://arxiv.org/abs/1910.01108): DistilBERT,
# copying only what comes out.
