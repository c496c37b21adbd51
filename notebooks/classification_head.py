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
# # Classification head: one token for the whole sequence
#
# A classifier reads the vector of a single token. What that vector knows about the others, the encoder has to bring there.
#
# Paper: [Devlin et al., 2018, sections 3 and 4.1](https://arxiv.org/abs/1810.04805) · NumPy: [`reference/classification_head.py`](../reference/classification_head.py) · Layer:
# [`layers/classification_head.py`](../layers/classification_head.py) · 25 minutes · You should know: what a [transformer block](transformer_encoder.ipynb) is

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.classification_head import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from layers.classification_head import ClassificationHead
from layers.transformer_encoder import TransformerEncoderBlock
from reference import classification_head as ref
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A real encoder, all-MiniLM-L6-v2, reads 384 sentences: 96 nouns of four kinds, each in four sentences. The first token of every sentence is [CLS]. **What does its vector know of the noun, before the first layer and after
# the last?**

# %%
KINDS = {
    "animal": "cat dog horse cow sheep goat pig lion tiger bear wolf fox "
    "rabbit mouse monkey elephant deer duck eagle whale snake frog shark camel",
    "food": "bread cheese butter soup cake pie rice pasta pizza sandwich salad sausage "
    "apple banana lemon potato onion carrot bean honey chocolate cookie steak corn",
    "clothing": "shirt hat coat dress skirt jacket sweater scarf glove boot shoe sock "
    "belt blouse cap robe tie vest jeans hood cloak trousers uniform apron",
    "vehicle": "car truck bus train boat ship plane bicycle motorcycle tractor van taxi "
    "tram ferry helicopter canoe yacht jeep limousine wagon subway ambulance rocket submarine",
}

# %%
FRAMES = ("i saw the {} yesterday .", "she drew a {} for him .", "we talk about this {} often .", "he has a {} at home .")
rows = [
    (frame.format(noun), kind, i)
    for kind, nouns in enumerate(KINDS.values())
    for i, noun in enumerate(nouns.split())
    for frame in FRAMES
]
sentences, kinds, numbers = zip(*rows)
kinds, numbers = np.array(kinds), np.array(numbers)
print(len(sentences), "sentences, such as:", sentences[0])

# %%
PARTS = {f"self_attention/{part}": f"attention.self.{part}" for part in ("query", "key", "value")}
PARTS |= {"self_attention/attention_output": "attention.output.dense", "self_attention_layer_norm": "attention.output.LayerNorm"}
PARTS |= {"intermediate": "intermediate.dense", "output": "output.dense", "output_layer_norm": "output.LayerNorm"}
real = minilm.load()


def block(layer):
    made = TransformerEncoderBlock(12, 1536, "gelu")
    made.build((None, None, 384))
    for variable in made.weights:
        part, kind = variable.path.split("/", 1)[1].rsplit("/", 1)
        name = f"encoder.layer.{layer}.{PARTS[part]}.{'bias' if kind in ('bias', 'beta') else 'weight'}"
        variable.assign(real.tensors[name].T.reshape(variable.shape))
    return made


# %%
blocks = [block(layer) for layer in range(6)]


def encode(sentences, length):
    """What goes into the first layer and comes out of each, (7, b, t, m)."""
    pieces = [minilm.wordpieces(real, sentence) for sentence in sentences]
    mask = np.arange(length) < np.array([len(row) for row in pieces])[:, None, None]
    x = np.concatenate([minilm.embed(real, row + ["[PAD]"] * (length - len(row))) for row in pieces]).astype("float32")
    states = [x]
    for layer in blocks:
        states.append(np.asarray(layer([states[-1], np.repeat(mask, length, axis=1)])))
    return np.stack(states)


states = encode(sentences, 9)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for ax, layer in zip(axes, (0, 6)):
    vectors = states[layer, :, 0].reshape(96, 4, 384)  # four sentences for each noun
    vectors = (vectors - vectors.mean(axis=0)).reshape(384, 384)
    plane = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:2].T
    for kind, name in enumerate(KINDS):
        ax.plot(*plane[kinds == kind].T, linestyle="none", markersize=4, label=name)
    ax.set(title=f"[CLS] after {layer} layers", xlabel="first direction", xlim=(-4, 4), ylim=(-4, 4))
