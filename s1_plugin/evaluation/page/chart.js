// Accuracy against thinking tokens (log2), drawn at the width it is shown at, so that letters
// have the same size on a phone.
function scales(task, width, height, margin) {
  const shown = task.points.filter(drawn);
  const reference = task.reference ? task.reference.points : [];
  const xs = [...shown.map((p) => p.thinking_tokens.mean), ...reference.map((p) => p.tokens)];
  const ys = [...shown.flatMap((p) => p.wilson), ...reference.flatMap((p) => p.wilson)];
  const low = Math.log2(Math.min(...xs)), high = Math.log2(Math.max(...xs));
  const pad = Math.max((high - low) * 0.06, 0.25);
  const x0 = low - pad, x1 = high + pad;
  const y0 = Math.max(0, Math.floor(Math.min(...ys) / 10) * 10);
  const y1 = Math.min(100, Math.max(y0 + 10, Math.ceil(Math.max(...ys) / 10) * 10));
  const inner = { w: width - margin.left - margin.right, h: height - margin.top - margin.bottom };
  return {
    x: (t) => margin.left + ((Math.log2(t) - x0) / (x1 - x0)) * inner.w,
    y: (a) => margin.top + (1 - (a - y0) / (y1 - y0)) * inner.h,
    x0, x1, y0, y1,
  };
}

function axes(scale, width, height, margin) {
  const out = [];
  const bottom = height - margin.bottom, right = width - margin.right;
  const range = scale.y1 - scale.y0;
  const step = range > 60 ? 20 : range > 25 ? 10 : 5;
  for (let a = scale.y0; a <= scale.y1 + 0.001; a += step) {
    out.push(svg("line", { class: "grid", x1: margin.left, x2: right, y1: scale.y(a), y2: scale.y(a) }));
    out.push(svg("text", { x: margin.left - 7, y: scale.y(a) + 4, "text-anchor": "end" }, a));
  }
  const octaves = scale.x1 - scale.x0;
  const skip = Math.max(1, Math.ceil(octaves / Math.max(2, (right - margin.left) / 58)));
  for (let e = Math.ceil(scale.x0); e <= scale.x1; e += 1) {
    const x = scale.x(2 ** e);
    out.push(svg("line", { class: "grid", x1: x, x2: x, y1: margin.top, y2: bottom }));
    if (e % skip === 0) {
      out.push(svg("text", { x, y: bottom + 17, "text-anchor": "middle" }, String(2 ** e)));
    }
  }
  out.push(svg("line", { class: "axis", x1: margin.left, x2: right, y1: bottom, y2: bottom }));
  const middle = (margin.left + right) / 2;
  out.push(svg("text", { x: middle, y: height - 4, "text-anchor": "middle" }, "average thinking tokens (log scale)"));
  out.push(svg("text", { x: 4, y: 13 }, "accuracy (%)"));
  return out;
}

// Labels beside their points, each in the first place around its point that is still free.
function labels(task, scale, width, height) {
  const colours = [];
  for (const s of seriesOf(task)) for (const i of s.points) colours[i] = s.colour;
  const taken = [], out = [];
  const free = (box) =>
    box[0] > 0 && box[2] < width && box[1] > 0 && box[3] < height - 30 &&
    taken.every((b) => box[2] < b[0] || b[2] < box[0] || box[3] < b[1] || b[3] < box[1]);
  const places = task.points.map((p, i) =>
    [p, scale.x(p.thinking_tokens.mean), scale.y(p.accuracy), colours[i]])
    .filter(([p]) => drawn(p));
  for (const [, x, y] of places) taken.push([x - 6, y - 6, x + 6, y + 6]);
  for (const [point, x, y, colour] of places) {
    const text = point.short, w = 7 * text.length;
    const left = -8 - w;
    const corners = point.prolonged || point.control
      ? [[left, -5], [8, 14], [left, 4], [8, 4], [left, -16], [8, 26], [8, -8]]
      : [[8, 14], [left, -5], [8, 4], [8, 26], [left, -16], [left, 14], [8, -8]];
    for (const [dx, dy] of corners) {
      const box = [x + dx, y + dy - 9, x + dx + w, y + dy + 2];
      if (!free(box)) continue;
      taken.push(box);
      out.push(svg("text", { class: "label", x: x + dx, y: y + dy, style: `fill:${colour}` }, text));
      break;
    }
  }
  return out;
}

