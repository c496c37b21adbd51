"""EXPORT.md says what each class and some whole models can be exported to: what it says is measured again, here and in a group
for each few of its rows, in `make test-further`. Columns of ONNX are measured where the packages for it are installed."""

import subprocess
from dataclasses import replace

import keras
import pytest

from crosscheck.catalogue import representatives
from crosscheck.report.export.formats import BY, COLUMNS, NO_TEXT, SAME, on_tensorflow, said
from crosscheck.report.export.onnx_programs import NOT_HERE
from crosscheck.report.export.page import INTRODUCTION, MODELS, NOTES
from crosscheck.report.export.table import PAGE, TOGETHER, differences, how_it_ended, line_of, names, rows
from layers.self_attention_mask import SelfAttentionMask

# `tf.lite` says of itself that it will move to a package of its own.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*tf.lite.Interpreter is deprecated:UserWarning")
TEXT = PAGE.read_text(encoding="utf-8")
GROUPS = [names()[first : first + TOGETHER] for first in range(0, len(names()), TOGETHER)]


class OffWhenExported(SelfAttentionMask):
    """A layer whose exported program gives other numbers than the layer, by a thousandth."""

    def call(self, *args, **kwargs):
        import tensorflow as tf

        right = super().call(*args, **kwargs)
        return right if tf.executing_eagerly() else right * 1.001


def measured_here(case):
    """The cells that TensorFlow measures; the others as not tried."""
    return dict.fromkeys(COLUMNS, NOT_HERE) | dict(on_tensorflow(case))


def test_the_page_has_a_row_for_everything_with_a_verdict_in_every_column():
    for name in names():
        row = dict.fromkeys(COLUMNS, NOT_HERE)
        assert differences(TEXT, {name: row}) == [], name
    assert len([line for line in TEXT.splitlines() if line.count(" | ") == len(COLUMNS)]) == 2 + len(names())


def test_the_page_has_the_words_of_its_program_and_its_versions():
    assert TEXT.startswith(f"{INTRODUCTION}\nMeasured with keras {keras.__version__}, tensorflow ")
    assert MODELS in TEXT and TEXT.endswith(f"|\n{NOTES}")


def test_a_mark_that_was_written_by_hand_is_found():
    row = dict.fromkeys(COLUMNS, NO_TEXT)
    written = TEXT.replace(next(line for line in TEXT.splitlines() if line.startswith("| `BertTokenizer`")), "")
    written += f"| `BertTokenizer` | {' | '.join([SAME] * len(COLUMNS))} |\n"
    (first, *others) = differences(written, {"BertTokenizer": row})
    assert first == f"BertTokenizer, SavedModel: the page says '✓', and now it is '{NO_TEXT}'"
    assert len(others) == len(COLUMNS) - 1
    assert differences(written, {"BertTokenizer": dict.fromkeys(COLUMNS, SAME)}) == []


def test_a_row_that_is_missing_or_there_twice_is_found():
    row = dict.fromkeys(COLUMNS, SAME)
    line = line_of("MaskedLM", row)
    for text in ("", f"{line}\n{line}\n", "| `MaskedLM` | ✓ |\n"):
        assert "MaskedLM must have one row of 6 verdicts" in differences(text, {"MaskedLM": row})[0]


@pytest.mark.slow
def test_an_exported_program_with_other_numbers_gets_no_mark():
    right = representatives()["SelfAttentionMask"]
    wrong = replace(right, layer=OffWhenExported)
    found = measured_here(wrong)
    assert [found[column] for column in BY["tensorflow"][:3]] == ["differs by 1e-03"] * 3
    assert len(differences(TEXT, {"SelfAttentionMask": found})) >= 3


@pytest.mark.slow
def test_a_row_measured_again_is_that_of_the_page():
    found = measured_here(representatives()["MaskedLM"])
    assert found["SavedModel"] != NOT_HERE
    assert differences(TEXT, {"MaskedLM": found}) == []


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_all_rows_measured_again_are_those_of_the_page(group):
    assert differences(TEXT, dict(rows(group))) == []


def test_a_missing_built_in_operation_is_named():
    error = RuntimeError("error: 'tf.Erf' op is neither a custom op nor a flex op\nerror: failed while converting: FlexErf(...)")
    assert said(error) == "no built-in for Erf"


def test_an_error_is_told_by_its_reason():
    assert said(ValueError("\n  first\nsecond")) == "ValueError: first"
    assert (
        said(TypeError("Exception encountered when calling X.call().\n\n\x1b[1mthe reason\x1b[0m\n")) == "TypeError: the reason"
    )


def test_a_process_that_ended_is_told_by_its_signal_or_its_last_line():
    assert how_it_ended(subprocess.CompletedProcess([], -6, "", "")) == "ends the process (SIGABRT)"
    assert how_it_ended(subprocess.CompletedProcess([], 1, "", "a\nlast\n")) == "ends the process: last"
