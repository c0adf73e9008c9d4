"use strict";
// Draws the page's data: figures, and the explorer on its grid of coefficients. Text from data becomes text nodes only.

const PHONE = 600; // pixels of width below which figures stand in one column
const CONFIG = { displayModeBar: false };
const LISTED = 5;
const ROUNDING = 1e-6;
const [ACCURACY, ECE, SMOOTH, NLL, BRIER, TRUST] = [0, 1, 2, 3, 4, 5]; // of a cell's measures
const at = (id) => document.getElementById(id);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const percent = (value, digits = 2) => (100 * value).toFixed(digits) + "%";
const narrow = () => document.documentElement.clientWidth < PHONE;

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
}

// -- one question under a map, as in firstlib.distillation.recalibration and firstlib.explorer.measures.targets ----

const scaled = (weights) => weights.map((weight) => weight / sum(weights));
const softmax = (scores) => scaled(scores.map((score) => Math.exp(score - Math.max(...scores))));
const MAPS = {
  none: (p) => scaled(p.map((value) => value + 1e-6)),
  temperature: (p, c) => softmax(p.map((value) => value / c)),
  "logit-temperature": (p, t) => softmax(p.map((value) => Math.log(value) / t)),
  "label-smoothing": (p, d) => {
    const taken = Math.min(p[0], d);
    return p.map((value, rank) => (rank ? value + taken / (p.length - 1) : value - taken));
  },
};

function recalibrated(example, state, vocabulary) {
  let after = MAPS[state.kind](example.before, state.coefficient);
  if (state.tail === "renormalise") after = scaled(after);
  const rest = 1 - sum(after) > ROUNDING ? 1 - sum(after) : 0;
  const candidates = example.inside.map((place) => (place < 0 ? 0 : after[place]));
  if (state.tail === "smooth") {
    example.inside.forEach((place, i) => { if (place < 0) candidates[i] += rest / Math.max(vocabulary - after.length, 1); });
  }
  if (state.tail === "gold") candidates[example.answer] = Math.min(candidates[example.answer] + rest, 1);
  const shares = sum(candidates) > 0 ? scaled(candidates) : candidates.map(() => 1 / candidates.length);
  const first = candidates.indexOf(Math.max(...candidates));
  const confidence = (state.reading === "candidates" ? shares : candidates)[first];
  return { after, shares, confidence, correct: first === example.answer };
}

function binOf(confidence, bins) {
  let bin = 0;
  for (let edge = 1; edge < bins; edge += 1) if (confidence > edge / bins) bin = edge;
  return bin;
}

// -- the explorer and its state ---------------------------------------------------------------------------------

class Explorer {
  constructor(data) {
    this.data = data;
    this.state = { ...data.start, example: 0, bin: null };
    this.controls = {};
    data.controls.forEach((control) => this.addMenu(control));
    at("coefficient").addEventListener("input", () => this.go({ coefficient: this.places()[at("coefficient").value] }));
    at("example").addEventListener("input", () => this.go({ example: Math.trunc(Number(at("example").value)) || 0 }));
    at("bin").addEventListener("change", () => this.go({ bin: at("bin").value === "" ? null : Number(at("bin").value) }));
    this.draw();
  }

  addMenu({ name, label, options }) {
    const box = element("label");
    const menu = element("select", undefined, { id: name });
    options.forEach(([text]) => menu.append(element("option", text)));
    menu.addEventListener("change", () => this.go({ [name]: options[menu.selectedIndex][1] }));
    box.append(element("span", label), menu);
    at("controls").append(box);
    this.controls[name] = { menu, options };
  }

  places() { return this.data.maps[this.state.kind].places; }

  name(changes = {}) {
    const state = { ...this.state, ...changes };
    const tail = this.data.tails[state.kind].includes(state.tail) ? state.tail : "drop";
    return [state.task, state.split, state.kind, state.reading, tail, state.bins].join(" ");
  }

  cells(changes) { return this.data.cells[this.name(changes)]; }

