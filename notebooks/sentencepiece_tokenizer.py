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
# # SentencePiece: a vocabulary learned from raw text
#
# A model reads ids, and people write characters. Between the two lies a vocabulary of pieces, found in raw text without knowing what a word is, and a search for the most probable way to cut.
#
# Paper: [Kudo & Richardson, 2018, section 3](https://arxiv.org/abs/1808.06226), [Kudo, 2018, section 3.2](https://arxiv.org/abs/1804.10959) · NumPy: [`reference/sentencepiece_tokenizer/`](../reference/sentencepiece_tokenizer/__init__.py) · Layer:
# [`layers/sentencepiece_tokenizer.py`](../layers/sentencepiece_tokenizer.py) · 30 minutes · You should know: logarithms of probabilities, dynamic programming

# %%
import inspect
from collections import Counter
from itertools import chain, pairwise

import matplotlib.pyplot as plt
import numpy as np
import sentencepiece
import tensorflow as tf

from crosscheck.case import TOLERANCE
from crosscheck.cases.sentencepiece_tokenizer import CHAPTER, TEXTS
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from crosscheck.models.sentencepiece import SMALL, license_lines, read, small, train
from layers.sentencepiece_tokenizer import SentencepieceTokenizer
from reference import sentencepiece_tokenizer as ref
from reference.sentencepiece_tokenizer import merges as bpe
from reference.sentencepiece_tokenizer import training as unigram
from reference.sentencepiece_tokenizer.model import Model, lattice_of
from reference.sentencepiece_tokenizer.normalizer import Normalizer, list_rules

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A vocabulary of **words** meets words that it has not seen. A vocabulary of **characters** knows everything, and makes a text several times as long. What lies between? We learn vocabularies of growing sizes from two thirds of this project's license_lines, and read the other third with them.

# %%
lines = license_lines()
seen, unseen = [line for i, line in enumerate(lines) if i % 3], lines[::3]
known = [word for word, _ in Counter(" ".join(seen).split()).most_common()]
words = " ".join(unseen).split()
sizes = [100, 150, 200, 300, 400, 450]
missed, unknown, length = [], [], []
for size in sizes:
    model = read(train(seen, vocab_size=size))
    ids = [*chain(*ref.encode(unseen, model).ids)]
    missed.append(np.mean([word not in known[:size] for word in words]))
    unknown.append(ids.count(0) / len(ids))
    length.append(len(ids) / len(words))
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.plot(sizes, missed, label="vocabulary of words")
left.plot(sizes, unknown, label="vocabulary of pieces")
left.set(xlabel="vocabulary size n", ylabel="share that is unknown", ylim=(-0.05, 1))
left.legend()
right.plot(sizes, length, color="black", label="pieces")
right.axhline(np.mean([len(word) + 1 for word in words]), linestyle=":", marker="none", color="black", label="characters")
right.set(xlabel="vocabulary size n", ylabel="ids per word", ylim=(0, None))
right.legend()
plt.show()

# %% [markdown]
# With pieces next to nothing is unknown at any size, and each enlargement makes the text shorter.

# %%
assert min(missed) > 0.15 and max(unknown) < 0.02
assert length == sorted(length, reverse=True) and length[-1] < 0.7 * length[0] < 5

# %% [markdown]
# ## The equation
#
# $$P(x) = \prod_i p(x_i), \quad (1) \qquad\qquad x^* = \operatorname*{argmax}_{x \in S(\text{text})} P(x), \quad (2)$$
#
# $$\text{best}_j = \max_{i<j}\; \text{best}_i + \log p(\text{text}_{i..j}), \qquad \text{best}_0 = 0 \quad (3)$$
#
# $$\text{decode}(\text{encode}(\text{text})) = \text{normalize}(\text{text}) \quad (4)$$
#
# | symbol | in code | is |
# |---|---|---|
# | $x$ | `pieces` | one way to cut the text, `(x_1, …, x_k)` |
# | $S(\text{text})$ | `segmentations(text, lattice)` | all ways |
# | $\log p$ | `model.scores` | a number for each piece, `(n,)` |
# | $\text{best}_j$ | `best[j]` | log-probability of the best cut of the first $j$ characters |
#
# ## By hand
#
# Six pieces, and the word **hug**. There are four ways to cut it. By (3): $\text{best}_1 = -4$; $\text{best}_2 = \max(-4 - 4.5, -5) = -5$; $\text{best}_3 = \max(-4 - 4.9, -5 - 4.2, -9.5) = -8.9$. So *h|ug* is best: the longest piece loses, and so does the
# greedy beginning *hu*.

