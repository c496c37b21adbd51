"""`generate`: what the model says without a cache, token by token; ways to choose, ends, prompts of several lengths, errors."""

import gc
import os
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.cases.transformer_decoder import LAYERS, VOCABULARY, F, H, M
from crosscheck.weights import draw_weights, weights_of
from layers.transformer_decoder.decoder_only import TransformerDecoder
from layers.transformer_decoder.generation import MOST_PROGRAMS, generate
from layers.transformer_decoder.sampling import next_token
from reference.transformer_decoder import decoder_only
from reference.transformer_decoder import generation as ref

pytestmark = pytest.mark.slow  # each call of `generate` compiles a program

PROMPTS, LENGTH = [[3, 1, 4], [2], [7, 7, 7, 7, 1]], 7
CHOICES = {
    "greedy": {},
    "temperature": {"temperature": 1.3},
    "top_k": {"temperature": 0.8, "top_k": 5},
    "top_p": {"temperature": 0.8, "top_p": 0.7},
    "both": {"temperature": 2.0, "top_k": 9, "top_p": 0.7},
}


def made(seed=0, dtype="float64", **options):
    decoder = TransformerDecoder(VOCABULARY, M, LAYERS, H, F, dtype=dtype, **options)
    decoder.build((None, None))
    draw_weights(decoder, np.random.default_rng(seed))
    return decoder


@pytest.fixture(scope="module")
def decoder():
    """Compiling takes longest: the tests share its programs."""
    return made(max_length=12)


def without_a_cache(decoder, prompts, u=None, **options):
    """The definition, for the layer: all tokens pass through it again for each new one."""

    def logits_after(text):
        return keras.ops.convert_to_numpy(decoder(np.array([text], "int32"))[0])[0, -1]

    return [ref.generate(logits_after, p, LENGTH, None if u is None else u[i], **options) for i, p in enumerate(prompts)]


def padded(texts, pad=0):
    longest = max(map(len, PROMPTS)) + LENGTH
    return np.array([text + [pad] * (longest - len(text)) for text in texts])


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("max_length", [None, pytest.param(12, marks=pytest.mark.further)])
def test_the_tokens_are_those_of_the_model_without_a_cache(choice, max_length):
    decoder, seed = made(seed=1, max_length=max_length), None if choice == "greedy" else 5
    u = np.random.default_rng(seed).random((3, LENGTH), dtype="float32")
    expected = without_a_cache(decoder, PROMPTS, u, **CHOICES[choice])
    assert_array_equal(generate(decoder, PROMPTS, LENGTH, seed=seed, **CHOICES[choice]), padded(expected))
    weights = weights_of(decoder, decoder_only.DecoderOnlyWeights)

    def logits_after(text):
        return decoder_only.transformer_decoder(np.array([text]), weights)[0][0, -1]

    assert ref.generate(logits_after, PROMPTS[0], LENGTH, u[0], **CHOICES[choice]) == expected[0]


def test_a_prompt_among_others_continues_as_if_it_were_alone(decoder):
    for options in ({}, {"temperature": 1.0, "seed": 3}):
        together = generate(decoder, PROMPTS, LENGTH, **options)
        alone = generate(decoder, PROMPTS[:1], LENGTH, **options)
        assert_array_equal(together[0, : 3 + LENGTH], alone[0])


def test_padding_in_the_prompt_is_replaced_and_has_no_influence(decoder):
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    expected = generate(decoder, PROMPTS, LENGTH)
    for pad in (0, 5, -1):
        prompt = np.array([[3, 1, 4, pad, pad], [2, pad, pad, pad, pad], [7, 7, 7, 7, 1]])
        assert_array_equal(generate(decoder, prompt, LENGTH, prompt_mask=mask), expected)
    assert_array_equal(generate(decoder, tf.constant(prompt), LENGTH, prompt_mask=tf.constant(mask), pad_id=0), expected)


