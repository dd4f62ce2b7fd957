"""Draws what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COLORS = {"canned": "#9aa0a6", "mwl": "#1a73e8"}
_OTHER = "#e8a33d"
_NAMES = {"canned": "prepared bytes\n(asyncio + uvloop)", "mwl": "mwl"}


def peers(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the rates of all servers, on a logarithmic scale."""
    pyplot = _pyplot()
    titles = {"associate": "associations/s, one query each", "open": "queries/s on open associations"}
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for axis, (mode, title) in zip(axes, titles.items(), strict=True):
        if mode not in figures:
            continue
        servers = figures[mode]["servers"]
        names = sorted(servers, key=lambda name: servers[name]["per_second"])
        rates = [max(servers[name]["per_second"], 0.1) for name in names]
        bars = axis.barh(
            [_NAMES.get(name, name) for name in names], rates, color=[_COLORS.get(name, _OTHER) for name in names]
        )
        axis.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
        axis.set_xscale("log")
        axis.set_xlim(right=max(rates) * 6)
        axis.set_title(title)
    figure.suptitle(f"{figures['entries']:,} entries, {figures['matches']} matches each, one core")
    _save(pyplot, figure, path)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], path: Path, title: str, x: str, y: str, **more: Any
) -> None:
    """Draw growth: lines over a logarithmic axis."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    for name, points in series.items():
        axis.plot(*zip(*points, strict=True), marker="o", label=name, color=_COLORS.get(name))
    axis.set(title=title, xlabel=x, ylabel=y, xscale="log", **more)
    if "ylim" not in more:
        axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    if len(series) > 1:
        axis.legend()
    _save(pyplot, figure, path)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as exc:
        raise SystemExit("plots need matplotlib: pip install matplotlib") from exc
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
