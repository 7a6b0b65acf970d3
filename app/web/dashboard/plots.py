"""Bars that one reads at a glance, drawn as SVG on the server; the words beside them are the page's."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 600, 100  # in the drawing's own units; the page stretches it
LEAST = 2.0  # so high is a bar at least that stands for anything


@dataclass(frozen=True, slots=True)
class Bar:
    """What stands at one place: values upon each other, and what one reads when one points at it."""

    values: Sequence[int]
    told: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing, what it is of in a sentence, its highest bar, and what stands at its ends."""

    drawing: Markup
    most: int
    total: int
    first: str
    last: str


def plot(bars: Sequence[Bar], *, title: str, first: str, last: str) -> Plot:
    """All of them in a row."""
    heights = [sum(one.values) for one in bars]
    most, step = max(heights, default=0), WIDTH / max(len(bars), 1)
    begin = Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">')
    drawn = (_bar(one, place * step, step, most=most) for place, one in enumerate(bars))
    told = f"{title}: {sum(heights):,} in all, {most:,} at most"
    drawing = Markup("").join([begin.format(WIDTH, HEIGHT, told), *drawn, Markup("</svg>")])
    return Plot(drawing, most, sum(heights), first, last)


def _bar(one: Bar, left: float, step: float, *, most: int) -> Markup:
    drawn, top = Markup(""), float(HEIGHT)
    for place, value in enumerate(one.values):
        if value:
            height = max(LEAST, HEIGHT * value / most)
            top -= height
            rect = Markup('<rect class="bar{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>')
            drawn += rect.format(place, left + step * 0.1, top, step * 0.8, height)
    hit = Markup('<rect class="hit" x="{:.2f}" y="0" width="{:.2f}" height="{}"/>').format(left, step, HEIGHT)
    return Markup("<g><title>{}</title>{}{}</g>").format(one.told, drawn, hit)
