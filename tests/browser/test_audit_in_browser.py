"""An audit's page in a real browser: without a network, on wide and narrow screens, with hostile texts in its log."""

import json

import pytest

from browser.shown import WIDTHS
from browser.test_hostile_data import CHOICES, NAME, QUESTION, check_texts, check_unharmed
from firstlib import audit


def line(number):
    arguments = {
        f"gen_args_{i}": {"arg_0": f"{number} {QUESTION}", "arg_1": f" {text}"} for i, text in enumerate(CHOICES)
    }
    return {
        "doc_id": number, "doc": {"subject": f"{NAME}{number % 2}"}, "target": str(number % 4), "arguments": arguments,
        "filtered_resps": [[str(-0.1 - (i + number) % 4), "False"] for i in range(4)], "resps": [], "filter": "none",
        "metrics": ["acc"], "doc_hash": f"{number}{NAME}", "acc": float((4 - number) % 4 == number % 4),
    }  # fmt: skip


@pytest.fixture(scope="module")
def page_of_a_log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    path = folder / "<img src=x onerror=window.injected=1>.jsonl"
    path.write_text("".join(json.dumps(line(number)) + "\n" for number in range(40)))
    return audit(path).save(folder)[1]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_hostile_texts_of_a_log_are_shown_as_text(watched, page_of_a_log, pictures, width):
    page = watched(width, offline=True)
    page.goto(page_of_a_log.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    check_texts(page.locator("#answers").inner_text())
    assert NAME in page.locator("#subjects").inner_text()
    assert "<img src=x" in page.locator("h1").inner_text()
    for plot in page.locator(".plot").all():
        plot.hover()
    check_unharmed(page)
    assert page.locator(".plot .main-svg").count() >= 6, "all three figures are drawn"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    page.screenshot(path=pictures / f"audit-{width}.png", full_page=True)