  place() {
    const distances = this.places().map((place) => Math.abs(place - this.state.coefficient));
    return distances.indexOf(Math.min(...distances));
  }

  cell() { return this.cells()[this.place()]; }

  examples() { return this.data.examples[`${this.state.task} ${this.state.split}`]; }

  go(changes) {
    const before = this.state;
    this.state = { ...before, ...changes };
    if (this.state.kind !== before.kind) this.state.coefficient = this.data.maps[this.state.kind].start;
    if (this.state.bins !== before.bins) this.state.bin = null;
    if (this.state.task !== before.task || this.state.split !== before.split) Object.assign(this.state, { bin: null, example: 0 });
    this.state.example = Math.min(Math.max(this.state.example, 0), this.examples().length - 1);
    this.update();
  }

  // -- the numbers of all traces, in the order of firstlib.explorer.drawing.numbers ------------------------------

  numbers() {
    return [...this.diagram(), ...this.tokens(), ...this.strips()];
  }

  diagram() {
    const bins = this.state.bins;
    const [, , , filled, count, accuracy, confidence, low, high] = this.cell();
    const all = (values) => { const row = Array(bins).fill(null); filled.forEach((bin, i) => { row[bin] = values[i]; }); return row; };
    const x = Array.from({ length: bins }, (_, bin) => (bin + 0.5) / bins);
    const width = Array(bins).fill(1 / bins);
    const over = all(accuracy.map((value, i) => Math.max(confidence[i] - value, 0)));
    const under = all(accuracy.map((value, i) => Math.max(value - confidence[i], 0)));
    const most = Math.max(...count);
    const share = all(count.map((value) => -this.data.looks.shares * (value / most))).map((value) => value ?? 0);
    const colours = x.map((_, bin) => (bin === this.state.bin ? this.data.looks.chosen : this.data.looks.free));
    const told = all(filled.map((_, i) => `${count[i]} answers<br>right ${percent(accuracy[i], 1)} (95 %: ${percent(low[i], 1)} to `
      + `${percent(high[i], 1)})<br>confidence ${percent(confidence[i], 1)}`)).map((text) => text ?? "no answers");
    return [
      { x, width, y: all(accuracy) },
      { x, width, y: over, base: all(accuracy) },
      { x, width, y: under, base: all(confidence) },
      { x, width, y: share, text: all(count.map(String)).map((text) => text ?? ""), textangle: bins <= 10 ? 0 : -90 },
      {},
      { x, y: all(accuracy), "error_y.array": all(high.map((value, i) => value - accuracy[i])),
        "error_y.arrayminus": all(low.map((value, i) => accuracy[i] - value)) },
      { x, width, y: x.map(() => 1 + this.data.looks.shares), base: x.map(() => -this.data.looks.shares), hovertext: told,
        "marker.color": colours },
    ];
  }

  tokens() {
    const example = this.examples()[this.state.example];
    const { after } = recalibrated(example, this.state, this.data.vocabulary);
    const x = (aside) => after.map((_, rank) => rank + aside);
    return [{ x: x(-0.2), y: example.before }, { x: x(0.2), y: after }];
  }

  curve(measure) { return this.cells().map((cell) => cell[0][measure]); }

  best(measure) {
    const values = this.curve(measure).map((value) => (value === null ? Infinity : measure === TRUST ? -value : value));
    return values.every((value) => value === Infinity) ? null : values.indexOf(Math.min(...values));
  }

  strips() {
    const x = this.places();
    const other = this.cells({ split: this.state.split === "test" ? "validation" : "test" });
    const drawn = (measure) => {
      const [y, best] = [this.curve(measure), this.best(measure)];
      const star = best === null ? { x: [null], y: [null] } : { x: [x[best]], y: [y[best]] };
      return [{ x, y }, star, { x: [this.state.coefficient], y: [y[this.place()]] }];
    };
    return [
      { x, y: this.cells().map((cell) => cell[2][0]) },
      { x, y: other.map((cell) => cell[0][ECE]) },
      ...[ECE, SMOOTH, NLL, BRIER, TRUST].flatMap(drawn),
    ];
  }

