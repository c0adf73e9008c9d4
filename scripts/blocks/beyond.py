"""Methods beyond the paper, and the map of when FIRST helps."""

from collections.abc import Sequence

from firstlib.results import table
from firstlib.results.beyond import benefit, benefit_frame, following_frame
from firstlib.results.differences import Difference, differences
from firstlib.results.markup import markdown_table
from scripts.blocks.common import Results, frame_table


def map_block(runs: Sequence[Results]) -> str:
    """Returns the map in short: every method's gain by how over-confident the teacher is."""
    frame = benefit_frame(benefit(runs))
    seeds = len({run["seed"] for run in runs})
    told = (
        f"Trust minus fine-tuning's in points, by the teacher's over-confidence in points; {len(runs)} cells, up to "
        f"{seeds} seeds a setting; above and below 0: settings whose 95 % interval over seeds is:"
    )
    return f"{told}\n\n{frame_table(frame, 'test set', 'method')}"


def following_block(runs: Sequence[Results]) -> str:
    """Returns how closely the students of distillation and of FIRST follow their targets, by epochs."""
    parts = []
    for method in ("distill", "first"):
        shown = frame_table(following_frame(runs, method), "epochs")
        parts += [f"`{method}`, mean confidence in percent:", shown]
    return "\n\n".join(parts)


def variants_block(runs: Sequence[Results]) -> str:
    """Returns methods beyond the paper over seeds, with their paired differences in Trust to the paper's."""
    rows = table.of_seeds(runs).entries
    head = ["method", *(f"{' '.join(place)}<br>acc / ECE / Trust" for place in rows)]
    wanted = ("fine-tune", "distill", "first")
    baselines = [name for name in wanted if any(name in methods for methods in rows.values())]
    found = {base: differences(runs, base) for base in baselines}
    head += [f"Trust minus {base}'s" for base in baselines]
    lines = []
    for name in dict.fromkeys(name for methods in rows.values() for name in methods):
        cells = [" / ".join(one.text for one in methods[name].values()) for methods in rows.values()]
        lines.append([name, *cells, *(_overall(found[base], name) for base in baselines)])
    return f"Mean over {len(runs)} seeds, in percent and points:\n\n{markdown_table(head, lines)}"


def _overall(found: Sequence[Difference], method: str) -> str:
    """A method's difference in the mean over test sets, or on the only one."""
    of = [one for one in found if one.method == method]
    return of[-1].text if of else ""  # the last is the mean, where there are several
