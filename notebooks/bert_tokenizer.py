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
# # BERT's tokenizer: from any text to ids
#
# A model reads ids. Which ids a text becomes is decided by rules that are easy to get almost right, and the model has seen only those of its own tokenizer.
#
# Papers: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805), [Song et al., 2021, section 3](https://arxiv.org/abs/2012.15524) · Plain Python: [`reference/bert_tokenizer/`](../reference/bert_tokenizer/__init__.py),
# [`reference/bert_tokenizer/linear_wordpiece.py`](../reference/bert_tokenizer/linear_wordpiece.py) · Layer: [`layers/bert_tokenizer/`](../layers/bert_tokenizer/__init__.py) · 25 minutes · You should know: what Unicode's code points and UTF-8 are

# %%
import inspect
import json
import time
from pathlib import Path
from unicodedata import category, normalize  # noqa: F401 (for the exercises)

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_text

from crosscheck.case import TOLERANCE
from crosscheck.cases.bert_tokenizer import CHAPTER, real_vocabulary
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from crosscheck.models.tokenizers import compare_tokens
from crosscheck.tree import as_lists
from layers.bert_tokenizer import BertTokenizer
from layers.bert_tokenizer.code_points import code_points
from reference import bert_tokenizer as ref
from reference.bert_tokenizer.linear_wordpiece import build_trie, linear_wordpieces

figures.use_style()
pieces = real_vocabulary().read_text(encoding="utf-8").splitlines()
vocabulary = {piece: i for i, piece in enumerate(pieces)}

# %% [markdown]
# ## The question
#
# TensorFlow's text library has a `BertTokenizer`, which many models are served with. **Does it make the ids that BERT was trained on?** We give a sentence to it and to ours, with BERT's own 30,522 pieces.

# %%
ours = BertTokenizer(pieces, lower_case=True, tokenize_with_offsets=True)
theirs = tensorflow_text.BertTokenizer(str(real_vocabulary()), lower_case=True, token_out_type=tf.int32)


def spelt(ids):
    return " ".join(pieces[i] for word in as_lists(ids)[0] for i in word)


sentence = "The new Straße is 10 m² larger."
print("ours:  ", spelt(ours([sentence])[0]))
print("theirs:", spelt(theirs.tokenize([sentence])))
assert {"##raße", "m²"} < set(spelt(ours([sentence])[0]).split())
assert {"##ras", "##se", "m2"} < set(spelt(theirs.tokenize([sentence])).split())

# %% [markdown]
# BERT saw ß and m² when it learned. Served this way, it reads ss and m2: other rows of its embedding table, as if somebody else had written. How much of Unicode is like that? We put every code point below U+3000 between an `a` and a `b`.

# %%
below = [c for c in map(chr, range(0x3000)) if category(c) != "Cn"]
between = [f"a{c}b" for c in below]
rows = zip(below, as_lists(ours(between)[0]), as_lists(theirs.tokenize(between)))
different = [c for c, a, b in rows if a != b]
kinds = {
    "letters": "L",
    "numbers": "N",
    "symbols": "S",
    "punctuation": "P",
    "marks": "M",
    "control, format": "C",
    "separators": "Z",
}
counts = {name: [sum(category(c)[0] == kind for c in group) for group in (different, below)] for name, kind in kinds.items()}
fig, ax = plt.subplots()
ax.barh(list(counts), [100 * some / all_ for some, all_ in counts.values()], color=figures.COLORS[0])
ax.bar_label(ax.containers[0], [f"{some} of {all_}" for some, all_ in counts.values()], padding=3)
ax.set(xlabel="code points with other ids, percent of their kind", xlim=(0, 100))
ax.grid(False, axis="y")
plt.show()

# %% [markdown]
# Hundreds, of every kind that text has; ß, ², ¼, ǆ and ℃ are among them. No letter or digit of ASCII is, which is why English tests do not notice.

# %%
plain = [c for c in different if c.isascii() and c.isalnum()]
print("more than 800 code points:", len(different) > 800, " of ASCII's letters and digits:", len(plain))
assert 800 < len(different) < 1000 and set("ß²¼ǆ℃") < set(different) and not plain

