"""The text of a figure says what its titles, axes and series say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from crosscheck.lesson import figures
from crosscheck.lesson.alt_text import MOST, alt_text
from crosscheck.lesson.diagram import Box, diagram


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def test_a_plot_is_told_by_its_title_axes_and_series():
    fig, ax = plt.subplots()
    ax.plot([0, 1], label="divided")
    ax.annotate("not divided", (0, 1))
    ax.annotate("0.53", (0, 1))
    ax.legend()
    ax.set(title="wide heads start with one key", xlabel="key size $d$", ylabel="entropy")
    assert alt_text(fig) == "wide heads start with one key (lines: entropy against key size d; with divided, not divided)."


def test_panels_and_color_bars_are_told():
    fig, _ = figures.maps(
        (np.eye(2), np.eye(2)), ("one place", "two places"), "weight", queries=["cat", "sat"], keys=["cat", "mat"]
    )
    assert alt_text(fig) == (
        "2 panels. one place (heat map; with cat, sat, mat). two places (heat map; with cat, mat). Color: weight."
    )


def test_a_diagram_is_told_by_what_is_in_its_boxes():
    fig = diagram({"x": Box("x", 0, 0, "data"), "softmax": Box("softmax", 0, 1)}, [("x", "softmax", "b t s")], title="one map")
    assert alt_text(fig) == "one map. Diagram: x, softmax, b t s."


def test_categories_are_named_and_powers_of_ten_are_not():
    fig, ax = plt.subplots()
    ax.barh(["letters", "marks"], [1, 2])
    ax.set(xscale="log", xlabel="share")
    assert alt_text(fig) == "Bars: share; with letters, marks."


def test_a_long_text_ends_at_a_word():
    fig, ax = plt.subplots()
    ax.set(title="word " * MOST, xlabel="x")
    ax.plot([0, 1])
    assert len(alt_text(fig)) <= MOST and alt_text(fig).endswith("word …")


def test_what_is_shown_in_a_notebook_carries_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr("IPython.display.display", lambda fig, metadata: shown.append((fig, metadata)))
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    ax.set(title="a reading", xlabel="x", ylabel="y")
    figures.show()
    assert shown == [(fig, {"image/png": {"alt": "a reading (lines: y against x)."}})]
    assert not plt.get_fignums()
