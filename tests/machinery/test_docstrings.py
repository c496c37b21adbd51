"""The examples in the docstrings of `layers` run, and print what they say."""

import doctest
import pkgutil
from importlib import import_module
from io import StringIO

import keras
import pytest

import layers


def examples():
    """Every docstring of `layers` that has examples, by the dotted name of what it documents."""
    finder = doctest.DocTestFinder()
    names = ["layers", *(module.name for module in pkgutil.walk_packages(layers.__path__, "layers."))]
    found = [docstring for name in names for docstring in finder.find(import_module(name), name)]
    return {docstring.name: docstring for docstring in found if docstring.examples}


EXAMPLES = examples()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the examples show shapes as TensorFlow prints them")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_prints_what_it_says(name):
    said = StringIO()
    results = doctest.DocTestRunner().run(EXAMPLES[name], out=said.write)
    assert results.attempted and not results.failed, said.getvalue()


def test_every_public_class_has_an_example():
    with_one = {name.split(".")[-1] for name in EXAMPLES}
    assert set(layers.__all__) <= with_one