  // -- titles and ranges, as in firstlib.explorer.drawing.titles -------------------------------------------------

  layout() {
    const layout = structuredClone(this.data.figure[narrow() ? "narrow" : "wide"]);
    const symbol = this.data.maps[this.state.kind].symbol;
    const best = (measure) => (this.best(measure) === null ? "none" : this.places()[this.best(measure)].toFixed(2));
    const example = this.examples()[this.state.example];
    const rename = (text, from, to) => text.replace(from, () => to);
    const titles = layout.annotations.map((note) => note.text);
    titles[0] = `${this.state.split} answers by confidence`;
    titles[1] = rename(titles[1], /: [^:]*$/, `: ${shown(example.name, 24)}`);
    titles[2] = rename(rename(titles[2], /best \S+ = [\d.]+/, `best ${symbol} = ${best(ECE)}`), /smooth [\d.]+/, `smooth ${best(SMOOTH)}`);
    [NLL, BRIER, TRUST].forEach((measure, i) => {
      titles[3 + i] = rename(titles[3 + i], /best \S+ = \S+/, `best ${symbol} = ${best(measure)}`);
    });
    layout.annotations.forEach((note, i) => { note.text = titles[i]; });
    layout.xaxis2.ticktext = example.tokens.map((token) => shown(token, 12));
    layout.xaxis2.tickvals = example.tokens.map((_, rank) => rank);
    layout.yaxis4.range = this.nllRange();
    layout.width = undefined;
    layout.autosize = true;
    return layout;
  }

  nllRange() {
    const values = this.curve(NLL).filter((value) => value !== null);
    if (!values.length) return undefined;
    const least = Math.min(...values);
    return [0.9 * least, Math.max(Math.min(2 * least, Math.max(...values)), this.cell()[0][NLL]) * 1.05];
  }

  draw() {
    Plotly.newPlot("view", this.traces(), this.layout(), CONFIG).then((plot) => {
      plot.on("plotly_click", ({ points }) => {
        const bar = points.find((point) => point.data.name === this.data.figure.clicked);
        if (bar) this.go({ bin: bar.pointIndex });
      });
    });
    this.tell();
  }

  update() {
    Plotly.react("view", this.traces(), this.layout(), CONFIG);
    this.tell();
  }

  traces() {
    const numbers = this.numbers();
    return this.data.figure.data.map((trace, i) => {
      const made = { ...trace };
      Object.entries(numbers[i]).forEach(([key, value]) => {
        const [part, inner] = key.split(".");
        made[part] = inner ? { ...made[part], [inner]: value } : value;
      });
      if (made.texttemplate && narrow()) made.texttemplate = "%{y:.0%}"; // longer labels would overlap
      return made;
    });
  }

  // -- words -------------------------------------------------------------------------------------------------------

  tell() {
    const { state, controls } = this;
    Object.entries(controls).forEach(([name, { menu, options }]) => {
      menu.selectedIndex = options.findIndex(([, value]) => value === state[name]);
    });
    const slider = at("coefficient");
    Object.assign(slider, { min: 0, max: this.places().length - 1, step: 1 });
    slider.value = this.place();
    slider.disabled = this.places().length === 1;
    slider.setAttribute("aria-valuetext", state.coefficient.toFixed(2));
    at("value").textContent = `${this.data.maps[state.kind].symbol} = ${state.coefficient.toFixed(2)}`;
    Object.assign(at("example"), { max: this.examples().length - 1, value: state.example });
    this.fillBins();
    at("numbers").replaceChildren(...this.told());
    at("questions").replaceChildren(...this.listed());
  }

  fillBins() {
    const bins = this.state.bins;
    const spans = Array.from({ length: bins }, (_, bin) => `(${+(bin / bins).toFixed(4)}, ${+((bin + 1) / bins).toFixed(4)}]`);
    const none = element("option", "none", { value: "" });
    at("bin").replaceChildren(none, ...spans.map((span, bin) => element("option", span, { value: bin })));
    at("bin").value = this.state.bin ?? "";
  }

