const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");

// Shares of how answers were graded, where they were logged.
const GRADED = { judged: "judged", judge_failed: "judge failed", ungraded: "ungraded" };

function runsTable(task, choose) {
  const repeated = task.points.some((p) => p.error_over_repeats !== null);
  const graded = Object.keys(GRADED).filter((name) => task.points.some((p) => name in p.shares));
  const amounts = ["mean", "median", "p95", "max"];
  const groups = [["", ["run"]],
    ["accuracy\u00a0%", ["± over questions", ...(repeated ? ["± over repeats"] : []), "95\u00a0% interval"]],
    ["thinking tokens", amounts], ["answer tokens", amounts],
    ["shares of the answers", ["forced", "capped", "out of context", "unanswered", ...graded.map((name) => GRADED[name])]],
    ["", ["Waits used", "n"]]];
  const series = seriesOf(task);
  const spread = (t) => [t.mean === null ? "–" : `${tokens(t.mean)} ± ${tokens(t.error)}`, tokens(t.median), tokens(t.p95), tokens(t.max)];
  const share = (value) => value === undefined ? "–" : percent(value);
  const rows = task.points.map((p, i) => {
    const mine = series.find((s) => s.points.includes(i));
    const cells = [
      withError(p), ...(repeated ? [p.error_over_repeats === null ? "–" : `± ${fixed(p.error_over_repeats)}`] : []),
      `${fixed(p.wilson[0])} – ${fixed(p.wilson[1])}`, ...spread(p.thinking_tokens), ...spread(p.answer_tokens),
      ...["forced", "capped", "out_of_context", "unanswered", ...graded].map((name) => share(p.shares[name])),
      p.waits ? `${fixed(p.waits_used)} of ${p.waits}` : p.prolonged ? fixed(p.waits_used) : "–",
      p.repeats > 1 ? `${p.n} × ${p.repeats}` : p.n,
    ];
    return el("tr", { tabindex: 0, ...pressable(() => choose(i)) },
      el("td", {}, el("span", { class: p.prolonged ? "swatch wait" : "swatch", style: `background:${mine.colour}` }), pointName(task, p)),
      cells.map((cell) => el("td", {}, cell)));
  });
  const table = el("table", { class: "runs" }, el("thead", {},
    el("tr", {}, groups.map(([name, names]) => el("th", { scope: "colgroup", colspan: names.length }, name))),
    el("tr", {}, groups.flatMap(([, names]) => names.map((name) => el("th", { scope: "col" }, name))))),
    el("tbody", {}, rows));
  return { table: el("div", { class: "scroll" }, table), rows };
}

function methodsTable(task) {
  const line = (name, m, count) => el("tr", {}, el("td", { class: "text" }, name), el("td", {}, count),
    el("td", {}, m.control === null ? "–" : `${fixed(m.control, 0)} %`), el("td", {}, fixed(m.scaling)), el("td", {}, `${fixed(m.performance)} %`));
  const rows = task.methods.map((m) => line(manyModels(task) ? `${m.model}, ${m.method}` : m.method, m, m.runs.length));
  if (task.reference) rows.push(line(task.reference.name, task.reference, task.reference.points.length));
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {},
    ["method", "runs", "Control", "Scaling", "Performance"].map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, rows)));
}

function provenance(points) {
  const seen = new Map();
  for (const p of points) {
    const key = JSON.stringify([p.model_name, p.provenance.file]);
    if (!seen.has(key)) seen.set(key, []);
    seen.get(key).push(p);
  }
  const flat = (value) => value !== null && typeof value === "object"
    ? Object.entries(value).map(([k, v]) => `${k} ${v}`).join(", ") : String(value);
  return [...seen.values()].map((group) => {
    const p = group[0].provenance;
    const rows = [["model", group[0].model_name], ["runs", group.map((g) => g.label).join(", ")],
      ...Object.entries(p).filter(([k]) => !["command", "generation"].includes(k)).map(([k, v]) => [k.replace("_", " "), flat(v)])];
    return el("details", { open: !data.commands.length }, el("summary", {}, `${group[0].model}: ${group.map((g) => g.label).join(", ")}`),
      p.command ? [el("p", { class: "soft" }, "lm-eval's recorded settings, as a command:"), el("pre", { class: "command" }, p.command)] : null,
      el("div", { class: "scroll" }, el("table", {}, el("tbody", {}, rows.map(([k, v]) => el("tr", {}, el("td", {}, k), el("td", { class: "text" }, v)))))));
  });
}

