"""`--since REV`: the chapters that a change may concern, and no others."""

import pytest

from crosscheck import catalogue
from crosscheck.__main__ import main
from crosscheck.report import changes


@pytest.fixture
def chapters_after(monkeypatch):
    """The names of the chapters that are compared when the files given have changed."""

    def names(*files):
        monkeypatch.setattr(changes, "changed_files", lambda revision: set(files))
        return {case.chapter for case in changes.concerned(catalogue.all_cases(), "HEAD")}

    return names


ALL = {chapter.name for chapter in catalogue.chapters()}


def test_a_layer_concerns_its_chapter_and_those_that_are_built_of_it(chapters_after):
    found = chapters_after("layers/talking_heads_attention.py")
    assert found == {"talking_heads_attention"}
    found = chapters_after("layers/attention.py")
    assert {"attention", "transformer_encoder", "bert", "kernel_attention"} <= found
    assert "masked_softmax" not in found and "bert_tokenizer" not in found


@pytest.mark.parametrize(
    "file",
    ["reference/kernel_attention/structure.py", "layers/kernel_attention/stream.py", "crosscheck/cases/kernel_attention.py"],
)
def test_a_part_concerns_its_chapter(chapters_after, file):
    assert chapters_after(file) == {"kernel_attention"}


@pytest.mark.parametrize(
    "file", ["crosscheck/agreement.py", "crosscheck/tree.py", "requirements.txt", "pyproject.toml", "layers/__init__.py"]
)
def test_what_everything_rests_on_concerns_every_chapter(chapters_after, file):
    assert chapters_after(file) == ALL


@pytest.mark.parametrize("file", ["README.md", "notebooks/attention.py", "tests/test_attention.py", "crosscheck/bench/race.py"])
def test_what_no_case_needs_concerns_none(chapters_after, file):
    assert chapters_after(file) == set()


def test_a_text_that_is_read_concerns_the_chapters_whose_code_lies_beside_it(chapters_after):
    assert "sentencepiece_tokenizer" in chapters_after("crosscheck/models/apache-2.0.txt")


def test_every_file_of_the_rooms_is_found(chapters_after):
    """No import form is passed over: each module of layers and references is needed by some chapter."""
    files = [path for room in ("layers", "reference") for path in (changes.ROOT / room).rglob("*.py")]
    passed = {str(path.relative_to(changes.ROOT)) for path in files if not chapters_after(str(path.relative_to(changes.ROOT)))}
    alone = {  # for training, for several devices, for lessons and for writing texts: no case compares them
        *(f"layers/transformer_decoder/{name}.py" for name in ("generation", "prompts", "sampling")),
        "reference/transformer_decoder/generation.py",
        *("layers/gaussian_process/callback.py", "layers/bert/sentence_embedding.py", "layers/layouts.py"),
        *("reference/gaussian_process_head/calibration.py", "reference/kernel_attention/exponents.py"),
        *("reference/sentencepiece_tokenizer/training.py", "reference/bert_tokenizer/linear_wordpiece.py"),
        *("reference/bert_tokenizer/training.py", "layers/bert_tokenizer/training.py"),
    }
    assert passed <= alone


def test_an_unknown_revision_is_status_2_and_one_line(capsys):
    assert main(["--jobs", "0", "--since", "no-such-revision"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crosscheck: --since needs a revision that git knows: ") and said.count("\n") == 1


def test_an_option_is_no_revision(capsys):
    assert main(["--jobs", "0", "--since=--output=x"]) == 2
    assert "--since needs a revision" in capsys.readouterr().err


def test_nothing_changed_is_nothing_to_compare_and_said_so(monkeypatch, capsys):
    monkeypatch.setattr(changes, "changed_files", lambda revision: set())
    assert main(["--jobs", "0", "--since", "HEAD"]) == 0
    assert "0 cases agree" in capsys.readouterr().out
