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
# # BERT, whole: from a sentence to its meaning
#
# A real model, all-MiniLM-L6-v2, from raw text to a vector for each sentence: once in NumPy, once in our layers, with the same 22.7 million weights.
#
# Papers: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805), [Reimers and Gurevych, 2019, section 3](https://arxiv.org/abs/1908.10084) · NumPy: [`reference/bert.py`](../reference/bert.py) · Layers:
# [`layers/bert/`](../layers/bert/__init__.py), [`layers/bert/sentence_embedding.py`](../layers/bert/sentence_embedding.py) · 30 minutes · You should know: the [encoder block](transformer_encoder.ipynb), [token embedding](on_device_embedding.ipynb),
# [positions](positional_embedding.ipynb), the [tokenizer](bert_tokenizer.ipynb) and [packing](bert_pack_inputs.ipynb)

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from crosscheck.case import TOLERANCE
from crosscheck.cases.bert import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert
from crosscheck.weights import weights_of
from layers import BertPackInputs, BertTokenizer, SentenceEmbedding
from reference import bert as ref
from reference.bert_pack_inputs import bert_pack_inputs
from reference.bert_tokenizer import bert_tokenizer
from reference.common.normalization import LayerNorm
from reference.on_device_embedding import OnDeviceEmbeddingWeights
from reference.positional_embedding import PositionalEmbeddingWeights

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Twelve sentences, six pairs that say nearly the same, in other words. **Which sentence belongs to which?** Counting the word pieces that two sentences share is the obvious way.

# %%
sentences = [
    *("How do I bake bread at home?", "What is the recipe for a homemade loaf?"),
    *("The match ended in a draw.", "Neither team managed to win the game."),
    *("She plays the violin in an orchestra.", "He is a cellist with the city symphony."),
    *("My laptop will not start.", "The computer refuses to boot."),
    *("It will rain all weekend.", "Expect wet weather on Saturday and Sunday."),
    *("The bank raised its interest rate.", "Borrowing money has become more expensive."),
]
model = minilm.load()
tokenizer = BertTokenizer(str(model.folder / "vocab.txt"), lower_case=True)


def packed(texts, tokenizer=tokenizer, length=16):
    pack = BertPackInputs(length, special_tokens_dict=tokenizer.get_special_tokens_dict())
    return {name: np.array(ids) for name, ids in pack([tokenizer(texts)]).items()}


inputs = packed(sentences)
ids, mask = inputs["input_word_ids"], inputs["input_mask"]

# %%
counts = np.array([np.bincount(row[row > 102], minlength=len(model.vocabulary)) for row in ids], float)
counts /= np.linalg.norm(counts, axis=1, keepdims=True)
shared = counts @ counts.T
partner = np.arange(12) ^ 1


def nearest(similarity):
    return np.argmax(similarity - 2 * np.eye(len(similarity)), axis=1)


print("sentences whose partner shares most pieces with them:", int((nearest(shared) == partner).sum()), "of 12")
assert (nearest(shared) == partner).sum() <= 4

# %% [markdown]
# Common words decide, and they are everywhere. A model that has read has to do better.
#
# ## The equation
#
# $$x_t = \mathrm{LN}(\mathrm{Word}[\mathrm{token}_t] + \mathrm{Position}[t] + \mathrm{Type}[\mathrm{segment}_t]) \tag{1}$$
#
# $$z^0 = x, \qquad z^{i+1} = \mathrm{Block}_i(z^i) \tag{2}$$
#
# $$\mathrm{mean} = \frac{\sum_t \mathrm{mask}_t\, z_t}{\sum_t \mathrm{mask}_t}, \qquad \mathrm{embedding} = \frac{\mathrm{mean}}{\lVert \mathrm{mean} \rVert} \tag{4}$$
#
# Equation (3) of the reference is BERT's pooler, which sentence embeddings of this model do without.
#
# | symbol | name in the code | shape |
# |---|---|---|
# | token, mask, segment | `input_word_ids`, `input_mask`, `input_type_ids` | `(b, t)` |
# | Word, Position, Type | `word_embeddings`, `position_embedding`, `type_embeddings` | `(30522, m)`, `(512, m)`, `(2, m)` |
# | $z$ | `sequence_output` | `(b, t, m)`, with $m = 384$ |
#
# ## By hand
#
# A model of size two without blocks. The word's row is $(4, 0)$, its position's $(2, 1)$, its segment's $(0, 1)$: together $(6, 2)$, whose norm is $(1, -1)$. And the mean of tokens $(3, 0)$ and $(3, 8)$ is $(3, 4)$, of length 5, whatever stands on the padding behind them.

