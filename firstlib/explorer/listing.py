"""The explorer's texts as HTML: its numbers, and the questions of a bin. All text from data is escaped."""

from html import escape
from math import isfinite

from firstlib.explorer.drawing import SYMBOLS
from firstlib.explorer.view import LISTED, ExampleView, View
from firstlib.figures.style import name_of

LONGEST = 700  # characters of a question


def numbers(view: View) -> str:
    """Returns the measures, the noise floor and the optimism gap."""
    found, floor = view.measures, view.floor
    values = {
        "ECE": (f"{found.ece:.2%}", "ece"),
        "smooth ECE": (f"{found.smooth_ece:.2%}", "smooth_ece"),
        "NLL": (f"{found.nll:.4f}" if isfinite(found.nll) else "none", "nll"),
        "Brier": (f"{found.brier:.4f}", "brier"),
        "accuracy": (f"{found.accuracy:.2%}", "accuracy"),
        "Trust": (f"{found.trust:.2%}", "trust"),
    }
    parts = [f'{name} <b data-measure="{key}">{value}</b>' for name, (value, key) in values.items()]
    chance = f"By chance alone ECE would be {floor.mean:.2%}, and above {floor.percentile_95:.2%} one time in twenty."
    return f"{', '.join(parts)}; {found.n} answers.<br>{chance} {optimism(view)} {ruled_out(view)}"


def optimism(view: View) -> str:
    """Returns how much better the fitted coefficient looks on validation questions than on test questions."""
    gap, symbol = view.gap, SYMBOLS[view.state.kind]
    return (
        f"Fitted on validation: {symbol} = <b>{gap.coefficient:g}</b>, ECE {gap.validation:.2%} there and "
        f"{gap.test:.2%} on test, an optimism of {100 * gap.optimism:.2f} points; "
        f"the best on test would be {gap.best:.2%}."
    )


def ruled_out(view: View) -> str:
    """Returns which questions NLL leaves out; nothing if it covers all."""
    if not view.measures.ruled_out:
        return ""
    return (
        f"NLL is over the answers that the kept tokens hold; {view.measures.ruled_out} right ones are not among them."
    )


def questions(view: View) -> str:
    """Returns the chosen bin's questions."""
    if view.state.bin is None:
        return "<p>Click a bar, or choose a bin, to see its questions.</p>"
    edges = view.reliability.edges
    span = f"({edges[view.state.bin]:g}, {edges[view.state.bin + 1]:g}]"
    head = f"<p><b>{view.in_bin} answers with confidence in {span}</b>"
    head += f"; the first {LISTED}:</p>" if view.in_bin > LISTED else ".</p>"
    return head + "".join(question(one, view) for one in view.listed)


def shortened(text: str) -> str:
    """Returns the end of a long text, where the question stands; others as they are."""
    return text if len(text) <= LONGEST else "… " + text[-LONGEST:]


def question(one: ExampleView, view: View) -> str:
    """Returns one question with the answers of teacher, target and student."""
    text = shortened(one.text)
    verdict = "right" if one.correct else "wrong"
    rows = "".join(_row(one, place) for place in range(len(one.choices)))
    head = "".join(f"<th>{name}</th>" for name in ("choice", "teacher", "recalibrated", "student"))
    missing = "" if one.student is not None else "; no student is distilled yet"
    return (
        f'<div data-row="{one.row}" style="border-top:1px solid #999;margin-top:8px">'
        f"<p><b>{escape(one.name)}</b> ({name_of(view.state.task)}), {verdict} with {one.confidence:.1%}</p>"
        f'<p style="white-space:pre-wrap;line-height:1.3">{escape(text)}</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>top tokens: {_tokens(one)}{missing}</p></div>"
    )


def _row(one: ExampleView, place: int) -> str:
    mark = " ✓" if place == one.answer else ""
    shares = (one.teacher, one.target, one.student)
    cells = "".join(f"<td>{share[place]:.1%}</td>" if share is not None else "<td>-</td>" for share in shares)
    return f"<tr><td>{escape(one.choices[place])}{mark}</td>{cells}</tr>"


def _tokens(one: ExampleView) -> str:
    pairs = zip(one.tokens, one.before, one.after, strict=True)
    return ", ".join(f"{escape(token.strip() or '␣')} {before:.1%} → {after:.1%}" for token, before, after in pairs)
