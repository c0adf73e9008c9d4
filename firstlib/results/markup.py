"""Plain tables as Markdown and as HTML, from cells that are markup already."""

from collections.abc import Iterable, Sequence

from firstlib.metrics import Interval


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table of cells that need no escaping.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_block(page: str, start: str, end: str, block: str) -> str:
    """Returns a page with what stands between two of its lines replaced.

    >>> with_block("a <!-- x --> old <!-- y --> b", "<!-- x -->", "<!-- y -->", "new").split()
    ['a', '<!--', 'x', '-->', 'new', '<!--', 'y', '-->', 'b']
    """
    before, rest = page.split(start)
    return f"{before}{start}\n\n{block}\n\n{end}{rest.split(end)[1]}"


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", text: Sequence[int] = (0,)
) -> str:
    """Returns an HTML table of cells that are HTML already; `text` lists the columns that hold words."""

    def line(cells: Sequence[str], tag: str) -> str:
        marks = (' class="text"' if place in text else "" for place in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{m}>{c}</{tag}>" for c, m in zip(cells, marks, strict=True)) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def signed_cell(difference: Interval | None) -> str:
    """Returns a difference in points with the ends of its interval, as a cell of HTML; a dash where there is none."""
    if difference is None:
        return "-"
    ends = f'<span class="ends">{100 * difference.low:+.1f} to {100 * difference.high:+.1f}</span>'
    return f"{100 * difference.estimate:+z.1f}{ends}"