# %%
table = OnDeviceEmbeddingWeights(np.array([[9.0, 9.0], [4.0, 0.0]]))
places, kinds = PositionalEmbeddingWeights(np.array([[2.0, 1.0]])), OnDeviceEmbeddingWeights(np.array([[0.0, 1.0]]))
tiny = ref.BertWeights(table, places, kinds, LayerNorm(np.ones(2), np.zeros(2)), ())
x = ref.embed_inputs(np.array([[1]]), np.array([[0]]), tiny)
embedding = ref.sentence_embedding(np.array([[[3.0, 0.0], [3.0, 8.0], [7.0, 7.0]]]), np.array([[1, 1, 0]]))
print(x.round(6).tolist(), embedding.tolist())
assert np.allclose(x, [[[1, -1]]]) and np.allclose(embedding, [[0.6, 0.8]])

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.embed_inputs))
print(inspect.getsource(ref.bert_encoder))

# %% [markdown]
# `load_bert` reads a checkpoint into our layer, name by name, and complains of any that is missing or left over. The reference takes the layer's weights. One function below is the definition: a sentence alone, token by token.

# %%
encoder = load_bert(return_attention_scores=True)
weights = weights_of(encoder, ref.BertWeights)
in_numpy = ref.bert_encoder(ids, mask, inputs["input_type_ids"], weights)
length = mask[2].sum()
alone = ref.bert_one(ids[2, :length], np.zeros(length, int), weights)
assert np.abs(in_numpy.sequence[2, :length] - alone).max() < 1e-12
print("a sentence in its padded batch, and alone, token by token: the same")

# %%
outputs = encoder(inputs)
embeddings = np.asarray(SentenceEmbedding()(outputs["sequence_output"], mask))
expected = ref.sentence_embedding(in_numpy.sequence, mask)
assert np.abs(embeddings - expected).max() < 1e-5
print("embeddings in float32 are the reference's to 1e-5")

# %% [markdown]
# Nor does the text have to pass through TensorFlow: the tokenizer and the packing exist in plain Python, and give the same ids.

# %%
tokens = bert_tokenizer(sentences, model.vocabulary).ids
rows = bert_pack_inputs([tokens], 16, *(model.vocabulary[piece] for piece in ("[CLS]", "[SEP]", "[PAD]")))
assert (rows.input_word_ids == ids).all() and (rows.input_mask == mask).all()
print("raw text to ids, in both rooms: the same")

# %% [markdown]
# ## What it does
#
# **Does the model find the pairs?** Cosines between the twelve embeddings, beside the shares of common pieces.

# %%
similarity = embeddings @ embeddings.T
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True)
for ax, values, title in zip(axes, (shared, similarity), ("shared pieces", "embeddings")):
    image = ax.imshow(values, vmin=0, vmax=1)
    ax.set(title=title, xlabel="sentence b", xticks=range(12))
    ax.grid(False)
axes[0].set_yticks(range(12), sentences, fontsize="small")
axes[0].set_ylabel("sentence b")
fig.colorbar(image, ax=axes, label="cosine")
plt.show()

# %% [markdown]
# Six squares stand out along the diagonal of the second picture, and little elsewhere: every sentence is nearest to its partner, though they have next to no words in common.

# %%
apart = similarity[~np.kron(np.eye(6, dtype=bool), np.ones((2, 2), bool))]
paired = similarity[np.arange(12), partner]
print("partners found:", int((nearest(similarity) == partner).sum()), "of 12")
assert (nearest(similarity) == partner).all() and paired.min() > 0.3 and apart.max() < 0.3

# %% [markdown]
# **Where do its heads look?** There are 72, and most of what they do has no simple name. We ask three simple questions of each, averaged over the sentences: how much of its attention goes to the token before, to the token after, and to [CLS]?

# %%
attention = np.array(outputs["attention_scores"])  # block, sentence, head, query, key
real = mask[:, :, None] * mask[:, None]
targets = {"the token before": np.eye(16, k=-1), "the token after": np.eye(16, k=1), "[CLS]": np.eye(1, 16)}
best = {}
for name, target in targets.items():
    share = np.einsum("ibhts,bts->ih", attention, real * target) / (real * target).sum()
    best[name] = (*np.unravel_index(share.argmax(), share.shape), share.max())
    print(f"{name}: {share.max():.2f} in block {best[name][0]}, head {best[name][1]}; average head {share.mean():.2f}")

