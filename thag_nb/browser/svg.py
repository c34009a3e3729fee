"""A stack of curves drawn by hand as SVG: the live view where there is no canvas. A millisecond, where matplotlib needs
fifty.
"""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray

from thag_nb.browser.scene import Header, Scene
from thag_nb.units import format_bytes, format_duration

COLUMNS = 350  # as many as the picture's pixels show
_WIDTH, _HEIGHT = 700, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 690, 10, 24
_ENTRY_WIDTH = 175
_ENTRIES = _WIDTH // _ENTRY_WIDTH  # of the legend, in one row
_NAME_LETTERS = 16


def scene_svg(scene: Scene) -> str:
    """The layers as stacked areas, each with its name and newest size in a legend, and the highest point as a line."""
    header, values = scene
    layers = header["layers"]
    stacked = np.concatenate([np.zeros_like(values[:1]), values[: len(layers)]]).cumsum(axis=0)
    highest = values[len(layers)]
    top = max(float(highest.max()), float(stacked.max()), 1.0)
    levels = [_levels(row, top) for row in stacked]
    areas = "".join(
        f'<path d="{_area(floor, ceiling)}" fill="{layer["colour"]}" fill-opacity="0.75">'
        f"<title>{html.escape(layer['name'])}</title></path>"
        for layer, floor, ceiling in zip(layers, levels, levels[1:], strict=False)
    )
    line = f'<path d="{_outline(_levels(highest, top))}" fill="none" stroke="currentColor" stroke-opacity="0.7"/>'
    legend = "".join(_entry(place, layer, float(values[place][-1])) for place, layer in enumerate(layers))
    height = _HEIGHT + 18 * (1 + (len(layers) - 1) // _ENTRIES)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" style="max-width: {_WIDTH}px; width: 100%" '
        f'font-size="11" font-family="sans-serif" fill="currentColor">'
        f"<title>{html.escape(header['description'])}</title>{_axes(header, top)}{areas}{line}{legend}</svg>"
    )


def _x(place: int, columns: int) -> float:
    return _LEFT + place / columns * (_RIGHT - _LEFT)


def _y(size: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - size / top * (_HEIGHT - _BOTTOM - _TOP)


def _levels(sizes: NDArray[np.float32], top: float) -> list[tuple[float, float]]:
    """Where in the picture a new level begins, and which; columns of one level are one piece."""
    begins = np.flatnonzero(np.diff(sizes, prepend=np.nan) != 0)
    return [(_x(int(place), len(sizes)), _y(float(sizes[place]), top)) for place in begins]


def _outline(levels: list[tuple[float, float]]) -> str:
    """Along the levels from left to right."""
    (x, y), *rest = levels
    return f"M{x:.1f},{y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest) + f"H{_RIGHT:.1f}"


def _area(floor: list[tuple[float, float]], ceiling: list[tuple[float, float]]) -> str:
    """Along the ceiling, and back along the floor."""
    back = [f"V{floor[-1][1]:.1f}"]
    for (x, _), (_, before) in zip(reversed(floor), [*reversed(floor[:-1]), floor[0]], strict=True):
        back.append(f"H{x:.1f}V{before:.1f}")
    return f"{_outline(ceiling)}{''.join(back)}Z"


def _axes(header: Header, top: float) -> str:
    """The highest size at the top left, and the time shown below."""
    span = format_duration(max(header["end_ns"] - header["start_ns"], 0))
    base = _HEIGHT - _BOTTOM
    return (
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{base}" y2="{base}" stroke="currentColor" stroke-opacity="0.4"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{format_bytes(top)}</text>'
        f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">0 B</text>'
        f'<text x="{_RIGHT}" y="{base + 16}" text-anchor="end">{span}</text>'
    )


def _entry(place: int, layer: Header, size: float) -> str:
    x = 4 + place % _ENTRIES * _ENTRY_WIDTH
    y = _HEIGHT + 18 * (place // _ENTRIES)
    words = f"{layer['name'][:_NAME_LETTERS]} {format_bytes(size)}"
    return (
        f'<rect x="{x}" y="{y}" width="12" height="9" fill="{layer["colour"]}"/>'
        f'<text x="{x + 17}" y="{y + 9}">{html.escape(words)}</text>'
    )
