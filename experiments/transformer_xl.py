"""Transformer-XL: what a memory lets a model know, what it learns to remember, and what an order of prediction buys."""

import keras
import numpy as np
from keras import ops

from experiments.common import novel
from experiments.common.experiment import Experiment
from experiments.common.table import Claim
from experiments.common.training import train
from layers.on_device_embedding import OnDeviceEmbedding
from layers.transformer_xl import TransformerXL
from reference.relative_attention import relative_position_encoding

# ---- A model that reads segments, and hands its memory on ----------------------------------------------------------------------


SYMBOLS, LENGTH, SEGMENTS = 16, 8, 3
"""Of the made-up texts; tokens of a segment, and segments of a text, the last of which is predicted."""


class Reader(keras.Model):
    """Reads a text in segments of `LENGTH`, each with the memory of those before, and predicts in the last one.

    `how` is "relative"; "absolute", which adds the place in the segment to the token, and has no distances in the scores; or
    "through", which lets gradients flow through the memory.
    """

    def __init__(self, symbols, layers, memory_length, how="relative", size=32):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.logits = OnDeviceEmbedding(symbols, size, initializer=normal), keras.layers.Dense(symbols)
        self.place = OnDeviceEmbedding(LENGTH, size, initializer=normal) if how == "absolute" else None
        options = {"inner_size": 2 * size, "dropout_rate": 0.0, "attention_dropout_rate": 0.0, "initializer": "glorot_uniform"}
        self.xl = TransformerXL(symbols, layers, size, 4, size // 4, memory_length=memory_length, **options)
        self.how, self.size = how, size

    def call(self, ids):
        """The logits `(b, LENGTH, n)` of the token after each of the last segment."""
        return self.logits(self.read(ids[:, -LENGTH:], self.memories(ids[:, :-LENGTH]))[0])

    def memories(self, ids):
        """What is remembered of whole segments; None without a memory."""
        state = None
        for start in range(0, ids.shape[1] if self.xl.memory_length else 0, LENGTH):
            _, state = self.read(ids[:, start : start + LENGTH], state)
        return state

    def read(self, ids, state):
        """The output for one segment, and the memories after it."""
        h = self.token(ids) if self.place is None else self.token(ids) + self.place(ops.arange(LENGTH))
        s = LENGTH + (state[0].shape[1] if state else 0)
        encoding = relative_position_encoding(LENGTH, s, self.size, causal=True).astype("float32")
        if self.how == "absolute":
            encoding = 0 * encoding  # how many rows it has still says which keys come after the query
        if self.how == "through":
            return self.read_through(h, encoding, state)
        return self.xl(h, encoding, state=state)

    def read_through(self, h, encoding, state):
        """What `self.xl` computes; but the memories are not cut off from what they were computed from."""
        if not self.xl.built:
            self.xl.build(h.shape, encoding.shape)
        memories, biases = [], (self.xl.content_attention_bias, self.xl.positional_attention_bias)
        for block, memory in zip(self.xl.blocks, state or [None] * self.xl.num_layers):
            both = h if memory is None else ops.concatenate([memory, h], axis=1)
            memories.append(both[:, -self.xl.memory_length :])
            h = block(h, *biases, encoding, state=memory)["content_attention"]
        return h, memories

    def test(self, ids, memory_length):
        """The logits with another length of memory than that of training."""
        own, self.xl.memory_length = self.xl.memory_length, memory_length
        logits = ops.convert_to_numpy(self(ids))
        self.xl.memory_length = own
        return logits

    def with_other_memory(self, ids):
        """The logits with the memory of another text."""
        state = self.memories(ids[:, :-LENGTH])
        state = [ops.roll(memory, 1, axis=0) for memory in state] if state else None
        return ops.convert_to_numpy(self.logits(self.read(ids[:, -LENGTH:], state)[0]))


def nats(logits, answers):
    """−log p of each answer."""
    logits = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(logits, answers[..., None], axis=-1)[..., 0]
    return np.log(np.exp(logits).sum(axis=-1)) - picked


# ---- A text that only a memory can predict -------------------------------------------------------------------------------------

DISTANCE, COPIED = 12, 0.95
"""The next token is, with probability `COPIED`, the one `DISTANCE` back from the token before it; else any symbol."""

TESTED = (0, 4, 8, 12, 16)
"""Lengths of memory at test."""

RIGHT = COPIED + (1 - COPIED) / SYMBOLS
FLOOR = float(np.exp(-RIGHT * np.log(RIGHT) - (1 - RIGHT) * np.log((1 - COPIED) / SYMBOLS)))
"""The probability of the likeliest token, and the perplexity of who knows it."""

COPIERS = {"memory of 12": (12, "relative"), "no memory": (0, "relative"), "memory of 12, absolute places": (12, "absolute")}
"""{arm: (length of memory, how)}. One layer is enough."""


def write(rng, count):
    """Texts `(count, SEGMENTS · LENGTH)`, and the token that follows each of the last segment."""
    ids = rng.integers(0, SYMBOLS, (count, SEGMENTS * LENGTH + 1)).astype("int32")
    copied, lag = rng.random(ids.shape) < COPIED, DISTANCE + 1
    for t in range(lag, ids.shape[1]):
        ids[:, t] = np.where(copied[:, t], ids[:, t - lag], ids[:, t])
    return ids[:, :-1], ids[:, -LENGTH:]


def in_reach(memory_length):
    """Whether each place `(LENGTH,)` of a segment has the answer in the memory of its own layer."""
    return np.arange(LENGTH) - DISTANCE >= -memory_length


def of_two():
    """The perplexity of who knows two tokens of which one is the answer, but not which: each gets half of `COPIED`."""
    both = 1 / SYMBOLS  # that the two are equal
    likely, less, rest = COPIED + (1 - COPIED) / SYMBOLS, COPIED / 2 + (1 - COPIED) / SYMBOLS, (1 - COPIED) / SYMBOLS
    equal = -likely * np.log(likely) - (1 - likely) * np.log(rest)
    unlike = -2 * less * np.log(less) - (1 - 2 * less) * np.log(rest)
    return float(np.exp(both * equal + (1 - both) * unlike))


def measured(model, rng, memory_length):
    """{"nats", "accuracy", "right": by place, "tested": nats for each length of memory in `TESTED`} on new texts."""
    ids, answers = write(rng, 512)
    logits = model.test(ids, memory_length)
    right = (logits.argmax(-1) == answers).mean(axis=0)
    tested = [nats(model.test(ids, length), answers).mean() for length in TESTED]
    return {"nats": nats(logits, answers).mean(), "accuracy": right.mean(), "right": right, "tested": tested}


def train_copier(arm, rate, seed, steps=200):
    """What `measured` returns, and "loss": the curve."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    memory_length, how = COPIERS[arm]
    model = Reader(SYMBOLS, 1, memory_length, how)
    curve = train(model, lambda: write(rng, 64), rate, steps)
    return measured(model, rng, memory_length) | {"loss": curve}


# ---- Two hops ------------------------------------------------------------------------------------------------------------------

HOPPERS = {"one layer": (1, "relative"), "two layers": (2, "relative"), "two layers, gradients through": (2, "through")}
"""With a memory of `LENGTH`, which is too short for one layer and long enough for two: {arm: (layers, how)}."""


def train_hopper(arm, rate, seed, steps=600):
    """As `train_copier`."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    layers, how = HOPPERS[arm]
    model = Reader(SYMBOLS, layers, LENGTH, how)
    curve = train(model, lambda: write(rng, 64), rate, steps)
    return measured(model, rng, LENGTH) | {"loss": curve}


# ---- Real text -----------------------------------------------------------------------------------------------------------------

NOVEL_READERS = {"memory of 16": 16, "no memory": 0}


def train_novel(arm, rate, seed, steps=300):
    """{"bits": a character of the held-out text, "by_place": those of each place in a segment, "other": the same with the memory
    of another place of the novel, "loss": the curve}."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    seen, new = novel.halves()
    model = Reader(len(novel.SYMBOLS), 1, NOVEL_READERS[arm], size=64)

    def draw():
        ids, following = novel.pieces(seen, SEGMENTS * LENGTH, 64, rng)
        return ids, following[:, -LENGTH:]

    curve = train(model, draw, rate, steps)
    starts = np.arange(0, len(new) - SEGMENTS * LENGTH - 1, LENGTH)
    pieces = new[starts[:, None] + np.arange(SEGMENTS * LENGTH + 1)]
    ids, answers = pieces[:, :-1], pieces[:, -LENGTH:]
    own, other = ops.convert_to_numpy(model(ids)), model.with_other_memory(ids)
    own, other = ((nats(logits, answers) / np.log(2)).mean(axis=0) for logits in (own, other))
    return {"bits": own.mean(), "by_place": own, "other": other, "loss": curve}


# ---- Two streams: a pair that belongs together ---------------------------------------------------------------------------------

WORDS, BETWEEN = 8, 4
"""Words, and the length of a text `c a a d`: a mark, a pair of words, a mark."""

PAIRS = {
    "each by itself": (True, False),
    "in a random order": (True, True),
    "in a random order, unlike words": (False, True),
}
"""{arm: (are both words the same, is one predicted after the other)}. Unlike words are drawn one by one: an order cannot help."""

PAIR_FLOORS = {"each by itself": 2 * np.log(WORDS), "in a random order": np.log(WORDS)}
"""Nats of both words of a pair of the same words, for who knows everything that the masks let through."""


class Pair(keras.Model):
    """A two-stream block that predicts the two words in the middle. Ranks say who sees whom: `rank` `(b, t)`."""

    def __init__(self, size=32):
        super().__init__()
        self.token, self.logits = OnDeviceEmbedding(WORDS + 2, size), keras.layers.Dense(WORDS)
        options = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "initializer": "glorot_uniform", "two_stream": True}
        self.xl = TransformerXL(WORDS + 2, 1, size, 2, size // 2, 2 * size, **options)
        self.asked = self.add_weight(name="asked", shape=(size,), initializer="normal")
        self.encoding = relative_position_encoding(BETWEEN, BETWEEN, size).astype("float32")

    def call(self, inputs):
        ids, rank = inputs
        h = self.token(ids)
        g = ops.ones_like(h[:, :2]) * self.asked
        targets = ops.ones_like(h[:, :1, :1]) * np.eye(BETWEEN, dtype="float32")[[1, 2]]
        masks = {"content_attention_mask": rank[:, None, :] <= rank[:, :, None]}
        masks["query_attention_mask"] = rank[:, None, :] < rank[:, :, None]
        output, _ = self.xl(h, self.encoding, query_stream=g, target_mapping=targets, **masks)
        return self.logits(output)


def draw_pairs(rng, count, same, in_order):
    """((ids, ranks), the two words)."""
    words = rng.integers(0, WORDS, (count, 2))
    if same:
        words[:, 1] = words[:, 0]
    marks = np.full((count, 1), WORDS)
    ids = np.concatenate([marks, words, marks + 1], axis=1).astype("int32")
    orders = np.array([[0, 1, 2, 0], [0, 2, 1, 0]] if in_order else [[0, 1, 1, 0]], "int32")
    return (ids, orders[rng.integers(0, len(orders), count)]), ids[:, 1:3]


def train_pair(arm, rate, seed, steps=100):
    """{"nats": of both words together, on new texts, "loss": the curve}."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = Pair()
    curve = train(model, lambda: draw_pairs(rng, 64, *PAIRS[arm]), rate, steps)
    inputs, answers = draw_pairs(rng, 512, *PAIRS[arm])
    return {"nats": nats(ops.convert_to_numpy(model(inputs)), answers).sum(axis=1).mean(), "loss": curve}


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

RATES, SEEDS = (1e-3, 3e-3, 1e-2), (0, 1, 2)
LOSS = {"lower_is_better": True, "seeds": SEEDS}
EXPERIMENTS = [
    Experiment("copy", train_copier, tuple(COPIERS), RATES, "nats", elsewhere="memory of 12", **LOSS),
    Experiment("hops", train_hopper, tuple(HOPPERS), RATES, "nats", elsewhere="two layers", **LOSS),
    Experiment("novel", train_novel, tuple(NOVEL_READERS), RATES, "bits", elsewhere="memory of 16", **LOSS),
    Experiment("pairs", train_pair, tuple(PAIRS), RATES, "nats", elsewhere="in a random order", **LOSS),
]


def accuracy_of_two():
    """What who knows two tokens, one of which is the answer, can be right: they are equal with the probability 1 / SYMBOLS."""
    return COPIED * (0.5 + 0.5 / SYMBOLS) + (1 - COPIED) / SYMBOLS


def halfway_to_floor(found):
    """The best and the worst perplexity with and without a memory; the claim holds if they are on different sides of halfway."""
    own, none = (found.values("nats", arm) for arm in ("memory of 12", "no memory"))
    holds = own.max() < (np.log(FLOOR) + np.log(SYMBOLS)) / 2 < none.min()
    return f"worst seed with it {np.exp(own.max()):.2f}, best without {np.exp(none.min()):.2f}", "yes" if holds else "no"


def one_of_two(found):
    """The accuracy with absolute places, below halfway from an even mixture of two tokens to that with distances."""
    distances, places = (found.values("accuracy", arm) for arm in ("memory of 12", "memory of 12, absolute places"))
    holds = places.max() < (accuracy_of_two() + RIGHT) / 2 < distances.min()
    return f"best seed {places.max():.2f}; with distances, worst {distances.min():.2f}", "yes" if holds else "no"


def beyond_one_memory(found):
    """{arm: accuracy `(seeds,)` at the places whose answer is further back than one memory reaches}."""
    return {arm: found.values("right", arm)[:, ~in_reach(LENGTH)].mean(axis=1) for arm in HOPPERS}


def two_hops(found):
    """Whether two layers with a memory that is too short for one come halfway from chance to all right, with the paper's SG."""
    by_arm, halfway_up = beyond_one_memory(found), (1 / SYMBOLS + RIGHT) / 2
    ours = "; ".join(f"{arm} {values.min():.2f} to {values.max():.2f}" for arm, values in by_arm.items())
    one, two, through = by_arm.values()
    if one.max() > halfway_up or through.min() < halfway_up:
        return ours, "no"
    return ours, "yes" if two.min() > halfway_up else "only if gradients flow through the memory"


def first_character(found):
    """Bits of the first character of a segment with and without a memory, and of the whole segment."""
    own, none = (found.values("by_place", arm) for arm in NOVEL_READERS)
    bound = novel.bits_of_counts(1)
    holds = own[:, 0].max() < bound and own.mean(axis=1).max() < none.mean(axis=1).min()
    ours = f"first character {own[:, 0].max():.2f} (worst seed), without {none[:, 0].min():.2f} (best); all places"
    return f"{ours} {own.mean(axis=1).max():.2f} and {none.mean(axis=1).min():.2f}", "yes" if holds else "no"


def joint(found):
    """Nats of a pair by the masks."""
    alone, ordered, unlike = (found.values("nats", arm) for arm in PAIRS)
    holds = ordered.max() < 1.5 * np.log(WORDS) < min(alone.min(), unlike.min())
    ours = f"{alone.min():.2f} (best seed); in an order {ordered.max():.2f} (worst); unlike words {unlike.min():.2f} (best)"
    return ours, "yes" if holds else "no"


CLAIMS = [
    Claim(
        "A model that was trained with a memory predicts a text whose answers all lie before the segment; one without does not",
        "copy",
        halfway_to_floor,
        bound=f"perplexity of who knows all that helps {FLOOR:.2f}; chance {SYMBOLS}",
        ablation="the memory",
        paper="1901.02860, Table 6: perplexity 27.02 with recurrence, 29.59 without",
    ),
    Claim(
        "With absolute places in place of distances, a memory cannot tell its segments apart",
        "copy",
        one_of_two,
        bound=f"an even mixture of two tokens: accuracy {accuracy_of_two():.2f}; all that can be known {RIGHT:.2f}",
        ablation="the distances",
        paper="none (section 3.3 argues it)",
    ),
    Claim(
        "In 600 steps, every seed of two layers learns to find what lies further back than one memory reaches",
        "hops",
        two_hops,
        bound=f"chance 1/{SYMBOLS}; all that can be known {RIGHT:.2f}",
        ablation="the second layer; and the stop of gradients",
        paper="1901.02860, section 3.2: the longest dependency is O(N · L)",
    ),
    Claim(
        "On real text, a memory spares the first characters of a segment what their missing context costs",
        "novel",
        first_character,
        bound=f"counts after the one character that is left: {novel.bits_of_counts(1):.2f} bits",
        ablation="the memory; and, at test, its text: with that of another one it is worse than without",
        paper="1901.02860, Table 7 (One Billion Word): perplexity 25.2 with recurrence, 27.1 without",
    ),
    Claim(
        "Two words that are the same cost twice as much predicted each by itself as one after the other",
        "pairs",
        joint,
        bound=f"2 ln {WORDS} = {2 * np.log(WORDS):.2f} and ln {WORDS} = {np.log(WORDS):.2f} nats",
        ablation="that the words are the same",
        paper="1906.08237, section 2.6 (an example without a number)",
    ),
]