# %%
pieces = [list(model.vocabulary)[i] for i in ids[4] if i]
fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True)
for ax, (name, (block, head, _)) in zip(axes, best.items()):
    part = attention[block, 4, head, : len(pieces), : len(pieces)]
    figures.attention_map(ax, part, pieces, pieces, f"to {name}\nblock {block}, head {head}", largest=1)
axes[0].set_ylabel("query t")
plt.show()

# %% [markdown]
# One head of the first block is a shift register: it hands every token the one before it, and gives nothing to anything else. Others have [CLS] as the place to look at when there is nothing to look for.

# %%
assert best["the token before"][2] > 0.99 and best["the token before"][0] == 0
assert best["[CLS]"][2] > 0.8 and best["the token after"][2] > 0.5

# %% [markdown]
# **What does one word do?** "The film was not good." We hide "not" by a zero in its mask: no token attends to it, and the mean leaves it out.

# %%
opinions = packed(["The film was good.", "The film was not good.", "The film was bad."])


def embed(inputs, **changes):
    inputs = inputs | changes
    return np.asarray(SentenceEmbedding()(encoder(inputs)["sequence_output"], inputs["input_mask"]))


seen = embed(opinions)
hidden, other = opinions["input_mask"].copy(), opinions["input_word_ids"].copy()
hidden[1, 4], other[1, 4] = 0, model.vocabulary["very"]
without = embed(opinions, input_mask=hidden)
print("cosine with 'good':", [f"{c:.2f}" for c in seen @ seen[0]])
print("and without 'not':", [f"{c:.2f}" for c in without @ seen[0]])

# %%
assert seen[1] @ seen[2] > seen[1] @ seen[0] + 0.05
assert 0.97 < without[1] @ seen[0] < 0.9999
assert (embed(opinions, input_mask=hidden, input_word_ids=other) == without).all()

# %% [markdown]
# With "not", the sentence is nearer to "bad"; without it, it is nearly "good", but not quite, since the words behind it still stand one place further on. What the hidden word was makes no difference at all.
#
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error < TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# The real model is compared in float64 and float32 only: the limits for fewer bits are for one block. **What do six blocks make of half precision?**

# %%
fig, ax = plt.subplots()
drift, cosines = {}, {}
for dtype in ("float32", "float16", "bfloat16"):
    found = load_bert(dtype=dtype)(inputs)
    blocks = [np.asarray(ops.cast(z, "float32")) for z in found["encoder_outputs"]]
    drift[dtype] = [np.abs(z - wanted).max() / np.abs(wanted).max() for z, wanted in zip(blocks, in_numpy.blocks)]
    cosines[dtype] = (ref.sentence_embedding(blocks[-1].astype("float64"), mask) * expected).sum(axis=1).min()
    ax.semilogy(range(1, 7), drift[dtype], label=dtype)
ax.set(xlabel="block i", ylabel="largest relative error of $z^i$")
fig.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# Rounding adds up from block to block: in every dtype the last block is farther from the reference than the first. The embeddings hardly notice, as their cosine with the exact ones shows.

# %%
for dtype, of in drift.items():
    print(f"{dtype:>8}: error after block 6 is {of[-1] / of[0]:.0f} times that after block 1, least cosine {cosines[dtype]:.4f}")
assert all(of[-1] > of[0] for of in drift.values())
assert drift["float16"][-1] < 0.05 and drift["bfloat16"][-1] < 0.25 and min(cosines.values()) > 0.995

# %% [markdown]
# ## Where it breaks
#
# **A tokenizer that is not the model's.** These weights have only seen small letters without accents. **A mask that is forgotten.** Then [PAD] is a word like any other. Neither raises an error; both destroy the embedding.

# %%
texts = ["WHERE CAN I BUY FRESH BREAD?", "Où est le café de São Paulo?"]
right = packed(texts, length=64)
keeps_case = BertTokenizer(str(model.folder / "vocab.txt"), lower_case=False)
wrong = {
    "case and accents kept": embed(packed(texts, keeps_case, length=64)),
    "no mask": embed(right, input_mask=np.ones_like(right["input_mask"])),
}
for name, found in wrong.items():
    cosine = (found * embed(right)).sum(axis=1)
    print(f"{name}: cosine with the right embedding", [f"{c:.1f}" for c in cosine])
    assert cosine.max() < 0.8

