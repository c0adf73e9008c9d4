"use strict";
// What the page's scripts share: small helpers, and one question under a map. Text from data becomes text nodes only.

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
    const share = rest / Math.max(vocabulary - after.length, 1);
    example.inside.forEach((place, i) => { if (place < 0) candidates[i] += share; });
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

const span = (bin, bins) => `(${+(bin / bins).toFixed(4)}, ${+((bin + 1) / bins).toFixed(4)}]`;
const numberOrNull = (text) => (text === "" ? null : Number(text));

// As firstlib.figures.style.plain: plotly would read markup in a title.
function shown(text, longest) {
  const line = text.split(/\s+/).filter(Boolean).join(" ") || "␣";
  const cut = line.length <= longest ? line : `${line.slice(0, longest - 1)}…`;
  return cut.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
