"use strict";
// Compares any two rows question by question. Texts enter the page as text, never as markup.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("compare");
  const measures = Object.keys(data.values).filter((m) => Object.keys(data.values[m]).length > 1);
  if (!place || !measures.length) return;
  const MOST = 500;
  const state = { measure: measures.includes(data.measure) ? data.measure : measures[0], row: "", other: "", show: "all", sort: 3, down: true };

  function make(tag, options, ...children) {
    const made = Object.assign(document.createElement(tag), options);
    made.append(...children);
    return made;
  }
  function choice(label, key, entries) {
    const select = make("select", {});
    for (const [value, text] of entries) select.append(make("option", { value, textContent: text }));
    select.value = state[key];
    select.addEventListener("change", () => { state[key] = select.value; draw(); });
    return make("label", {}, label, select);
  }
  function settle() {
    const rows = Object.keys(data.values[state.measure]);
    const pair = data.pairs.find(([a, b]) => rows.includes(a) && rows.includes(b)) || [rows[1], rows[0]];
    if (!rows.includes(state.row)) state.row = pair[0];
    if (!rows.includes(state.other)) state.other = pair[1];
    return rows;
  }
  function compared() {
    const ours = data.values[state.measure][state.row], theirs = data.values[state.measure][state.other];
    const sign = data.lower.includes(state.measure) ? -1 : 1;
    const found = [];
    data.questions.forEach(([id, text, answers], n) => {
      if (ours[n] === null || theirs[n] === null) return;
      const difference = ours[n] - theirs[n];
      found.push({ id, answers, cells: [text || id, ours[n], theirs[n], difference], gain: sign * difference });
    });
    return found;
  }
  function draw() {
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.column : undefined;
    const rows = settle();
    const labels = rows.map((row) => [row, data.labels[row] || row]);
    const all = compared();
    const kept = all.filter((each) => state.show === "all" || (state.show === "helped" ? each.gain > 0 : each.gain < 0));
    kept.sort((a, b) => {
      const x = a.cells[state.sort], y = b.cells[state.sort];
      const order = typeof x === "string" ? x.localeCompare(y) : x - y;
      return state.down ? -order : order;
    });
    const head = make("tr", {});
    ["question", data.labels[state.row], data.labels[state.other], "difference"].forEach((name, column) => {
      const button = make("button", { type: "button", textContent: name + (state.sort === column ? (state.down ? " ▼" : " ▲") : "") });
      button.dataset.column = String(column);
      button.addEventListener("click", () => {
        state.down = state.sort === column ? !state.down : column > 0;
        state.sort = column;
        draw();
      });
      const cell = make("th", { scope: "col" }, button);
      cell.setAttribute("aria-sort", state.sort === column ? (state.down ? "descending" : "ascending") : "none");
      head.append(cell);
    });
    const body = make("tbody", {});
    for (const each of kept.slice(0, MOST)) {
      const question = make("th", { scope: "row", textContent: each.cells[0] });
      if (each.answers) question.append(make("br", {}), make("span", { className: "answers", textContent: each.answers }));
      if (each.cells[0] !== each.id) question.append(make("br", {}), make("code", { textContent: each.id }));
      const mark = each.gain > 0 ? "helped" : each.gain < 0 ? "hurt" : "";
      const sign = each.cells[3] > 0 ? "+" : "";
      body.append(make("tr", {}, question,
        make("td", { textContent: each.cells[1].toFixed(3) }), make("td", { textContent: each.cells[2].toFixed(3) }),
        make("td", { className: mark, textContent: sign + each.cells[3].toFixed(3) + (mark ? " " + mark : "") })));
    }
    const helped = all.filter((each) => each.gain > 0).length, hurt = all.filter((each) => each.gain < 0).length;
    const said = `${state.measure}: helped ${helped}, hurt ${hurt}, same ${all.length - helped - hurt}` +
      (kept.length > MOST ? `; the first ${MOST} of ${kept.length}` : "") + (data.note ? `. ${data.note}` : "");
    const table = make("table", { className: "list" }, make("caption", { textContent: said }), make("thead", {}, head), body);
    const scroll = make("div", { className: "wide", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "questions compared");
    place.replaceChildren(
      make("div", { className: "choose" },
        choice("row", "row", labels), choice("against", "other", labels), choice("measure", "measure", measures.map((m) => [m, m])),
        choice("show", "show", [["all", "all"], ["helped", "helped"], ["hurt", "hurt"]])),
      scroll);
    if (focused !== undefined) place.querySelector(`button[data-column="${focused}"]`).focus();
  }
  place.hidden = false;
  draw();
})();
