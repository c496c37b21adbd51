"""Weights that are split over devices compute and train as on one device; what does not fit is refused by name."""

import json
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import pytest

from layers import layouts

PROGRAM = Path(__file__).parent / "laid_out.py"
WAYS = {
    "encoder_and_decoder": ("data", "model"),
    "language_model": ("model", "width"),
    "bert": ("model",),
    "transformer_xl": ("model",),
}
ALL = [(model, way) for model, ways in WAYS.items() for way in ways]
SPLIT = [(model, way) for model, way in ALL if way != "data"]
SHARE, NUMBERS = 4 * 6 * 16, 8
"""Numbers of x on one device: half of 8 examples, 6 tokens of size 16; bytes of float64."""


@cache
def found():
    """What the program found, in one process for all tests."""
    root = PROGRAM.parents[2]
    ran = subprocess.run(
        [sys.executable, PROGRAM], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def compared(model, way):
    return found()["comparisons"][model][way]


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.parametrize(("model", "way"), ALL)
def test_outputs_gradients_and_a_step_are_those_of_one_device(model, way):
    errors = compared(model, way)["errors"]
    assert set(errors) == {"output", "loss", "gradient", "step"}
    assert max(errors.values()) < 1e-12, errors


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.parametrize(("model", "way"), SPLIT)
def test_the_weights_are_split_that_the_paper_splits_and_no_others(model, way):
    both = compared(model, way)
    assert set(both["split"]) == set(both["to be split"]) and len(both["split"]) > 7
    assert both["slots"] == 2 * len(both["split"]), "the optimizer's momentum and velocity are split like their weights"


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.parametrize(("model", "way"), SPLIT)
def test_a_device_has_its_part_of_what_is_split_and_all_of_the_rest(model, way):
    both, devices = compared(model, way), 2 if way == "width" else 4
    for path, (whole, part) in both["split"].items():
        assert math.prod(whole) == devices * math.prod(part), path
    moved = sum(math.prod(whole) - math.prod(part) for whole, part in both["split"].values())
    assert both["bytes"] == [both["whole"] - NUMBERS * moved]


@pytest.mark.slow
@pytest.mark.further
def test_heads_inner_units_and_tables_are_the_axes_that_are_split():
    split = compared("encoder_and_decoder", "model")["split"]
    assert split["decoder/encdec_attention/key/kernel"] == [[16, 4, 4], [16, 1, 4]]
    assert split["encoder/self_attention/attention_output/kernel"] == [[4, 4, 16], [1, 4, 16]]
    assert split["gated/gate_0/kernel"] == [[16, 32], [16, 8]]
    assert split["encoder/output/kernel"] == [[32, 16], [8, 16]]
    assert split["on_device_embedding/embeddings"] == [[24, 16], [6, 16]]
    assert compared("language_model", "width")["split"]["language_model/token_embedding/embeddings"] == [[24, 16], [24, 8]]


@pytest.mark.slow
@pytest.mark.further
def test_data_parallel_training_sends_gradients_alone():
    both = compared("encoder_and_decoder", "data")
    assert both["split"] == {} and both["bytes"] == [both["whole"]]
    ((kind, devices, size, _),) = both["sent"]
    assert (kind, devices) == ("all-reduce", 8)
    assert size == both["whole"] + 2 * NUMBERS, "every gradient, and the two sums of the loss"


@pytest.mark.slow
@pytest.mark.further
def test_a_block_sends_what_the_paper_says():
    """Forward the sum of each sublayer; backward one sum for each linear map that reads its input.

    The encoder block: 2 and 1 + 3. The gated network: 1 and 2. The decoder block: 3, and 1 + 1 + 3, since its memory is
    an input without a gradient. The table: 1 forward.
    """
    forward, backward = 2 + 1 + 3 + 1, [1, 3, 2, 1, 1, 3]
    sent = [each for each in compared("encoder_and_decoder", "model")["sent"] if each[1] == 4]
    assert {kind for kind, *_ in sent} == {"all-reduce"}
    assert sum(size for *_, size, _ in sent) == (forward + sum(backward)) * SHARE * NUMBERS
    assert sorted(arrays for *_, arrays in sent) == sorted([1] * forward + backward)
    ((kind, devices, size, _),) = [each for each in compared("encoder_and_decoder", "model")["sent"] if each[1] != 4]
    (weights,) = compared("encoder_and_decoder", "model")["bytes"]
    assert (kind, devices, size) == ("all-reduce", 2, weights + 2 * NUMBERS), "the gradients of what a device has"


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.parametrize(("fault", "unsplit"), [("forgotten", "query/kernel"), ("misspelt", "attention_output/kernel")])
def test_a_pattern_that_is_missing_or_wrong_is_seen(fault, unsplit):
    """Planted: results stay right, so that only the list of what is split shows it."""
    right = set(compared("encoder_and_decoder", "model")["to be split"])
    missing = right - set(found()["planted"][fault])
    assert f"decoder/self_attention/{unsplit}" in missing and len(missing) in (3, 9)


REFUSED = {
    "model axis": "model_axis must be an axis of the mesh, ('batch', 'model'). Received: model_axis='modle'",
    "batch axis": "batch_axis must be an axis of the mesh, ('batch', 'model'). Received: batch_axis='data'",
    "no mesh": "mesh must be a keras.distribution.DeviceMesh. Received: mesh of type tuple",
    "no map": "layout must be a keras.distribution.LayoutMap. Received: layout of type dict",
    "tables": "tables must be one of ('vocabulary', 'width') or None. Received: tables='rows'",
    "names": "table_names must be a list or tuple of patterns. Received: table_names='tokens'",
    "heads": "self_attention/query/kernel must have a multiple of 3, the devices of mesh axis 'model', as size of axis 1",
    "heads before": "self_attention/query/kernel must have a multiple of 3, the devices of mesh axis 'model', as size of axis 1",
    "vocabulary": "embeddings must have a multiple of 4, the devices of mesh axis 'model', as size of axis 0",
    "axes": "query/kernel must have 3 axes for the layout (None, 'model', None). Received: shape (16, 8)",
    "no weight": "layout must match a weight of the model. Received: patterns ",
    "no weight in scope": "Received: no weight was made there that matches one of ",
    "made outside": "language_model/token_embedding/embeddings must be laid out as ('model', None): make the model inside",
    "no distribution": "layout must be given outside the scope of a distribution of model_parallel. Received: layout=None",
    "batch": "The batch must be a multiple of the 2 devices of mesh axis 'batch'",
    "fit with a batch that does not divide": "The batch must be a multiple of the 2 devices of mesh axis 'batch'",
    "fit with a remainder": "implies that array axis 0 is partitioned 2 times, but the dimension size is 3",
}


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_by_name(what):
    assert REFUSED[what] in found()["refusals"][what]


@pytest.mark.slow
@pytest.mark.further
def test_a_weight_that_does_not_divide_says_what_to_do():
    said = found()["refusals"]
    path = "language_model/layer_0/self_attention/query/kernel"
    assert f"To leave it whole, set layout['{path}'] = (None, None, None). Received: shape (16, 4, 4)" in said["heads"]
    assert "or pad the vocabulary, or pass another `tables`. Received: shape (30, 16)" in said["vocabulary"]
    assert said["kept whole"] == said["one device"] == "no error"


def test_on_another_backend_a_layout_is_refused_because_keras_would_ignore_it(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    for make in (lambda: layouts.transformer_layout(None), lambda: layouts.model_parallel(None)):
        with pytest.raises(ValueError, match="KERAS_BACKEND must be jax, .* Received: KERAS_BACKEND=tensorflow"):
            make()
