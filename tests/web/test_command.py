"""The commands refuse what they cannot do, and leave a folder alone that is not theirs."""

import pytest

from course.web import __main__ as site_command
from course.web import book, notebooks


def refused(command, capsys, *argv):
    """What a command prints as it ends with status 2."""
    try:
        status = command.main([str(each) for each in argv])
    except SystemExit as end:
        status = end.code
    assert status == 2
    return capsys.readouterr().err


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work")
    assert "expected a new folder, or one that holds an earlier site" in refused(site_command, capsys, "--to", tmp_path)
    assert "expected a folder. Received a file" in refused(site_command, capsys, "--to", kept)
    assert kept.read_text() == "years of work"


def test_an_earlier_site_and_an_empty_folder_may_be_replaced(tmp_path):
    (tmp_path / "with space").mkdir()
    assert site_command.folder(str(tmp_path / "with space")) == tmp_path / "with space"
    (tmp_path / "pages.json").touch()
    (tmp_path / "index.html").touch()
    assert site_command.folder(str(tmp_path)) == tmp_path


def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(site_command, "not_installed", lambda *names: [name for name in names if name == "furo"])
    assert "not installed: furo. `make site` installs them" in refused(site_command, capsys, "--to", tmp_path / "new")


def test_a_book_needs_a_site_and_pages_that_are_known(site, tmp_path, capsys):
    target = tmp_path / "book.pdf"
    assert "there is no website in" in refused(book, capsys, "--site", tmp_path, "--to", target)
    assert "no page of the book is called gone" in refused(book, capsys, "--site", site, "--to", target, "--only", "gone")
    assert not target.exists()


def test_a_book_has_a_lesson_with_its_formulas_and_pictures(site, tmp_path, capsys):
    try:
        import weasyprint  # noqa: F401
    except OSError as error:
        pytest.skip(f"the PDF needs the system's library Pango. {error}")
    target = tmp_path / "book.pdf"
    assert book.main(["--site", str(site), "--to", str(target), "--only", "cached_attention"]) == 0
    assert target.read_bytes().startswith(b"%PDF") and target.stat().st_size > 100_000
    assert "pages" in capsys.readouterr().out
    text = book.article(site, "cached_attention", {"cached_attention", "attention"})
    assert "<math" not in text and "<script" not in text and "data:image/svg+xml" in text
    assert 'href="#attention--' in text and 'src="data:image/png' in text  # a lesson that is in the book; the film's last frame


def test_a_lesson_that_runs_in_a_browser_is_linked_to_its_notebook(tmp_path):
    assert notebooks.in_browser(tmp_path) == ()
    (tmp_path / "lab").mkdir()
    (tmp_path / "files").mkdir()
    for name in ("lab/index.html", "files/attention.ipynb", "files/something.ipynb"):
        (tmp_path / name).touch()
    assert notebooks.in_browser(tmp_path) == ("attention",)
    assert 'href="browser/lab/index.html?path=attention.ipynb"' in notebooks.around("attention", ("attention",))
    assert "browser" not in notebooks.around("bert", ("attention",))
