"""How many tokens are hidden, which, and as what: exact bounds, every edge, and what a model trains on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal
from scipy.stats import binom

from layers import MaskedLM, MaskedLMMaskGenerator

N, MASK_ID, SPECIAL = 50, 4, [0, 1, 2, 3]
ALMOST_NEVER = 1e-9


def made(num_predictions=40, seed=0, **options):
    return MaskedLMMaskGenerator(N, MASK_ID, num_predictions, SPECIAL, seed=seed, **options)


def arrays(outputs):
    return {name: np.asarray(x) for name, x in outputs.items()}


def texts(rng, b, s):
    """Rows of [CLS], words, [SEP], and padding, none of them [MASK]."""
    ids = rng.integers(MASK_ID + 1, N, (b, s))
    ids[:, 0] = 2
    for row, length in zip(ids, rng.integers(3, s + 1, b)):
        row[length - 1], row[length:] = 3, 0
    return ids


def assert_binomial(found, n, p):
    """`found` of `n` is not so few or so many that it would happen once in a billion times."""
    assert binom.cdf(found, n, p) > ALMOST_NEVER and binom.sf(found - 1, n, p) > ALMOST_NEVER, (found, n, p)


def test_positions_say_where_tokens_are_hidden_and_ids_what_they_were(rng):
    ids = texts(rng, 64, 90)
    found = arrays(made()(ids))
    for row, read, positions, known, weights in zip(ids, *(found[name] for name in found)):
        count = int(weights.sum())
        maskable = np.isin(row, [*SPECIAL, MASK_ID], invert=True)
        assert count == max(1, int(np.floor(0.15 * maskable.sum() + 0.5 + 1e-9)))
        assert_array_equal(weights, np.arange(40) < count)
        assert_array_equal(positions[:count], np.unique(positions[:count]))
        assert maskable[positions[:count]].all(), "special tokens and padding are never hidden"
        assert_array_equal(known[:count], row[positions[:count]])
        assert not positions[count:].any() and not known[count:].any()
        others = np.setdiff1d(np.arange(len(row)), positions[:count])
        assert_array_equal(read[others], row[others])


def test_80_percent_become_mask_10_percent_a_random_token_and_10_percent_stay(rng):
    ids = rng.integers(MASK_ID + 1, N, (400, 200))
    found = arrays(made()(ids))
    read = np.take_along_axis(found["token_ids"], found["mask_positions"], axis=1)[found["mask_weights"] == 1]
    known, words = found["mask_ids"][found["mask_weights"] == 1], N - MASK_ID - 1
    assert len(read) == 400 * 30
    random = (read != MASK_ID) & (read != known)  # one in `words` random tokens is the token itself
    assert_binomial((read == MASK_ID).sum(), len(read), 0.8)
    assert_binomial(random.sum(), len(read), 0.1 * (1 - 1 / words))
    assert_binomial((read == known).sum(), len(read), 0.1 + 0.1 / words)
    for token in range(N):  # no special token replaces a word, and all words are equally likely
        p = 0.1 / words * (1 - 1 / words) if token > MASK_ID else 0
        assert_binomial((read[random] == token).sum(), len(read), p)


def test_every_place_is_hidden_equally_often_and_every_call_draws_anew():
    ids, generator = np.full((500, 20), 9), made()
    first, second = (arrays(generator(ids)) for _ in range(2))
    for found in (first, second):
        counts = np.bincount(found["mask_positions"][:, :3].ravel(), minlength=20)
        for count in counts:
            assert_binomial(count, 500, 3 / 20)
    same = (first["mask_positions"][:, :3] == second["mask_positions"][:, :3]).all(axis=1)
    assert_binomial(same.sum(), 500, 6 / (20 * 19 * 18))
    assert_array_equal(arrays(made()(ids))["token_ids"], first["token_ids"])
    assert (arrays(made(seed=1)(ids))["token_ids"] != first["token_ids"]).any()


def test_no_token_to_hide_and_fewer_than_asked_for():
    nothing = np.array([[2, 3, 0, 0], [2, MASK_ID, 3, 0]])
    found = arrays(made(3)(nothing))
    assert_array_equal(found["token_ids"], nothing)
    assert not any(found[name].any() for name in ("mask_positions", "mask_ids", "mask_weights"))
    found = arrays(made(3, mask_selection_rate=1.0)(np.array([[2, 7, 3, 8], [5, 6, 7, 8]])))
    assert_array_equal(found["mask_positions"][0], [1, 3, 0])
    assert_array_equal(found["mask_ids"][0], [7, 8, 0])
    assert_array_equal(found["mask_weights"], [[1, 1, 0], [1, 1, 1]])
    assert arrays(made(3)(np.array([[2, 7, 3]])))["mask_weights"].tolist() == [[1, 0, 0]], "at least one"
    empty = arrays(made(3)(np.zeros((2, 0), "int32")))
    assert empty["token_ids"].shape == (2, 0) and not empty["mask_weights"].any()


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_ids_keep_their_dtype(dtype):
    found = made(3, dtype="mixed_float16")(keras.ops.convert_to_tensor(np.full((2, 9), 9), dtype))
    dtypes = {name: keras.backend.standardize_dtype(x.dtype) for name, x in found.items()}
    assert dtypes == {"token_ids": dtype, "mask_positions": "int32", "mask_ids": dtype, "mask_weights": "float16"}


@pytest.mark.slow
def test_a_data_set_hides_other_tokens_in_every_epoch_for_a_model_that_trains(rng):
    ids, generator = texts(rng, 8, 12), made(4, mask_token_rate=1.0, random_token_rate=0.0)

    def example(batch):
        hidden = generator(batch)
        return (hidden["token_ids"], hidden["mask_positions"]), hidden["mask_ids"], hidden["mask_weights"]

    data = tf.data.Dataset.from_tensor_slices(ids).batch(4).map(example)
    epochs = [np.concatenate([x[0] for x, _, _ in data]) for _ in range(2)]
    assert all(((epoch == MASK_ID) | (epoch == ids)).all() and (epoch == MASK_ID).any() for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    read, positions = keras.Input((None,), dtype="int64"), keras.Input((4,), dtype="int32")
    embedding = keras.layers.Embedding(N, 6)
    model = keras.Model([read, positions], MaskedLM(embedding, "gelu")(embedding(read), positions))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(data, shuffle=False, verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (
            r"mask_selection_rate must be at least 0.001 and at most 1. Received: mask_selection_rate=0",
            {"mask_selection_rate": 0},
        ),
        (r"at most 1 together. Received: mask_token_rate=0.8, random_token_rate=0.3", {"random_token_rate": 0.3}),
        (r"mask_token_id must be an integer from 0 to 49. Received: mask_token_id=50", {"mask_token_id": 50}),
        (r"unselectable_token_ids must be a list .* Received: unselectable_token_ids=\[-1\]", {"unselectable_token_ids": [-1]}),
        (r"unselectable_token_ids must be a list of different", {"unselectable_token_ids": [0, 0]}),
        (r"unselectable_token_ids must be a list .* Received: unselectable_token_ids=0", {"unselectable_token_ids": 0}),
        (r"unselectable_token_ids must leave an id", {"unselectable_token_ids": list(range(49)), "mask_token_id": 49}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        MaskedLMMaskGenerator(**{"vocabulary_size": N, "mask_token_id": MASK_ID, "num_predictions": 3} | options)


def test_what_is_no_batch_of_ids_is_rejected_by_name():
    for message, given in (
        (r"token_ids must have 2 axes", (np.zeros(3, "int32"),)),
        (r"token_ids must be integers", (np.zeros((2, 3)),)),
        (r"fate must have the shape \(2, 3\). Received: \(2, 4\)", (np.zeros((2, 3), "int32"), None, np.zeros((2, 4)))),
    ):
        with pytest.raises(ValueError, match=message):
            made()(*given)
