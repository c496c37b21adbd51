"""No string is taken for a flag, no bool for a number, no number for a name: every argument of every constructor is asked."""

import inspect

import keras
import numpy as np
import pytest

import layers
from crosscheck.models.sentencepiece import small

REQUIRED = {
    "BertTokenizer": {"vocab_file": ["[UNK]", "a"], "lower_case": True},
    "SentencepieceTokenizer": {"lower_case": True, "model_serialized_proto": lambda: small("unigram")},
    "MaskedLM": {"embedding_table": lambda: keras.layers.Embedding(4, 4)},
    "MaskedLMMaskGenerator": {"vocabulary_size": 6},
    "SpectralNormalization": {"layer": lambda: keras.layers.Dense(4)},
    "TransformerXL": {"dropout_rate": 0.1, "attention_dropout_rate": 0.1, "initializer": "zeros"},
    "TransformerXLBlock": {"dropout_rate": 0.1, "attention_dropout_rate": 0.1},
    "BertPackInputs": {"special_tokens_dict": dict.fromkeys(("start_of_sequence_id", "end_of_segment_id", "padding_id"), 1)},
}
REQUIRED |= {name: {"inner_activation": "relu"} for name in ("TransformerEncoderBlock", "ReuseTransformer")}
REQUIRED |= {name: {"intermediate_activation": "relu"} for name in ("Transformer", "TransformerDecoderBlock")}
"""Required arguments that are no sizes; all others get 4."""

POSITIVE = """
    num_heads key_dim value_dim output_shape pe_max_seq_length num_attention_heads inner_dim output_range
    output_last_dim num_kv_heads intermediate_size num_blocks head_size vocab_size hidden_size inner_size num_layers
    word_vocab_size word_embed_size type_vocab_size output_embed_size max_sequence_length intra_bottleneck_size
    num_feedforward_networks embedding_width max_length relative_attention_num_buckets relative_attention_max_distance
    num_classes iteration units num_inducing seq_length block_size from_block_size to_block_size max_rand_mask_length
    causal_chunk_length causal_window_length max_input_chars_per_word vocabulary_size num_predictions
""".split()
FROM_ZERO = (
    "seed memory_length reuse_length num_rand_blocks num_random_features begin_kernel layer_idx max_reuse_layer_idx".split()
)
INTEGERS = "cls_token_idx seq_axis reuse_attention nbest_size".split()
RATES = """
    dropout dropout_rate attention_dropout_rate output_dropout attention_dropout inner_dropout intermediate_dropout
    hidden_dropout_prob attention_probs_dropout_prob
""".split()
NUMBERS = """
    norm_epsilon scale causal_window_decay logit_scale logit_margin norm_multiplier scale_factor min_timescale
    max_timescale gp_kernel_scale gp_output_bias gp_cov_momentum gp_cov_ridge_penalty l2_regularization temperature
    alpha mask_selection_rate mask_token_rate random_token_rate
""".split()
NAMES = """
    kernel_initializer bias_initializer kernel_regularizer bias_regularizer activity_regularizer kernel_constraint
    bias_constraint attention_initializer initializer embedding_initializer embeddings_initializer
    custom_random_features_initializer custom_random_features_activation inner_activation intermediate_activation
    intermediate_act_fn activation
    feature_transform causal_padding dropout_position normalization_type output gp_kernel_type gp_cov_likelihood
    convention truncator self_attention_cls cross_attention_cls
""".split()
ELSEWHERE = """
    attention_axes mask_expansion_axes normalization_axes image_size start_of_sequence_id end_of_segment_id padding_id
    special_tokens_dict vocab_file model_file_path model_serialized_proto embedding_table layer mask_token_id
    unselectable_token_ids
""".split()
"""Checked by the tests of their chapters: axes, ids and files."""

WRONG = (
    [(POSITIVE, value) for value in ("8", 8.0, True, 0, -1)]
    + [(FROM_ZERO, value) for value in ("8", 8.0, True, -1)]
    + [(INTEGERS, value) for value in ("8", 8.0, True)]
    + [(RATES, value) for value in ("0.1", True, -0.1, 1.0, 1.5, float("nan"))]
    + [(NUMBERS, value) for value in ("1", True, float("nan"), float("inf"))]
    + [(NAMES, value) for value in (True, 3, "no such thing")]
)
NOT_FLAGS = ("zeros", "False", 1.5, 0, 1)
OWN_ZERO = {("ClassificationHead", "inner_dim"), ("GaussianProcessClassificationHead", "inner_dim")}
"""Sizes that may be 0, because it means none."""


def arguments(kind):
    """{name: parameter} of the constructor, with those that a block or an attention passes on."""
    found = {}
    for base in kind.__mro__:
        if not base.__module__.startswith("layers"):
            break
        if "__init__" not in vars(base):
            continue
        signature = inspect.signature(base.__init__).parameters
        hidden = set(getattr(kind, "renamed_arguments", {})) if base is not kind else set()
        found |= {name: each for name, each in signature.items() if name not in {*found, *hidden, "self", "kwargs"}}
        if "kwargs" not in signature:
            break
    return found


