"""`python -m crosscheck.bench.references`: what it calls, judges and says. How long anything takes is not tested."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import reference
from crosscheck.bench.references import __main__ as command
from crosscheck.bench.references import calls
from crosscheck.bench.references.__main__ import main
from crosscheck.bench.references.calls import CALLS, LIMIT, SIZES, SMALL, find, lines, measure
from crosscheck.bench.references.inputs import Draw
from crosscheck.catalogue import chapters

REFERENCE = Path(reference.__file__).parent
DEFINITION = re.compile(r"_one$|_row$|_by_loops?$|_by_pairs$|_by_recomputing$")
BESIDE_DEFINITIONS = {
    *("cached_attention/next_token", "mat_mul_with_margin/pull_ratio", "relative_attention/score", "reuse_attention/bias_at"),
    *("reuse_attention/one_head", "reuse_transformer/reused_heads", "self_attention_mask/may_attend"),
    *("sentencepiece_tokenizer.normalizer/read_rules", "sentencepiece_tokenizer.normalizer/list_rules"),
    *("sentencepiece_tokenizer/segmentations", "sentencepiece_tokenizer/log_probability"),
    *("spectral_normalization/stretch", "spectral_normalization/convolution_matrix"),
    *("transformer_decoder/attend_from", "transformer_xl/block_at"),
}
"""What is not timed and has no such name: it is for one token, pair, number or file, or goes through every possibility."""


def module_of(path):
    """What a line calls the file: `attention`, or `kernel_attention.features` for a part."""
    return ".".join(path.relative_to(REFERENCE).with_suffix("").parts).removesuffix(".__init__")


def functions():
    """file/function of all that `reference/` defines at the top of a file."""
    trees = {module_of(path): ast.parse(path.read_text()) for path in REFERENCE.rglob("*.py")}
    return {f"{name}/{node.name}" for name, tree in trees.items() for node in tree.body if isinstance(node, ast.FunctionDef)}


def run(calls):
    """What came out, and file/function of everything in `reference/` that was called on the way."""
    codes = set()
    sys.setprofile(lambda frame, event, _: codes.add(frame.f_code))
    try:
        outputs = [call() for call in calls]
    finally:
        sys.setprofile(None)
    paths = [(Path(code.co_filename), code.co_name) for code in codes]
    return outputs, {f"{module_of(path)}/{name}" for path, name in paths if path.is_relative_to(REFERENCE)}


def leaves(output):
    """The arrays, numbers and strings in a nest of tuples and lists."""
    return [x for part in output for x in leaves(part)] if isinstance(output, (tuple, list)) else [output]


def test_every_chapter_has_a_line():
    assert {chapter.name for chapter in chapters()} <= set(CALLS)
    assert set(CALLS) <= {module_of(path) for path in REFERENCE.rglob("*.py")}
    assert {name.split("/")[0] for name, _ in lines()} == set(CALLS)


def test_every_function_that_is_no_definition_is_called_by_some_line():
    _, called = run([call for _, call in lines()])
    uncalled = {name for name in functions() - called if not DEFINITION.search(name)}
    assert uncalled == BESIDE_DEFINITIONS


@pytest.mark.parametrize("module", CALLS)
def test_every_line_runs_and_gives_finite_numbers(module):
    names, calls = zip(*lines(modules=[module]))
    outputs, called = run(calls)
    assert any(function.startswith(f"{module}/") for function in called)
    for name, output in zip(names, outputs):
        found = [x for x in leaves(output) if x is not None]
        assert found, name
        assert all(np.isfinite(x).all() for x in found if isinstance(x, (np.ndarray, float))), name


def test_sizes_are_those_of_a_usual_batch():
    assert (SIZES.b, SIZES.t, SIZES.m) == (2, 512, 256)


@pytest.mark.parametrize("size", ["b", "t", "m"])
def test_drawn_tokens_follow_the_sizes(size):
    sizes = SMALL._replace(**{size: 3 * getattr(SMALL, size)})
    assert Draw(sizes, 0).tokens().shape == (sizes.b, sizes.t, sizes.m)


def test_names_choose_files_and_lines_in_the_order_of_the_table():
    names = [name for name, _ in lines()]
    assert find([]) == names and len(set(names)) == len(names)
    assert find(["bert", "attention/axes", "masked_softmax"]) == [
        *("masked_softmax", "attention/axes", "bert/encoder", "bert/sentence-embedding"),
    ]


@pytest.mark.parametrize("name, nearest", [("atention", "attention"), ("bert/encodr", "bert/encoder")])
def test_a_name_that_is_none_ends_with_the_nearest_and_status_2(name, nearest, capsys):
    assert main([name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"crosscheck: no reference is called {name!r}. The nearest: {nearest}")


def test_an_option_that_is_none_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--longest"])
    assert stopped.value.code == 2 and "--longest" in capsys.readouterr().err


def test_what_is_asked_for_is_called_once_and_comes_as_soon_as_it_has_run(monkeypatch):
    called = []

    def ways(draw):
        for variant in ("one", "other", "last"):
            yield variant, lambda variant=variant: called.append((variant, draw.sizes.t))

    monkeypatch.setitem(CALLS, "attention", ways)
    measured = measure(["attention/one", "attention/last"])
    name, seconds = next(measured)
    assert name == "attention/one" and called == [("one", SIZES.t)] and seconds >= 0
    assert [name for name, _ in measured] == ["attention/last"] and called == [("one", SIZES.t), ("last", SIZES.t)]


def test_drawing_is_not_timed(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(calls, "perf_counter", lambda: next(clock))

    def ways(draw):
        next(clock)
        yield "", lambda: None

    monkeypatch.setitem(CALLS, "attention", ways)
    assert list(measure(["attention"])) == [("attention", 1)]


@pytest.mark.parametrize("seconds, mark, status", [(LIMIT - 0.01, "✓", 0), (LIMIT, "✗", 1)])
def test_main_prints_a_line_for_each_and_judges_it(seconds, mark, status, monkeypatch, capsys):
    monkeypatch.setattr(command, "measure", lambda names: ((name, seconds) for name in names))
    assert main(["bert"]) == status
    *rows, verdict = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows] == [[name, f"{seconds:.2f}", "s", mark] for name in find(["bert"])]
    assert verdict == f"{mark} {0 if status else 2} of 2 take less than 2 s"
