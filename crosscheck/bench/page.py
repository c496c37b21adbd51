"""The measurements of time and memory as an HTML page with a plot."""

import io
from html import escape

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from crosscheck.bench.growth.mechanisms import LENGTHS
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.report import COLUMNS, GROWTH, LEGEND, REFERENCES, cells, grown_cells, ratios, reference_cells
from crosscheck.lesson import figures
from crosscheck.report import picture_page


def draw(report, file, form=None):
    """Plot the ratio to the floor of each mechanism that has one: a marker per pass, on a log axis with a line at 1."""
    ratios = {name: [passes[what]["ratio"] for what in PASSES] for name, passes in report["mechanisms"].items()}
    ratios = {name: values for name, values in ratios.items() if None not in values}
    with plt.rc_context(figures.STYLE):
        fig, ax = plt.subplots(figsize=(7.5, 1.2 + 0.24 * len(ratios)))
        places = range(len(ratios))
        for step, what in enumerate(PASSES):
            values = [pair[step] for pair in ratios.values()]
            ax.plot(values, places, figures.MARKERS[step], color=figures.COLORS[step], linestyle="none", label=what)
        ax.axvline(1, color="black", linewidth=1, linestyle="-", marker="none")
        ax.set(xscale="log", xlabel="ratio to the floor")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_yticks(places, ratios)
        ax.set_ylim(len(ratios) - 0.5, -0.5)
        fig.legend(loc="outside upper center", ncols=len(PASSES), frameon=False)
        fig.savefig(file, format=form)
        plt.close(fig)


def as_html(report):
    """The page: the summary, the plot and the tables."""
    picture = io.StringIO()
    if ratios(report["mechanisms"], PASSES[0]):
        draw(report, picture, "svg")
    stopped = "".join(f"<p class=bad>✗ {escape(name)} stopped: {escape(error)}</p>" for name, error in report["stopped"].items())
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    verdict = picture_page.verdict(report["summary"], is_good=not stopped)
    before = f"{stopped}{verdict}\n<p>{escape(LEGEND)} <small>{escape(versions)}.</small></p>"
    title = "The cost of each mechanism compared with its matrix products"
    return picture_page.page(title, before, picture.getvalue(), "\n".join(tables(report)))


def tables(report):
    """The tables of all numbers, without empty ones."""
    groups = "".join(f"<th colspan={len(COLUMNS)}>{what}</th>" for what in PASSES)
    names = f"<th></th>{groups}</tr><tr>{heads('', *COLUMNS * len(PASSES))}"
    mechanisms = {
        name: [cell for what in PASSES for cell in cells(passes[what])] for name, passes in report["mechanisms"].items()
    }
    yield table("Mechanisms", names, mechanisms)
    lengths = heads("", *[*(f"{length:,}" for length in LENGTHS), "factor"] * 2)
    yield table(GROWTH, lengths, {name: grown_cells(values) for name, values in report["growth"].items()})
    yield table(
        REFERENCES, heads("", "seconds", ""), {name: reference_cells(seconds) for name, seconds in report["references"].items()}
    )


def heads(*texts):
    return "".join(f"<th>{text}</th>" for text in texts)


def table(title, head, rows):
    body = "".join(
        f"<tr><th scope=row>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for name, row in rows.items()
    )
    return f"<h2>{escape(title)}</h2>\n{picture_page.table(head, body)}" if rows else ""
