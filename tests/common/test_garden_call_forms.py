"""Code written for the Model Garden calls these layers with another import alone; where it does not, "Differs" says so.

`garden_signatures.json` holds the facts: names, order and defaults of the arguments there.
"""

import inspect
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import layers
from layers.common.projection import ProjectingLayer

GARDEN = json.loads((Path(__file__).parent / "garden_signatures.json").read_text())["classes"]
LAYER_ARGUMENTS = {"name", "dtype", "trainable", "autocast"}
every_class = pytest.mark.parametrize("name", GARDEN)


def parameters(function):
    """{name: parameter} of a method, without `self` and `**kwargs`."""
    found = dict(inspect.signature(function).parameters)
    return {name: each for name, each in found.items() if name != "self" and each.kind is not each.VAR_KEYWORD}


def positional(function):
    return [name for name, each in parameters(function).items() if each.kind is not each.KEYWORD_ONLY]


def constructor(kind):
    """{name: parameter} of the constructor and, where it passes the rest on, of our classes that it derives from."""
    found = {}
    for base in kind.__mro__:
        if not base.__module__.startswith("layers"):
            break
        if "__init__" not in vars(base):
            continue
        renamed = {new: old for old, new in getattr(kind, "renamed_arguments", {}).items()}
        for name, each in parameters(base.__init__).items():
            if base is kind or name not in renamed.values():
                found.setdefault(name, each)
        if all(each.kind is not each.VAR_KEYWORD for each in inspect.signature(base.__init__).parameters.values()):
            break
    passed_on = getattr(sys.modules[kind.__module__], "DEFAULTS", {})  # the arguments that a head takes for its parts
    keywords = {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=passed_on[name]) for name in passed_on}
    return found | keywords


def accepted_for_garden_code(kind):
    return {name for base in kind.__mro__ for name in getattr(base, "only_for_garden_code", ())}


def differs(name):
    """The section of the class's docstring, with those of the classes that it refers to as "As in `X`"."""
    text = inspect.getdoc(getattr(layers, name)).split("Differs from the Model Garden:")[-1].split("\n\n")[0]
    others = re.findall(r"[Aa]s in (`\w+`(?:(?:, | and )`\w+`)*)", text)
    return text + "".join(differs(other) for group in others for other in re.findall(r"`(\w+)`", group) if other in GARDEN)


def is_named(argument, text):
    if argument in parameters(ProjectingLayer.__init__) and "`ProjectingLayer`" in text:
        return True
    return re.search(rf"`{argument}[`=]", text) is not None


@every_class
def test_positional_arguments_stand_where_they_stand_there(name):
    kind = getattr(layers, name)
    for method, there in ((kind.__init__, GARDEN[name]["constructor"]), (kind.call, GARDEN[name]["call"])):
        theirs = [argument for argument, *_ in there]
        ours = positional(method)
        count = min(len(ours), len(theirs))
        assert ours[:count] == theirs[:count]


@every_class
def test_arguments_there_are_accepted_here_or_named_as_a_difference(name):
    kind, there = getattr(layers, name), GARDEN[name]
    theirs = {argument for argument, *_ in there["constructor"] + there.get("keywords", [])} | set(there.get("other_names", []))
    missing = theirs - set(constructor(kind)) - accepted_for_garden_code(kind)
    missing |= {argument for argument, *_ in there["call"] + there.get("call_keywords", [])} - set(parameters(kind.call))
    source = inspect.getsource(kind)
    methods = there.get("methods", [])
    missing |= {method for method in methods if not hasattr(kind, method) and f"self.{method} =" not in source}
    assert [argument for argument in sorted(missing) if not is_named(argument, differs(name))] == []


@every_class
def test_arguments_that_are_new_or_have_another_default_are_named_as_a_difference(name):
    kind, there = getattr(layers, name), GARDEN[name]
    ours = constructor(kind)
    defaults = {argument: rest for argument, *rest in there["constructor"] + there.get("keywords", [])}
    found = {argument for argument in ours if argument not in defaults}
    for argument, default in defaults.items():
        plain = default and not isinstance(default[0], dict)  # an expression there is no fact to compare
        found |= {argument} if argument in ours and plain and ours[argument].default != default[0] else set()
    calls = {argument for argument, *_ in there["call"] + there.get("call_keywords", [])}
    ours = set(parameters(kind.call))
    by_keras = {"training", "mask"} | {f"{argument}_mask" for argument in ours}  # what Keras fills in
    found |= ours - calls - by_keras
    assert [argument for argument in sorted(found) if not is_named(argument, differs(name))] == []


