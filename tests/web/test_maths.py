"""Formulas become MathML, and one that cannot be set is an error that names it."""

import re

import pytest

from course.web.maths import LONG, Unset, mathml, number, signs


@pytest.mark.parametrize(
    ("latex", "found"),
    [
        (r"\frac{q \cdot k}{\sqrt d}", "<mfrac>"),
        (r"\tfrac12", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtable"),
        (r"\begin{cases} 1 & a \\ 0 & b \end{cases}", "<mtable"),
        (r"\text{root of \#\#}", "##"),
        (r"a < b", "&#x0003C;"),
    ],
)
def test_a_formula_becomes_mathml(latex, found):
    assert found in mathml(latex)


def test_a_function_stands_apart_from_what_it_is_of():
    assert re.search(r"<mi>sin</mi><mspace width=\"0.167em\" ?/><mi>x", mathml(r"\sin x"))
    assert re.search(r"<mn>2</mn><mspace [^>]*>\s*<mi>ln</mi><mspace [^>]*>\s*<mn>3", mathml(r"2 \ln 3"))
    assert "mspace" not in mathml(r"\sin(x)")


def test_a_number_stands_beside_its_formula():
    assert number(r"y = x \tag{2}") == "(2)" and "(2)" not in mathml(r"y = x \tag{2}")


@pytest.mark.parametrize("latex", [r"\unheardof{x}", r"\frac{a}", r"a & b"])
def test_a_formula_that_cannot_be_set_is_named(latex):
    with pytest.raises(Unset, match=re.escape(repr(latex))):
        mathml(latex)


def test_signs_of_a_formula_are_counted_as_they_are_seen():
    assert signs(mathml(r"\frac{a}{b} < c")) == 4 < LONG
