import pytest


@pytest.fixture
def said_by_help(capsys):
    """A function of a command's `main`: what its --help prints, before it ends well."""

    def said(main):
        with pytest.raises(SystemExit) as stopped:
            main(["--help"])
        assert stopped.value.code == 0
        return capsys.readouterr().out

    return said
