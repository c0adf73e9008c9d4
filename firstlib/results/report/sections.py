"""The report's sections as HTML. Every text that comes from data, settings or paths goes through `escape`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from firstlib.figures.style import name_of
from firstlib.metrics import Interval
from firstlib.results.comparison import Compared


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", text: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; `text` names the columns that hold words."""

    def line(cells: Sequence[str], tag: str) -> str:
        marks = (' class="text"' if place in text else "" for place in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{m}>{c}</{tag}>" for c, m in zip(cells, marks, strict=True)) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def results(compared: Sequence[Compared]) -> str:
    """One table a test set: ours with intervals, the paper's beside."""
    columns: dict[tuple[str, str], list[Compared]] = {}
    for row in compared:
        columns.setdefault((row.setting, row.dataset), []).append(row)
    made = [_column(setting, dataset, rows) for (setting, dataset), rows in columns.items()]
    return (
        "<p>In percent. Below each number is its 95 % interval over questions: Clopper and Pearson's for accuracy, a "
        "bootstrap's for ECE. Trust is accuracy less ECE. <i>Paper</i> is its Table 1, accuracy / ECE / Trust, the "
        "mean over its three families: models thousands of times larger than a microworld's, on real data, so compare "
        f'the pattern, not the numbers.</p><div class="tables">{"".join(made)}</div>'
    )


def _column(setting: str, dataset: str, rows: Sequence[Compared]) -> str:
    head = ("method", "accuracy", "ECE", "Trust", "paper")
    lines = [
        (
            name_of(row.method),
            _with_ends(row.accuracy),
            _with_ends(row.ece),
            f"{100 * row.trust:.1f}",
            _paper(row),
        )
        for row in rows
    ]
    return table(head, lines, f"{name_of(dataset)}, {escape(setting)}; {rows[0].n} questions")


def _with_ends(interval: Interval) -> str:
    ends = f'<span class="ends">{100 * interval.low:.1f} to {100 * interval.high:.1f}</span>'
    return f"{100 * interval.estimate:.1f}{ends}"


def _paper(row: Compared) -> str:
    return "-" if row.paper is None else " / ".join(f"{100 * number:.1f}" for number in row.paper)


def figure(name: str, title: str, caption: str) -> str:
    """The place of a figure, which the page's script draws into."""
    place = f'<div class="plot" id="figure-{name}"></div>'
    return f"<figure><h3>{title}</h3>{place}<figcaption>{caption}</figcaption></figure>"


def case(prompt: str) -> str:
    """The case study's question, and the place of its figure."""
    caption = "Each model's probability for every choice. The triangle is the truth, where it is known."
    return f"<pre>{escape(prompt)}</pre>{figure('case', 'What each model says', caption)}"


def pipeline(manifests: Sequence[Mapping[str, Any]]) -> str:
    """Every stage that this report rests on, with its time and size."""
    rows = [
        (escape(one["stage"]), f"<code>{escape(one['key'])}</code>", f"{one['seconds']:.1f} s", size(one["bytes"]))
        for one in manifests
    ]
    seconds, taken = sum(one["seconds"] for one in manifests), sum(one["bytes"] for one in manifests)
    total = (
        f"<p>{len(rows)} stages, {seconds:.0f} s and {size(taken)} in all, in the order in which they were made.</p>"
    )
    return total + table(("stage", "content", "time", "size"), rows, text=(0, 1))


def size(count: float) -> str:
    """Bytes for people.

    >>> size(532), size(4_790_242)
    ('532 B', '4.8 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def settings(values: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """All settings by their dotted names, and the versions that made the stages."""
    rows = [
        (escape(name), escape(value if isinstance(value, str) else json.dumps(value)))
        for name, value in flattened(values)
    ]
    made = [(escape(name), escape(version)) for name, version in versions.items()]
    return table(("setting", "value"), rows, text=(0, 1)) + table(("package", "version"), made, text=(0, 1))


def flattened(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Nested settings as dotted names.

    >>> list(flattened({"seed": 0, "sizes": {"train": 64}}))
    [('seed', 0), ('sizes.train', 64)]
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