# %%
scores = {"h": -4.0, "u": -4.5, "g": -4.2, "hu": -5.0, "ug": -4.9, "hug": -9.5}
plain = Normalizer(add_dummy_prefix=False)
model = Model(("<unk>", *scores), np.array([0.0, *scores.values()]), ("unknown", *["normal"] * 6), normalizer=plain)
lattice = lattice_of(model)
for pieces in ref.segmentations("hug", lattice):
    print("|".join(pieces).ljust(8), round(ref.log_probability(pieces, lattice), 1))
assert ref.viterbi("hug", lattice) == ["h", "ug"]
assert abs(ref.log_probability(("h", "ug"), lattice) + 8.9) < 1e-12

# %% [markdown]
# ## In NumPy
#
# The search, as it is in the reference. Is what it finds the best of all cuts? A text of $t$ characters has up to $2^{t-1}$; for short ones we can look at each.

# %%
print(inspect.getsource(ref.viterbi))
texts = ["".join(rng.choice(["hug", "ug", "hu", "x"], size=parts)) for parts in range(1, 6) for _ in range(20)]
looked = 0
for text in texts:
    cuts = list(ref.segmentations(text, lattice))
    best = max(ref.log_probability(pieces, lattice) for pieces in cuts)
    found = ref.log_probability(tuple(ref.viterbi(text, lattice)), lattice)
    looked += len(cuts)
    assert abs(found - best) < 1e-9
print(f"{len(texts)} texts, {looked} cuts: the search finds the best one of each text")

# %% [markdown]
# ## What it does
#
# **Where do the pieces come from?** Nobody has cut the text for us, so each piece counts by the probability that it is part of a cut, summed over all cuts by a forward and a backward pass, and the counts are the next probabilities: expectation maximization. Does the text become more probable at each step?

# %%
counted = {"▁low": 5, "▁lower": 2, "▁newest": 6, "▁widest": 3, "▁new": 4, "▁wider": 3, "▁lowest": 2}
common = Counter("▁" + word.lower() for word in " ".join(lines).split() if word.isalpha())
climbs = {}
for name, text in (("7 words", counted), ("the licence's 100 commonest", dict(common.most_common(100)))):
    p, climb = unigram.seed_pieces(text, 6), []
    for _ in range(9):
        climb.append(unigram.log_likelihood(text, p) / sum(text.values()))
        p = unigram.em_step(text, p)
    climbs[name] = climb

fig, ax = plt.subplots()
for name, climb in climbs.items():
    ax.plot(climb, label=name)
ax.set(xlabel="step of expectation maximization", ylabel="log-likelihood L per word")
ax.legend()
plt.show()

# %% [markdown]
# It never falls, and most is won in the first step.

# %%
for climb in climbs.values():
    assert all(after >= before - 1e-9 for before, after in pairwise(climb))
    assert climb[1] - climb[0] > 0.6 * (climb[-1] - climb[0])

# %% [markdown]
# Left alone, it would make each word a piece. So the paper prunes: away with the fifth of the pieces that $L$ misses least, some more steps, and again, until the vocabulary is as small as wanted.

# %%
p, history = unigram.train(dict(common.most_common(100)), 60, longest=6)
print(" ".join(sorted((piece for piece in p if len(piece) > 1), key=p.get, reverse=True)))
assert len(p) == 60 and history[-1][1] < history[1][1]
assert {"▁the", "▁of", "▁or"} <= p.keys()

# %% [markdown]
# Those are the little words, and beginnings and endings that many words share.
#
# **Does the text come back whole?** A space is a character, written ▁, and belongs to a piece. Splitting at spaces first forgets how many there were, and needs rules for languages that have none.

# %%
text = "Hello   world,\n  \tこんにちは世界 👩‍👧!  "
model = read(small("as-it-is"))
ids = ref.encode([text], model).ids[0]
print([model.pieces[i] for i in ids[:9]], "…", len(ids), "ids")
print("decoded:", repr(ref.decode(ids, model)))
assert ref.decode(ids, model) == text != " ".join(text.split())

# %% [markdown]
# This model spells what it does not know in bytes, `<0xE3>` and the like, and changes nothing before it cuts: whatever the text, it comes back (the tests draw hundreds). Most models do change something first, by rules that are part of the model file, so that they are the same everywhere. What do these rules do?

# %%
model = read(small("unigram"))
rules = list_rules(model.normalizer.rules)
print(f"{len(rules):,} rules, such as", {old: rules[old] for old in ("ﬁ", "½", "㍿", "\u3000", "Ａ")})
once = ref.decode(ref.encode(["the  ﬁrst　Ａ"], model).ids[0], model)
print(repr(once))
assert once == "the first A" and ref.decode(ref.encode([once], model).ids[0], model) == once

