// Small helpers. Text from models and data sets only ever becomes text nodes and attributes.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Enter and space act like a click on things that are buttons but not <button>.
const pressable = (action) => ({
  onclick: action,
  onkeydown: (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      action();
    }
  },
});

const fixed = (value, digits = 1) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
// The formula of the standard error gives 0 where all answers are alike; the interval does not.
const plusMinus = (error) => (error > 0 ? ` ± ${fixed(error)}` : "");
const withError = (p) => fixed(p.accuracy) + plusMinus(p.standard_error);
const tokens = (value) =>
  value >= 10000 ? Math.round(value).toLocaleString("en") : fixed(value, value < 100 ? 1 : 0);
const percent = (share) => fixed(100 * share, share > 0 && share < 0.1 ? 1 : 0) + " %";

const drawn = (point) => point.thinking_tokens.mean > 0; // null where nobody counted them
const dashes = (series) => series === "cap" ? null : series.startsWith("control:") ? "1 3" : "6 4";

// One entry per line of the chart: a model under caps, with one word for Wait, or told to think
// for so long.
function seriesOf(task) {
  const found = new Map();
  task.points.forEach((point, index) => {
    const key = JSON.stringify([point.model, point.series]);
    if (!found.has(key)) {
      found.set(key, {
        model: point.model, series: point.series, name: point.series_name, points: [],
      });
    }
    found.get(key).points.push(index);
  });
  const all = [...found.values()]; // the points come sorted by model and series
  all.forEach((s, i) => { s.colour = `var(--s${i % 6})`; });
  return all;
}
const manyModels = (task) => new Set(task.points.map((p) => p.model)).size > 1;
const pointName = (task, point) =>
  manyModels(task) ? `${point.model} ${point.label}` : point.label;

function marker(series, x, y, r, colour) {
  const style = { stroke: colour, "stroke-width": 1.8 };
  if (series === "reference") {
    const d = `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`;
    return svg("path", { ...style, d, fill: "none" });
  }
  style.fill = series === "cap" || series === "wait:Wait" ? colour : "var(--paper)";
  if (series === "cap") return svg("circle", { ...style, cx: x, cy: y, r });
  if (series.startsWith("control:")) {
    return svg("rect", { ...style, x: x - r, y: y - r, width: 2 * r, height: 2 * r });
  }
  const s = r * 1.3;
  return svg("path", { ...style, d: `M${x} ${y - s}L${x + s} ${y}L${x} ${y + s}L${x - s} ${y}Z` });
}
