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
# A quarter of BERT's parameters at twice its depth, because all that costs much happens in a stream of 128 numbers instead of 768.
#
# Paper: [Sun et al., 2020, section 3](https://arxiv.org/abs/2004.02984) · NumPy: [`reference/mobile_bert.py`](../reference/mobile_bert.py) · Layer:
# [`layers/mobile_bert/`](../layers/mobile_bert/__init__.py) · 25 minutes · You should know: the [transformer encoder block](transformer_encoder.ipynb),
# [token embedding](on_device_embedding.ipynb) and [positions](positional_embedding.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.mobile_bert import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.weights import draw_weights, weights_of
from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer
from layers.transformer_encoder import TransformerEncoderBlock
from reference import mobile_bert as ref
from reference.common.normalization import LayerNorm, layer_norm, no_norm

figures.use_style()
rng = np.random.default_rng(0)


def built(layer, *shape):
    layer.build((None, *shape))
    return layer


# %% [markdown]
# ## The question
#
# BERT-base has 109 million parameters, too many for a phone. **Where are they, and where did MobileBERT save?** We build one block and the embedding of each, and count.


# %%
def parameters(layer, *names):
    """How many numbers are in the weights whose path holds one of `names`."""
    return sum(int(np.prod(v.shape)) for v in layer.weights if any(f"/{name}" in v.path for name in names))


bert = built(TransformerEncoderBlock(12, 3072, "gelu"), None, 768)
mobile, embedding = built(MobileBertTransformer(), None, 512), built(MobileBertEmbedding(30522, 128, 2, 512), None)
norms = ("attention_norm", "bottleneck_input_norm", "kq_shared_bottleneck_norm", "output_norm", "bottleneck_output_norm")
parts = {
    "embedding": ((30522 + 512 + 2 + 2) * 768, embedding.count_params()),
    "attention": (12 * parameters(bert, "self_attention/"), 24 * parameters(mobile, "attention/")),
    "feed-forward": (
        12 * parameters(bert, "intermediate/", "output/"),
        24 * parameters(mobile, "intermediate_", "output_0/", "output_1/", "output_2/", "output_3/"),
    ),
    "bottlenecks": (0, 24 * parameters(mobile, "bottleneck_input/", "kq_shared_bottleneck/", "bottleneck_output/")),
    "norms": (12 * 4 * 768, 24 * sum(parameters(mobile, name) for name in norms)),
    "pooler": (768 * 768 + 768, 0),
}

# %%
fig, ax = plt.subplots(figsize=(8, 2.6))
left, hatches = np.zeros(2), ("", "//", "", "xx", "", "..")
for (name, counts), color, hatch in zip(parts.items(), figures.COLORS, hatches):
    counts = np.array(counts) / 1e6
    ax.barh(["BERT-base", "MobileBERT"], counts, left=left, color=color, hatch=hatch, edgecolor="white", label=name)
    left += counts
ax.set(xlabel="parameters, in millions")
ax.invert_yaxis()
fig.legend(loc="outside upper center", ncols=6, frameon=False)
plt.show()

# %% [markdown]
# Everything became smaller: the embedding by a factor of five, the feed-forward networks of 24 blocks to less than a quarter of those of 12. The numbers are exact; BERT's include its pooler.
#
# The paper says 25.3 million and does not say what it counts. The heads of pre-training, with a pooler, bring ours to 25.14. A gap of 0.6 % stays; we leave it open rather than guess.

# %%
totals = [sum(counts) for counts in zip(*parts.values())]
pooler, masked_words, next_sentence = 512 * 512 + 512, 512 * 512 + 512 + 2 * 512 + 30522, 2 * 512 + 2
heads = pooler + masked_words + next_sentence
print(
    "BERT-base", totals[0], " MobileBERT", totals[1], " ratio", round(totals[0] / totals[1], 2), " with heads", totals[1] + heads
)
assert totals == [109_482_240, 24_581_888] and totals[1] + heads == 25_139_772
assert round(1 - (totals[1] + heads) / 25.3e6, 3) == 0.006
assert bert.count_params() == 7_087_872 and mobile.count_params() == 842_240
assert parts["embedding"][0] / parts["embedding"][1] > 5 and 4 < parts["feed-forward"][0] / parts["feed-forward"][1] < 5