# %% [markdown]
# ## The equation
#
# BERT's rules are in its code's documentation. A word $w$ is then read from the left, $p_k$ being the longest piece of the vocabulary $V$ that starts what is left of it:
#
# $$p_k = \operatorname*{arg\,max}_{p \in V,\ p \,\sqsubseteq\, w_{>k}} |p| \tag{6}$$
#
# | rule | what it does | name in the code |
# |---|---|---|
# | (1) | drop NUL, U+FFFD, control and format characters (Cc, Cf); whitespace becomes a space | `is_dropped`, `is_space` |
# | (2) | a space around each CJK ideograph | `is_cjk` |
# | (3) | lower case, by `str.lower()` | `lower` |
# | (4) | NFD, then drop nonspacing marks (Mn) | `decompose` |
# | (5) | punctuation, ASCII's symbols too, is a word of its own | `is_punctuation` |
# | (6) | greedy, longest match first; inside a word a piece is written with ## | `wordpieces` |
#
# ## By hand
#
# Let the pieces be `un`, `##aff`, `##able`, `e`, `##te` and [UNK]. *Unaffable* is un, ##aff and ##able, of bytes 0 to 2, 2 to 5 and 5 to 9. *Été* becomes *ete*; its É takes two bytes, so e has bytes 10 to 12, and ##te 12 to 15.
# With *qu* no piece starts, so the whole word is unknown.

# %%
small = {piece: i for i, piece in enumerate(["[UNK]", "un", "##aff", "##able", "e", "##te"])}
tokens = ref.bert_tokenizer(["Unaffable Été qu"], small)
print("ids", tokens.ids[0], " starts", tokens.starts[0], " limits", tokens.limits[0])
assert tokens.ids == [[[1, 2, 3], [4, 5], [0]]]
assert tokens.starts == [[[0, 2, 5], [10, 12], [16]]] and tokens.limits == [[[2, 5, 9], [12, 15], [18]]]

# %% [markdown]
# ## In NumPy
#
# Here in plain Python, since there is nothing to multiply.

# %%
print(inspect.getsource(ref.split_words))
print(inspect.getsource(ref.wordpieces))

# %% [markdown]
# To say which bytes a piece came from, every character must carry its own through all rules. A second form does that, and finds the same words.

# %%
file = Path(ref.__file__).parents[2] / "tests" / "hard_strings.jsonl"
hard = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
for text in hard:
    carried = ref.split_words_with_bytes(text, True)
    assert ref.split_words(text, True) == ["".join(c.text for c in word) for word in carried]
print("the same words in", len(hard), "hard strings")
print(ref.split_words_with_bytes("Çe\u0301", True)[0])

# %% [markdown]
# ## What it does
#
# **Can each character be looked up alone?** Almost. A capital Σ becomes ς at the end of a word and σ elsewhere. The vocabulary has pieces with ς, because BERT's authors called `str.lower()` on whole words.

# %%
word = "ΟΔΟΣ"
by_rule = ref.wordpieces(word.lower(), vocabulary)
letter_by_letter = ref.wordpieces("".join(c.lower() for c in word), vocabulary)
print(by_rule, "and not", letter_by_letter)
assert by_rule != letter_by_letter and by_rule[-1].endswith("ς")
assert spelt(ours([word])[0]).split() == by_rule

# %% [markdown]
# **What does greedy cost, and how much of that is needed?** Greedy looks up the whole word, then one letter less, and so on: up to $n(n+1)/2$ look-ups for $n$ letters. Song et al. keep the pieces in a trie, and give each node a *failure link* to where reading
# goes on when there is no child: with what is left behind the pieces that can be cut off. Here is the tail of that function.

# %%
print(inspect.getsource(linear_wordpieces).split('"""')[2])

# %% [markdown]
# We count both on words of our hard strings: look-ups of a piece, and steps along links.


# %%
class Counting(dict):
    looked = 0

    def __contains__(self, piece):
        self.looked += 1
        return super().__contains__(piece)


trie, counting = build_trie(pieces), Counting(vocabulary)
words = sorted({word for text in hard for word in ref.split_words(text, True) if word.isalpha() and len(word) <= 60})
measured = []
for word in words:
    before = counting.looked
    found = ref.wordpieces(word, counting)
    again, steps = linear_wordpieces(word, trie)
    assert again == found and steps <= 2 * len(word)
    measured.append((len(word), counting.looked - before, steps, len(found) == 1 and found != ["[UNK]"]))

# %%
n, looked, steps, known = np.array(measured).T
fig, ax = plt.subplots()
for group, label in ((known == 1, "greedy, a word that is a piece"), (known == 0, "greedy, other words")):
    ax.plot(n[group], looked[group], linestyle="none", label=label)
