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
# [`layers/bert/`](../layers/bert/__init__.py), [`layers/bert/sentence_embedding.py`](../layers/bert/sentence_embedding.py) · 45 minutes · You should know: the [encoder block](transformer_encoder.ipynb), [token embedding](on_device_embedding.ipynb),
# [positions](positional_embedding.ipynb), the [tokenizer](bert_tokenizer.ipynb) and [packing](bert_pack_inputs.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.bert import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert
from crosscheck.weights import weights_of
from experiments.bert import texts, tuned, untrained, words
from experiments.common.results import stored
from layers import BertPackInputs, BertTokenizer, SentenceEmbedding
from reference import bert as ref
from reference.bert_pack_inputs import bert_pack_inputs
from reference.bert_tokenizer import bert_tokenizer
from reference.common.normalization import LayerNorm
from reference.on_device_embedding import OnDeviceEmbeddingWeights
from reference.positional_embedding import PositionalEmbeddingWeights
from reference.transformer_encoder import transformer_encoder_block

figures.use_style()
rng = np.random.default_rng(0)
results = stored("bert")

# %% [markdown]
# ## The question
#
# Twelve sentences, six pairs that say nearly the same in other words. **Which sentence belongs to which?** The classic way counts the word pieces that two sentences share, and weights each piece by how rare it is (TF-IDF: the logarithm of the
# number of sentences over those that have the piece; here, in a novel's).

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
pieces = [minilm.wordpieces(model, sentence) for sentence in sentences]
shared, partner = texts.bags(pieces, weighted=True) @ texts.bags(pieces, weighted=True).T, np.arange(12) ^ 1


# %%
def found_by(similarity):
    """How many sentences are more similar to their partner than to any other; a tie does not count."""
    others = similarity - 2 * np.eye(12)
    mine = others[np.arange(12), partner]
    return int(((others >= mine[:, None]).sum(axis=1) == 1).sum())


by_counts, by_rarity = (found_by(bags @ bags.T) for bags in (texts.bags(pieces, weighted) for weighted in (False, True)))
print(f"sentences that find their partner: by counts {by_counts}, by TF-IDF {by_rarity} of 12; by chance {12 / 11:.1f}")
assert by_rarity <= 6

