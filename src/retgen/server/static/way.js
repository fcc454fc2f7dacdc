// The pipeline as columns, retrieved → re-ranked → used, with a line for every passage; and λ above them.

import { el, svg } from "./dom.js";
import { nameOf } from "./names.js";
import { move, titleOf } from "./outcome.js";

const SHOWN = 10;

/** The columns of one outcome. */
export class Way {
  /** @param onWeight called with λ as it moves  @param onSettled with λ when it stands  @param open opens a passage */
  constructor(place, outcome, { onWeight, onSettled, askAgain, open }) {
    this.place = place;
    this.outcome = outcome;
    this.open = open;
    this.shown = SHOWN;
    this.askAgain = askAgain;
    this.columns = el("div", { class: "columns" });
    this.more = el("button", { type: "button", class: "more", on: { click: () => this.showAll() } });
    this.stale = el("p", { id: "stale", class: "stale", hidden: true });
    place.replaceChildren(
      el("h2", { id: "way-heading" }, "How the passages moved"),
      outcome.movable ? this.slider(onWeight, onSettled) : "",
      this.stale,
      this.columns,
      this.more,
    );
    this.columns.addEventListener("keydown", (event) => this.step(event));
    for (const [event, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
      this.columns.addEventListener(event, ({ target }) => this.light(target.closest?.("[data-passage]")?.dataset.passage, on));
    }
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.columns);
    this.update();
  }

  /** Stop watching the size; the place is used for another outcome. */
  end() {
    this.watch.disconnect();
  }

  slider(onWeight, onSettled) {
    const { first, second, serverWeight } = this.outcome;
    const value = el("output", { for: "weight", id: "weight-value" });
    const input = el("input", {
      id: "weight", type: "range", min: 0, max: 1, step: 0.01, value: serverWeight, "aria-describedby": "weight-note",
      on: { input: () => onWeight(Number(input.value)), change: () => onSettled(Number(input.value)) },
    });
    const reset = el("button", {
      type: "button", class: "quiet-button",
      on: { click: () => { input.value = serverWeight; onWeight(serverWeight); onSettled(serverWeight); input.focus(); } },
    }, `Back to ${serverWeight.toFixed(2)}`);
    this.told = () => {
      const weight = this.outcome.weight;
      value.textContent = weight.toFixed(2);
      reset.hidden = !this.outcome.moved;
      input.setAttribute("aria-valuetext", `${weight.toFixed(2)}: ${Math.round(100 * weight)} % ${nameOf(second)}, ${Math.round(100 - 100 * weight)} % ${nameOf(first)}`);
    };
    return el(
      "div",
      { class: "weight card" },
      el("label", { for: "weight" }, "λ, the generator’s share"),
      el("div", { class: "range" }, el("span", { class: "end first" }, nameOf(first)), input, el("span", { class: "end second" }, nameOf(second))),
      el("div", { class: "value" }, value, reset),
      el("p", { id: "weight-note", class: "quiet" }, "Re-orders here and now, by Eq. 3 of JPR: (1 − λ)·log p(passage | question) + λ·log p(question | passage)."),
    );
  }

  showAll() {
    this.shown = this.shown === SHOWN ? this.outcome.retrieved.length : SHOWN;
    this.update();
  }

  /** Draw anew, after λ moved. */
  update() {
    const { outcome } = this;
    this.told?.();
    const { response, pipeline } = outcome;
    const column = (name, heading, note, passages, ranked) => ({ name, heading, note, passages, ranked });
    const list = [column("retrieved", "Retrieved", nameOf(response.retriever), outcome.retrieved, false)];
    if (response.reranker) {
      const at = outcome.weight === null ? "" : `, λ ${outcome.weight.toFixed(2)}`;
      list.push(column("reranked", "Re-ranked", `${nameOf(response.reranker)}${at}`, outcome.ranked, true));
    }
    if (outcome.reads || outcome.cited.size === 0) {
      list.push(column("used", outcome.moved ? "Would be used" : "Used", nameOf(pipeline.answerer), outcome.used, true));
    } else {
      const cited = outcome.ranked.filter((passage) => outcome.cited.has(passage.passage_id));
      list.push(column("used", "Cited", `${nameOf(pipeline.answerer)} answers without reading`, cited, true));
    }
    const focused = this.columns.contains(document.activeElement) ? document.activeElement : null;
    const was = focused && { column: focused.closest("ol")?.id, passage: focused.dataset.passage };
    this.lists = list.map((each) => this.column(each));
    this.gaps = list.slice(1).map(() => svg("svg", { class: "lines", "aria-hidden": "true" }));
    this.columns.dataset.columns = String(list.length);
    this.columns.replaceChildren(...this.lists.flatMap((each, number) => (number ? [this.gaps[number - 1], each] : [each])));
    if (was?.column) this.columns.querySelector(`#${was.column} [data-passage="${CSS.escape(was.passage)}"]`)?.focus();
    const rest = outcome.retrieved.length - SHOWN;
    this.more.hidden = rest <= 0;
    this.more.textContent = this.shown === SHOWN ? `Show all ${outcome.retrieved.length}` : `Show the first ${SHOWN} alone`;
    this.tellStale();
    this.draw();
  }