# %% [markdown]
# Then (4) holds for the normalized text: *ﬁ* does not come back, and nothing changes a second time.
#
# **Must it be the best cut?** Kudo (2018) trains a translator on cuts drawn with probabilities $\propto P(x)^\alpha$, so that it sees the same word in several spellings. How many cuts of one word turn up in 300 draws?

# %%
vocabulary, word, alphas = unigram.seed_pieces(counted, 6), "▁lowest", [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20]
draws = {a: Counter(tuple(unigram.sample(word, vocabulary, a, rng)) for _ in range(300)) for a in alphas}
fig, ax = plt.subplots()
ax.semilogx(alphas, [len(found) for found in draws.values()], label="different cuts")
ax.semilogx(alphas, [max(found.values()) / 3 for found in draws.values()], label="% that are the commonest cut")
ax.set(xlabel="exponent α", ylabel="in 300 draws")
ax.legend()
plt.show()

# %% [markdown]
# A small $\alpha$ draws nearly all cuts alike; a large one draws the best cut only, which is (2) again.

# %%
assert len(draws[0.05]) > 25 and len(draws[20]) == 1
weights = {cut: np.prod([vocabulary[piece] for piece in cut]) for cut in draws[0.05] | draws[20]}
assert max(weights, key=weights.get) in draws[20]

# %% [markdown]
# ## Does the layer agree?
#
# Ids and places are compared, for ten kinds of models and five ways to call the layer. Agreement is all or nothing, so every point is on the left edge.

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error == 0 for by_dtype in errors.values() for error in by_dtype.values())
assert (len(SMALL), len(CHAPTER.cases) - len(SMALL)) == (10, 5)
print("layer and reference agree exactly in", ", ".join(TOLERANCE))

# %% [markdown]
# A third opinion: the `sentencepiece` package, which also trained these models and read their files for the reference.

# %%
said = []
for name in SMALL:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=small(name))
    layer = SentencepieceTokenizer(lower_case=False, model_serialized_proto=small(name))
    expected = [theirs.encode(text) for text in TEXTS]
    assert ref.encode(list(TEXTS), read(small(name))).ids == expected == layer(tf.constant(TEXTS)).to_list()
    said.append(f"{name}: {len(TEXTS)} strings, {sum(map(len, expected))} tokens, the same three times")
print("\n".join(said))

# %% [markdown]
# ## Where it breaks
#
# **A control symbol in a text is text.** `[MASK]` was made a user's symbol and is found; `[CLS]` is a control symbol, which nobody can type. Its id has to come from the layer.

# %%
model = read(small("symbols"))
layer = SentencepieceTokenizer(lower_case=False, model_serialized_proto=small("symbols"))
for text in ("[MASK]", "[CLS]"):
    print([model.pieces[i] for i in layer(tf.constant([text])).to_list()[0]])
special = layer.get_special_tokens_dict()
print(special)
assert SentencepieceTokenizer(False, model_serialized_proto=train()).get_special_tokens_dict() == {"vocab_size": 400}
assert special["start_of_sequence_id"] == 4 not in layer(tf.constant(["[CLS]"])).to_list()[0]

# %% [markdown]
# A model trained with the defaults has none of these, and the dictionary says so by leaving them out.
#
# **What is unknown is lost**, unless the model spells bytes. Neighboring unknown characters are one id, and decode to one ⁇.

# %%
text = "a ⛄⛄⛄ man"
for name in ("unigram", "bytes"):
    model = read(small(name))
    encoded = ref.encode([text], model)
    print(name.ljust(8), len(encoded.ids[0]), "ids,", repr(ref.decode(encoded.ids[0], model)))
assert "⛄" not in ref.decode(ref.encode([text], read(small("unigram"))).ids[0], read(small("unigram")))
assert ref.encode([text], read(small("unigram"))).ids[0].count(0) == 1
assert ref.decode(encoded.ids[0], model) == text

# %% [markdown]
# **Differs from the paper.** An unknown character costs ten more than the rarest piece; a user's symbol costs 0.1, whatever it is; of equally probable cuts the one with the longest last piece is taken, in float32 as the file has its scores, and there the package may take the other.
#
# ## What it costs
#
# Viterbi looks up the $\min(k, t - i)$ pieces that may begin at each place $i$, $k$ being the longest piece: about $k\,t$, where there are $2^{t-1}$ cuts. Merging byte pairs by looking at every pair after each merge costs $O(t^2)$; with a queue, a few for each symbol.