# %% [markdown]
# These pairs were written so that they share few words. A model that has read has to do better.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"text": Box("text", 1, 0, "data"), "tok": Box("tokenize, pack", 1, 1, width=1.2)}
boxes |= {"word": Box("Word", 0, 2, "map"), "place": Box("Position", 1, 2, "map"), "kind": Box("Type", 2, 2, "map")}
boxes |= {
    "sum": Box("+", 1, 3),
    "norm": Box("norm", 1, 4, "trained"),
    "blocks": Box("6 encoder blocks", 1, 5, "trained", width=1.3),
}
boxes |= {"mean": Box("mean of tokens", 1, 6, width=1.2), "unit": Box("divide by length", 1, 7, width=1.3)}
boxes |= {
    "out": Box("embedding", 1, 8, "data"),
    "m5": Box("mask (b, t)", 2.3, 5, "data"),
    "m6": Box("mask (b, t)", 2.3, 6, "data"),
}
arrows = [
    ("text", "tok", ""),
    ("tok", "word", "ids (b, t)"),
    ("tok", "place", ""),
    ("tok", "kind", "segments"),
    ("word", "sum", ""),
    ("place", "sum", "(t, m)"),
]
arrows += [
    ("kind", "sum", ""),
    ("sum", "norm", "(b, t, m)"),
    ("norm", "blocks", "z⁰ (b, t, m)"),
    ("blocks", "mean", "z⁶ (b, t, m)"),
]
arrows += [("m5", "blocks", ""), ("m6", "mean", ""), ("mean", "unit", "(b, m)"), ("unit", "out", "(b, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Every part has a lesson of its own; this one puts them together. The mask is used twice: no token attends to padding, and the mean leaves padding out.
#
# ## The equation
#
# $$x_t = \mathrm{LN}(\mathrm{Word}[\mathrm{token}_t] + \mathrm{Position}[t] + \mathrm{Type}[\mathrm{segment}_t]) \tag{1}$$
#
# $$z^0 = x, \qquad z^{i+1} = \mathrm{Block}_i(z^i) \tag{2}$$
#
# $$\mathrm{pooled} = \tanh(W z_0 + b) \tag{3}$$
#
# $$\mathrm{mean} = \frac{\sum_t \mathrm{mask}_t\, z_t}{\sum_t \mathrm{mask}_t}, \qquad \mathrm{embedding} = \frac{\mathrm{mean}}{\lVert \mathrm{mean} \rVert} \tag{4}$$
#
# Equation (3) is BERT's pooler. This model has one that [was never trained](classification_head.ipynb), and its sentence embeddings do without.
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
#
# **Text to ids.** The tokenizer and the packing exist in plain Python and as layers, and give the same ids.

# %%
ids_of = [model.vocabulary[piece] for piece in ("[CLS]", "[SEP]", "[PAD]")]
rows = bert_pack_inputs([bert_tokenizer(sentences, model.vocabulary).ids], 16, *ids_of)
print(rows.input_word_ids[3], rows.input_mask[3], sep="\n")

# %%
tokenizer = BertTokenizer(str(model.folder / "vocab.txt"), lower_case=True)


def packed(texts, tokenizer=tokenizer, length=16):
    pack = BertPackInputs(length, special_tokens_dict=tokenizer.get_special_tokens_dict())
    return {name: np.array(ids) for name, ids in pack([tokenizer(texts)]).items()}


inputs = packed(sentences)
ids, mask, segments = inputs.values()
assert all((inputs[name] == numbers).all() for name, numbers in rows._asdict().items())

# %% [markdown]
# **Equation (1).** `load_bert` reads a checkpoint into our layer, name by name, and complains of any that is missing or left over; the reference takes the layer's weights. Three rows for each token are added up and normalized.

# %%
encoder = load_bert()
weights = weights_of(encoder, ref.BertWeights)
word, place, kind = (getattr(weights, name).embeddings for name in ("word_embeddings", "position_embedding", "type_embeddings"))
x = word[ids] + place[:16] + kind[segments]
norm = weights.embeddings_layer_norm
x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * norm.gamma + norm.beta
print(x.shape)

# %% [markdown]
# **Equation (2).** Each block reads the output of the one before. Padding may be read by nobody.

# %%
z = x
for block in weights.transformer:
    z, _ = transformer_encoder_block(z, block, ref.gelu, mask=np.repeat(mask[:, None] == 1, 16, axis=1), epsilon=1e-12)
alone = ref.bert_one(ids[3, : mask[3].sum()], segments[3, : mask[3].sum()], weights)
change = np.abs(z[3, : mask[3].sum()] - alone).max()
print("a sentence in its padded batch, and alone, token by token: at most", figures.power_above(change), "apart")
assert change < 1e-12

# %% [markdown]
# **Equation (4)**: the mean of all tokens, with its length divided away, so that products are cosines.

# %%
mean = (mask[..., None] * z).sum(axis=1) / mask.sum(axis=1, keepdims=True)
embeddings = mean / np.linalg.norm(mean, axis=1, keepdims=True)
print(embeddings.shape, (embeddings @ embeddings.T)[0, :3].round(2))

# %% [markdown]
# **The reference** is this, with the attention weights and the pooler; our layers give the same in float32.

# %%
print(inspect.getsource(ref.bert_encoder).split('"""')[0], "…", inspect.getsource(ref.bert_encoder).split('"""')[2])

# %%
in_numpy = ref.bert_encoder(ids, mask, segments, weights)
assert np.allclose(in_numpy.sequence, z) and np.allclose(ref.sentence_embedding(z, mask), embeddings)


def embed(inputs, **changes):
    inputs = inputs | changes
    return np.asarray(SentenceEmbedding()(encoder(inputs)["sequence_output"], inputs["input_mask"]))


error = np.abs(embed(inputs) - embeddings).max()
print("embeddings of our layers: at most", figures.power_above(error), "from the reference")
assert error < 1e-5

# %% [markdown]
# ## What it does
#
# **Does the model find the pairs?** Cosines between the twelve embeddings, beside those of TF-IDF.

# %%
similarity = embeddings @ embeddings.T
fig, axes = plt.subplots(1, 2, figsize=(10, 3.9), sharey=True)
titles = (f"TF-IDF: {by_rarity} of 12 partners", f"embeddings: {found_by(similarity)} of 12")
for ax, values, title in zip(axes, (shared, similarity), titles):
    image = ax.imshow(values, vmin=0, vmax=1)
    ax.set(title=title, xlabel="sentence", xticks=range(12))
    ax.grid(False)
axes[0].set_yticks(range(12), sentences, fontsize="small")
fig.colorbar(image, ax=axes, label="cosine")
figures.show()

# %%
apart = similarity[~np.kron(np.eye(6, dtype=bool), np.ones((2, 2), bool))]
paired = similarity[np.arange(12), partner]
print(f"partners {paired.min():.2f} to {paired.max():.2f}, other sentences at most {apart.max():.2f}")
assert found_by(similarity) == 12 and paired.min() > apart.max()

# %% [markdown]
# Six squares along the diagonal: every sentence is nearest to its partner. But these twelve sentences were written by hand, and for this model: it was trained to tell which sentence of many belongs to another (a billion pairs,
# [model card](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)).
#
# **And where nobody chose the sentences?** A hundred times two sentences that follow each other in a novel: which of the hundred second ones is the most similar to the first? Chance is one in a hundred. [The
# experiment](../experiments/bert/untrained.py) does it on several stretches of the novel, and once with the numbers of all kernels in random order.

# %%
following = results["next"]
for arm in following.experiment.arms:
    found, rank = (following.values(what, arm) for what in ("right", "rank"))
    print(f"{arm:24} found first: {np.round(found, 2)}   mean of 1/rank: {np.round(rank, 3)}")
chance = sum(1 / np.arange(1, untrained.PAIRS + 1)) / untrained.PAIRS
print(f"by chance {1 / untrained.PAIRS}, {chance:.3f}")
mean, rarity, shuffled = (following.values("rank", arm) for arm in ("MiniLM, mean", "TF-IDF", "MiniLM, layers shuffled"))
assert (mean > rarity).all() and mean.min() > shuffled.max()

# %% [markdown]
# Here the advantage is small. On each stretch the mean of MiniLM's tokens ranks the right sentence somewhat higher than TF-IDF does, and clearly higher than the same model with shuffled layers or than its own [CLS]; still, nine in ten sentences are not
# found. A sentence that follows another need not resemble it. The twelve pairs say that the model knows paraphrases when it sees them, not that cosines find whatever belongs together. On another task, similarity of arguments, the paper has TF-IDF before averaged
# word vectors (correlation 46.77 and 32.40; [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), Table 3).

# %% [markdown]
# **What does one word do?** "The film was not good." We hide "not" by a zero in its mask: no token attends to it, and the mean leaves it out.

# %%
opinions = packed(["The film was good.", "The film was not good.", "The film was bad."])
seen = embed(opinions)
hidden, other = opinions["input_mask"].copy(), opinions["input_word_ids"].copy()
hidden[1, 4], other[1, 4] = 0, model.vocabulary["very"]
without = embed(opinions, input_mask=hidden)
print("cosine with 'good':", [f"{c:.2f}" for c in seen @ seen[0]])
print("and without 'not': ", [f"{c:.2f}" for c in without @ seen[0]])
assert (embed(opinions, input_mask=hidden, input_word_ids=other) == without).all()

# %% [markdown]
# Without "not" the sentence is nearly "good", but not quite, because the words behind it still stand one place further on. What the hidden word was makes no difference at all: the last line puts "very" in its place.
#
# **Can it guess a hidden word?** BERT was pre-trained to. MiniLM's file has no head for it, and its authors trained for sentences at the end. Two ways to try: take the table of words itself as the head, as BERT's output layer does
# (the product of the last vector at [MASK] with each row), or train BERT's head ([`MaskedLM`](masked_lm.ipynb)) on the frozen vectors of sentences of a novel. Two words of each are hidden; the choice is among the 400 most frequent pieces. The rivals count:
# how often each piece occurs, or follows the piece before ([Witten and Bell, 1991](https://doi.org/10.1109/18.87000)).

# %%
guesses = results["hidden"]
print(f"{'':30} right (range of seeds)   bits: chance {np.log2(words.CANDIDATES):.2f}")
for arm in words.ARMS:
    (low, _, high), (fewest, _, most) = (guesses.spread(what, arm) for what in ("right", "bits"))
    print(f"{arm:30} {low:.3f} to {high:.3f}         {fewest:.2f} to {most:.2f}")
itself, head, frequency = (guesses.values("bits", arm) for arm in ("as it is", "head trained", "frequency"))
assert itself.min() > np.log2(words.CANDIDATES) and (head - frequency).max() > 0
assert guesses.values("right", "head trained").max() < guesses.values("right", "counts").min()

# %%
for rate in guesses.experiment.rates:
    head, other = (guesses.values("bits", arm, rate) for arm in ("head trained", "head trained, sentences mixed"))
    less, more = (np.array2string(bits, precision=2) for bits in (other - head, head - frequency))
    print(f"head trained, rate {rate:g}: {less} bits less than with mixed sentences, {more} more than frequency")
    assert rate == guesses.experiment.rates[0] or min((other - head).min(), (head - frequency).min()) > 0

# %% [markdown]
# **It cannot, as far as these weights go.** With the table as the head it does worse than chance: its last vectors were trained to be averaged and compared, not to point at rows of the table. A trained head does no better than the frequency of each piece does. The vectors do hold
# a little of the hidden piece: at the two larger rates the head is ahead, on every split, of one that was given the vectors of other sentences. But there both are worse than frequency. The counts, which know only the piece before the gap, are right
# far more often. That says nothing about BERT, whose head saw billions of hidden words; it says what is left of that ability after training for another purpose, and that a thousand examples do not bring it back.

# %% [markdown]
# **A small fine-tuning.** In the novel, some sentences are spoken, others told. With the quotation marks cut off, which is which? We train the last block and [a head](classification_head.ipynb) on the mean of all tokens, for 60 steps of 16 sentences; or a head alone,
# on MiniLM's vectors or on TF-IDF, for ten times as many. Each arm has three learning rates. Scores are on two tenths of the novel that were held out, other ones with each seed, and average over spoken and told, so that guessing is right in one half.

# %%
spoken = results["spoken"]
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for row, arm in enumerate(tuned.ARMS):
    found = spoken.values("right", arm)
    ax.plot(found, [row] * len(found), "o", color=figures.COLORS[row > 0], linestyle="none")
    ax.annotate(f"{np.median(found):.2f}", (1.01, row), va="center", annotation_clip=False)
ax.axvline(0.5, color="black", linestyle=":", marker="none")
ax.set(
    xlim=(0.3, 1),
    xlabel="right, of new sentences: three seeds (right: median)",
    title="a trained block finds no more than a head alone",
)
ax.set_yticks(range(len(tuned.ARMS)), tuned.ARMS)
ax.invert_yaxis()
figures.show()

# %%
for arm in tuned.ARMS:
    by_rate = {rate: spoken.values("right", arm, rate) for rate in spoken.experiment.rates}
    print(f"{arm:26}", *(f"rate {rate:g}: {found.min():.2f} to {found.max():.2f}  " for rate, found in by_rate.items()))

block, head, shuffled, rarity, mixed = (
    spoken.values("right", arm)
    for arm in ("last block", "head alone", "last block, shuffled", "TF-IDF", "head alone, answers mixed")
)
for name, more in (("last block", block - head), ("TF-IDF", rarity - head), ("last block, shuffled", shuffled - head)):
    print(f"{name:21} less head alone, split by split: {np.round(more, 2)}")
error = 2 * np.sqrt(1 / 4 / (len(texts.spoken_and_told()[0]) / 5))
print(f"two standard errors of so many sentences: {error:.2f}")
assert mixed.max() < min(head.min(), block.min(), rarity.min()) and block.min() <= head.max() and (head - rarity).max() < error

# %% [markdown]
# **Training the block adds nothing here.** On a thousand sentences, a trained block finds no more than a head alone does on the frozen mean, and a block whose numbers were put in random order does as well. At the largest rate it falls back to guessing. And the head on MiniLM's vectors is
# ahead of the one on TF-IDF on every split, but by less than two standard errors: which words are spoken is most of the answer, and both know the words. So this is a case in which neither fine-tuning nor a pre-trained encoder was needed, and only the baselines show it. We have
# trained one block of six, and for 60 steps; what more training would find is open.
#
# One of these runs, live:

# %% tags=["nbval-ignore-output"]
live = tuned.tune("TF-IDF", spoken.best_rate("TF-IDF"), seed=0)
print(f"right with TF-IDF, trained just now: {live['right']:.2f}")
assert spoken.contains(live["right"], "right", "TF-IDF")

# %% [markdown]
# **What do six blocks make of half precision?** Sentences of a novel in padded batches; we compare with the reference in float64, on real tokens only: how far is each token's vector away, relative to its length? Beside it, the error of each block **alone**, if its
# input is exact.

# %%
halves, blocks = results["halves"], np.arange(1, 7)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for number, arm in enumerate(("bfloat16", "bfloat16 weights", "float16", "float32")):
    for ax, what in zip(axes, ("tokens", "alone")):
        values = halves.values(what, arm) / halves.values(what, arm)[:, :1]
        style = {"color": figures.COLORS[number], "linestyle": figures.DASHES[number], "marker": figures.MARKERS[number]}
        ax.plot(blocks, np.median(values, axis=0), **style)
        ax.fill_between(blocks, values.min(0), values.max(0), color=figures.COLORS[number], alpha=0.2, linewidth=0)
    axes[0].annotate(arm, (3.4, 0.9 - 0.25 * number), color=figures.COLORS[number], va="center")
for ax, title in zip(axes, ("six blocks: the error grows in each dtype", "each block alone: it hardly does")):
    ax.set(xlabel="block", title=title, xticks=blocks, ylim=(0, 3))
axes[0].set_ylabel("error of a token,\ntimes that of block 1")
figures.show()

# %%
eps = {"float32": 2**-24, "float16": 2**-11, "bfloat16": 2**-9, "mixed_bfloat16": 2**-9, "bfloat16 weights": 2**-9}
for arm in untrained.DTYPES:
    values, alone = (halves.values(what, arm) for what in ("tokens", "alone"))
    growth, mean, if_independent = (
        values[:, 5] / values[:, 0],
        halves.values("mean", arm) / values[:, 5],
        halves.values("if independent", arm) / values[:, 5],
    )
    print(
        f"{arm:17} block 1 {values[:, 0].mean() / eps[arm]:.1f} roundings; × {growth.min():.1f} to {growth.max():.1f} after block 6, alone × {(alone[:, 5] / alone[:, 0]).max():.1f};",
        end=" ",
    )
    print(
        f"of it left in the mean {mean.min():.2f} to {mean.max():.2f} (independent errors: {if_independent.mean():.2f}); least cosine {halves.values('cosine', arm).min():.5f}"
    )

# %%
half = [arm for arm in untrained.DTYPES if arm != "float32"]
growth = {arm: halves.values("tokens", arm)[:, 5] / halves.values("tokens", arm)[:, 0] for arm in untrained.DTYPES}
alone = max((halves.values("alone", arm)[:, 5] / halves.values("alone", arm)[:, 0]).max() for arm in untrained.DTYPES)
left = {arm: halves.values("mean", arm) / halves.values("last", arm) for arm in half}
independent = {arm: halves.values("if independent", arm) / halves.values("last", arm) for arm in half}
assert min(of.min() for of in growth.values()) > alone
assert all(left[arm].min() > (independent[arm].max() + 1) / 2 for arm in half)

# %% [markdown]
# In each dtype the error grows from block to block, by about the same factor: what matters is the size of one rounding. It is the *sum* of all blocks: a block whose input is exact errs by little more at the end than at the start. Most of it is there with rounded weights
# alone, or with rounded arithmetic alone.
#
# **The mean over tokens takes little away.** If the errors of a sentence's tokens had nothing to do with each other, they would cancel: about a third would be left. Measured, most is left, and with rounded weights nearly all: the weights are the same for all tokens, and
# push them all the same way. The cosines hardly change because an error of one in a hundred is small, not because it averages out.

#
# ## Where it breaks
#
# **A tokenizer that is not the model's.** These weights have only seen lower-case letters without accents. **A mask that is forgotten.** Then [PAD] is a word like any other. Neither raises an error; both change the embedding. The null is the cosine of two
# sentences that have nothing to do with each other.

# %%
questions = ["WHERE CAN I BUY FRESH BREAD?", "Où est le café de São Paulo?", "Does the 9 O'CLOCK TRAIN stop in ZÜRICH?"]
right = packed(questions, length=64)
keeps_case = BertTokenizer(str(model.folder / "vocab.txt"), lower_case=False)
wrong = {
    "case and accents kept": embed(packed(questions, keeps_case, length=64)),
    "no mask": embed(right, input_mask=np.ones_like(right["input_mask"])),
}
known = embed(right)
print("two different questions:", np.round((known @ known.T)[np.triu_indices(3, 1)], 2))
for name, found in wrong.items():
    cosine = (found * known).sum(axis=1)
    print(f"{name}: cosine with the right embedding", cosine.round(2))
    assert cosine.max() < 0.9

# %% [markdown]
# Hugging Face's `AutoModel` makes a mask only if you pass the tokenizer's `attention_mask`; with ids alone it takes every token for real.
#
# **Differs from the paper:** the pooler is in BERT's code, not in its paper. A sentence of padding alone has an embedding of zeros here, not a division by zero.
#
# ## What it costs
#
# With $i$ blocks, vocabulary $n$, $p$ positions and 2 segments there are $(n + p + 2 + 2)\,m + i\,(4m^2 + 2mf + 9m + f) + m^2 + m$ parameters, and for $t$ tokens $i\,(4tm^2 + 2t^2m + 2tmf)$ multiply-adds. The embeddings cost none.

# %%
m, f, n, p, i = 384, 1536, 30522, 512, 6
assert encoder.count_params() == (n + p + 4) * m + i * (4 * m**2 + 2 * m * f + 9 * m + f) + m**2 + m
print(f"{encoder.count_params():,} parameters, {n * m / encoder.count_params():.0%} of them in the table of words")
for t in (16, 128, 512):
    parts = {"projections": 4 * t * m**2, "feed-forward": 2 * t * m * f, "scores and mixing": 2 * t**2 * m}
    print(f"{t:3} tokens:", ", ".join(f"{name} {cost / sum(parts.values()):.0%}" for name, cost in parts.items()))

# %% [markdown]
# Up to the 512 tokens that this model can read, its feed-forward networks are the most expensive part, and attention's quadratic part the cheapest.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# The real model is among the cases in float64 and float32; the limits for fewer bits are for one block, and the figure above shows why.
#
# ## Today
#
# Encoders of this kind are still widely used for search and classification. MiniLM learned its six layers from a larger BERT by imitating its attention ([Wang et al., 2020](https://arxiv.org/abs/2002.10957)). ModernBERT keeps the idea and changes the parts: rotated positions, gated
# feed-forward networks, 8,192 tokens, no padding at all ([Warner et al., 2024](https://arxiv.org/abs/2412.13663)). Embeddings are trained on pairs, with in-batch rivals ([Gao et al., 2021](https://arxiv.org/abs/2104.08821)), more and more often from decoders
# ([Wang et al., 2024](https://arxiv.org/abs/2401.00368)), and compared on MTEB ([Muennighoff et al., 2022](https://arxiv.org/abs/2210.07316)).
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
# - Half precision errs a little more with each block, and all tokens in much the same way: the mean does not average it out.
# - The same text in another tokenization, or without its mask, is another text, and no error says so.
#
# **Other models.** Any BERT of this layout loads in the same way. Where there is internet: `folder = huggingface_hub.snapshot_download("google-bert/bert-base-uncased", allow_patterns=["config.json", "vocab.txt", "model.safetensors"])`, then
# `load_bert(folder, ignore=("cls.",))`, which leaves out the heads of pre-training.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): BERT. [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084): sentences as vectors. [Wang et al., 2020](https://arxiv.org/abs/2002.10957): MiniLM, how six blocks learned from a larger model.
# [Clark et al., 2019](https://arxiv.org/abs/1906.04341): what BERT's heads look at, and why so often at nothing.