ax.plot(n, steps, linestyle="none", label="linear")
ax.plot(
    range(1, 61), [k * (k + 1) / 2 for k in range(1, 61)], linestyle="--", marker="none", label="n (n + 1) / 2", color="black"
)
ax.set(xscale="log", yscale="log", xlabel="letters n", ylabel="look-ups or steps")
ax.legend()
plt.show()

# %% [markdown]
# A word that is a piece takes greedy one look-up; the trie must be walked letter by letter. On the other words greedy pays more the longer they are, and the linear way never takes more than two steps a letter.

# %%
long = (known == 0) & (n >= 9)
print(
    "look-ups and steps a letter in long words:",
    round(float((looked / n)[long].mean()), 1),
    round(float((steps / n)[long].mean()), 1),
)
assert (looked[known == 1] == 1).all() and (steps <= 2 * n).all()
assert (looked / n)[long].mean() > 2 * (steps / n)[long].mean()

# %% [markdown]
# ## Does the layer agree?
#
# Ids are equal or they are not, so the figure has little to show; the counts below have more. Every assigned code point of the basic plane and of the emoji blocks stands between an `a` and a `b`, and the hard strings hold accents, ideographs, emoji, control
# characters, right-to-left scripts, marks out of order, long words and code. Ids, and bytes, are the same.

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error == 0 <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())

# %%
assigned = [chr(c) for c in (*range(0x10000), *range(0x1F000, 0x1FB00)) if category(chr(c)) not in ("Cn", "Cs")]
for what, texts, least in (("a?b", [f"a{c}b" for c in assigned], 64_000), ("hard strings", hard, 400)):
    strings, count = compare_tokens(ours, lambda texts: ref.bert_tokenizer(texts, vocabulary), texts)
    assert strings > least and count > 2 * least  # how many exactly depends on the Unicode version that Python knows
    print(f"{what}: more than {least:,} strings and {2 * least:,} tokens agree")

# %% [markdown]
# ## Where it breaks
#
# **Special tokens are text.** Who writes [MASK] into a sentence gets three words, and no mask. Put the id there instead.

# %%
print(spelt(ours(["Paris is the [MASK] of France."])[0]))
assert ref.split_words("[MASK]", True) == ["[", "mask", "]"] and ours.get_special_tokens_dict()["mask_id"] == 103

# %% [markdown]
# **Bytes are not characters.** What a piece stands for is `text.encode()[start:limit]`. An accent that was dropped at the end of a piece is outside; a Hangul syllable, which became three letters, belongs whole to each piece with one of them.

# %%
text = "e\u0301t é 각"
for ids, starts, limits in zip(*(as_lists(part)[0] for part in ours([text]))):
    print([(pieces[i], text.encode()[a:b].decode()) for i, a, b in zip(ids, starts, limits)])
starts, limits = (as_lists(part)[0] for part in ours([text])[1:])
assert text.encode()[starts[1][0] : limits[1][0]].decode() == "é"
assert {text.encode()[a:b].decode() for a, b in zip(starts[2], limits[2])} == {"각"}

# %% [markdown]
# **A vocabulary without [UNK]** is refused; the Model Garden's layer gives −1, which an embedding table reads as it likes. **A word of more than 200 letters** is unknown, though *a* and *##a* would spell it.

# %%
try:
    BertTokenizer(["un", "##able"], lower_case=True)
except ValueError as error:
    print(error)
letters = BertTokenizer(["[UNK]", "a", "##a"], lower_case=True)
assert as_lists(letters(["a" * 200, "a" * 201])) == [[[1] + 199 * [2]], [[0]]]

# %% [markdown]
# **Differs from the paper.** BERT's code returns strings, ours the bytes too; Song et al. put both roots into one trie, we keep two.
#
# ## What it costs
#
# The rules for 1,114,112 code points would be a table of 4.5 MB. In pages of 256, of which those that are alike are kept once, it is some thirty times smaller, and is saved with nothing: it comes from Python's own `unicodedata`.

# %%
table = code_points(True).table
size, whole = table.pages.nbytes + table.entries.nbytes, 4 * 0x110000
print("less than 0.15 MB instead of 4.5:", size < 150_000)
assert table.pages.size == 0x110000 // 256 and 30 < whole / size < 40

# %% [markdown]
# The worst case for greedy is $n$ times the letter a, with the pieces `a`, `##a`, and two that start with more of them and end in b.

# %%
lengths = 2 ** np.arange(3, 8)
looks, links = [], []
for n in lengths.tolist():
    worst = Counting({piece: i for i, piece in enumerate(["a", "##a", "a" * n + "b", "##" + "a" * n + "b"])})
    found = ref.wordpieces("a" * n, worst)
    assert linear_wordpieces("a" * n, build_trie(worst)) == (found, 2 * n)
    looks.append(worst.looked)
    links.append(2 * n)
