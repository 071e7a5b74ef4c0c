// The trace viewer. A trace is stored as the beginning of an earlier one and a rest.
const traceText = (entries, i) => {
  const entry = entries[i];
  return (entry.keep ? traceText(entries, entry.base).slice(0, entry.keep) : "") + entry.rest;
};

const MARKS = {
  start: "put in to start the thinking",
  wait: "Wait, put in for the model's end of thinking",
  end: "thinking ended by force at its cap",
  answer: "answer delimiter, put in after the model's own end of thinking",
};

function rendered(text, marks) {
  const out = [];
  let at = 0, answering = false;
  const plain = (to) => {
    if (to > at) out.push(el("span", { class: answering ? "answer" : null }, text.slice(at, to)));
    at = to;
  };
  for (const [kind, start, end] of marks) {
    plain(start);
    out.push(el("mark", { class: kind, title: MARKS[kind] }, text.slice(start, end)));
    at = end;
    answering = answering || kind === "end" || kind === "answer";
  }
  plain(text.length);
  return out;
}

// Traces are long: each entry of the legend leads to its marks, one after another.
function legendMark(kind, box) {
  let next = 0;
  return el("mark", { class: kind, role: "button", tabindex: 0, ...pressable(() => {
    const all = box.querySelectorAll(`.trace mark.${kind}`);
    all[next % all.length].scrollIntoView({ block: "center" });
    next += 1;
  }) }, MARKS[kind]);
}

const ENDED = {
  natural: "thinking ended by itself", cap: "thinking ended at its cap",
  context: "thinking ended at the model's context", open: "thinking never ended",
  unforced: "nothing was forced, and no tokens were counted",
};

function viewer(task, traces, state, changed) {
  const box = el("div", { id: `trace-${state.t}` });
  const show = () => {
    const question = task.questions[state.q];
    const entries = traces[state.q];
    const ask = (name, options, value, pick) => el("select", {
      "aria-label": name, onchange: (event) => pick(Number(event.target.value)),
    }, options.map((text, i) => el("option", { value: i, selected: i === value }, text)));
    const move = (by) => changed({ q: (state.q + by + task.questions.length) % task.questions.length, s: 0 });
    const solved = (scores) => scores.filter((s) => s !== null && s > 0).length;
    const parts = [
      el("div", { class: "bar" },
        el("button", { type: "button", onclick: () => move(-1), "aria-label": "previous question" }, "←"),
        ask("question", task.questions.map((q, i) =>
          `${i + 1}. ${q.name} (solved by ${solved(q.scores)} of ${q.scores.filter((s) => s !== null).length} runs)`),
          state.q, (q) => changed({ q, s: 0 })),
        el("button", { type: "button", onclick: () => move(1), "aria-label": "next question" }, "→")),
      [...new Set(task.points.map((p) => p.model))].map((model) => el("div", {
        class: "chips", role: "group", "aria-label": `runs of ${model}`,
      }, manyModels(task) ? el("span", { class: "facts" }, model) : null, task.points.map((p, r) =>
        p.model !== model || question.scores[r] === null ? null : el("button", {
          type: "button", "aria-pressed": String(r === state.r), class: question.scores[r] > 0 ? "right" : null,
          onclick: () => changed({ r, s: 0 }),
        }, `${question.scores[r] >= 1 ? "✓" : question.scores[r] > 0 ? "◐" : "✗"} ${p.label}`)))),
      el("p", { class: "problem" }, question.text),
      el("p", { class: "facts" }, "right answer: ", el("b", {}, question.target)),
    ];
    const found = entries ? entries.map((e, i) => [e, i]).filter(([e]) => e.point === state.r) : [];
    if (!entries) parts.push(el("p", {}, "The traces of this question are not in the page; they are in the sample files."));
    else if (!found.length) parts.push(el("p", {}, "This run was not asked this question."));
    else {
      const [entry, index] = found[Math.min(state.s, found.length - 1)];
      if (found.length > 1) {
        parts.push(el("div", { class: "bar" }, ask("sample", found.map(([e]) =>
          `sample ${e.repeat + 1} of ${found.length}: ${e.correct >= 1 ? "right" : "wrong"}`), state.s, (s) => changed({ s }))));
      }
      parts.push(el("p", { class: "facts", id: "facts" },
        `${entry.correct >= 1 ? "right" : "wrong"} · ` + (entry.ended === "unforced" ? "" :
          `${entry.thinking_tokens} thinking tokens · ${entry.answer_tokens} answer tokens · ${entry.waits} ${entry.waits === 1 ? "Wait" : "Waits"} · `) +
        (ENDED[entry.ended] || entry.ended) +
        (entry.finished === "length" ? " · answer cut at max_gen_toks" : "")));
      const kinds = [...new Set(entry.marks.map(([kind]) => kind))];
      parts.push(el("p", { class: "facts" }, "Not written by the model: ",
        kinds.map((kind) => [legendMark(kind, box), " "]), "The answer is bold. Tap a mark to go to the next of its kind."));
      if (!entry.located) parts.push(el("p", { class: "facts" }, "These samples do not say where the forced tokens stand in the text, so they are not marked."));
      parts.push(el("div", { class: "trace", tabindex: 0, role: "region", "aria-label": "trace" },
        rendered(traceText(entries, index), entry.marks)));
    }
    box.replaceChildren(...parts.flat());
  };
  return { box, show };
}
