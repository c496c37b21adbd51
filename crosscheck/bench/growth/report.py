"""The measurements of growth as a table, a plot and an HTML page."""

import io
from html import escape

import matplotlib.pyplot as plt
from rich.console import Console
from rich.text import Text

from crosscheck.bench.growth.measurements import LIMIT, UNITS, exponent, series
from crosscheck.bench.growth.probe import PASSES
from crosscheck.lesson import figures
from crosscheck.report import picture_page

COLUMN, NAMES = 11, 18


def rows(results, lengths):
    """(mechanism, pass, unit, values, exponent) for each row."""
    for mechanism in dict.fromkeys(probe.mechanism for probe in results):
        for what in PASSES:
            for unit in UNITS:
                values = series(results, mechanism, what, unit)
                yield mechanism, what, unit, values, exponent(lengths, values)


def shown(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def summary(found, backend):
    """The last line, which gives the reason for the exit status."""
    if found:
        return f"✗ {len(found)} measurements of linear mechanisms failed or grew too fast on {backend}"
    return f"✓ no linear mechanism takes more than {LIMIT} times as much for the last doubling, on {backend}"


def show(results, lengths, found, backend, console=None):
    """The table in the terminal."""
    console = console or Console()
    heading = f"{'':{NAMES}}" + "".join(f"{length:>{COLUMN},}" for length in lengths) + f"{'exponent':>{COLUMN}}"
    lines, last = [Text(heading, style="bold")], (None, None)
    for mechanism, what, unit, values, slope in rows(results, lengths):
        if mechanism != last[0]:
            lines += [Text(), Text(mechanism, style="bold")]
        name = f"  {what if (mechanism, what) != last else '':{NAMES - 5}} {unit}"
        lines.append(Text(name + "".join(f"{shown(value):>{COLUMN}}" for value in values) + f"{shown(slope, 2):>{COLUMN}}"))
        last = mechanism, what
    lines.append(Text())
    for probe, result in results.items():
        if "error" in result and not any(line.startswith(probe.name) for line in found):
            lines.append(Text(f"– {probe.name} stopped: {result['error']}", style="dim"))
    lines += [Text(f"✗ {line}", style="red") for line in found]
    lines.append(Text(summary(found, backend), style="bold red" if found else "bold green"))
    for line in lines:
        console.print(line, soft_wrap=True)


def draw(results, lengths, file, form=None):
    """Time and memory of both passes against the length, both axes logarithmic."""
    with plt.rc_context(figures.STYLE):
        fig, axes = plt.subplots(len(UNITS), len(PASSES), figsize=(9, 6.5), sharex=True, sharey="row")
        for mechanism, what, unit, values, _ in rows(results, lengths):
            ax = axes[list(UNITS).index(unit), PASSES.index(what)]
            k = list(dict.fromkeys(probe.mechanism for probe in results)).index(mechanism)
            look = {"color": figures.COLORS[k % 6], "marker": figures.MARKERS[(k + k // 6) % 6]}
            dash = figures.DASHES[(k + 2 * (k // 6)) % 6]  # a seventh line shares only its color with the first
            ax.plot(lengths, [value or float("nan") for value in values], linestyle=dash, label=mechanism, **look)
        for (row, unit), (column, what) in ((r, c) for r in enumerate(UNITS) for c in enumerate(PASSES)):
            ax = axes[row, column]
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xticks(lengths, lengths)
            ax.set(title=f"{UNITS[unit]}, {what}", xlabel="length t" if row else None, ylabel=None if column else unit)
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False)
        fig.savefig(file, format=form)
        plt.close(fig)


def as_html(results, lengths, found, backend):
    """The page: the summary, the plot and the table."""
    picture = io.StringIO()
    draw(results, lengths, picture, "svg")
    head = "".join(f"<th>{name}</th>" for name in ("", "", *(f"{length:,}" for length in lengths), "exponent"))
    body = "".join(
        f"<tr><th scope=row>{escape(mechanism)}</th><td>{what}, {unit}</td>"
        + "".join(f"<td>{shown(value)}</td>" for value in values)
        + f"<td>{shown(slope, 2)}</td></tr>\n"
        for mechanism, what, unit, values, slope in rows(results, lengths)
    )
    problems = "".join(f"<p class=bad>✗ {escape(line)}</p>" for line in found)
    verdict = picture_page.verdict(summary(found, backend), is_good=not found)
    table = picture_page.table(head, body)
    return picture_page.page("How time and memory grow with the length", problems + verdict, picture.getvalue(), table)
