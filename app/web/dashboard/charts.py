"""Bars that one reads at a glance, drawn as SVG on the server; the words beside them are the page's."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

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
    drawn = "".join(_bar(one, place * step, step, most=most) for place, one in enumerate(bars))
    told = escape(f"{title}: {sum(heights):,} in all, {most:,} at most")
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    drawing = Markup(f'<svg {size} role="img" aria-label="{told}">{drawn}</svg>')  # noqa: S704  (escaped, or numbers)
    return Plot(drawing, most, sum(heights), first, last)


def _bar(one: Bar, left: float, step: float, *, most: int) -> str:
    """In plain text, for there are hundreds of them."""
    drawn, top = "", float(HEIGHT)
    for place, value in enumerate(one.values):
        if value:
            height = max(LEAST, HEIGHT * value / most)
            top -= height
            at = f'x="{left + step * 0.1:.2f}" y="{top:.2f}"'
            drawn += f'<rect class="bar{place}" {at} width="{step * 0.8:.2f}" height="{height:.2f}"/>'
    hit = f'<rect class="hit" x="{left:.2f}" y="0" width="{step:.2f}" height="{HEIGHT}"/>'
    return f"<g><title>{escape(one.told)}</title>{drawn}{hit}</g>"