@pytest.mark.parametrize("name", layers.__all__)
def test_what_is_said_not_to_exist_does_not_exist(name):
    kind, text = getattr(layers, name), " ".join(inspect.getdoc(getattr(layers, name)).split())
    clauses = re.split(r"[.;:] ", text.split("Differs from the Model Garden: ")[-1])
    said = [clause for clause in clauses if re.search(r"do(es)? not exist", clause) and not clause.startswith("There, ")]
    missing = [argument for clause in said for argument in re.findall(r"`(\w+)`", clause)]
    assert [argument for argument in missing if hasattr(kind, argument) or argument in constructor(kind)] == []


@every_class
def test_build_takes_the_shape_under_the_name_that_it_has_there(name):
    ours = list(parameters(getattr(layers, name).build))
    if GARDEN[name].get("build") == ["input_shape"] and len(ours) == 1:
        assert ours == ["input_shape"]


@every_class
def test_what_only_garden_code_gives_is_accepted_without_effect_or_refused(name):
    kind = getattr(layers, name)
    for argument in accepted_for_garden_code(kind) - set(GARDEN[name].get("other_names", [])):
        required = {each: 4 for each, p in constructor(kind).items() if p.default is p.empty and p.kind is not p.KEYWORD_ONLY}
        with pytest.raises(ValueError, match=f"{argument} must be .*Received: {argument}=7"):
            kind(**required, **{argument: 7})


def test_misread_positions_of_earlier_versions_mean_what_they_mean_there():
    assert layers.ReZeroTransformer(2, 8, "relu", 0.0, 0.0, None, "zeros").kernel_initializer.__class__.__name__ == "Zeros"
    assert layers.TransformerEncoderBlock(2, 8, "relu", None, "zeros").kernel_initializer.__class__.__name__ == "Zeros"
    assert layers.TransformerDecoderBlock(2, 8, "relu", 0.0, 0.0, False, "zeros").kernel_initializer.__class__.__name__ == "Zeros"
    block = layers.ReuseTransformer(2, 8, "relu", 4, 1)
    assert (block.output_range, block.reuse_attention) == (1, 0)


def test_other_names_reach_the_same_argument_and_are_not_given_twice():
    other = {"intermediate_size": 8, "intermediate_activation": "relu", "output_dropout": 0.2, "attention_dropout": 0.3}
    block = layers.ReZeroTransformer(2, **other)
    assert (block.inner_dim, block.dropout_rate, block.attention_dropout_rate) == (8, 0.2, 0.3)
    assert block.inner_activation is keras.activations.relu
    copy = layers.ReZeroTransformer.from_config(block.get_config())
    assert copy.get_config() == block.get_config()
    assert layers.GatedFeedforward(intermediate_size=8, intermediate_activation="relu").inner_dim == 8
    with pytest.raises(ValueError, match="intermediate_size must not be given with inner_dim"):
        layers.ReZeroTransformer(2, inner_dim=8, intermediate_size=8)


def test_what_switches_a_missing_mechanism_off_is_accepted_and_leaves_no_trace():
    off = {"use_sigmoid_attn": False, "linformer_dim": None, "linformer_shared_kv_projection": True, "src_block_size": None}
    block = layers.TransformerEncoderBlock(2, 8, "relu", **off)
    assert not set(off) & set(block.get_config())


def test_heads_that_do_not_divide_the_width_are_rounded_down_with_a_warning():
    block = layers.TransformerEncoderBlock(7, 16, "relu")
    with pytest.warns(UserWarning, match="num_attention_heads=7 does not divide .* 80: key_dim is rounded down to 11"):
        assert block(np.ones((2, 3, 80), "float32")).shape == (2, 3, 80)
    assert block.self_attention.key_dim == 11


class Plain:
    """Attention that is no Keras layer, and knows no `training`."""

    def __init__(self, **options):
        self.heads = options["num_heads"]

    def __call__(self, query, value, attention_mask, **cache):
        return (2 * query, cache["cache"]) if cache else 2 * query


def test_attention_of_a_decoder_block_may_be_no_keras_layer():
    block = layers.TransformerDecoderBlock(2, 8, "relu", self_attention_cls=Plain, cross_attention_cls=Plain)
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    output, cache = block([x, x, np.ones((2, 3, 3)), np.ones((2, 3, 3))], training=True)
    assert cache is None and np.isfinite(output).all() and block.encdec_attention.heads == 2
    parts = [layer.name for layer in block.common_layers_with_encoder()[1:]]
    assert parts == ["self_attention_layer_norm", "intermediate", "output", "output_layer_norm"]


