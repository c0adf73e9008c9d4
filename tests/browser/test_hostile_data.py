"""Data with executable markup in every text: reports, notebooks and cards show it as text."""

import json
from html import unescape

import pytest
import yaml
from markdown_it import MarkdownIt

from browser.shown import SOON, click_bin, run_all
from firstlib import Experiment
from firstlib.results.export import export_student
from firstlib.results.report import write_report

RUN = "window.injected = 1"
QUESTION = (
    f"</script><script>{RUN}</script><img src=x onerror=\"{RUN}\"> <a href='javascript:{RUN}'>here</a> "
    "%{y} $x$ &lt;b&gt; \"quoted\" 'too' ]]> -->"
)
CHOICES = [
    f'<a href="javascript:{RUN}">a link</a>',
    f"</td></table></div><svg onload={RUN}>",
    f"'\"><img src=x onerror={RUN}>",
    f"<b onmouseover={RUN}>bold</b><br>",
]
NAME = f'"><img src=x onerror={RUN}>'
# Elements that markup in the data would create; a report has none of its own.
PLANTED = "img[src=x], svg[onload], b[onmouseover], [href^='javascript:'], iframe, .js-plotly-plot a"


@pytest.fixture(scope="session")
def hostile(browser, bytes_folder, tmp_path_factory):
    """A run on such data from a user's own file."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [
        {"id": f"{number}{NAME}", "question": f"{number} {QUESTION}", "choices": CHOICES, "answer": "abcd"[number % 4]}
        for number in range(48)
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base = {"base": str(bytes_folder)}
    settings = {
        "description": QUESTION,
        "data": {"source": "hub", "own": str(folder / "mine.jsonl")},
        "columns": [{"setting": "in-domain", "train": "own", "test": ["own"]}],
        "sizes": {"train": 16, "validation": 16, "test": 16},
        "teacher": base, "student": base,
        "training": {"epochs": 1, "teacher_learning_rate": 1e-3, "student_learning_rate": 1e-3},
    }  # fmt: skip
    preset = folder / f"<img src=x onerror={RUN}>.yaml"
    preset.write_text(yaml.safe_dump(settings))
    return Experiment(str(preset), 0, str(folder / "runs"))


def check_unharmed(page):
    assert page.evaluate("typeof window.injected") == "undefined"
    assert page.locator(PLANTED).evaluate_all("found => found.map((one) => one.outerHTML)") == []


def check_texts(text):
    """Checks that question and choices are shown character by character."""
    assert QUESTION in text
    for choice in CHOICES:
        assert choice in text


def test_a_report_shows_hostile_text_as_text(watched, hostile):
    page = watched(offline=True)
    page.goto(write_report(hostile).as_uri())
    page.wait_for_selector("html[data-ready=true]")
    for example in range(4):
        page.fill("#example", str(example))
    filled = page.evaluate("explorer.cell()[3]")
    for chosen in filled:
        page.select_option("#bin", value=str(chosen))
        check_texts(page.locator("#questions").inner_text())
    assert NAME in page.locator("#questions h3").first.inner_text()
    click_bin(page, "#view", (filled[0] + 0.5) / 10)
    for plot in page.locator(".plot").all():
        plot.hover()
    assert QUESTION in page.locator("#case pre").inner_text()
    assert QUESTION in page.locator("header p").inner_text()
    assert "<img src=x" in page.locator("h1").inner_text()
    titles = page.locator("#view .annotation-text").all_text_contents()
    assert any('"><img src=x onerror' in title for title in titles)
    labels = page.locator("#figure-case .ytick").all_text_contents()
    assert sum("<a href=" in label or "<b onmouseover" in label for label in labels) == 2
    check_unharmed(page)


def test_a_notebook_shows_hostile_text_as_text(watched, lab, hostile):
    page = watched()
    run_all(page, lab(hostile, "hostile.ipynb"))
    filled = hostile.predictions("teacher", "own", "own", "validation").reliability().count.argmax()
    bins = page.locator(".widget-dropdown").filter(has_text="bin").last.locator("select")
    bins.select_option(index=int(filled) + 1)
    page.locator("[data-row]").first.wait_for(timeout=SOON)
    check_texts(page.locator("[data-row]").first.inner_text())
    assert NAME in page.locator("[data-row] b").first.inner_text()
    check_unharmed(page)


def test_a_model_card_shows_hostile_text_as_text(watched, hostile, tmp_path):
    """The card is rendered by a Markdown reader that does not filter HTML."""
    folder = export_student(hostile, "first", "own", tmp_path / "student")
    text = (folder / "README.md").read_text().split("---\n", 2)[2]
    (folder / "card.html").write_text(MarkdownIt("commonmark").enable("table").render(text))
    page = watched()
    page.goto((folder / "card.html").as_uri())
    shown = unescape(page.locator("body").inner_text())
    for choice in CHOICES:
        assert choice in shown
    check_unharmed(page)
