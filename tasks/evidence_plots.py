"""Draws the curves of a stage run as PNG pictures for the evidence page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from tasks.evidence_series import BySymbol, Points, Series

COLOURS = {
    "pnl": ("#1b5e8c",),
    "inventory": ("#7a4b00", "#c98a2b", "#4a3f8f", "#5a5a5a"),
    "spread": ("#1f6f43", "#58b17d", "#4a3f8f", "#5a5a5a"),
}
"""Of the first symbol, the second, and so on round."""
MARK = "#8a1c1c"


@dataclass(frozen=True)
class Plot:
    """`data_uri`: the picture itself; empty where there was nothing to draw, and `words` say so."""

    title: str
    words: str
    data_uri: str


def draw_plots(series: Series) -> list[Plot]:
    """PnL, inventory and quoted spread, in that order; the last two with a curve for each symbol."""
    pnl: BySymbol = {"": series.pnl_quote} if series.pnl_quote else {}
    wanted = (
        ("PnL, net (quote)", "pnl", pnl, "line"),
        ("Inventory marked at mid (quote)", "inventory", series.inventory_quote, "steps-post"),
        ("Quoted spread (bps)", "spread", series.spread_bps, "steps-post"),
    )
    return [_draw(title, COLOURS[name], curves, style, series) for title, name, curves, style in wanted]


def _draw(title: str, colours: tuple[str, ...], curves: BySymbol, style: str, series: Series) -> Plot:
    if not any(curves.values()):
        return Plot(title, "No value was seen, so there is nothing to draw.", "")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import dates
    from matplotlib.figure import Figure

    clock: Any = dates.DateFormatter  # matplotlib does not type its constructor

    figure = Figure(figsize=(9.6, 2.7), dpi=110, layout="constrained")
    axes: Any = figure.subplots()
    drawn = "steps-post" if style == "steps-post" else "default"
    for number, (symbol, points) in enumerate(curves.items()):
        colour = colours[number % len(colours)]
        times, values = [at for at, _ in points], [value for _, value in points]
        marker = "o" if len(points) == 1 else ""
        axes.plot(times, values, marker, color=colour, linewidth=1.4, drawstyle=drawn, linestyle="-", label=symbol)
    if len(curves) > 1:
        axes.legend(fontsize=7, loc="lower left", frameon=False)
    for at, name in series.marks:
        axes.axvline(at, color=MARK, linewidth=0.8, linestyle=":")
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
    words = "; ".join(_words(symbol, points) for symbol, points in curves.items()) + " (UTC)."
    return Plot(title, words, "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode())


def _words(symbol: str, points: Points) -> str:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    name = f"{symbol}: " if symbol else ""
    return f"{name}{len(points)} points, from {values[0]:.4g} to {values[-1]:.4g}, lowest {low:.4g}, highest {high:.4g}"