// What to open first: a question whose traces are here, that some runs solve and some do not, after
// a Wait that helped.
function instructive(task, traces) {
  const mixed = ({ scores }) => scores.some((s) => s > 0) && scores.some((s) => s === 0);
  const helped = (scores) => task.points.findIndex((p, i) => p.series === "wait:Wait" && scores[i] > 0 &&
    task.points.some((o, j) => o.model === p.model && !o.prolonged && !o.control && o.cap === p.cap && scores[j] === 0));
  const here = task.questions.slice(0, traces.length); // those of later questions may be left out
  let q = here.findIndex((x) => mixed(x) && helped(x.scores) >= 0);
  if (q >= 0) return { q, r: helped(task.questions[q].scores) };
  q = Math.max(0, here.findIndex(mixed));
  const r = task.questions[q].scores.findIndex((s) => s > 0);
  return { q, r: r >= 0 ? r : task.points.length - 1 };
}

function comparisons(task) {
  const rows = task.comparisons.map((c) => el("tr", {},
    el("td", {}, `${pointName(task, task.points[c.a])} → ${pointName(task, task.points[c.b])}`),
    [signed(c.difference) + plusMinus(c.error), `${signed(c.low)} to ${signed(c.high)}`, `${c.better} / ${c.worse} of ${c.n}`,
      c.sign_p < 0.001 ? "< 0.001" : fixed(c.sign_p, 3), c.within_noise ? "within noise" : "more than noise"]
      .map((cell) => el("td", {}, cell))));
  return el("details", {}, el("summary", {}, "All comparisons"), el("div", { class: "scroll" },
    el("table", {}, el("thead", {}, el("tr", {}, ["runs", "difference, points", "95 % interval", "questions gained / lost", "sign test p", ""]
      .map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, rows))));
}
// A warning with what it is about in bold.
const led = (text) => {
  const at = text.indexOf(": ");
  return el("li", {}, at < 0 ? text : [el("b", {}, text.slice(0, at + 1)), text.slice(at + 1)]);
};
const signed = (value) => (value > 0 ? "+" : "") + fixed(value);

function section(task, t, state) {
  const detail = el("div", { class: "detail", id: `detail-${t}`, "aria-live": "polite" }, "Tap a point to read its numbers.");
  const holder = el("div"), stripHolder = el("div");
  let groups = [], cells = null, chosen = -1;
  const choose = (index) => {
    chosen = index;
    groups.forEach((g, i) => g && g.classList.toggle("chosen", i === index));
    runs.rows.forEach((r, i) => r.classList.toggle("chosen", i === index));
    const p = task.points[index];
    detail.textContent = `${describe(task, p)} (median ${tokens(p.thinking_tokens.median)}, p95 ${tokens(p.thinking_tokens.p95)}). ` +
      `Ended at the cap ${percent(p.shares.capped)}, at the model's context ${percent(p.shares.out_of_context)}, with at least one Wait ${percent(p.shares.waited)}, unanswered ${percent(p.shares.unanswered)}.`;
  };
  const runs = runsTable(task, choose);
  const traces = data.traces[task.task] || [];
  const mine = { t, s: 0, ...instructive(task, traces) };
  const view = viewer(task, traces, mine, (change) => open(change, false));
  const open = (change, scroll) => {
    Object.assign(mine, change);
    if (task.questions[mine.q].scores[mine.r] === null) mine.r = Math.max(0, task.questions[mine.q].scores.findIndex((s) => s !== null));
    view.show();
    if (cells) cells.show(mine.q, mine.r);
    state.write(mine);
    if (scroll) view.box.scrollIntoView({ block: "start" });
  };
  const draw = (width) => {
    const drawn = chart(task, width, choose);
    groups = drawn.groups;
    holder.replaceChildren(drawn.root);
    cells = strip(task, width, (q, r, scroll) => open({ q, r, s: 0 }, scroll));
    stripHolder.replaceChildren(cells.root);
    cells.show(mine.q, mine.r);
    if (chosen >= 0) choose(chosen);
  };
  const n = [...new Set(task.points.map((p) => p.n))].join(", ");
  const box = el("section", { id: `task-${t}` },
    data.tasks.length > 1 ? el("h2", {}, task.task) : null,
    el("figure", {}, legend(task), holder, el("figcaption", {},
      `Whiskers: 95 % Wilson intervals, n = ${n} questions. A number beside a circle is the cap of the thinking, ` +
      `beside a diamond (2×) how often the end was replaced.` + (task.points.some((p) => p.control) ? " A word beside a square is what the model was told, or the limit of rejection sampling." : "") + (task.points.some((p) => p.at_least) ? " ≥500: replaced until that many tokens." : "") + (task.reference ? ` The paper's points: n = ${task.reference.n}, intervals computed from that.` : ""))),
    detail,
    el("h3", {}, "What these numbers can and cannot show"),
    el("ul", { class: "warnings" }, task.warnings.map(led)),
    task.comparisons.length ? comparisons(task) : null,
    el("h3", {}, "Runs"), runs.table,
    el("p", { class: "soft" }, "± is one standard error, left out where every answer is right or every one wrong: there its formula gives 0, and only the interval means something. " +
      "That over questions (binomial; with repeats, of the questions' means) says what other questions of the kind would change" +
      (task.points.some((p) => p.error_over_repeats !== null) ? ", that over repeats (their accuracies' standard deviation / √repeats) what sampling the same questions again would. " : ". ") +
      "Thinking tokens count forced Waits. Forced: a Wait was put in, or the thinking ended at the asked-for cap (capped) or at the model's context (out of context)."),
    el("h3", {}, "The paper's three metrics"), methodsTable(task),
    el("p", { class: "soft" }, "Control: runs whose average thinking stays within the limits asked for (– where none is in tokens). Scaling: accuracy points per doubling of the thinking tokens, mean over all pairs of runs. Performance: the best run (so it is biased upwards by the number of runs)."),
    el("h3", {}, "Question by question"), stripKey(task), stripHolder,
    el("h3", {}, "Traces"), view.box);
  return { box, draw, open: (change) => open(change, false), width: () => holder.clientWidth };
}

// The open trace is in the address (#t=0&q=3&r=2&s=0), so that it can be linked to.
const state = {
  quiet: true,
  read: () => Object.fromEntries([...new URLSearchParams(location.hash.slice(1))].map(([k, v]) => [k, Number(v)])),
  write(mine) {
    if (!this.quiet) history.replaceState(null, "", `#t=${mine.t}&q=${mine.q}&r=${mine.r}&s=${mine.s}`);
  },
};
const inside = (value, length) => Number.isInteger(value) && value >= 0 && value < length;

const models = new Set(data.tasks.flatMap((task) => task.points.map((p) => p.model)));
document.getElementById("lead").textContent =
  `${[...models].join(", ")} · ${data.tasks.reduce((sum, task) => sum + task.points.length, 0)} runs · ` +
  `written ${data.created.slice(0, 16).replace("T", " ")} UTC by s1-plugin ${data.s1_plugin}`;
const sections = data.tasks.map((task, t) => section(task, t, state));
main.append(...sections.map((s) => s.box));
if (data.notes.length) main.append(el("h2", {}, "Notes"), el("ul", { class: "warnings" }, data.notes.map((note) => el("li", {}, note))));
fill(main, {}, [el("h2", {}, "How it was made"),
  data.commands.length ? el("pre", { class: "command", id: "commands" }, data.commands.join("\n")) : null,
  provenance(data.tasks.flatMap((task) => task.points))]);

let drawnAt = 0;
function draw() {
  const width = sections[0].width();
  if (width === drawnAt) return;
  drawnAt = width;
  sections.forEach((s) => s.draw(width));
}
function follow(scroll) {
  const asked = state.read();
  sections.forEach((s, t) => {
    const task = data.tasks[t], change = {};
    if (asked.t === t || (asked.t === undefined && t === 0)) {
      if (inside(asked.q, task.questions.length)) change.q = asked.q;
      if (inside(asked.r, task.points.length)) change.r = asked.r;
      if (inside(asked.s, 1e6)) change.s = asked.s;
    }
    s.open(change);
    if (scroll && asked.q !== undefined && asked.t === t) document.getElementById(`trace-${t}`).scrollIntoView();
  });
}
draw();
follow(true);
state.quiet = false;
addEventListener("resize", draw);
addEventListener("hashchange", () => follow(true));