# %% [markdown]
# ## The equation
#
# $$c_t = [e_{t+1};\ e_t;\ e_{t-1}], \qquad x_t = \mathrm{norm}(c_t W + b + P_t + S) \tag{1, 2}$$
#
# $$\mathrm{NoNorm}(x) = \gamma \odot x + \beta \tag{3}$$
#
# $$u = \mathrm{norm}(x W_{in}), \qquad w = \mathrm{norm}(x W_{kq}) \tag{4}$$
#
# $$y = \mathrm{norm}\big(u + \mathrm{MultiHead}(Q = w, K = w, V = x)\big) \tag{5}$$
#
# $$y \leftarrow \mathrm{norm}\big(y + \mathrm{FFN}_i(y)\big), \quad i = 1 \ldots 4, \qquad z = \mathrm{norm}(x + y W_{out}) \tag{6, 7}$$
#
# | symbol | what it is | name in the code | size in the paper |
# |---|---|---|---|
# | $e$ | words, narrow | `word_embedding` | 128 |
# | $x, z$ | the stream between blocks | `input_tensor` | 512 |
# | $u, y$ | the stream inside | `bottleneck_input` | 128 |
# | $w$ | what queries and keys read | `kq_shared_bottleneck` | 128 |
# | $\mathrm{FFN}_i$ | four small networks | `intermediate_i`, `output_i` | 128 → 512 → 128 |
#
# ## By hand
#
# Let each word's vector be its own number, and let $W$ weigh the next word by 100, this one by 10 and the previous one by 1. Then what comes out of words 3, 7, 5 can be read off: beyond the ends there are zeros.
#
# And (3): with $\gamma = (2, 3)$ and $\beta = (1, -1)$, NoNorm makes $(5, 7)$ into $(11, 20)$. LayerNorm, asked the same, first makes $(-1, 1)$ of it, and then $(-1, 2)$.

# %%
e, w = np.array([[3.0], [7.0], [5.0]]), np.array([[100.0], [10.0], [1.0]])
spelled = [float((ref.trigram_one(e, t) @ w).item()) for t in range(3)]
norm, x = LayerNorm(np.array([2.0, 3.0]), np.array([1.0, -1.0])), np.array([5.0, 7.0])
print(spelled, no_norm(x, norm), layer_norm(x, norm).round(6))
assert spelled == [730, 573, 57] and no_norm(x, norm).tolist() == [11, 20]
assert np.allclose(layer_norm(x, norm), [-1, 2])

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.mobile_bert_one))
block = MobileBertTransformer(12, 4, 9, intra_bottleneck_size=8, dtype="float64")
x = rng.normal(size=(2, 5, 12))
block(x)
draw_weights(block, rng)
weights = weights_of(block, ref.MobileBertWeights)
output, scores = ref.mobile_bert_transformer(x, weights)
assert all(np.allclose(output[b, t], ref.mobile_bert_one(x[b], t, weights)) for b, t in np.ndindex(2, 5))

# %% [markdown]
# The trigram is a convolution of width 3 under another name: $W$, cut in three, is its kernel, the previous word's part first.

# %%
print(inspect.getsource(ref.as_convolution))
e, kernel = rng.normal(size=(2, 6, 4)), rng.normal(size=(12, 7))
assert np.allclose(ref.trigram(e) @ kernel, ref.convolve(e, ref.as_convolution(kernel)))
conv = built(keras.layers.Conv1D(7, 3, padding="same", use_bias=False, dtype="float64"), None, 4)
conv.set_weights([ref.as_convolution(kernel)])
assert np.allclose(conv(e), ref.trigram(e) @ kernel)