function chart(task, width, choose) {
  const height = Math.max(300, Math.min(460, width * 0.56));
  if (!task.reference && !task.points.some(drawn)) {
    return { root: el("p", { class: "soft" }, "No run has thinking tokens that were counted: there is nothing to draw."), groups: [] };
  }
  const margin = { top: 26, right: 12, bottom: 44, left: 38 };
  const scale = scales(task, width, height, margin);
  const root = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `Accuracy against thinking tokens, ${task.task}`,
  }, axes(scale, width, height, margin));
  const path = (pairs) => "M" + pairs.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  if (task.reference) {
    const pairs = task.reference.points.map((p) => [scale.x(p.tokens), scale.y(p.accuracy)]);
    root.append(svg("path", { d: path(pairs), fill: "none", stroke: "var(--ref)", "stroke-width": 1.4, "stroke-dasharray": "2 4" }));
    task.reference.points.forEach((p, i) => {
      const [x, y] = pairs[i], [low, high] = p.wilson.map(scale.y);
      root.append(svg("path", { d: `M${x} ${low}V${high}`, stroke: "var(--ref)", "stroke-opacity": 0.35 }),
        svg("g", {}, marker("reference", x, y, 3.6, "var(--ref)"),
          svg("title", {}, `${task.reference.name}: ${p.tokens} tokens, ${withError(p)} %`)));
    });
  }
  const groups = [];
  for (const series of seriesOf(task)) {
    const mine = series.points.filter((i) => drawn(task.points[i]));
    const at = (i) => [scale.x(task.points[i].thinking_tokens.mean), scale.y(task.points[i].accuracy)];
    let line = mine.map(at);
    const first = task.points[mine[0]];
    if (first && first.prolonged) {
      // Waits go on from the run without any, under the same control and cap.
      const start = task.points.findIndex((p) => drawn(p) && !p.prolonged && p.model === first.model &&
        p.control === first.control && p.cap === first.cap);
      if (start >= 0) line = [at(start), ...line];
    }
    if (line.length > 1) {
      root.append(svg("path", { d: path(line), fill: "none", stroke: series.colour, "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-dasharray": dashes(series.series) }));
    }
    for (const index of mine) {
      const point = task.points[index], [x, y] = at(index);
      const [low, high] = point.wilson.map(scale.y);
      const whisker = `M${x} ${low}V${high}M${x - 3.5} ${low}h7M${x - 3.5} ${high}h7`;
      groups[index] = svg("g", {
        role: "button", tabindex: 0, "data-point": index, "aria-label": describe(task, point),
        ...pressable(() => choose(index)), onfocus: () => choose(index),
      },
        svg("path", { d: whisker, stroke: series.colour, "stroke-opacity": 0.5, fill: "none" }),
        svg("circle", { class: "halo", cx: x, cy: y, r: 10, fill: "transparent" }),
        marker(series.series, x, y, 4.4, series.colour),
        svg("title", {}, describe(task, point)));
    }
  }
  root.append(...groups.filter(Boolean), ...labels(task, scale, width, height));
  return { root, groups };
}

const describe = (task, p) =>
  `${pointName(task, p)}: ${withError(p)} % ` +
  `(95 % interval ${fixed(p.wilson[0])} to ${fixed(p.wilson[1])}, n = ${p.n}` +
  `${p.repeats > 1 ? ` × ${p.repeats} samples` : ""}), ${tokens(p.thinking_tokens.mean)} thinking tokens`;

function legend(task) {
  const several = manyModels(task);
  const item = (series, colour, dash, text) =>
    el("li", {}, svg("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" },
      svg("path", { d: "M1 7H33", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dash }),
      marker(series, 17, 7, 4, colour)), text);
  const out = seriesOf(task).filter((s) => s.points.some((i) => drawn(task.points[i]))).map((s) => item(s.series, s.colour, dashes(s.series),
    (several ? `${s.model}, ` : "") + s.name));
  if (task.reference) out.push(item("reference", "var(--ref)", "2 4", task.reference.name));
  return el("ul", { class: "legend" }, out);
}
