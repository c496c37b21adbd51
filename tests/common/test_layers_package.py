"""`import layers` offers every public class, imports it when it is used, and lets saved models load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import layers
from crosscheck.catalogue import chapters

SOURCE = ast.parse(Path(layers.__file__).read_text())


def in_a_new_process(program):
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return ran.stdout + ran.stderr


def test_every_class_of_every_chapter_is_offered():
    offered = set(layers.__all__)
    assert {name for chapter in chapters() for name in chapter.classes} <= offered <= set(dir(layers))


@pytest.mark.parametrize("name", layers.__all__)
def test_a_name_is_the_class_of_that_name_in_its_module(name):
    kind = getattr(layers, name)
    assert kind.__name__ == name and kind.__module__ == f"layers.{layers.HOMES[name]}"


def test_type_checkers_see_the_same_names_in_the_same_modules():
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"layers.{home}" for name, home in (layers.HOMES | layers.FUNCTIONS).items()}


@pytest.mark.parametrize("name", layers.FUNCTIONS)
def test_a_function_is_offered_too(name):
    function = getattr(layers, name)
    assert function.__name__ == name and function.__module__ == f"layers.{layers.FUNCTIONS[name]}"
    assert name in dir(layers)


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'layers' has no attribute 'MultiHeadAtention'"):
        layers.MultiHeadAtention  # noqa: B018


@pytest.mark.slow
@pytest.mark.further
def test_a_class_is_imported_when_it_is_first_used():
    found = in_a_new_process(
        "import sys, layers\n"
        "print('before', 'layers.attention' in sys.modules)\n"
        "layers.MultiHeadAttention\n"
        "print('after', 'layers.attention' in sys.modules, 'layers.bert' in sys.modules)"
    )
    assert "before False" in found and "after True False" in found


def saved_model(folder):
    """A model of blocks whose configuration names other classes, activations and norms of ours."""
    x = keras.Input((5, 8))
    y = layers.TransformerEncoderBlock(2, 16, "gelu", use_rms_norm=True)(x)
    y = layers.GatedFeedforward(16, "gelu", 0.0)(y)
    y = layers.ClassificationHead(inner_dim=4, num_classes=3)(y)
    model = keras.Model(x, layers.SpectralNormalization(keras.layers.Dense(3))(y))
    model.save(folder / "model.keras")
    return model


@pytest.mark.slow
def test_a_saved_model_loads_after_importing_layers_alone(tmp_path):
    model = saved_model(tmp_path)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32"))
    said = in_a_new_process(
        f"import numpy as np, keras, layers\nmodel = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, np.array(model(np.load({str(tmp_path / 'x.npy')!r}))))"
    )
    assert (tmp_path / "y.npy").exists(), said
    assert_array_equal(np.load(tmp_path / "y.npy"), np.array(model(np.load(tmp_path / "x.npy"))))


@pytest.mark.slow
@pytest.mark.further
def test_a_saved_class_that_another_class_names_loads_too(tmp_path):
    """The decoder's configuration names the class of its attention, which nothing has imported in the new process."""
    block = layers.TransformerDecoderBlock(2, 16, "relu", self_attention_cls=layers.TalkingHeadsAttention)
    (tmp_path / "block.json").write_text(json.dumps(keras.saving.serialize_keras_object(block)))
    said = in_a_new_process(
        f"import json, keras, layers\nconfig = json.load(open({str(tmp_path / 'block.json')!r}))\n"
        "print('found', keras.saving.deserialize_keras_object(config).self_attention_cls.__name__)"
    )
    assert "found TalkingHeadsAttention" in said, said


@pytest.mark.slow
@pytest.mark.further
def test_without_it_kerass_error_names_the_module_to_import(tmp_path):
    """None of our code runs then, so that all we can see to is what stands in the file."""
    saved_model(tmp_path)
    said = in_a_new_process(f"import keras; keras.saving.load_model({str(tmp_path / 'model.keras')!r})")
    assert "Could not locate class 'TransformerEncoderBlock'" in said
    assert "{'module': 'layers.transformer_encoder', 'class_name': 'TransformerEncoderBlock'" in said