# %% [markdown]
# ## What it does
#
# **Why four feed-forward networks?** In BERT, attention and feed-forward network share the parameters 1 : 2, says the paper, and the bottleneck breaks that balance: values still come from all 512 numbers, while a feed-forward network sees 128. Stacking more of them mends it: with one, attention would
# have 0.87 times its parameters, or 1.87 times with the bottlenecks that feed it; with four 0.22 or 0.47.

# %%
ratios = {}
for count in range(1, 7):
    block = built(MobileBertTransformer(num_feedforward_networks=count), None, 512)
    attention, feeding = parameters(block, "attention/"), parameters(block, "bottleneck_input/", "kq_shared_bottleneck/")
    stacked = parameters(block, "intermediate_", *(f"output_{i}/" for i in range(6)))
    ratios[count] = round(attention / stacked, 2), round((attention + feeding) / stacked, 2)
print(ratios, " BERT:", round(parts["attention"][0] / parts["feed-forward"][0], 2))
assert ratios[1] == (0.87, 1.87) and ratios[4] == (0.22, 0.47)

# %% [markdown]
# **What does each part read?** Queries and keys see the tokens through a bottleneck of their own; values see all of them. We take one of the three ways into a block away and look at what changes.


# %%
def without(name):
    """Outputs and attention weights of the block above, as if one of its maps returned nothing."""
    empty = getattr(weights, name)._replace(**{part: 0 * value for part, value in getattr(weights, name)._asdict().items()})
    return ref.mobile_bert_transformer(x, weights._replace(**{name: empty}))


no_inside, no_shared = without("bottleneck_input"), without("kq_shared_bottleneck")
print("attention weights without w all equal:", np.allclose(no_shared[1], 1 / 5))
assert np.array_equal(no_inside[1], scores) and not np.allclose(no_inside[0], output)
assert np.allclose(no_shared[1], 1 / 5)

# %% [markdown]
# Without $w$ every token attends to all alike; without $u$ attention is untouched: the two bottlenecks have nothing to do with each other.
#
# **The paper's way to train it** is to copy. A teacher with the same stream between its blocks, but wide inside, learns the task; then each of the student's blocks learns to return what the teacher's returns. Our language counts, modulo 11, from
# any number in any steps; the task is a word that is masked, between two that are not. First the teacher, with LayerNorm and GELU.

# %%
n, length, m = 11, 12, 32


def sentences(count):
    """Counting in steps, modulo 11; every third word from the second on is masked. Returns ids and the masked words."""
    start, step = rng.integers(0, n, (2, count, 1))
    words = (start + step * np.arange(length)) % n
    return np.where(np.arange(length) % 3 == 1, n, words), words[:, 1::3]


def toy_block(is_teacher):
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if is_teacher:
        options |= {"normalization_type": "layer_norm", "initializer": "glorot_uniform", "num_feedforward_networks": 1}
        return MobileBertTransformer(m, 4, 128, "gelu", intra_bottleneck_size=64, **options)
    return MobileBertTransformer(m, 4, 32, "relu", intra_bottleneck_size=8, **options)


# %%
keras.utils.set_random_seed(0)
ids, start = keras.Input((length,), dtype="int32"), keras.initializers.RandomNormal(stddev=0.3)
embed = MobileBertEmbedding(n + 1, 16, 1, m, length, "layer_norm", start, dropout_rate=0.0)
x = embed(ids, keras.ops.zeros_like(ids))
z, head = toy_block(is_teacher=True)(x), keras.layers.Dense(n)
teacher, features = keras.Model(ids, head(z[:, 1::3])), keras.Model(ids, [x, z])
given, hidden = sentences(200 * 64)
entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
teacher.compile(keras.optimizers.Adam(5e-3), entropy, steps_per_execution=50, jit_compile=False)
teacher.fit(given, hidden, batch_size=64, shuffle=False, verbose=0)

test, answers = sentences(500)
x, z = features.predict(given, batch_size=1024, verbose=0)
test_x, test_z = features(test)


def accuracy(z):
    return float(np.mean(np.argmax(head(z[:, 1::3]), axis=-1) == answers))