# %% [markdown]
# **Differs from the paper.** The pooler is in BERT's code, not in its paper. A sentence of padding alone has an embedding of zeros here, not a division by zero.
#
# ## What it costs
#
# With $i$ blocks, vocabulary $n$, $p$ positions and 2 segments there are $(n + p + 2 + 2)\,m + i\,(4m^2 + 2mf + 9m + f) + m^2 + m$ parameters. For $t$ tokens, $i\,(4tm^2 + 2t^2m + 2tmf)$ multiply-adds. The embeddings cost none.

# %%
m, f, n, p, i = 384, 1536, 30522, 512, 6
assert encoder.count_params() == (n + p + 4) * m + i * (4 * m**2 + 2 * m * f + 9 * m + f) + m**2 + m
with multiply_adds() as counted:
    ref.bert_encoder(ids[:1], mask[:1], inputs["input_type_ids"][:1], weights)
t = ids.shape[1]
assert sum(counted) - m**2 == i * (4 * t * m**2 + 2 * t**2 * m + 2 * t * m * f)
print(f"{encoder.count_params():,} parameters, {n * m / encoder.count_params():.0%} of them in the table of words")

# %%
lengths = np.array([16, 32, 64, 128, 256, 512])
parts = {"projections": 4 * lengths * m**2, "feed-forward": 2 * lengths * m * f, "scores and mixing": 2 * lengths**2 * m}
fig, ax = plt.subplots()
for name, products in parts.items():
    ax.loglog(lengths, i * products, base=2, label=name)
ax.set(xlabel="tokens t", ylabel="multiply-adds, six blocks")
fig.legend(loc="outside right center", frameon=False)
plt.show()
assert parts["scores and mixing"][-1] < parts["projections"][-1] < parts["feed-forward"][-1]

# %% [markdown]
# Up to the 512 tokens that this model can read, its feed-forward networks are the most expensive part, and attention's quadratic part the cheapest.
#
# ## Exercises
#
# **1** (easy, 10 minutes). Equation (4) up to the division by the norm, for `z` `(b, t, m)` and `mask` `(b, t)` of ones and zeros; zeros for a text without tokens. No loop over texts.


# %%
def mean_of_tokens(z, mask):
    return None  # your turn


_ = check("bert/1", mean_of_tokens)

# %% [markdown]
# <details><summary>Hint</summary>A product with the mask, summed over tokens.</details>
# <details><summary>Solution</summary><code>return np.einsum("btm,bt-&gt;bm", z, mask) / np.maximum(mask.sum(axis=1, keepdims=True), 1)</code></details>
#
# **2** (medium, 10 minutes). The places of the `k` embeddings `(b, m)` nearest to each query `(t, m)`, the nearest first; all have length one. There is no room for a vector for each pair.


# %%
def nearest(queries, embeddings, k):
    return None  # your turn


_ = check("bert/2", nearest)

# %% [markdown]
# <details><summary>Hint</summary>For vectors of length one, the squared distance is two minus twice the cosine.</details>
# <details><summary>Solution</summary><code>return np.argsort(-queries @ embeddings.T, axis=1)[:, :k]</code></details>
#
# **3** (hard, 15 minutes). A model's parameters, from its sizes: model `m`, feed-forward `f`, `layers`, a vocabulary of `n`, `positions` and two segments; without a pooler.


# %%
def parameters(m, f, layers, n, positions):
    return None  # your turn


_ = check("bert/3", parameters)

# %% [markdown]
# <details><summary>Hint</summary>The formula of the last section has them all; a norm has two vectors, and every map a bias.</details>
# <details><summary>Solution</summary><code>return (n + positions + 4) * m + layers * (4 * m**2 + 2 * m * f + 9 * m + f)</code></details>
#
# **To discuss.** Embeddings of sentences put what is similar together: similar in topic, in wording, in intent? How would you find out which of these a model's embeddings measure?
#
# ## Summary
#
# - Tokenizer, packing, embeddings, blocks and mean: each of them a chapter, together a model that finds what belongs together.
# - A head can be a program: one hands on the token before. A mask removes a word exactly, and its place not at all.
# - The same text in another tokenization, or without its mask, is another text, and no error says so.
#
# **Other models.** Any BERT of this layout loads in the same way. Where there is internet: `folder = huggingface_hub.snapshot_download("google-bert/bert-base-uncased", allow_patterns=["config.json", "vocab.txt", "model.safetensors"])`, then
# `load_bert(folder, ignore=("cls.",))`, which leaves out the heads of pre-training.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): BERT. [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084): sentences as vectors. [Wang et al., 2020](https://arxiv.org/abs/2002.10957): MiniLM, how six blocks learned from a larger model.
# [Clark et al., 2019](https://arxiv.org/abs/1906.04341): what BERT's heads look at, and why so often at nothing.
