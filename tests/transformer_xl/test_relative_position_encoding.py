"""The layer that encodes the distances of Transformer-XL. Its cases are in tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.weights import draw_weights
from layers import RelativePositionEncoding, TransformerXL
from reference.relative_attention import relative_position_encoding

B, M, LAYERS = 2, 8, 2


def ones(*shape):
    return np.ones(shape)


def test_it_is_the_reference_for_every_number_of_queries_and_keys_and_every_form_of_memory():
    for causal in (False, True):
        layer = RelativePositionEncoding(M, causal, dtype="float64")
        for t, s, memory in ((3, 5, 0), (5, 3, 0), (1, 1, 0), (0, 3, 2), (1, 600, 300), (3, 3, 4)):
            expected = relative_position_encoding(t, s + memory, M, causal)
            one = ones(B, memory, M)
            states = [one, [one] * LAYERS, np.stack([one] * LAYERS)] + [None, [], [None] * LAYERS] * (memory == 0)
            for state in states:
                found = layer(ones(B, t, M), ones(B, s, M), state)
                assert_allclose(found, expected, atol=1e-12, err_msg=f"causal={causal}, t={t}, s={s}, memory={memory}")
        assert_array_equal(layer(ones(B, 4, M)), layer(ones(B, 4, M), ones(B, 4, M)))


def test_a_functional_model_reads_segments_of_any_length_after_a_memory_of_any_length(rng):
    stack = TransformerXL(9, LAYERS, M, 2, 3, 6, 0.0, 0.0, "glorot_uniform", memory_length=7, dtype="float64")
    x, memories = keras.Input((None, M), dtype="float64"), [keras.Input((None, M), dtype="float64") for _ in range(LAYERS)]
    encoding = RelativePositionEncoding(M, causal=True, dtype="float64")(x, state=memories)
    output, kept = stack(x, encoding, state=memories)
    model = keras.Model([x, *memories], [output, *kept])
    draw_weights(stack, rng)
    state, expected_state = [keras.ops.zeros((B, 0, M), "float64")] * LAYERS, None
    for length in (4, 2, 5):
        segment, s = rng.normal(size=(B, length, M)), length + state[0].shape[1]
        expected, expected_state = stack(segment, relative_position_encoding(length, s, M, True), state=expected_state)
        found, *state = model([keras.ops.convert_to_tensor(segment), *state])
        assert_allclose(found, expected, atol=1e-12)
    assert state[0].shape == (B, 7, M)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"hidden_size must be even, .* Received: hidden_size=7", (7,)),
        (r"hidden_size must be an integer of at least 2. Received: hidden_size=0", (0,)),
        (r"causal must be True or False. Received: causal=1", (8, 1)),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, arguments):
    with pytest.raises(ValueError, match=message):
        RelativePositionEncoding(*arguments)


def test_what_has_no_positions_is_named():
    for name, given in (("query", (ones(3),)), ("value", (ones(B, 3), ones(3))), ("state", (ones(B, 3), None, ones(B, 3)))):
        with pytest.raises(ValueError, match=f"{name} must have"):
            RelativePositionEncoding(8)(*given)
