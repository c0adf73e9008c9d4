// The explorer: it reads its numbers from a grid of coefficients, and draws what firstlib.explorer.compute returns.

class Explorer {
  constructor(data) {
    this.data = data;
    this.state = { ...data.start, example: 0, bin: null };
    this.controls = {};
    data.controls.forEach((control) => this.addMenu(control));
    at("coefficient").addEventListener("input", () => this.go({ coefficient: this.places()[at("coefficient").value] }));
    at("example").addEventListener("input", () => this.go({ example: Math.trunc(Number(at("example").value)) || 0 }));
    at("bin").addEventListener("change", () => this.go({ bin: numberOrNull(at("bin").value) }));
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
    const same = this.state.task === before.task && this.state.split === before.split;
    if (!same) Object.assign(this.state, { bin: null, example: 0 });
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
    const all = (values) => {
      const row = Array(bins).fill(null);
      filled.forEach((bin, i) => { row[bin] = values[i]; });
      return row;
    };
    const x = Array.from({ length: bins }, (_, bin) => (bin + 0.5) / bins);
    const width = Array(bins).fill(1 / bins);
    const over = all(accuracy.map((value, i) => Math.max(confidence[i] - value, 0)));
    const under = all(accuracy.map((value, i) => Math.max(value - confidence[i], 0)));
    const most = Math.max(...count);
    const share = all(count.map((value) => -this.data.looks.shares * (value / most))).map((value) => value ?? 0);
    const colours = x.map((_, bin) => (bin === this.state.bin ? this.data.looks.chosen : this.data.looks.free));
    const hover = (i) => `${count[i]} answers<br>right ${percent(accuracy[i], 1)} `
      + `(95 %: ${percent(low[i], 1)} to ${percent(high[i], 1)})<br>confidence ${percent(confidence[i], 1)}`;
    const texts = all(filled.map((_, i) => hover(i))).map((text) => text ?? "no answers");
    return [
      { x, width, y: all(accuracy) },
      { x, width, y: over, base: all(accuracy) },
      { x, width, y: under, base: all(confidence) },
      { x, width, y: share, text: all(count.map(String)).map((text) => text ?? ""), textangle: bins <= 10 ? 0 : -90 },
      {},
      { x, y: all(accuracy), "error_y.array": all(high.map((value, i) => value - accuracy[i])),
        "error_y.arrayminus": all(low.map((value, i) => accuracy[i] - value)) },
      { x, width, y: x.map(() => 1 + this.data.looks.shares), base: x.map(() => -this.data.looks.shares),
        hovertext: texts, "marker.color": colours },
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
    titles[2] = rename(titles[2], /best \S+ = [\d.]+/, `best ${symbol} = ${best(ECE)}`);
    titles[2] = rename(titles[2], /smooth [\d.]+/, `smooth ${best(SMOOTH)}`);
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
    const spans = Array.from({ length: bins }, (_, bin) => span(bin, bins));
    const none = element("option", "none", { value: "" });
    at("bin").replaceChildren(none, ...spans.map((text, bin) => element("option", text, { value: bin })));
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
    const part = ([name, key, value]) => [`${name} `, element("b", value, { "data-measure": key }), ", "];
    const parts = shown.flatMap(part);
    const symbol = this.data.maps[this.state.kind].symbol;
    const optimism = 100 * (test - validation);
    const worse = `${Math.abs(optimism).toFixed(2)} points ${optimism < 0 ? "less" : "more"}`;
    const gap = `The search on validation questions finds ${symbol} = ${fitted}, with ECE ${percent(validation)} `
      + `there and ${percent(test)} on test questions, ${worse}. `
      + `The lowest ECE on test questions is ${percent(best)}.`;
    const chance = `By chance, a perfectly calibrated model would have ECE ${percent(floor)} on average, and above `
      + `${percent(most)} in one case of twenty.`;
    const out = `NLL leaves out ${ruledOut} questions whose right answer is not among the stored tokens.`;
    const left = ruledOut ? ` ${out}` : "";
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
    const head = element("p");
    head.append(element("b", `${total} answers with confidence in ${span(bin, bins)}`, { "data-total": total }),
      `; this page holds ${found.length} of them${found.length > LISTED ? `, the first ${LISTED}:` : "."}`);
    return [head, ...found.slice(0, LISTED).map((one) => this.question(one))];
  }

  question({ example, after, shares, confidence, correct }) {
    const box = element("div", undefined, { class: "asked" });
    const table = element("table");
    const row = (cells, kind) => {
      const made = element("tr");
      made.append(...cells.map((text) => element(kind, text)));
      return made;
    };
    table.append(row(["choice", "teacher", "recalibrated", "student"], "th"));
    example.choices.forEach((choice, i) => table.append(row([
      choice + (i === example.answer ? " ✓" : ""), percent(example.teacher[i], 1), percent(shares[i], 1),
      example.student ? percent(example.student[i], 1) : "-",
    ], "td")));
    const change = (i) => `${percent(example.before[i], 1)} → ${percent(after[i], 1)}`;
    const tokens = example.tokens.map((token, i) => `${token.trim() || "␣"} ${change(i)}`);
    const scroll = element("div", undefined, { class: "scroll" });
    scroll.append(table);
    const missing = example.student ? "" : "; the run holds no student's answers to these questions";
    box.append(element("h3", `${example.name}: ${correct ? "right" : "wrong"} with ${percent(confidence, 1)}`),
      element("div", example.text, { class: "question" }), scroll,
      element("p", `top tokens: ${tokens.join(", ")}${missing}`));
    return box;
  }
}
