"""Draws the curves of a stage run as PNG pictures for the evidence page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from tasks.evidence_series import Points, Series

COLOURS = {"pnl": "#1b5e8c", "inventory": "#7a4b00", "spread": "#1f6f43", "mark": "#8a1c1c"}


@dataclass(frozen=True)
class Plot:
    """`data_uri`: the picture itself; empty where there was nothing to draw, and `words` say so."""

    title: str
    words: str
    data_uri: str


def draw_plots(series: Series) -> list[Plot]:
    """PnL, inventory and quoted spread, in that order."""
    wanted = (
        ("PnL, net (quote)", "pnl", series.pnl_quote, "line"),
        ("Inventory marked at mid (quote)", "inventory", series.inventory_quote, "steps-post"),
        ("Quoted spread (bps)", "spread", series.spread_bps, "steps-post"),
    )
    return [_draw(title, COLOURS[name], points, style, series) for title, name, points, style in wanted]


def _draw(title: str, colour: str, points: Points, style: str, series: Series) -> Plot:
    if not points:
        return Plot(title, "No value was seen, so there is nothing to draw.", "")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import dates
    from matplotlib.figure import Figure

    clock: Any = dates.DateFormatter  # matplotlib does not type its constructor

    figure = Figure(figsize=(9.6, 2.7), dpi=110, layout="constrained")
    axes: Any = figure.subplots()
    times, values = [at for at, _ in points], [value for _, value in points]
    drawn = "steps-post" if style == "steps-post" else "default"
    axes.plot(times, values, color=colour, linewidth=1.4, drawstyle=drawn)
    if len(points) == 1:
        axes.plot(times, values, "o", color=colour)
    for at, name in series.marks:
        axes.axvline(at, color=COLOURS["mark"], linewidth=0.8, linestyle=":")
        axes.annotate(
            name, (at, 1.0), xycoords=("data", "axes fraction"), fontsize=7, rotation=90, va="top", ha="right"
        )
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.xaxis.set_major_formatter(clock("%H:%M:%S"))
    axes.tick_params(labelsize=8)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    low, high = min(values), max(values)
    words = (
        f"{len(points)} points, from {values[0]:.4g} to {values[-1]:.4g}, lowest {low:.4g}, highest {high:.4g} (UTC)."
    )
    return Plot(title, words, "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode())
