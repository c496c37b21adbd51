"""The marks on the page's one axis: each where its error stands, with a ring if that is beyond its limit."""

import math

import pytest
from made_up_page import GOOD, marks, numbers, parsed, result

from crosscheck.case import TOLERANCE
from crosscheck.report.page import axis


def test_the_axis_is_logarithmic_from_end_to_end():
    ends = axis.place(10.0**axis.LEAST), axis.place(10.0**axis.MOST), axis.place(10.0 ** ((axis.LEAST + axis.MOST) / 2))
    assert ends == pytest.approx((axis.LEFT, axis.RIGHT, (axis.LEFT + axis.RIGHT) / 2))
    assert axis.place(1e-30) == axis.LEFT
    assert axis.place(1e3) == axis.place(math.inf) == axis.place(math.nan) == axis.RIGHT


def test_limits_are_lines_through_every_row_and_marks_at_head_and_foot():
    found = parsed(result("first/a"), result("first/b"), result("second/a"))
    places = {dtype: axis.place(limit) for dtype, limit in TOLERANCE.items()}
    (grid,) = [group for group in found.all("g") if group.attributes["id"] == "grid"]
    lines = {line.attributes["class"].split()[1]: line.attributes for line in grid.all("line", "limit")}
    assert {dtype: float(line["x1"].rstrip("%")) for dtype, line in lines.items()} == pytest.approx(places, abs=0.01)
    assert all(line["x1"] == line["x2"] and line["y2"] == "100%" for line in lines.values())
    for where in ("axis", "foot"):
        uses = {use.attributes["href"][1:]: float(use.attributes["x"].rstrip("%")) for use in found.one("div", where).all("use")}
        assert uses == pytest.approx(places, abs=0.01)
    strips = [svg for element in found.all(style="strip") for svg in element.all("svg")]
    assert len(strips) == 2 + 3
    assert all(sum(use.attributes["href"] == "#grid" for use in strip.all("use")) == 1 for strip in strips)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("times", "rings"), [(0.99, 0), (1, 1), (3, 1)])
def test_a_ring_is_around_a_mark_at_or_beyond_its_limit(dtype, times, rings):
    found = parsed(result("first/a", GOOD | {dtype: TOLERANCE[dtype] * times}))
    for strip in (found.one("summary"), found.one("tbody").one("tr")):
        circles = list(strip.all("circle", "ring"))
        assert len(circles) == rings
        assert all(float(circle.attributes["cx"].rstrip("%")) == marks(strip)[dtype] for circle in circles)


def test_what_is_exact_stands_side_by_side_in_a_zone_of_its_own():
    exact = parsed(result("first/a", dict.fromkeys(GOOD, 0.0))).one("tbody").one("tr")
    assert set(numbers(exact).values()) == {"exact", "1.5"}
    places = list(marks(exact).values())
    assert places == sorted(set(places)) and 0 < places[0] and places[-1] < axis.EXACT
    tiny = parsed(result("first/a", {"float64": 1e-40})).one("tbody").one("tr")
    assert marks(tiny)["float64"] > axis.EXACT
    assert numbers(tiny)["float64"] == "1.0e-40"


@pytest.mark.parametrize(("error", "sign"), [(math.inf, "∞"), (math.nan, ">"), (37.0, ">")])
def test_an_error_beyond_the_axis_is_at_its_end_and_said_to_be_beyond(error, sign):
    found = parsed(result("first/a"), result("first/b", GOOD | {"float32": error}), result("first/c"))
    row = list(found.one("tbody").all("tr"))[1]
    for strip in (found.one("summary"), row):
        assert marks(strip)["float32"] == axis.RIGHT
        assert [text.text for text in strip.all("text")] == [sign]
        assert len(list(strip.all("circle", "ring"))) == 1
    assert numbers(row)["float32"] == f"✗ {error:.1e}"
    assert next(found.one("summary").all("span", "float32")).words == f"✗ {error:.1e}"
    assert found.one("ul", "reasons").words == f"✗ b: float32 {error:.1e} (limit 2e-05)"