  told() {
    const [measures, ruledOut, [floor, most], , count] = this.cell();
    const [fitted, validation, test, best] = this.data.gaps[this.name({ split: "validation" })];
    const number = (value, digits) => (value === null ? "none" : value.toFixed(digits));
    const shown = [
      ["ECE", "ece", percent(measures[ECE])], ["smooth ECE", "smooth_ece", percent(measures[SMOOTH])],
      ["NLL", "nll", number(measures[NLL], 4)], ["Brier", "brier", number(measures[BRIER], 4)],
      ["accuracy", "accuracy", percent(measures[ACCURACY])], ["Trust", "trust", percent(measures[TRUST])],
    ];
    const parts = shown.flatMap(([name, key, value]) => [`${name} `, element("b", value, { "data-measure": key }), ", "]);
    const symbol = this.data.maps[this.state.kind].symbol;
    const optimism = 100 * (test - validation);
    const gap = `The search on validation questions finds ${symbol} = ${fitted}, with ECE ${percent(validation)} there and ${percent(test)} on `
      + `test questions, ${Math.abs(optimism).toFixed(2)} points ${optimism < 0 ? "less" : "more"}. The lowest ECE on test questions is ${percent(best)}.`;
    const chance = `By chance, a perfectly calibrated model would have ECE ${percent(floor)} on average, and above ${percent(most)} in one case of twenty.`;
    const left = ruledOut ? ` NLL leaves out ${ruledOut} questions whose right answer is not among the stored tokens.` : "";
    return [...parts.slice(0, -1), `; ${sum(count)} answers.`, element("br"), `${chance} ${gap}${left}`];
  }

  listed() {
    const { bin, bins } = this.state;
    if (bin === null) return [element("p", "Click a bar or choose a bin to list its questions.")];
    const found = this.examples()
      .map((example) => ({ example, ...recalibrated(example, this.state, this.data.vocabulary) }))
      .filter(({ confidence }) => binOf(confidence, bins) === bin);
    const filled = this.cell()[3].indexOf(bin);
    const total = filled < 0 ? 0 : this.cell()[4][filled];
    const span = `(${+(bin / bins).toFixed(4)}, ${+((bin + 1) / bins).toFixed(4)}]`;
    const head = element("p");
    head.append(element("b", `${total} answers with confidence in ${span}`, { "data-total": total }),
      `; this page holds ${found.length} of them${found.length > LISTED ? `, the first ${LISTED}:` : "."}`);
    return [head, ...found.slice(0, LISTED).map((one) => this.question(one))];
  }

  question({ example, after, shares, confidence, correct }) {
    const box = element("div", undefined, { class: "asked" });
    const table = element("table");
    const row = (cells, kind) => { const made = element("tr"); made.append(...cells.map((text) => element(kind, text))); return made; };
    table.append(row(["choice", "teacher", "recalibrated", "student"], "th"));
    example.choices.forEach((choice, i) => table.append(row([
      choice + (i === example.answer ? " ✓" : ""), percent(example.teacher[i], 1), percent(shares[i], 1),
      example.student ? percent(example.student[i], 1) : "-",
    ], "td")));
    const tokens = example.tokens.map((token, i) => `${token.trim() || "␣"} ${percent(example.before[i], 1)} → ${percent(after[i], 1)}`);
    const scroll = element("div", undefined, { class: "scroll" });
    scroll.append(table);
    const missing = example.student ? "" : "; the run holds no student's answers to these questions";
    box.append(element("h3", `${example.name}: ${correct ? "right" : "wrong"} with ${percent(confidence, 1)}`),
      element("div", example.text, { class: "question" }), scroll, element("p", `top tokens: ${tokens.join(", ")}${missing}`));
    return box;
  }
}

// As firstlib.figures.style.plain: plotly would read markup in a title.
function shown(text, longest) {
  const line = text.split(/\s+/).filter(Boolean).join(" ") || "␣";
  const cut = line.length <= longest ? line : `${line.slice(0, longest - 1)}…`;
  return cut.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// -- all other figures ---------------------------------------------------------------------------------------------

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
