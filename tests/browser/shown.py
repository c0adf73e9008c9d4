"""What a page must show for a view, in words and in plotly's numbers."""

import math

WIDTHS = {"wide": 1280, "narrow": 390}


def told(view):
    """The measures as they are written."""
    found = view.measures
    whole = {name: f"{getattr(found, name):.2%}" for name in ("ece", "smooth_ece", "accuracy", "trust")}
    return {**whole, "nll": "none" if math.isnan(found.nll) else f"{found.nll:.4f}", "brier": f"{found.brier:.4f}"}


def nulls(values):
    """Numbers as JSON has them: null where there is none."""
    return [None if math.isnan(value) else float(value) for value in values]
