"""What is stored of a teacher: how much probability, in how many bytes, and how often each rank is right."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from firstlib.figures import parts
from firstlib.figures.style import BLACK, BLUE, ORANGE, VERMILLION, Look, looks, name_of, plain


def coverage(probabilities: ArrayLike, marked: int = 5) -> go.Figure:
    """Figure 2 of the paper: the share of a distribution that its top 1..K tokens hold, mean and range.

    Args:
        probabilities: `(positions, K)`, most probable first.
        marked: Number of tokens that a line marks; the default is the 5 that FIRST stores.
    """
    mass = np.cumsum(np.asarray(probabilities, dtype=np.float64), axis=1)
    least, low, high, most = np.percentile(mass, [0, 5, 95, 100], axis=0)
    mean, top = mass.mean(axis=0), list(range(1, mass.shape[1] + 1))
    figure = parts.blank(
        *_band(top, least, most, "all positions", "rgba(86,180,233,0.3)"),
        *_band(top, low, high, "5th to 95th percentile", "rgba(0,114,178,0.4)"),
        go.Scatter(x=top, y=parts.numbers(mean), name="mean", mode="lines", line=parts.line(BLACK, "solid", 2.5)),
    )
    figure.update_traces(hovertemplate="top %{x}: %{y:.1%}")
    figure.update_xaxes(title_text="most probable tokens kept", type="log", tickvals=[1, 2, 5, 10, 20, 50, 100])
    figure.update_yaxes(title_text="probability mass", tickformat=parts.PERCENT, range=[0, 1.02])
    if 1 <= marked <= len(top):
        figure.add_vline(marked, line=parts.line(VERMILLION, "dash", 1.5))
        text = f"top {marked} hold {mean[marked - 1]:.1%} on average"
        figure.add_annotation(x=math.log10(marked), y=0.06, text=text, showarrow=False, xanchor="left", xshift=6)
    return figure


def disk_use(
    k: Sequence[int], bytes_per_position: Sequence[float], vocabulary: int, bytes_per_token: float = 12
) -> go.Figure:
    """Figure 2 of the paper, disk use: bytes per position by number of tokens kept, on logarithmic axes.

    Args:
        k: `(A,)` tokens kept.
        bytes_per_position: `(A,)` measured sizes.
        vocabulary: Tokens of the full distribution, where the dashed line ends.
        bytes_per_token: Slope of the dashed line, which is the paper's arithmetic.
    """
    sizes, reach = [float(size) for size in bytes_per_position], [*k, vocabulary]
    counted = [bytes_per_token * kept for kept in reach]
    figure = parts.blank(margin={"r": 44})
    for name, x, y, its in (
        ("measured", list(k), sizes, Look(BLUE, "solid", "circle", "")),
        (f"{bytes_per_token:g} B a token", reach, counted, Look(VERMILLION, "dash", "square-open", "")),
    ):
        line = {"mode": "lines+markers", "line": parts.line(its.colour, its.dash)}
        figure.add_scatter(x=x, y=y, name=name, marker={"symbol": its.symbol, "size": 8}, **line)
    figure.update_traces(cliponaxis=False, hovertemplate="top %{x}: %{y:.3s}B")
    end = {"x": math.log10(vocabulary), "y": math.log10(counted[-1]), "xanchor": "right", "xshift": -8, "yshift": 10}
    figure.add_annotation(**end, text=f"full distribution: {_size(counted[-1])}", showarrow=False)
    powers = [10.0**power for power in range(16)]
    figure.update_xaxes(title_text="tokens kept, k", type="log", tickvals=reach)
    figure.update_yaxes(title_text="bytes a position", type="log")
    return figure.update_yaxes(tickvals=powers, ticktext=[_size(power) for power in powers])


def kept_mass(masses: Mapping[str, np.ndarray]) -> go.Figure:
    """Distribution over positions of the probability that the top k hold.

    A box covers the middle half of the positions and marks their median; its whiskers end at the 5th and the 95th
    percentile, and the dotted line is the mean.

    Args:
        masses: `(positions,)` fractions; one box each, by task or method.
    """
    figure, styles = parts.blank(height=80 + 60 * len(masses), margin={"t": 16}), looks(masses)
    for place, (key, mass) in enumerate(masses.items()):
        names = ("lowerfence", "q1", "median", "q3", "upperfence")
        fractions = np.percentile(mass, [[5], [25], [50], [75], [95]]).tolist()
        box = {**dict(zip(names, fractions, strict=True)), "mean": [float(np.mean(mass))]}
        colour = {"line": {"color": styles[key].colour, "width": 1.5}, "showlegend": False}
        figure.add_box(**box, y=[place], name=name_of(key), orientation="h", boxmean=True, **colour)
    figure.update_xaxes(title_text="mass that the stored tokens hold", tickformat=parts.PERCENT)
    figure.update_yaxes(tickvals=list(range(len(masses))), ticktext=[name_of(key) for key in masses])
    return figure.update_yaxes(autorange="reversed", ticks="")


def rank_probabilities(panels: Mapping[str, tuple[ArrayLike, ArrayLike]], most: int = 3) -> go.Figure:
    """Figure 3 of the paper: a model's mean probability for its token of rank 1..K, and how often that token is right.

    Args:
        panels: For each model the mean predicted probability `(K,)` and the observed frequency `(K,)`, fractions.
        most: Panels side by side, at most.
    """
    titles = parts.panel_titles(panels)
    figure, cells = parts.panels(titles, 250, x="rank", y="probability", most=most, shared_yaxes="all")
    series = (("mean predicted probability", BLUE, ""), ("how often it is right", ORANGE, "/"))
    for cell, pair in zip(cells, panels.values(), strict=True):
        for (name, colour, hatch), values in zip(series, pair, strict=True):
            heights = parts.numbers(values)
            bars = parts.bars(list(range(1, len(heights) + 1)), heights, name, colour, hatch)
            parts.add(figure, cell, bars.update(texttemplate="%{y:.1~%}", textangle=-90))
    figure.update_yaxes(tickformat=parts.PERCENT, range=[0, 1.15], tickvals=parts.FIFTHS)
    return figure.update_xaxes(dtick=1)


def top_tokens(labels: Sequence[str], before: ArrayLike, after: ArrayLike) -> go.Figure:
    """Probabilities of one position's top K tokens as stored, and after recalibration.

    Args:
        labels: `(K,)` the tokens' text, most probable first.
        before: `(K,)` the teacher's probabilities, fractions.
        after: `(K,)` the targets that a map makes of them.
    """
    figure = parts.blank(height=320)
    places = list(range(len(labels)))
    for name, values, colour, hatch in (("teacher", before, BLACK, ""), ("recalibrated", after, BLUE, "")):
        bars = parts.bars(places, parts.numbers(values), name, colour, hatch)
        figure.add_trace(bars.update(texttemplate="%{y:.1%}"))
    figure.update_xaxes(tickvals=places, ticktext=[plain(label, 14) for label in labels], ticks="")
    return figure.update_yaxes(title_text="probability", tickformat=parts.PERCENT, rangemode="tozero")


def _band(x: Sequence[int], low: ArrayLike, high: ArrayLike, name: str, colour: str) -> tuple[go.Scatter, go.Scatter]:
    edge = {"x": x, "mode": "lines", "line": {"width": 0}, "legendgroup": name}
    lower = go.Scatter(y=parts.numbers(low), name=f"{name}, least", showlegend=False, **edge)
    return lower, go.Scatter(y=parts.numbers(high), name=name, fill="tonexty", fillcolor=colour, **edge)


def _size(number: float) -> str:
    """Returns a number of bytes with a unit.

    >>> _size(60), _size(600_000), _size(1.23e12)
    ('60 B', '600 kB', '1.23 TB')
    """
    power = min(max(math.floor(math.log10(number) / 3), 0), 5) if number > 0 else 0
    return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