axes[0].set_ylabel("second direction")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# Each point is a sentence, less the mean of all with the same frame, in the plane where they differ most. Before the first layer all are one point: [CLS] is the same token at the same place. After six layers they are not, and kinds of
# nouns lie together.

# %%
spread = [float(np.ptp(states[layer, :, 0], axis=0).max()) for layer in (0, 6)]
print("[CLS] is the same in all sentences:", spread[0] == 0, "before,", spread[1] == 0, "after")
means = np.stack([plane[kinds == kind].mean(axis=0) for kind in range(4)])
nearest = ((plane[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
print("nearest to the mean of their own kind, in this plane: over 8 in 10:", bool((nearest == kinds).mean() > 0.8))
assert spread[0] == 0 and spread[1] > 1 and (nearest == kinds).mean() > 0.8

# %% [markdown]
# ## The equation
#
# $$C = \varphi(x_\mathrm{CLS} W_p + b_p) \tag{1}$$
#
# $$\mathrm{logits} = C W + b \tag{2}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x$ | what the encoder gives | `features` | `(b, t, m)` |
# | $x_\mathrm{CLS}$ | one token of it | `features[:, cls_token_idx]` | `(b, m)` |
# | $W_p, b_p$ | the pooler | `weights.pooler_dense` | `(m, f)`, `(f)` |
# | $W, b$ | a column for each class | `weights.logits` | `(f, c)`, `(c)` |
# | $\varphi$ | the activation, tanh | `phi` | |
#
# Without a pooler, $C = x_\mathrm{CLS}$, as the paper's text has it.
#
# ## By hand
#
# Let [CLS] be $(1, 2)$. A pooler with columns $(1, 1)$ and $(1, -1)$ and bias $(-1, 0)$ gives $(2, -1)$, of which $\max(0, \cdot)$ leaves $C = (2, 0)$. With $W$ having rows $(3, -1)$ and $(9, 9)$, and $b = (1, 0)$,
# the logits are $(2 \cdot 3 + 1,\ 2 \cdot (-1)) = (7, -2)$.

# %%
pooler = Projection(np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([-1.0, 0.0]))
logits = Projection(np.array([[3.0, -1.0], [9.0, 9.0]]), np.array([1.0, 0.0]))
weights = ref.ClassificationHeadWeights(pooler, logits)
found = ref.classify_one(np.array([1.0, 2.0]), weights, lambda x: np.maximum(x, 0))
print(found)
assert found.tolist() == [7, -2]

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.classify_one))
print(inspect.getsource(ref.classification_head))

# %%
features = np.array([[[1.0, 2.0], [50.0, 60.0]], [[0.0, 0.0], [1.0, 2.0]]])
one = [ref.classify_one(row[1], weights) for row in features]
assert np.allclose(ref.classification_head(features, weights, cls_token_idx=1)[0], one)
print("sequence by sequence and all at once agree")

# %% [markdown]
# ## What it does
#
# **Which token, and after which layer?** The paper keeps BERT frozen and trains a classifier on its vectors (section 5.3), from the embeddings up to the last layer. We train heads without a pooler on twelve nouns of each
# kind and ask them about the twelve others, which they have never seen.


# %%
def train(head, x, y, steps=150):
    """All examples in every step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(x.shape[1:]), head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    fit(model, np.tile(x, (steps, 1)), np.tile(y, steps), batch_size=len(x), shuffle=False)
    return head


def accuracy(head, x, y):
    return float((np.asarray(head(x)).argmax(axis=1) == y).mean())


# %%
seen, unseen = numbers < 12, numbers >= 12
nouns = {noun for group in KINDS.values() for noun in group.split()}
places = {
    "[CLS]": 0,
    "the word after it": 1,
    "the noun": [1 + next(i for i, w in enumerate(s.split()) if w in nouns) for s in sentences],
}
right = {}
for name, place in places.items():
    vectors = states[:, np.arange(len(sentences)), place]
    right[name] = [
        accuracy(train(ClassificationHead(0, 4), x[seen], kinds[seen]), x[unseen], kinds[unseen]) for x in vectors[[0, 3, 6]]
    ]

# %%
fig, ax = plt.subplots()
for name, values in right.items():
    ax.plot((0, 3, 6), values, label=name)
ax.axhline(1 / 4, color="black", linestyle=":", marker="none", label="guessing")
ax.set(xlabel="layers", ylabel="right, of unseen nouns", xticks=(0, 3, 6), ylim=(0, 1.05))
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# The noun's own vector is enough from the start: that "camel" is an animal stands in the embedding. [CLS] starts at guessing and learns it layer by layer. So does any other token, such as the word after it, which makes the choice less
# special than it looks: what counts is that training put the sentence there.

# %% tags=["nbval-ignore-output"]
print({name: [round(value, 2) for value in values] for name, values in right.items()})
assert right["[CLS]"][0] == right["the word after it"][0] == 0.25
assert min(right["the noun"]) > 0.9 and right["[CLS]"][-1] > 0.85 and right["the word after it"][-1] > 0.85
assert right["[CLS]"][1] < 0.85 < right["the noun"][1]

# %% [markdown]
# **Does a pooler help?** The authors' code has one, trained with the next-sentence task; fine-tuning goes on from there. On frozen vectors we compare no pooler, a new one, and MiniLM's own, left as it is, with few nouns and with many.

# %%
kernel, bias = real.tensors["pooler.dense.weight"].T, real.tensors["pooler.dense.bias"]
x = states[6, :, 0]
inputs = {"no pooler": (0, x), "a new pooler": (384, x), "MiniLM's, frozen": (0, np.tanh(x @ kernel + bias))}
counts, helped = (2, 12), {name: [] for name in inputs}
for name, (inner_dim, vectors) in inputs.items():
    for count in counts:
        some = numbers < count
        head = ClassificationHead(inner_dim, 4)
        train(head, vectors[some], kinds[some], 50 if inner_dim else 150)
        helped[name].append(accuracy(head, vectors[unseen], kinds[unseen]))

# %%
fig, ax = plt.subplots()
for name, values in helped.items():
    ax.plot(counts, values, label=name)
ax.axhline(1 / 4, color="black", linestyle=":", marker="none", label="guessing")
ax.set(xlabel="nouns of each kind to learn from", ylabel="right, of unseen nouns", xticks=counts, ylim=(0, 1.05))
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# More nouns help much more than any pooler. On frozen vectors a pooler of 147,840 numbers is no better than none: it is there to be carried from pre-training into fine-tuning.

# %% tags=["nbval-ignore-output"]
print({name: [round(value, 2) for value in values] for name, values in helped.items()})
assert all(values[-1] > 0.85 and values[-1] > values[0] + 0.1 for values in helped.values())
assert abs(helped["a new pooler"][-1] - helped["no pooler"][-1]) < 0.12
assert 384 * 384 + 384 == 147_840

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **The last token may be padding.** XLNet puts its token last, and `cls_token_idx=-1` finds it, as long as there is nothing behind it. We pad one sentence to 9, 10 and 12 tokens.

# %%
for token in (0, -1):
    padded = [encode(sentences[:1], length)[6, 0, token] for length in (9, 10, 12)]
    change = max(np.abs(vector - padded[0]).max() for vector in padded)
    print(f"cls_token_idx={token}: padding changes the vector:", bool(change > 1e-3))
    assert (change > 1e-3) == (token == -1)

# %% [markdown]
# The mask keeps [CLS] from padding, but the head knows of no mask: its last token is a [PAD], whose vector depends on how far it is padded. Pad on the left, as XLNet does, or take the last real token yourself (exercise 3).
#
# **A position that does not exist** is an error that names it; a compiler that clamps indices would have taken the nearest.

# %%
try:
    ClassificationHead(8, 2, cls_token_idx=5)(np.ones((2, 5, 8)))
except ValueError as error:
    print(error)
else:
    raise AssertionError("position 5 of 5 was found")

# %% [markdown]
# **Differs from the paper.** The paper's $C$ has no pooler and its $W$ no bias; its code has both. **From the Model Garden:** with `inner_dim=0` features may have three axes, and the token is taken from them as with a pooler.
#
# ## What it costs
#
# $mf + f + fc + c$ numbers with a pooler, $mc + c$ without, and $mf + fc$ multiply-adds for a sequence of any length. The paper's only new parameters in fine-tuning are those of $W$.

# %%
m, f, c = 384, 384, 4
head = ClassificationHead(f, c, dtype="float64")
head(np.ones((1, 9, m)))
with multiply_adds() as counted:
    ref.classification_head(np.ones((1, 9, m)), weights_of(head, ref.ClassificationHeadWeights))
print(f"{head.count_params():,} numbers, {sum(counted):,} multiply-adds; without a pooler {m * c + c:,} numbers")
assert head.count_params() == m * f + f + f * c + c and sum(counted) == m * f + f * c
assert sum(weight.nbytes for weight in head.get_weights()) == 8 * head.count_params()

# %%
lengths = 2 ** np.arange(3, 12)
encoder = 6 * (lengths * 12 * m**2 + 2 * lengths**2 * m)
fig, ax = plt.subplots()
ax.loglog(lengths, encoder, base=2, label="six encoder layers")
ax.loglog(lengths, np.full(len(lengths), m * f + f * c), base=2, label="head")
ax.set(xlabel="length t", ylabel="multiply-adds", title=f"one sequence, m = f = {m}")
ax.legend()
plt.show()
print("the head is less than a thousandth of the encoder at 16 tokens:", bool(encoder[1] > 1000 * (m * f + f * c)))

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). The head with a pooler, for `features` `(b, t, m)`: the first token through `w_p` `(m, f)`, `b_p` and tanh, then through `w` `(f, c)` and `b`.


# %%
def pooled_logits(features, w_p, b_p, w, b):
    return None  # your turn


_ = check("classification_head/1", pooled_logits)

# %% [markdown]
# <details><summary>Hint</summary>One slice, two products.</details>
# <details><summary>Solution</summary><code>np.tanh(features[:, 0] @ w_p + b_p) @ w + b</code></details>
#
# **2** (medium, 10 minutes). A pooler with $\varphi(x) = x$ is no use: return one kernel and one bias with the logits of both maps, `w_p` `(m, f)`, `b_p` `(f)`, `w` `(f, c)`, `b` `(c)`.


# %%
def folded(w_p, b_p, w, b):
    return None  # your turn


_ = check("classification_head/2", folded)

# %% [markdown]
# <details><summary>Hint</summary>$(x W_p + b_p) W + b$, multiplied out.</details>
# <details><summary>Solution</summary><code>return w_p @ w, b_p @ w + b</code></details>
#
# **3** (hard, 15 minutes). The last real token: `features` `(b, t, m)` are padded at the end, `lengths` `(b)` says where each ends. Return the logits of its last token; of a text of length 0, those of a token of zeros. No loop.


# %%
def last_token(features, lengths, w, bias):
    return None  # your turn


_ = check("classification_head/3", last_token)

# %% [markdown]
# <details><summary>Hint</summary>Index with two arrays: which row, and where in it. What does an index of −1 read?</details>
# <details><summary>Solution</summary>
#
# ```python
# def last_token(features, lengths, w, bias):
#     last = features[np.arange(len(features)), np.maximum(lengths - 1, 0)]
#     return np.where((lengths > 0)[:, None], last, 0) @ w + bias
# ```
# </details>
#
# **To discuss.** The first token, the mean of all tokens, the last token: three models, three choices. What does each assume about how the model was trained, and how would you choose for a model that you are given?
#
# ## Summary
#
# - The head reads one vector; the encoder has to bring the sequence into it, and does, layer by layer.
# - On frozen vectors a linear map is enough; the pooler is a piece of pre-training.
# - The head sees no mask: a token counted from the end may be padding.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 5.3: frozen vectors against fine-tuning. [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084): where the mean of all
# tokens does better than [CLS]. [Alain and Bengio, 2016](https://arxiv.org/abs/1610.01644): linear heads as probes of what each layer knows.
