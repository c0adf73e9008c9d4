// Draws the explorer and all figures once the page is loaded.

function drawFigures(figures) {
  Object.entries(figures).forEach(([id, { wide, narrow: slim }]) => {
    const { data, layout } = structuredClone((narrow() && slim) || wide);
    const more = narrow() ? 28 : 0; // pixels for a legend of several lines
    const { height, margin } = { ...layout.template.layout, ...layout }; // plotly cannot measure an empty box
    const top = { ...layout.template.layout.margin, ...margin };
    const sized = { height: height + more, margin: { ...top, t: top.t + more }, width: undefined, autosize: true };
    Plotly.react(id, data, { ...layout, ...sized }, CONFIG);
  });
}

async function start() {
  if (!window.DecompressionStream) {
    at("figures").prepend(element("p", "The explorer and the figures need a browser of 2023 or later."));
    return;
  }
  const { explorer, figures } = await unpacked(at("data").textContent);
  const page = explorer && new Explorer(explorer);
  drawFigures(figures);
  let [width, later] = [document.documentElement.clientWidth, null];
  const redraw = () => {
    if (document.documentElement.clientWidth === width) return; // a phone's address bar changes the height alone
    width = document.documentElement.clientWidth;
    if (page) page.update();
    drawFigures(figures);
  };
  window.addEventListener("resize", () => { clearTimeout(later); later = setTimeout(redraw, 150); });
  window.explorer = page;
  document.documentElement.dataset.ready = "true";
}

start();