# %% [markdown]
# Now the student: a quarter as wide inside as its stream, four networks, NoNorm, ReLU. It sees the teacher's input and the teacher's output, and **no word that was masked**. Its answers are read by the teacher's last layer.

# %%
keras.utils.set_random_seed(0)
student = keras.Sequential([keras.Input((length, m)), toy_block(is_teacher=False)])
student.compile(keras.optimizers.Adam(1e-2), "mse", steps_per_execution=50, jit_compile=False)
distances, right = [], []
for epoch in range(9):
    if epoch:
        part = slice(6400 * (epoch % 2), 6400 * (epoch % 2 + 1))
        student.fit(x[part], z[part], batch_size=64, shuffle=False, verbose=0)
    copied = student(test_x)
    distances.append(float(np.mean((copied - test_z) ** 2)))
    right.append(accuracy(copied))

fig, axes = plt.subplots(1, 2, figsize=(8, 3))
steps = 100 * np.arange(9)
axes[0].plot(steps, distances)
axes[0].set(xlabel="steps of the student", ylabel="squared distance to the teacher", ylim=(0, None))
axes[1].plot(steps, right, label="student")
axes[1].axhline(accuracy(test_z), color="black", linestyle="--", marker="none", label="teacher")
axes[1].axhline(1 / n, color="black", linestyle=":", marker="none", label="guessing")
axes[1].set(xlabel="steps of the student", ylabel="masked words that are right", ylim=(0, 1.05))
axes[1].legend()
plt.show()

# %% [markdown]
# The distance falls by a factor of more than three, and most of that at once. A student with a tenth of the teacher's parameters need not copy everything: it gets nearly all words right, and never saw one.

# %%
print("distance falls by more than three:", distances[0] > 3 * distances[-1])
print(f"right: teacher {accuracy(test_z):.2f}, student before below 0.3, after above 0.9:", right[0] < 0.3, right[-1] > 0.9)
assert distances[0] > 3 * distances[-1] and right[0] < 0.3 and right[-1] > 0.9 and accuracy(test_z) > 0.99
assert student.count_params() < features.layers[-1].count_params() / 10

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Nothing holds NoNorm's numbers.** LayerNorm measures and divides; NoNorm only multiplies. How large do the numbers of 24 blocks become, with weights as other layers draw them?

# %%
sizes, finite = {}, {}
for kind, dtype in (("no_norm", "float16"), ("no_norm", "bfloat16"), ("layer_norm", "float16")):
    keras.utils.set_random_seed(0)
    options = {"intra_bottleneck_size": 8, "normalization_type": kind, "initializer": "glorot_uniform", "dtype": dtype}
    x = keras.ops.cast(np.random.default_rng(0).normal(size=(2, 6, 32)), dtype)
    sizes[kind, dtype], finite[kind, dtype] = [], []
    for _ in range(24):
        block = MobileBertTransformer(32, 4, 32, **options)
        z, attention = block(x, return_attention_scores=True)
        u, attention, z = (keras.ops.cast(part, "float64") for part in (block.bottleneck_input(x), attention, z))
        finite[kind, dtype].append([bool(np.isfinite(part).all()) for part in (u, attention, z)])
        sizes[kind, dtype].append(np.abs(z).max())
        x = keras.ops.cast(z, dtype)

# %%
fig, ax = plt.subplots()
for (kind, dtype), values in sizes.items():
    ax.semilogy(range(1, 25), np.where(np.isfinite(values), values, np.nan), label=f"{kind}, {dtype}")
ax.axhline(65504, color="black", linestyle=":", marker="none", label="largest number of float16")
ax.set(xlabel="block", ylabel="largest number in the output")
ax.legend()
plt.show()

# %% [markdown]
# With NoNorm the numbers grow from block to block. float16 fails long before the dotted line: attention multiplies two of them, so it is the scores that have no number first. bfloat16 reaches as far as float32. The published weights start smaller and are trained; but nothing in the equations keeps
# them there.

