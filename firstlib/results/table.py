"""The results table: accuracy, ECE and Trust by method and test set, rendered for notebooks, terminals and pages."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.table import Table

from firstlib.evaluation.scores import Row
from firstlib.metrics import Interval, mean_interval
from firstlib.results.comparison import Compared
from firstlib.results.markup import html_table, markdown_table
from firstlib.results.paper import paper_rows

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {"accuracy": "accuracy", "ece": "ECE", "trust": "Trust"}
_DASH = "\u2013"  # between the ends of an interval
Place = tuple[str, str]  # setting and dataset


@dataclass(frozen=True)
class Entry:
    """One number in percent, with its interval or spread as text.

    >>> Entry(68.04, " ± 1.1").text
    '68.0 ± 1.1'
    """

    value: float
    spread: str = ""

    @property
    def text(self) -> str:
        """As tables show it."""
        return f"{self.value:.1f}{self.spread}"


@dataclass(frozen=True)
class ResultsTable:
    """Entries by test set and method, in the order of the preset's columns and methods.

    Attributes:
        entries: Test set -> method -> heading -> entry.
        sizes: Test set -> number of questions; empty where it is not known.
        notes: Test set -> method -> the paper's numbers as text; empty without them.
    """

    entries: Mapping[Place, Mapping[str, Mapping[str, Entry]]]
    sizes: Mapping[Place, int]
    notes: Mapping[Place, Mapping[str, str]]

    def frame(self, spreads: bool = False) -> "pd.DataFrame":
        """Returns a frame, methods by test set and measure: numbers, or with `spreads` text, `-` for none."""
        import pandas as pd  # here: slow to import, and a terminal needs no frame

        columns = {
            (*place, heading): {
                name: entry[heading].text if spreads else round(entry[heading].value, 1)
                for name, entry in methods.items()
            }
            for place, methods in self.entries.items()
            for heading in MEASURES.values()
        }
        found = pd.DataFrame(columns, columns=pd.MultiIndex.from_tuples(columns or [("", "", "")]))
        shown = found.fillna("-") if spreads else found
        return shown.rename_axis(index="method", columns=["setting", "dataset", None])

    def markdown(self) -> str:
        """Returns one Markdown table: a line per method, a cell per test set."""
        head = ["method", *(f"{' '.join(place)}{self._size(place)}<br>acc / ECE / Trust" for place in self.entries)]
        names = dict.fromkeys(name for methods in self.entries.values() for name in methods)
        lines = [[name, *(_joined(methods.get(name)) for methods in self.entries.values())] for name in names]
        return markdown_table(head, lines)

    def _size(self, place: Place) -> str:
        return f", n = {self.sizes[place]}" if place in self.sizes else ""

    def terminal(self) -> Table:
        """Returns a table for a terminal of 80 columns: a block per test set."""
        spread = any(one.spread for methods in self.entries.values() for e in methods.values() for one in e.values())
        told = ["In percent", *(["with 95 % intervals"] * spread)]
        title = ", ".join(told) + ("; the paper's accuracy / ECE / Trust." if self.notes else ".")
        table = Table(title=title, box=None, padding=(0, 1, 0, 0), title_justify="left")
        table.add_column("", no_wrap=True)
        for name in (*MEASURES.values(), *(["the paper"] if self.notes else [])):
            table.add_column(name, justify="right", no_wrap=True)
        for place, methods in self.entries.items():
            table.add_row(f"[bold]{' '.join(place)}")
            for name, entry in methods.items():
                note = [self.notes.get(place, {}).get(name, "")] if self.notes else []
                table.add_row(name, *(entry[heading].text for heading in MEASURES.values()), *note)
        return table

    def html(self, title: Any = escape) -> str:
        """Returns one HTML table per test set; `title` turns a method's or data set's name into safe text."""
        return "".join(self._html_of(place, methods, title) for place, methods in self.entries.items())

    def _html_of(self, place: Place, methods: Mapping[str, Mapping[str, Entry]], title: Any) -> str:
        setting, dataset = place
        head = ("method", *MEASURES.values(), *(("paper",) if self.notes else ()))
        rows = []
        for name, entry in methods.items():
            cells = [_html_entry(entry[heading]) for heading in MEASURES.values()]
            note = [self.notes.get(place, {}).get(name) or "-"] if self.notes else []
            rows.append([title(name), *cells, *note])
        size = f"; {self.sizes[place]} questions" if place in self.sizes else ""
        return html_table(head, rows, f"{title(dataset)}, {escape(setting)}{size}")


# -- where tables come from --------------------------------------------------------------------------------------


def of_rows(rows: Iterable[Row | Mapping[str, Any]]) -> ResultsTable:
    """Returns one run's table from its rows, or from those of its `results.json`."""
    flat = [row.flat() if isinstance(row, Row) else row for row in rows]
    return _table(flat, lambda found, measure: Entry(100 * found[0][measure]))