assert looks == [n * (n + 1) // 2 for n in lengths.tolist()]
fig, ax = plt.subplots()
ax.loglog(lengths, looks, base=2, label="greedy: n (n + 1) / 2 look-ups")
ax.loglog(lengths, links, base=2, label="linear: 2 n steps")
ax.set(xlabel="letters n", ylabel="look-ups or steps")
ax.legend()
plt.show()

# %% [markdown]
# And in time? Both tokenizers in a graph, on the same 4,000 lines; the ratio is of one run on one machine, the best of five.

# %% tags=["nbval-ignore-output"]
lines = tf.constant((hard * 9)[:4000])
plain = BertTokenizer(pieces, lower_case=True)
programs = {"ours": tf.function(plain.call), "theirs": tf.function(theirs.tokenize)}
seconds = {name: [] for name in programs}
for _ in range(6):
    for name, program in programs.items():
        start = time.perf_counter()
        program(lines)
        seconds[name].append(time.perf_counter() - start)
print(f"ours has {min(seconds['theirs']) / min(seconds['ours']):.1f} times the throughput of tensorflow-text's BertTokenizer")

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). Rule (4): a text without its accents. `normalize` and `category` are imported.


# %%
def strip_accents(text):
    return None  # your turn


_ = check("bert_tokenizer/1", strip_accents)

# %% [markdown]
# <details><summary>Hint</summary>Take apart with <code>normalize("NFD", text)</code>, then keep what is not of category "Mn".</details>
# <details><summary>Solution</summary><code>"".join(c for c in normalize("NFD", text) if category(c) != "Mn")</code></details>
#
# **2** (medium, 10 minutes). Rule (6) for one word, as a list of pieces, `["[UNK]"]` if it cannot be cut; an empty word has no pieces. `known` holds the pieces.


# %%
def greedy(word, known):
    return None  # your turn


_ = check("bert_tokenizer/2", greedy)

# %% [markdown]
# <details><summary>Hint</summary>For each start, try the ends from the last one down; behind the first piece put ## in front.</details>
# <details><summary>Solution</summary>
#
# ```python
# def greedy(word, known):
#     found, start = [], 0
#     while start < len(word):
#         tried = [("##" if start else "") + word[start:end] for end in range(len(word), start, -1)]
#         piece = next((piece for piece in tried if piece in known), None)
#         if piece is None:
#             return ["[UNK]"]
#         found.append(piece)
#         start += len(piece) - (2 if start else 0)
#     return found
# ```
# </details>
#
# **3** (hard, 20 minutes). The same from a trie's `children`, `failure` and `pops`, in a single pass: `word` is an iterator over characters that can be read once. Node 0 is the root, node 1 that of ##.


# %%
def one_pass(word, children, failure, pops):
    return None  # your turn


_ = check("bert_tokenizer/3", one_pass)

# %% [markdown]
# <details><summary>Hint</summary>Without a child: add the node's pops and follow its failure link. At the end: the same until there is no link. The word is known if that ends at node 1.</details>
# <details><summary>Solution</summary>
#
# ```python
# def one_pass(word, children, failure, pops):
#     found, node = [], 0
#     for letter in word:
#         while letter not in children[node]:
#             if failure[node] is None:
#                 return ["[UNK]"]
#             found += pops[node]
#             node = failure[node]
#         node = children[node][letter]
#     while failure[node] is not None:
#         found += pops[node]
#         node = failure[node]
#     return found if node == 1 else ["[UNK]"]
# ```
# </details>
#
# **To discuss.** A tokenizer that drops accents was made for English. Which words of a language you know become the same, and would more training data help the model with them?
#
# ## Summary
#
# - The ids of a text are a part of the model: another tokenizer, even one of the same name, gives it a text that it was not trained on.
# - Six rules, a table of code points and a trie are all there is; only a sigma looks at its neighbors.
# - Greedy longest match can be read off in one pass, because a failure link remembers what can be cut off.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): what the ids are for. [Wu et al., 2016](https://arxiv.org/abs/1609.08144): where wordpieces come from, section 4.1. [Song et al., 2021](https://arxiv.org/abs/2012.15524): the
# linear-time algorithm, with a proof. [Aho and Corasick, 1975](https://doi.org/10.1145/360825.360855): failure links, for the search of many words at once.
