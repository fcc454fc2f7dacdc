// The passages in their final order: scores as bars, the text with the answer marked, and why they stand there.

import { around, byId, el, marked, score } from "./dom.js";
import { showHeat } from "./heat.js";
import { componentsOf, nameOf } from "./names.js";
import { move, titleOf } from "./outcome.js";

const SHOWN = 10;
const SNIPPET = 260;

/** The list of one outcome's passages. */
export class Passages {
  constructor(place, outcome) {
    this.outcome = outcome;
    this.shown = SHOWN;
    this.names = componentsOf(outcome.retrieved);
    this.cards = new Map(outcome.retrieved.map((passage, number) => [passage.passage_id, this.card(passage, number)]));
    this.list = el("ol", { class: "passages" });
    this.more = el("button", { type: "button", class: "more", on: { click: () => this.grow() } });
    place.hidden = outcome.retrieved.length === 0;
    place.replaceChildren(
      el("h2", { id: "passages-heading" }, "Passages"),
      el("p", { class: "quiet" }, `In the final order. A bar is empty for the lowest and full for the highest score among this question’s ${outcome.retrieved.length} passages; the numbers are the raw scores.`),
      this.list,
      this.more,
    );
    this.list.addEventListener("keydown", (event) => this.step(event));
    this.update();
  }

  grow() {
    const first = this.shown;
    this.shown += SHOWN;
    this.update();
    this.list.children[first]?.querySelector(".opener").focus();
  }

  /** In the order at this λ. */
  update() {
    const { outcome } = this;
    const reach = new Map(this.names.map((name) => {
      const values = outcome.retrieved.map((passage) => outcome.component(passage, name)).filter((value) => value !== undefined);
      return [name, [Math.min(...values), Math.max(...values)]];
    }));
    const used = new Set(outcome.used);
    const rows = outcome.ranked.slice(0, this.shown).map((passage, place) => {
      const card = this.cards.get(passage.passage_id);
      card.update(place + 1, used.has(passage), reach);
      return card.row;
    });
    if (rows.some((row, place) => this.list.children[place] !== row) || rows.length !== this.list.children.length) {
      const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
      this.list.replaceChildren(...rows);
      focused?.focus();
    }
    const rest = outcome.ranked.length - this.shown;
    this.more.hidden = rest <= 0;
    this.more.textContent = `Show ${Math.min(rest, SHOWN)} more`;
  }

  /** Open a passage and go to it. */
  open(id) {
    const place = this.outcome.ranked.findIndex((passage) => passage.passage_id === id);
    if (place >= this.shown) {
      this.shown = place + 1;
      this.update();
    }
    const card = this.cards.get(id);
    card.toggle(true);
    card.row.scrollIntoView({ block: "start" });
    card.opener.focus({ preventScroll: true });
  }

  /** Go to the first passage. */
  focusFirst() {
    this.list.querySelector(".opener")?.focus();
  }

  step(event) {
    const openers = [...this.list.querySelectorAll(".opener")];
    const row = event.target.closest(".passage");
    const at = openers.findIndex((opener) => row?.contains(opener));
    if (at < 0) return;
    if (event.key === "Escape") {
      const card = this.cards.get(row.dataset.id);
      if (!card.isOpen()) return;
      card.toggle(false);
      openers[at].focus();
    } else {
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: openers.length - 1 }[event.key];
      if (to === undefined) return;
      if (to < 0) byId("question").focus();
      else openers[to]?.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  card(passage, number) {
    const { outcome } = this;
    const rank = el("span", { class: "rank" });
    const tags = el("span", { class: "tags" });
    const text = el("p", { class: "text" });
    const more = el("div", { class: "why", id: `why-${number}`, hidden: true });
    const opener = el("button", { type: "button", class: "opener", "aria-expanded": "false", "aria-controls": `why-${number}`, on: { click: () => toggle() } }, titleOf(passage));
    const bars = new Map(this.names.map((name) => [name, { bar: el("span", { class: "fill" }), value: el("span", { class: "number" }) }]));
    let asked = false;
    const isOpen = () => opener.getAttribute("aria-expanded") === "true";
    const write = () => {
      const shown = isOpen() ? { text: passage.text, spans: passage.answer_spans } : around(passage.text, passage.answer_spans, 120, SNIPPET);
      text.replaceChildren(...marked(shown.text, shown.spans));
    };
    const toggle = (to = !isOpen()) => {
      opener.setAttribute("aria-expanded", String(to));
      more.hidden = !to;
      write();
      if (to && !asked) {
        asked = true;
        showHeat(more, outcome.response.question, passage.passage_id, outcome.pipeline);
      }
    };
    write();
    const row = el(
      "li",
      { class: "passage card", dataset: { id: passage.passage_id } },
      el("div", { class: "head" }, rank, el("h3", {}, opener), tags),
      el(
        "div",
        { class: "body" },
        el("div", {}, text, el("p", { class: "id quiet" }, passage.passage_id)),
        el("dl", { class: "bars" }, [...bars].map(([name, { bar, value }]) =>
          el("div", { dataset: { component: name } }, el("dt", {}, nameOf(name)), el("dd", {}, el("span", { class: "track", "aria-hidden": "true" }, bar), value)))),
      ),
      more,
    );
    const update = (place, used, reach) => {
      const moved = outcome.response.reranker ? move(passage, place) : null;
      const cited = outcome.cited.get(passage.passage_id);
      rank.textContent = String(place);
      tags.replaceChildren(
        ...[
          moved && moved.by ? el("span", { class: `move ${moved.by > 0 ? "up" : "down"}` }, el("span", { "aria-hidden": "true" }, moved.text), el("span", { class: "sr" }, moved.spoken)) : null,
          used ? el("span", { class: "tag" }, "used") : null,
          cited ? el("span", { class: "tag cited" }, `source ${cited}`) : null,
        ].filter(Boolean),
      );
      for (const [name, { bar, value }] of bars) {
        const found = outcome.component(passage, name);
        const [low, high] = reach.get(name);
        const share = found === undefined ? 0 : high > low ? (found - low) / (high - low) : 1;
        bar.style.setProperty("--share", share.toFixed(4));
        value.textContent = found === undefined ? "none" : score(found);
      }
    };
    return { row, opener, toggle, update, isOpen };
  }
}
