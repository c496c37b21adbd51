"""The page of differences from the Model Garden says what the docstrings say."""

import layers
from crosscheck.report.differences import PAGE, differences, page


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text() == page(), "run python -m crosscheck.report.differences"


def test_a_difference_is_a_line_of_its_own():
    lines = differences(layers.MaskedLM)
    assert lines[0] == "A position outside the sequence has logits of 0; there, it reads from another example."
    assert all(line.endswith(".") for line in lines) and len(lines) > 4
    assert differences(layers.GroupedQueryAttention) == []


def test_every_class_with_differences_is_on_the_page():
    names = [name for name in layers.__all__ if differences(getattr(layers, name))]
    assert len(names) > 30
    assert [name for name in names if f"## `{name}`\n" not in PAGE.read_text()] == []