# %%
first = next(i for i, (_, _, z) in enumerate(finite["no_norm", "float16"]) if not z)
print(
    "the first block that fails in float16:",
    dict(zip(("bottleneck finite", "attention finite"), finite["no_norm", "float16"][first])),
)
assert finite["no_norm", "float16"][first] == [True, False, False] and max(sizes["no_norm", "float16"][:first]) < 65504
assert np.all(finite["no_norm", "bfloat16"]) and sizes["no_norm", "bfloat16"][-1] > 65504
assert np.all(finite["layer_norm", "float16"]) and max(sizes["layer_norm", "float16"]) < 10

# %% [markdown]
# **Padding is a neighbor.** The vector of [PAD] is not zero, so the last word of a sentence comes out another one when padding stands behind it. The published weights were trained that way. Tell the layer where padding is, and a sentence is the same in every row:

# %%
layer = MobileBertEmbedding(20, 4, 2, 8, dtype="float64")
words, padded = np.array([[5, 6, 7]]), np.array([[5, 6, 7, 0, 0]])
layer(words)
draw_weights(layer, rng)
change = [np.abs(layer(padded, input_mask=mask)[:, :3] - layer(words)).max(axis=(0, 2)) for mask in (None, padded > 0)]
print("words that change, without a mask:", (change[0] > 1e-9).tolist(), " with one:", (change[1] > 1e-9).tolist())
assert (change[0] > 1e-9).tolist() == [False, False, True] and change[1].max() < 1e-12

# %% [markdown]
# **Differs from the paper.** It calls the trigram a convolution and is silent about its ends; order and zeros are those of the published weights. The option above is ours.
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
costs = {"BERT-base": 12 * bert_cost(128), "MobileBERT": 24 * block_cost(128) + 128 * 384 * 512}
print(
    {name: f"{cost / 1e9:.3f} billion" for name, cost in costs.items()},
    "for 128 tokens; ratio",
    round(costs["BERT-base"] / costs["MobileBERT"], 2),
)
assert costs == {"BERT-base": 11_173_625_856, "MobileBERT": 2_692_743_168}

# %%
lengths = 2 ** np.arange(5, 14)
fig, ax = plt.subplots()
ax.loglog(lengths, [12 * bert_cost(t) for t in lengths], base=2, label="BERT-base, 12 blocks")
ax.loglog(lengths, [24 * block_cost(t) + t * 384 * 512 for t in lengths], base=2, label="MobileBERT, 24 blocks")
ax.set(xlabel="tokens t", ylabel="multiply-adds")
ax.legend()
plt.show()

# %% [markdown]
# A factor of 4.15 at 128 tokens. It falls toward 3 where attention's $t^2$ takes over: $24 \cdot 128$ is a third of $12 \cdot 768$. On a phone, at 128 tokens, the paper measured 5.5 times the speed.

# %%
ratio = {int(t): round(12 * bert_cost(t) / (24 * block_cost(t) + t * 384 * 512), 2) for t in (128, 8192)}
print(ratio)
assert ratio[128] == 4.15 and 3 < ratio[8192] < 3.5 and (12 * 768) / (24 * 128) == 3
assert 4 * mobile.count_params() == sum(v.numpy().nbytes for v in mobile.weights)  # float32

# %% [markdown]
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
# - Between blocks the stream is wide; inside, where the work is, it is narrow. 24 such blocks are a quarter of BERT-base.
# - Four small feed-forward networks restore the balance with attention that a bottleneck breaks.
# - NoNorm is free and holds nothing: its numbers can leave float16.
#
# **Further reading.** [Sun et al., 2020](https://arxiv.org/abs/2004.02984): the paper. [He et al., 2015](https://arxiv.org/abs/1512.03385): where bottlenecks come from. [Jiao et al., 2019](https://arxiv.org/abs/1909.10351): TinyBERT, the same kind of copying with fewer blocks. [Sanh et al., 2019](https://arxiv.org/abs/1910.01108): DistilBERT,
# copying only what comes out.