def test_prompts_padded_to_one_width_share_a_program(decoder):
    for length in (1, 2, 4):
        mask = np.arange(4)[None] < length
        text = generate(decoder, np.array([[3, 1, 4, 1]]), 2, prompt_mask=mask)
        assert text.shape == (1, 6)
        assert_array_equal(text[0, : length + 2], generate(decoder, [[3, 1, 4, 1][:length]], 2)[0])
    widths = [key[1] for key in decoder._generation_programs.by_key if key[:1] == (1,) and key[2] == 2]
    assert sorted(widths) == [1, 2, 4]


def test_nothing_follows_the_end(decoder):
    free = generate(decoder, PROMPTS, LENGTH)
    end = int(free[2, 7])  # a token in the middle of what is written
    for pad in (None, 9):
        expected = without_a_cache(decoder, PROMPTS, end=end)
        assert any(len(text) < len(p) + LENGTH for text, p in zip(expected, PROMPTS))
        found = generate(decoder, PROMPTS, LENGTH, end_id=end, pad_id=pad)
        assert_array_equal(found, padded(expected, end if pad is None else pad))


def test_an_end_in_the_prompt_is_a_token_like_others(decoder):
    free = generate(decoder, PROMPTS, LENGTH)
    unused = next(i for i in (7, 3) if i not in free[2, 5:])
    assert_array_equal(generate(decoder, PROMPTS[2:], LENGTH, end_id=unused)[0], free[2])


class Counted(keras.layers.Layer):
    """A language model that says of token i that i + 1 follows, and raises the number in its cache at each call."""

    vocab_size = 20

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def init_cache(self, batch, length):
        return [keras.ops.zeros((batch, length), "int32")]

    def call(self, ids, cache=None, decode_loop_step=None, training=None):
        assert training is False
        logits = 9.0 * keras.ops.one_hot(ids + 1, self.vocab_size)
        return logits, [keras.ops.slice_update(cache[0], (decode_loop_step * 0, decode_loop_step), ids)]


def test_any_layer_with_a_cache_may_write():
    model = Counted()
    model.build((None, None))
    assert_array_equal(generate(model, [[1, 2], [7, 8]], 3), [[1, 2, 3, 4, 5], [7, 8, 9, 10, 11]])
    assert_array_equal(generate(model, [[1, 2], [7, 8]], 3, end_id=9, pad_id=0), [[1, 2, 3, 4, 5], [7, 8, 9, 0, 0]])


def test_logits_that_leave_no_choice_are_an_error():
    decoder = made()
    decoder.token_embedding.embeddings.assign(np.full((VOCABULARY, M), np.nan))
    for options in ({}, {"temperature": 1.0}):
        with pytest.raises(ValueError, match="model must have logits without NaN"):
            generate(decoder, [[1, 2]], 3, **options)


def test_new_weights_need_no_new_program(decoder):
    other = made(seed=7, max_length=12)
    first = generate(other, PROMPTS, LENGTH)
    (program,) = other._generation_programs.by_key.values()
    function = program.predict_function
    other.set_weights(decoder.get_weights())
    assert_array_equal(generate(other, PROMPTS, LENGTH), generate(decoder, PROMPTS, LENGTH))
    assert np.any(first != generate(decoder, PROMPTS, LENGTH))
    assert list(other._generation_programs.by_key.values()) == [program] and program.predict_function is function


def test_other_variables_need_one():
    decoder = made()
    generate(decoder, [[1, 2]], 2)
    for block in decoder.blocks:
        block.intermediate_dense.enable_lora(2)
        block.intermediate_dense.lora_kernel_b.assign(np.random.default_rng(0).normal(size=(2, F)))
    expected = without_a_cache(decoder, [[1, 2]])[0][:4]
    assert_array_equal(generate(decoder, [[1, 2]], 2)[0], expected)