  tellStale() {
    const { outcome } = this;
    this.stale.hidden = !outcome.moved;
    if (!outcome.moved) return;
    const what = outcome.reads ? "The answer above was read" : "The passages above were cited";
    this.stale.replaceChildren(
      `${what} at λ ${outcome.serverWeight.toFixed(2)}. `,
      el("button", { type: "button", on: { click: () => this.askAgain(outcome.weight) } }, `Ask again at λ ${outcome.weight.toFixed(2)}`),
    );
  }

  column({ name, heading, note, passages, ranked }) {
    const shown = name === "used" ? passages : passages.slice(0, this.shown);
    const boxes = shown.map((passage, place) => {
      const rank = place + 1;
      const moved = ranked && name !== "used" ? move(passage, rank) : null;
      const cited = this.outcome.cited.get(passage.passage_id);
      return el(
        "li",
        {},
        el(
          "button",
          {
            type: "button", class: "box", tabindex: place ? -1 : 0, dataset: { passage: passage.passage_id },
            "aria-label": `${rank}. ${titleOf(passage)}${moved ? `, ${moved.spoken}` : ""}${cited ? `, source ${cited}` : ""}`,
            on: { click: () => this.open(passage.passage_id) },
          },
          el("span", { class: "rank" }, String(rank)),
          el("span", { class: "title" }, titleOf(passage)),
          moved ? el("span", { class: `move ${moved.by > 0 ? "up" : moved.by < 0 ? "down" : "same"}` }, moved.text) : null,
          cited && name === "used" ? el("span", { class: "mark-number" }, String(cited)) : null,
        ),
      );
    });
    const hidden = name === "used" ? 0 : passages.length - shown.length;
    return el(
      "div",
      { class: "column", dataset: { column: name } },
      el("h3", { id: `${name}-heading` }, heading, " ", el("span", { class: "quiet" }, note)),
      boxes.length ? el("ol", { id: `column-${name}`, "aria-labelledby": `${name}-heading` }, boxes) : el("p", { class: "quiet none" }, nothing(name, this.outcome)),
      hidden ? el("p", { class: "quiet hidden-rest" }, `and ${hidden} more`) : null,
    );
  }

  /** Lines between the boxes of one passage; those from or to a box that is not shown begin or end at the bottom. */
  draw() {
    this.gaps?.forEach((gap, number) => {
      const box = gap.getBoundingClientRect();
      if (!box.width || getComputedStyle(gap).display === "none") return;
      gap.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
      const middles = [this.lists[number], this.lists[number + 1]].map(
        (list) => new Map([...list.querySelectorAll("[data-passage]")].map((each) => {
          const { top, height } = each.getBoundingClientRect();
          return [each.dataset.passage, top + height / 2 - box.top];
        })),
      );
      const [left, right] = middles;
      const below = [this.lists[number], this.lists[number + 1]].map((list) => {
        const rest = list.querySelector(".hidden-rest")?.getBoundingClientRect();
        return rest ? rest.top + rest.height / 2 - box.top : box.height;
      });
      const last = this.lists[number + 1].dataset.column === "used";
      const paths = [];
      for (const id of new Set([...left.keys(), ...right.keys()])) {
        if (last && !right.has(id)) continue;
        const from = left.get(id) ?? below[0];
        const to = right.get(id) ?? below[1];
        const kind = last || Math.abs(from - to) < 2 ? "same" : to < from ? "up" : "down";
        const half = box.width / 2;
        paths.push(svg("path", { class: kind, d: `M0 ${from}C${half} ${from} ${half} ${to} ${box.width} ${to}`, dataset: { line: id } }));
      }
      gap.replaceChildren(...paths.sort((one, other) => (one.getAttribute("class") === "up") - (other.getAttribute("class") === "up")));
    });
  }

  light(id, on) {
    for (const each of this.columns.querySelectorAll("[data-line], [data-passage]")) {
      each.classList.toggle("lit", on && id !== undefined && (each.dataset.line ?? each.dataset.passage) === id);
    }
  }

  /** Arrow keys: up and down within a column, left and right along a passage's line. */
  step(event) {
    const box = event.target.closest("[data-passage]");
    if (!box) return;
    const column = [...box.closest("ol").querySelectorAll("[data-passage]")];
    const lists = this.lists.filter((list) => list.querySelector("ol"));
    const here = lists.findIndex((list) => list.contains(box));
    const same = (list) => list && [...list.querySelectorAll("[data-passage]")].find((each) => each.dataset.passage === box.dataset.passage);
    const at = column.indexOf(box);
    const to = {
      ArrowDown: () => column[at + 1], ArrowUp: () => column[at - 1], Home: () => column[0], End: () => column.at(-1),
      ArrowRight: () => same(lists[here + 1]), ArrowLeft: () => same(lists[here - 1]),
    }[event.key]?.();
    if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") {
      event.preventDefault();
      event.stopPropagation();
    }
    if (!to) return;
    for (const each of to.closest("ol").querySelectorAll("[data-passage]")) each.tabIndex = each === to ? 0 : -1;
    to.focus();
  }
}

function nothing(name, outcome) {
  if (name !== "used") return "Nothing was found.";
  return outcome.retrieved.length ? "It answers without reading passages." : "Nothing to read.";
}
