"""The common style of figures, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RED, ORANGE, SAND, GREY, PURPLE, BLUE = (
    *("#c0392b", "#e08e2b", "#c8a165", "#7f8c8d", "#8e6bb0", "#1f6fb2"),
)

THOUSANDS = FuncFormatter(lambda value, _: f"{value:,g}")
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


@contextmanager
def drawn(
    path: Path,
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float],
    title: str = "",
    title_size: int = 16,
    dpi: int = 110,
    layout: Any = "constrained",
    **axes: Any,
) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes, saved to ``path`` and closed at the end of the with statement."""
    figure, grid = plt.subplots(rows, columns, figsize=size, layout=layout, **axes)
    with saved(figure, path, dpi):
        yield figure, grid
        if title:
            figure.suptitle(title, fontsize=title_size)


@contextmanager
def saved(figure: Figure, path: Path, dpi: int) -> Iterator[None]:
    """Save the figure to ``path``, and close it."""
    try:
        yield
        figure.savefig(path, dpi=dpi)
    finally:
        plt.close(figure)


def legend_outside(figure: Figure, axis: Axes, where: str = "lower") -> None:
    """The legend of one of the axes, for all of them, below or above (``where``: upper)."""
    handles, labels = axis.get_legend_handles_labels()
    place: Any = f"outside {where} center"
    figure.legend(handles, labels, loc=place, ncols=len(labels), frameon=False)


def grid(axis: Axes, which: str = "both") -> None:
    """A pale grid. ``which``: x, y, or both."""
    axis.grid(True, axis=which, alpha=0.3)  # type: ignore[arg-type]


def shifts(count: int, width: float = 0.84) -> Iterator[float]:
    """Where each of ``count`` bars of one group is centred: around 0, ``width`` together."""
    each = width / max(1, count)
    return ((number - (count - 1) / 2) * each for number in range(count))


def grouped_bars(
    axis: Axes,
    groups: Sequence[str],
    bars: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    *,
    width: float = 0.84,
    labelled: bool = True,
    **ticks: Any,
) -> None:
    """A bar of each label in each group. ``bars``: label -> a height for each group."""
    for shift, (label, heights) in zip(shifts(len(bars), width), bars.items(), strict=True):
        places = [place + shift for place in range(len(groups))]
        name = label if labelled else None
        axis.bar(places, heights, width / len(bars), color=colours[label], label=name)
    axis.set_xticks(range(len(groups)), groups, **ticks)


def only_ticks(axis: Axis, ticks: Iterable[float], labels: Any = THOUSANDS) -> None:
    """Ticks at these values alone, also on a logarithmic axis."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(labels)


def plain_numbers(axis: Axis, steps: Sequence[float] = (1.0, 2.0, 5.0), **locator: Any) -> None:
    """On a logarithmic axis: 0.1, 0.2, 0.5, 1 in place of powers."""
    axis.set_major_locator(LogLocator(subs=steps, **locator))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())