def test_programs_are_kept_with_the_model_but_not_saved_and_not_for_ever(tmp_path):
    decoder, ids = made(), keras.Input((None,), dtype="int32")
    model = keras.Model(ids, decoder(ids)[0])
    model.save(tmp_path / "before.keras")
    generate(decoder, [[1, 2]], 2)
    model.save(tmp_path / "after.keras")
    sizes = [(tmp_path / name).stat().st_size for name in ("before.keras", "after.keras")]
    assert abs(sizes[1] - sizes[0]) < 100
    loaded = keras.saving.load_model(tmp_path / "after.keras")
    assert_array_equal(generate(loaded.layers[1], [[1, 2]], 2), generate(decoder, [[1, 2]], 2))

    decoder._generation_programs.by_key = {i: None for i in range(MOST_PROGRAMS)}
    generate(decoder, [[1, 2]], 2)
    assert len(decoder._generation_programs.by_key) == MOST_PROGRAMS and 0 not in decoder._generation_programs.by_key
    gone = weakref.ref(decoder)
    del decoder, model, loaded, ids
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


def test_one_seed_gives_one_text_and_another_another(decoder):
    options = {"temperature": 1.5}
    one = generate(decoder, PROMPTS, LENGTH, seed=1, **options)
    assert_array_equal(generate(decoder, PROMPTS, LENGTH, seed=1, **options), one)
    assert np.any(generate(decoder, PROMPTS, LENGTH, seed=2, **options) != one)
    texts = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        texts.append([generate(decoder, PROMPTS, LENGTH, **options) for _ in range(2)])
    assert_array_equal(texts[0], texts[1])
    assert np.any(texts[0][0] != texts[0][1])


def test_worked_choices():
    """p = (1, 4, 2, 1)/8: in the order of ids their sums are 1, 5, 7, 8 eighths; by probability 4, 6, 7, 8. The nucleus of 0.7 is
    tokens 1 and 2, six eighths, of which token 1 has two thirds; of the two best tokens, token 2 alone is left beyond 2/3 too."""
    z = np.log([1.0, 4.0, 2.0, 1.0])
    for u, plain, best in ((0.0, 0, 1), (0.1, 0, 1), (0.2, 1, 1), (0.6, 1, 1), (0.65, 2, 1), (0.7, 2, 2), (0.99, 3, 2)):
        for options, expected in (({}, plain), ({"top_p": 0.7}, best), ({"top_k": 2}, best), ({"top_k": 1}, 1)):
            assert ref.next_token(z, u, temperature=1.0, **options) == expected
            assert next_token(tf.constant(z[None]), tf.constant([u]), 1.0, **options) == expected
    assert ref.next_token(z) == 1


@pytest.mark.parametrize("options", [{}, {"top_k": 7}, {"top_p": 0.6}, {"top_k": 30, "top_p": 0.9}], ids=str)
def test_choices_are_those_of_the_definition(rng, options):
    """Some logits are equal, and some tokens are forbidden."""
    z, u = np.round(3 * rng.normal(size=(400, 40)), 1), rng.random(400)
    z[:, ::5] = -np.inf
    expected = [ref.next_token(row, x, 0.9, **options) for row, x in zip(z, u)]
    assert_array_equal(next_token(tf.constant(z), tf.constant(u), 0.9, **options), expected)
    assert not np.any(np.isin(expected, np.arange(0, 40, 5)))


