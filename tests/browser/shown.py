"""What a page must show for a view, as text and in plotly's figures, and how fast."""

import math
from statistics import median

WIDTHS = {"wide": 1280, "narrow": 390}
PATIENCE = 240_000  # milliseconds for a kernel to start and to run a notebook, on a busy machine
SOON = 60_000  # milliseconds: another process may be computing a whole run meanwhile
BOUND = 1000  # milliseconds from a move of the slider to the new figure
MOVES = 24

# Whether every cell has run; a kernel ignores the slider while it runs one.
ALL_RUN = "() => ![...document.querySelectorAll('.jp-InputPrompt')].some((one) => one.textContent.includes('*'))"
# Milliseconds from each move of the slider to the frame that shows it; the second half of the moves goes back.
REDRAWN = """async ([figure, slider, moves]) => {
  const [plot, hand, times] = [document.querySelector(figure), document.querySelector(slider), []];
  const here = () => Number(plot.data.find((one) => one.name === 'ECE here').x[0]);
  const away = here() > 0.5 ? -1 : 1;
  const move = (step) => {
    const key = step > 0 ? 'ArrowRight' : 'ArrowLeft';
    if (hand.tagName !== 'INPUT') return hand.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    hand.value = Number(hand.value) + step;
    return hand.dispatchEvent(new Event('input'));
  };
  for (let made = 0; made < moves; made += 1) {
    const [before, start] = [here(), performance.now()];
    await new Promise((done) => {
      const drawn = () => { if (here() !== before) { plot.removeListener('plotly_afterplot', drawn); done(); } };
      plot.on('plotly_afterplot', drawn);
      move(made < moves / 2 ? away : -away);
    });
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - start);
  }
  return times;
}"""


def redraw(page, figure, slider):
    """Moves the slider there and back, and returns a line with the time the figure takes to follow."""
    times = page.evaluate(REDRAWN, [figure, slider, MOVES])
    assert len(times) == MOVES
    assert median(times) < BOUND
    return f"slider to figure: median {median(times):.0f} ms over {MOVES} moves, minimum {min(times):.0f} ms"


def run_all(page, address):
    """Opens a notebook in JupyterLab, runs all cells, and waits until the explorer is shown."""
    page.goto(address)
    page.locator(".jp-Notebook h1").first.wait_for(timeout=PATIENCE)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator("[data-measure=ece]").wait_for(timeout=PATIENCE)
    page.wait_for_function(ALL_RUN, timeout=PATIENCE)
    page.locator(".jupyter-widgets .js-plotly-plot .nsewdrag").first.wait_for(timeout=PATIENCE)


def click_bin(page, plot, at):
    """Clicks the diagram at a confidence, at half its height."""
    area = page.locator(f"{plot} .nsewdrag[data-subplot=xy]").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.click(box["x"] + at * box["width"], box["y"] + box["height"] / 2)


def texts_of(view):
    """Returns a view's measures as the explorer writes them."""
    found = view.measures
    percents = {name: f"{getattr(found, name):.2%}" for name in ("ece", "smooth_ece", "accuracy", "trust")}
    return {**percents, "nll": "none" if math.isnan(found.nll) else f"{found.nll:.4f}", "brier": f"{found.brier:.4f}"}


def nulls(values):
    """Returns numbers as JSON has them, with None instead of nan."""
    return [None if math.isnan(value) else float(value) for value in values]
