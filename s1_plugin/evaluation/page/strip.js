// One column per question, one row per run: which budgets solved which question.
function strip(task, width, open) {
  const several = manyModels(task);
  const gutter = 8 + 7 * Math.max(...task.points.map((p) => p.label.length));
  const count = task.questions.length;
  const cell = Math.max(9, Math.min(22, Math.floor((width - gutter) / count)));
  const perBlock = Math.max(1, Math.floor((width - gutter) / cell));
  const blocks = Math.ceil(count / perBlock);
  const pitch = Math.max(cell, 12), gap = 22;
  // With several models, a line with each model's name above its rows.
  let line = 0;
  const heads = [], lines = task.points.map((p, i) => {
    if (several && (i === 0 || task.points[i - 1].model !== p.model)) heads.push([p.model, line++]);
    return line++;
  });
  const blockHeight = line * pitch + gap;
  const root = svg("svg", {
    class: "strip", viewBox: `0 0 ${width} ${blocks * blockHeight}`, role: "img",
    "aria-label": "Which runs solved which question; choose one below to read its trace",
  });
  const where = (row, q) => {
    const block = Math.floor(q / perBlock);
    return [gutter + (q % perBlock) * cell, block * blockHeight + gap - 6 + lines[row] * pitch];
  };
  for (let block = 0; block < blocks; block += 1) {
    const top = block * blockHeight;
    const first = block * perBlock, last = Math.min(count, first + perBlock) - 1;
    root.append(svg("text", { x: gutter, y: top + 11, class: "row" }, String(first + 1)));
    if (last > first + 3) {
      root.append(svg("text", { x: where(0, last)[0] + cell, y: top + 11, class: "row", "text-anchor": "end" }, String(last + 1)));
    }
    for (const [model, at] of heads) {
      root.append(svg("text", { x: gutter, y: top + gap - 6 + at * pitch + pitch / 2 + 4, class: "row" }, model));
    }
    task.points.forEach((p, row) => {
      root.append(svg("text", { x: gutter - 6, y: where(row, first)[1] + pitch / 2 + 4, class: "row", "text-anchor": "end" }, p.label));
    });
  }
  task.questions.forEach((question, q) => {
    question.scores.forEach((score, row) => {
      if (score === null) return;
      const [x, y] = where(row, q);
      const colour = score >= 1 ? "var(--right)" : score > 0 ? "var(--partial)" : "var(--wrong)";
      root.append(svg("rect", {
        x: x + 0.5, y: y + 0.5, width: cell - 1, height: pitch - 1, rx: 1.5, fill: colour,
        "data-q": q, "data-r": row,
      }));
    });
  });
  const cursor = svg("rect", { class: "cursor", width: cell, height: pitch, rx: 2, visibility: "hidden" });
  root.append(cursor);
  root.addEventListener("click", (event) => {
    const { q, r } = event.target.dataset || {};
    if (q !== undefined) open(Number(q), Number(r), true);
  });
  const show = (q, r) => {
    const [x, y] = where(r, q);
    for (const [name, value] of Object.entries({ x, y, visibility: "visible" })) cursor.setAttribute(name, value);
  };
  return { root, show };
}

const stripKey = (task) => {
  const key = (colour, text) => el("span", { class: "key" }, el("i", { style: `background:${colour}` }), text);
  return el("p", { class: "soft sans" }, key("var(--right)", "solved"),
    task.points.some((p) => p.repeats > 1) ? key("var(--partial)", "solved in some samples") : null,
    key("var(--wrong)", "not solved"), "One column per question; tap a cell to read the trace.");
};