def test_tokens_are_drawn_with_their_probabilities(rng):
    """20,000 draws: each share is within four standard deviations."""
    z, count = rng.normal(size=6), 20_000
    p = np.exp(z / 0.7) / np.exp(z / 0.7).sum()
    drawn = next_token(tf.constant(np.tile(z, (count, 1))), tf.constant(rng.random(count)), 0.7)
    shares = np.bincount(drawn, minlength=6) / count
    assert np.all(np.abs(shares - p) < 4 * np.sqrt(p * (1 - p) / count))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_no_draw_takes_a_token_that_may_not_be_taken(rng, dtype):
    """Not even the smallest and the largest, nor one that was rounded up to 1."""
    z, outer = 2 * rng.normal(size=(64, 500)), np.full((64, 3), -1e4)
    z = tf.cast(tf.constant(np.concatenate([outer, z, outer], axis=1)), dtype)
    for u in (0.0, np.nextafter(np.float32(1), np.float32(0)), 1.0):
        for options in ({}, {"top_p": 0.999}, {"top_k": 505}):
            chosen = np.array(next_token(z, tf.constant(np.full(64, u, "float32")), 1.0, **options))
            assert np.all((chosen >= 3) & (chosen < 503))


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ("length must be an integer of at least 1. Received: length=0", {"length": 0}),
        ("temperature must be a finite number of at least 0. Received: temperature=-1", {"temperature": -1}),
        ("temperature must be a finite number of at least 0. Received: temperature=nan", {"temperature": np.nan}),
        ("top_p must be above 0 and at most 1, or None. Received: top_p=0", {"temperature": 1, "top_p": 0}),
        ("top_p must be above 0 and at most 1, or None. Received: top_p=1.5", {"temperature": 1, "top_p": 1.5}),
        ("top_k must be an integer of at least 1, or None. Received: top_k=0", {"temperature": 1, "top_k": 0}),
        ("top_k must be at most the size of the vocabulary, 17. Received: top_k=18", {"temperature": 1, "top_k": 18}),
        ("seed must be an integer of at least 0, or None. Received: seed=-1", {"temperature": 1, "seed": -1}),
        ("top_k and seed must be None where temperature=0 .* Received: top_k=3, seed=1", {"top_k": 3, "seed": 1}),
        ("end_id must be an integer of at least 0. Received: end_id=-1", {"end_id": -1}),
        ("pad_id must be an integer of at least 0. Received: pad_id=1.0", {"pad_id": 1.0}),
        ("prompt must be integers of shape .* Received: rows of float64 of shape .2,", {"prompt": np.ones((1, 2))}),
        ("prompt must be integers of shape .* Received: rows of int64 of shape ..", {"prompt": [1, 2]}),
        ("prompt must be integers of shape .* Received: rows of .*, float64 of shape .0,", {"prompt": [[1], []]}),
        ("prompt must be integers of shape .* Received: rows of no prompt", {"prompt": []}),
        (r"prompt must have ids from 0 to 16. Received: \[3, 17\]", {"prompt": [[3, 17]]}),
        (r"prompt must have ids from 0 to 16. Received: \[-1, 3\]", {"prompt": [[-1, 3]]}),
        ("prompt must have values: .* Received: a symbolic tensor", {"prompt": keras.KerasTensor((2, 3), "int32")}),
        (r"prompt_mask must be nonzero for .* first .* Received: \[\[0, 1\]\]", {"prompt_mask": [[0, 1]]}),
        (r"prompt_mask must be nonzero for .* Received: \[\[1, 0, 1\]\]", {"prompt": [[1, 2, 3]], "prompt_mask": [[1, 0, 1]]}),
        (r"prompt_mask must have the shape of prompt. Received: \(1, 3\), .* shape \(1, 2\)", {"prompt_mask": [[1, 1, 1]]}),
        ("prompt_mask must have the shape .* of lengths", {"prompt": [[1], [1, 2]], "prompt_mask": [[1, 0], [1, 1]]}),
        ("inputs and cache must have at most max_length=12 tokens. Received: 13", {"length": 12}),
        ("model must be a layer with a method init_cache. Received: Dense", {"model": keras.layers.Dense(3)}),
        ("model must be built before generate", {"model": TransformerDecoder(VOCABULARY, M, LAYERS, H, F)}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(decoder, message, given):
    with pytest.raises(ValueError, match=message):
        generate(**{"model": decoder, "prompt": [[1, 2]], "length": 3} | given)


def test_the_last_position_may_be_read_and_one_more_written(decoder):
    assert generate(decoder, [[1, 2]], 11).shape == (1, 13)


def test_mixed_precision_writes_too():
    decoder = made(dtype="mixed_bfloat16")
    for options in ({}, {"temperature": 1.0, "top_p": 0.9, "seed": 0}):
        text = generate(decoder, [[1, 2]], 5, **options)
        assert text.min() >= 0 and text.max() < VOCABULARY and text.dtype == np.int32


JAX = """
import sys
import numpy as np
from crosscheck.weights import draw_weights
from layers import TransformerDecoder, generate
decoder = TransformerDecoder(*map(int, sys.argv[2:]), max_length=12, dtype="float64")
decoder.build((None, None))
draw_weights(decoder, np.random.default_rng(0))
prompts = [[3, 1, 4], [2], [7, 7, 7, 7, 1]]
np.savez(sys.argv[1], greedy=generate(decoder, prompts, 7), both=generate(decoder, prompts, 7, 2.0, 9, 0.7, seed=5))
"""


def test_jax_writes_the_same_tokens(decoder, tmp_path):
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-c", JAX, str(tmp_path / "texts.npz"), *map(str, (VOCABULARY, M, LAYERS, H, F))]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    texts = np.load(tmp_path / "texts.npz")
    assert_array_equal(texts["greedy"], generate(decoder, PROMPTS, LENGTH))
    assert_array_equal(texts["both"], generate(decoder, PROMPTS, LENGTH, 2.0, 9, 0.7, seed=5))


def test_the_numbers_that_decide_do_not_depend_on_the_batch():
    first = np.random.default_rng(3).random((2, LENGTH), dtype="float32")
    assert_allclose(np.random.default_rng(3).random((1, LENGTH), dtype="float32")[0], first[0])


def test_a_ragged_tensor_is_a_list_of_prompts(decoder):
    """Padding to the longest would be tokens."""
    expected = generate(decoder, PROMPTS, LENGTH)
    assert_array_equal(generate(decoder, tf.ragged.constant(PROMPTS), LENGTH), expected)
    assert_array_equal(generate(decoder, np.array(PROMPTS, dtype=object), LENGTH), expected)
    assert_array_equal(generate(decoder, [keras.ops.convert_to_tensor(row) for row in PROMPTS], LENGTH), expected)


def test_what_has_no_rows_of_ids_is_refused_by_name(decoder):
    for prompt in (None, "hello", 3, {3}, {"a": [3]}, [3], ["a"], [[[3]]], tf.sparse.from_dense([[3, 1]])):
        with pytest.raises(ValueError, match="prompt must be integers of shape .b, t., or a list of lists of them.* Received: "):
            generate(decoder, prompt, 2)
    with pytest.raises(ValueError, match="prompt_mask must have the shape of prompt. Received: rows of shapes"):
        generate(decoder, [[3, 1], [2]], 2, prompt_mask=[[1, 1], [1]])
    with pytest.raises(ValueError, match="prompt_mask must be .* Received: int"):
        generate(decoder, [[3, 1], [2]], 2, prompt_mask=3)
    message = "prompt must have values: generate compiles a program of its own"
    with pytest.raises(ValueError, match=message):
        tf.function(lambda prompt: generate(decoder, prompt, 2))(tf.constant([[3]]))
    with pytest.raises(ValueError, match=message):
        tf.function(lambda prompt: generate(decoder, prompt, 2))(tf.ragged.constant([[3]]))
    with pytest.raises(ValueError, match=message):
        generate(decoder, keras.KerasTensor((2, 3), "int32"), 2)


def test_numbers_that_the_program_cannot_hold_are_refused_by_name(decoder):
    """In int32, a large id would wrap around to another; in float32, a tiny temperature is 0, and a quotient by it NaN."""
    for name, number, message in (
        ("end_id", 2**32 + 16, rf"end_id must be an id from 0 to {VOCABULARY - 1}. Received: end_id=4294967312"),
        ("end_id", VOCABULARY, "end_id must be an id"),
        ("pad_id", 2**40, "pad_id must be an id from 0 to 2147483647. Received: pad_id=1099511627776"),
        *(("temperature", each, "temperature must be 0, or a normal number of float32") for each in (1e-39, 1e-320, 1e39)),
    ):
        with pytest.raises(ValueError, match=message):
            generate(decoder, PROMPTS, LENGTH, **{name: number})
    assert_array_equal(generate(decoder, PROMPTS, LENGTH, temperature=2e-38, seed=0), generate(decoder, PROMPTS, LENGTH))
