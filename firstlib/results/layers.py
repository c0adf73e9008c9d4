"""What `first shrink` shows: each layer's influence, what the text costs without it, and which were dropped."""

from rich.table import Table

from firstlib.experiment.shrinking import Shrunk


def layers_table(found: Shrunk) -> Table:
    """Returns a table for a terminal: a line per layer of the base model."""
    title = (
        f"A held-out text costs {found.base:.3f} nats a token, without {len(found.dropped)} layers {found.cut:.3f}, "
        f"healed {found.healed:.3f}."
    )
    table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left")
    for name in ("layer", "influence", "cost without it alone", ""):
        table.add_column(name, justify="right")
    for at, (influence, without) in enumerate(zip(found.influence, found.without, strict=True)):
        told = "dropped" if at in found.dropped else ""
        table.add_row(str(at), f"{influence:.4f}", f"{without - found.base:+.3f}", told)
    return table