@pytest.mark.parametrize("two_stream", [False, True])
@pytest.mark.parametrize("memory_length", [0, 4])
def test_transformer_xl_takes_stacked_states_any_width_and_biases_without_segments(rng, two_stream, memory_length):
    sizes = {"vocab_size": 9, "hidden_size": 6, "num_attention_heads": 3, "head_size": 4, "inner_size": 5}
    rates = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "two_stream": two_stream}
    x, encoding = (rng.normal(size=(2, length, 6)).astype("float32") for length in (8, 16))
    state, bias = rng.normal(size=(3, 2, 4, 6)).astype("float32"), np.ones((3, 4), "float32")
    query = {"query_stream": x} if two_stream else {}
    lengths = {"memory_length": memory_length, "reuse_length": 4}
    xl = layers.TransformerXL(**sizes, **rates, num_layers=3, initializer="glorot_uniform", **lengths)
    rows = np.concatenate([encoding, encoding[:, :4]], axis=1)
    output, memories = xl(x, rows, state=state, **query)
    assert output.shape == (2, 8, 6) and len(memories) == 3
    assert np.array_equal(output, xl(x, rows, state=list(state), **query)[0])
    assert [None if memory is None else tuple(memory.shape) for memory in memories] == [(2, 4, 6) if memory_length else None] * 3
    block = layers.TransformerXLBlock(**sizes, **rates)
    given = {"relative_position_encoding": encoding, **query}
    found = block(x, bias, bias, segment_attention_bias=bias, **given)["content_attention"]
    assert np.array_equal(found, block(x, bias, bias, **given)["content_attention"])


def test_flags_and_counts_that_code_for_the_garden_passes():
    kernel = {"num_heads": 2, "key_dim": 4}
    assert layers.KernelAttention("relu", num_random_features=0, begin_kernel=False, **kernel).begin_kernel == 0
    assert layers.ReuseMultiHeadAttention(4, 8, reuse_attention=False).reuse_attention == 0
    layer = layers.RandomFeatureGaussianProcess(units=1, num_inducing=4)
    layer.build(input_shape=(5, 3))
    assert layer.built and layers.PositionEmbedding is layers.PositionalEmbedding
    head = layers.GaussianProcessClassificationHead(4, 2, num_inducing=8)
    assert isinstance(head(np.ones((2, 3, 4), "float32"), return_covmat=True), tuple)


def test_flags_and_numbers_are_taken_by_position_as_there(rng):
    x, y = (rng.normal(size=(2, length, 8)).astype("float32") for length in (5, 3))
    layer = layers.ReuseMultiHeadAttention(2, 4, dropout=0.5)
    expected, weights = layer(x, y, return_attention_scores=True)
    for found in (layer(x, y, None, None, True), layer(x, y, y, None, True, False)):
        assert np.array_equal(found[0], expected) and np.array_equal(found[1], weights)
    assert np.array_equal(layer(x, y, None, None, None, None), expected)  # a None is no argument, also where a flag is meant
    assert not np.array_equal(layer(x, y, None, None, None, True), expected)
    block = layers.TransformerEncoderBlock(2, 8, "relu")
    assert np.array_equal(block(x, 2), block(x, output_range=2))
    padded, ids = keras.layers.Embedding(9, 8, mask_zero=True), keras.Input((5,), dtype="int32")
    embedded = padded(ids)
    assert block(embedded, 2)._keras_mask.shape == (None, 2)
    model = keras.Model(ids, block(embedded, 2))
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    assert np.array_equal(model(np.ones((2, 5))), copy(np.ones((2, 5))))


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_mask_that_is_none_may_stand_beside_its_tensor(rng, symbolic):
    scores = keras.Input((4, 8)) if symbolic else rng.normal(size=(2, 4, 8)).astype("float32")
    found, expected = layers.MaskedSoftmax()(scores, None), layers.MaskedSoftmax()(scores)
    assert found.shape == expected.shape and (symbolic or np.array_equal(found, expected))


def test_what_is_no_tensor_by_position_is_checked_as_by_name():
    x, layer = np.ones((2, 3, 8), "float32"), layers.ReuseMultiHeadAttention(2, 4)
    with pytest.raises(ValueError, match="return_attention_scores must be True or False. Received: .*='True'"):
        layer(x, x, None, None, "True")
    with pytest.raises(TypeError, match="multiple values for keyword argument 'return_attention_scores'"):
        layer(x, x, None, None, True, return_attention_scores=True)
    with pytest.raises(TypeError, match="too many positional arguments"):
        layer(x, x, *[None] * 20)
    with pytest.raises(ValueError, match="Only input tensors may be passed as positional arguments"):
        layer(x, 3)
    with pytest.raises(ValueError, match="Only input tensors may be passed as positional arguments"):
        layers.RandomFeatureGaussianProcess(1)(x[0], None, True)  # the second argument there, global_step, is none here
