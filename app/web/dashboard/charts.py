"""Bar charts, drawn as SVG on the server. The page adds the text around a chart."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 600, 100  # size of a chart in units of the SVG, which the page stretches
MIN_BAR_HEIGHT = 2.0  # SVG units, so that a small value stays visible


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart, with its values from bottom to top and its tooltip."""

    values: Sequence[int]
    tooltip: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its highest bar, the sum of all values and the labels of its two ends."""

    svg: Markup
    highest: int
    total: int
    first: str
    last: str


def bar_chart(bars: Sequence[Bar], *, title: str, first: str, last: str) -> Chart:
    """Draw a chart of these bars from left to right."""
    heights = [sum(bar.values) for bar in bars]
    highest, step = max(heights, default=0), WIDTH / max(len(bars), 1)
    drawn = "".join(_bar(bar, index * step, step, highest=highest) for index, bar in enumerate(bars))
    label = escape(f"{title}: {sum(heights):,} total, peak {highest:,}")
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    svg = Markup(f'<svg {size} role="img" aria-label="{label}">{drawn}</svg>')  # noqa: S704  (escaped, or numbers)
    return Chart(svg, highest, sum(heights), first, last)


def _bar(bar: Bar, left: float, step: float, *, highest: int) -> str:
    """Draw one bar as plain text, because escaping hundreds of bars piece by piece would be slow."""
    drawn, top = "", float(HEIGHT)
    for index, value in enumerate(bar.values):
        if value:
            height = max(MIN_BAR_HEIGHT, HEIGHT * value / highest)
            top -= height
            place = f'x="{left + step * 0.1:.2f}" y="{top:.2f}"'
            drawn += f'<rect class="bar{index}" {place} width="{step * 0.8:.2f}" height="{height:.2f}"/>'
    hover = f'<rect class="hover" x="{left:.2f}" y="0" width="{step:.2f}" height="{HEIGHT}"/>'
    return f"<g><title>{escape(bar.tooltip)}</title>{drawn}{hover}</g>"