def is_flag(name, parameter):
    return isinstance(parameter.default, bool) or name == "lower_case"


def make(name, **changed):
    kind = getattr(layers, name)
    given = REQUIRED.get(name, {})
    required = {each: given.get(each, 4) for each, p in arguments(kind).items() if p.default is p.empty}
    values = {**required, **given, **changed}
    return kind(**{each: value() if inspect.isfunction(value) else value for each, value in values.items()})


CLASSES = [name for name in layers.__all__ if issubclass(getattr(layers, name), keras.Layer)]
every_class = pytest.mark.parametrize("name", CLASSES)


@every_class
def test_every_argument_is_of_a_kind_that_is_checked(name):
    known = {*POSITIVE, *FROM_ZERO, *INTEGERS, *RATES, *NUMBERS, *NAMES, *ELSEWHERE}
    assert [each for each, p in arguments(getattr(layers, name)).items() if not is_flag(each, p) and each not in known] == []


@every_class
def test_what_is_of_another_type_is_refused_by_the_name_of_the_argument(name):
    make(name)
    unnoticed = []
    for each, parameter in arguments(getattr(layers, name)).items():
        flags = [each] if is_flag(each, parameter) else []
        for names, value in [*WRONG, *((flags, value) for value in NOT_FLAGS)]:
            if each not in names or ((name, each) in OWN_ZERO and value == 0 and value is not False):
                continue
            try:
                make(name, **{each: value})
                unnoticed.append((each, value))
            except ValueError as error:
                text = str(error)
                if f"{each} must be" not in text or "Received: " not in text:
                    unnoticed.append((each, value, text))
    assert unnoticed == []


def test_a_string_is_no_flag_of_a_call_either():
    x, asked = np.ones((2, 3, 8), "float32"), set()
    for name in CLASSES:
        layer = make(name)
        for each, parameter in inspect.signature(layer.call).parameters.items():
            if isinstance(parameter.default, bool):
                asked.add(each)
                for value in ("no", 1, None):
                    with pytest.raises(ValueError, match=f"{each} must be True or False. Received: {each}={value!r}"):
                        layer(x, **{each: value})
            if each == "training" and parameter.default is None:
                asked.add(each)
                for value in ("no", 1):
                    with pytest.raises(ValueError, match=f"training must be True, False or None. Received: training={value!r}"):
                        layer(x, training=value)
    assert asked >= {"training", "use_causal_mask", "return_attention_scores", "only_project", "diagonal"}
    given = {"use_causal_mask": np.True_, "return_attention_scores": np.False_}
    assert tuple(layers.MultiHeadAttention(2, 4)(x, x, **given).shape) == (2, 3, 8)


@pytest.mark.parametrize("kind", [layers.MultiHeadAttention, layers.ReuseMultiHeadAttention])
def test_an_output_may_have_many_axes(kind):
    x, sizes = np.ones((2, 4, 8), "float32"), (1,) * 6 + (2, 3)
    assert tuple(kind(2, 4, output_shape=sizes)(x, x).shape) == (2, 4, *sizes)
    with pytest.raises(ValueError, match="output_shape must have at most 48 sizes. Received: output_shape with 60 sizes"):
        kind(2, 4, output_shape=(1,) * 60)(x, x)


def numpy_of(value):
    """Python's numbers and flags as NumPy's; anything else unchanged."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(numpy_of, value))
    kinds = {bool: np.bool_, int: np.int64, float: np.float64}
    return kinds[type(value)](value) if type(value) in kinds else value


@every_class
def test_numbers_of_numpy_are_numbers_and_a_configuration_holds_pythons(name):
    layer = make(name)
    own = {each: getattr(layer, each, None) for each in arguments(getattr(layers, name))}
    given = {each: numpy_of(value) for each, value in own.items() if numpy_of(value) is not value}
    same = make(name, **{each: value for each, value in given.items() if name != "SpectralNormalization" or each != "layer"})
    for each, value in own.items():
        if each in given:
            assert getattr(same, each) == value and type(getattr(same, each)) is type(value), each


def test_numbers_of_numpy_are_numbers_in_calls_too():
    three = np.int64(3)
    assert tuple(layers.RelativePositionEmbedding(8)(None, length=three).shape) == (3, 8)
    assert tuple(layers.CachedAttention(2, 4).init_cache(2, three)["key"].shape) == (2, 3, 2, 4)
    decoder = layers.TransformerDecoder(9, 8, 1, 2, 8)
    decoder.build((None, None))
    found = layers.generate(decoder, [[3]], three, end_id=np.int32(2), pad_id=np.uint8(0))
    np.testing.assert_array_equal(found, layers.generate(decoder, [[3]], 3, end_id=2, pad_id=0))
