"""A stand-in for a package that a browser has not lets modules be imported, and nothing be computed."""

import importlib
import sys

import pytest

from crosscheck.lesson import absent


@pytest.fixture
def stood_in(monkeypatch):
    monkeypatch.setattr(absent, "STOOD_IN_FOR", ("made_up",))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    absent.stand_in()
    absent.stand_in()
    yield importlib.import_module("made_up")
    for name in [name for name in sys.modules if name.split(".")[0] == "made_up"]:
        del sys.modules[name]


def test_a_stand_in_can_be_named_and_inherited_from_and_not_called(stood_in):
    from made_up.layers import Dense

    class Model(stood_in.Model):
        default = stood_in.initializers.zeros

    assert "made_up.initializers.zeros" in repr(Model.default)
    for made in (Dense, Model, stood_in.ops.ones):
        with pytest.raises(RuntimeError, match="is not there in a browser: run the whole lesson where Keras is installed"):
            made(3)
    assert sum(isinstance(finder, absent.Finder) for finder in sys.meta_path) == 1
    assert not hasattr(stood_in, "__wrapped__") and not hasattr(stood_in.Model, "__array__")


def test_a_module_may_call_a_stand_in_while_it_is_imported(stood_in, tmp_path, monkeypatch):
    (tmp_path / "uses_made_up.py").write_text(
        "import made_up\n\n"
        "zeros = made_up.zeros(3)\n\n"
        "@made_up.register(package='x')\nclass Registered:\n    pass\n\n"
        "def later():\n    return made_up.ones()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("uses_made_up")
    assert "made_up.zeros()" in repr(module.zeros)
    with pytest.raises(RuntimeError, match="made_up.ones is not there"):
        module.later()