def of_seeds(runs: Sequence[Mapping[str, Any]], rows: str = "rows") -> ResultsTable:
    """Returns the mean over several runs' `results.json`, with half the width of its 95 % interval."""
    return _table([row for run in runs for row in run[rows]], spread_entry)


def spread_entry(found: Sequence[Mapping[str, Any]], measure: str) -> Entry:
    """Returns the mean of fractions in percent, with half the width of its 95 % interval where there are several."""
    values = [row[measure] for row in found]
    if len(values) < 2:
        return Entry(100 * mean(values))
    over_seeds = mean_interval(values)
    return Entry(100 * over_seeds.estimate, f" ± {100 * (over_seeds.high - over_seeds.estimate):.1f}")


def of_comparison(compared: Iterable[Compared]) -> ResultsTable:
    """Returns one run's table with 95 % intervals over questions, beside the paper's numbers."""
    entries: dict[Place, dict[str, dict[str, Entry]]] = {}
    sizes: dict[Place, int] = {}
    notes: dict[Place, dict[str, str]] = {}
    for one in compared:
        place = (one.setting, one.dataset)
        found = {
            "accuracy": interval_entry(one.accuracy),
            "ECE": interval_entry(one.ece),
            "Trust": Entry(100 * one.trust),
        }
        entries.setdefault(place, {})[one.method] = found
        sizes[place] = one.n
        if one.paper:
            notes.setdefault(place, {})[one.method] = " / ".join(f"{100 * number:.1f}" for number in one.paper)
    return ResultsTable(entries, sizes, notes)


def of_intervals(rows: Sequence[Mapping[str, Any]]) -> ResultsTable:
    """Returns one run's table from kept rows whose `low` and `high` are the ends of the ECE's interval; fractions.

    Raises:
        ValueError: A method is there twice on one test set: the rows are those of several runs.
    """
    twice = Counter((row["method"], row["setting"], row["dataset"]) for row in rows).most_common(1)
    if twice and twice[0][1] > 1:
        raise ValueError(f"{', '.join(twice[0][0])}: is there twice; give one run's rows")

    def entry(found: Sequence[Mapping[str, Any]], measure: str) -> Entry:
        ends = f" ({100 * found[0]['low']:.1f} to {100 * found[0]['high']:.1f})" if measure == "ece" else ""
        return Entry(100 * found[0][measure], ends)

    return _table(rows, entry)


def interval_entry(found: Interval) -> Entry:
    """Returns a fraction in percent, with the ends of its interval.

    >>> interval_entry(Interval(0.681, 0.66, 0.7013)).text.replace(_DASH, "-")
    '68.1 (66.0-70.1)'
    """
    return Entry(100 * found.estimate, f" ({100 * found.low:.1f}{_DASH}{100 * found.high:.1f})")


def of_paper(family: str | None = None) -> ResultsTable:
    """Returns the paper's Table 1 in the same shape; without a family, the mean over its three."""
    return _table(paper_rows(family), lambda found, measure: Entry(100 * found[0][measure]))


def _table(rows: Sequence[Mapping[str, Any]], entry: Any) -> ResultsTable:
    entries: dict[Place, dict[str, dict[str, Entry]]] = {}
    sizes = {(row["setting"], row["dataset"]): row["n"] for row in rows if "n" in row}
    for place in dict.fromkeys((row["setting"], row["dataset"]) for row in rows):
        here = [row for row in rows if (row["setting"], row["dataset"]) == place]
        for name in dict.fromkeys(row["method"] for row in here):
            found = [row for row in here if row["method"] == name]
            values = {heading: entry(found, measure) for measure, heading in MEASURES.items()}
            entries.setdefault(place, {})[name] = values
    return ResultsTable(entries, sizes, {})


def _joined(entry: Mapping[str, Entry] | None) -> str:
    return " / ".join(one.text for one in entry.values()) if entry else "-"


def _html_entry(entry: Entry) -> str:
    ends = f'<span class="ends">{entry.spread.strip(" ()").replace(_DASH, " to ")}</span>' if entry.spread else ""
    return f"{entry.value:.1f}{ends}"