# %%
class Counting(dict):
    def get(self, *key):
        Counting.lookups += 1
        return super().get(*key)


lattice, merges = lattice_of(read(small("unigram"))), lattice_of(read(small("byte-pairs"))).scores
text, lengths = "▁".join(" ".join(lines[9:]).split()), [100, 200, 400, 800, 1600]
costs = {"Viterbi": [], "merges with a queue": [], "merges by loops": []}
for t in lengths:
    Counting.lookups = 0
    ref.viterbi(text[:t], lattice._replace(scores=Counting(lattice.scores)))
    assert Counting.lookups == sum(min(lattice.longest, t - i) for i in range(t))
    by_queue, by_loops = (merge(list(text[:t]), merges) for merge in (bpe.merge, bpe.merge_by_loops))
    assert by_queue[0] == by_loops[0]
    for cost, looked in zip(costs.values(), (Counting.lookups, by_queue[1], by_loops[1])):
        cost.append(looked)

# %%
fig, ax = plt.subplots()
for name, cost in costs.items():
    ax.loglog(lengths, cost, label=name)
ax.set(xlabel="length t in characters", ylabel="pieces or pairs looked at")
ax.legend()
plt.show()

# %% [markdown]
# Sixteen times the text costs some sixteen times as much, but for the loops, where it is more than two hundred times.

# %%
ratios = {name: cost[-1] / cost[0] for name, cost in costs.items()}
assert 15 < ratios["Viterbi"] < 18 and 13 < ratios["merges with a queue"] < 20 and ratios["merges by loops"] > 200

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). Text from `pieces`, a list of strings: ▁ is a space, and the first one was put there by the encoder. All others stay.


# %%
def join(pieces):
    return None  # your turn


_ = check("sentencepiece_tokenizer/1", join)

# %% [markdown]
# <details><summary>Hint</summary>Join first, then replace.</details>
# <details><summary>Solution</summary><code>"".join(pieces).replace("▁", " ")[1:]</code></details>
#
# **2** (medium, 15 minutes). Equation (3): the log-probability of the best cut of `text`, where `scores` is {piece: log p}; −∞ if there is none, 0 for no text. The text is too long to list all cuts.


# %%
def best_score(text, scores):
    return None  # your turn


_ = check("sentencepiece_tokenizer/2", best_score)

# %% [markdown]
# <details><summary>Hint</summary>Fill a list from best_0 = 0 on; what is no piece scores minus infinity.</details>
# <details><summary>Solution</summary>
#
# ```python
# def best_score(text, scores):
#     best = [0.0]
#     for j in range(1, len(text) + 1):
#         best.append(max(best[i] + scores.get(text[i:j], -np.inf) for i in range(j)))
#     return best[-1]
# ```
# </details>
#
# **3** (hard, 20 minutes). Over all cuts of `text`, each with its probability (`p` is {piece: probability}), how many pieces are there on average? The text has a cut, and is too long to list all.


# %%
def average_number(text, p):
    return None  # your turn


_ = check("sentencepiece_tokenizer/3", average_number)

# %% [markdown]
# <details><summary>Hint</summary>Beside the sum of P(x) up to each place, keep the sum of P(x) times its number of pieces.</details>
# <details><summary>Solution</summary>
#
# ```python
# def average_number(text, p):
#     whole, times = [1.0], [0.0]
#     for j in range(1, len(text) + 1):
#         ways = [(i, p.get(text[i:j], 0.0)) for i in range(j)]
#         whole.append(sum(whole[i] * q for i, q in ways))
#         times.append(sum((times[i] + whole[i]) * q for i, q in ways))
#     return times[-1] / whole[-1]
# ```
# </details>
#
# **To discuss.** A vocabulary of 32,000 pieces learned from English text costs a Finnish reader more tokens for the same news. Where does that matter, and what could be changed without training the model anew?
#
# ## Summary
#
# - Pieces are found by making raw text probable, and a text is cut where that is most probable: Viterbi's search, not a greedy one.
# - Spaces are characters, so pieces alone give the text back; what the model's own rules changed is the exception.
# - Reference, layer and package give the same ids, as long as no two cuts are equally probable.
#
# **Further reading.** [Kudo & Richardson, 2018](https://arxiv.org/abs/1808.06226): the tool. [Kudo, 2018](https://arxiv.org/abs/1804.10959): the unigram model, its training, and drawing cuts. [Sennrich et al., 2016](https://arxiv.org/abs/1508.07909): merges, the other
# way to a vocabulary. [Provilkov et al., 2020](https://arxiv.org/abs/1910.13267): drawing for merges, by skipping some.
