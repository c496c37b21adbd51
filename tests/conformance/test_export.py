"""EXPORT.md says what each class can be exported to; some of its rows are measured again, the others by its program."""

import pytest

from crosscheck.catalogue import representatives
from crosscheck.report.export import COLUMNS, INTRODUCTION, NOTES, PAGE, line_of, rows, said

TEXT = PAGE.read_text()
# One for each way to get it wrong: indexing masks, gelu, blocks of a sequence, a wrapped layer.
AGAIN = ("OnDeviceEmbedding", "MaskedLM", "BigBirdAttention", "SpectralNormalization")


def test_the_page_has_a_row_for_every_class_with_a_verdict_in_every_column():
    table = TEXT.removeprefix(INTRODUCTION)
    found = [line.strip("| \n").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`") for row in found} == set(representatives())
    assert all(len(row) == 1 + len(COLUMNS) and all(row) for row in found)


def test_the_page_has_the_words_of_its_program():
    assert TEXT.startswith(INTRODUCTION) and TEXT.endswith(f"|\n{NOTES}")


@pytest.mark.slow
def test_rows_measured_again_are_those_of_the_page():
    for name, row in rows(AGAIN):
        assert f"| {line_of(name, row)} |" in TEXT


def test_a_missing_built_in_operation_is_named():
    error = RuntimeError("error: 'tf.Erf' op is neither a custom op nor a flex op\nerror: failed while converting: FlexErf(...)")
    assert said(error) == "no built-in for Erf"
    assert said(ValueError("\n  first\nsecond")) == "ValueError: first"
