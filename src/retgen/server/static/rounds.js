// UniGen's rounds, as tabs: what the model read, what it found, what it said.

import { el, score } from "./dom.js";

const SHOWN = 10;

/** Show the rounds of a response; hides the place where there is one alone. */
export function showRounds(place, rounds) {
  place.hidden = rounds.length < 2;
  if (place.hidden) {
    place.replaceChildren();
    return;
  }
  const tabs = rounds.map((round, number) =>
    el("button", { type: "button", role: "tab", id: `round-tab-${number}`, "aria-controls": `round-${number}`, on: { click: () => choose(number) } }, `Round ${round.round}`),
  );
  const panels = rounds.map((round, number) =>
    el("div", { role: "tabpanel", id: `round-${number}`, "aria-labelledby": `round-tab-${number}`, tabindex: 0, class: "panel" }, panel(round, rounds[number - 1])),
  );
  const choose = (chosen, focus = false) => {
    tabs.forEach((tab, number) => {
      tab.setAttribute("aria-selected", String(number === chosen));
      tab.tabIndex = number === chosen ? 0 : -1;
      panels[number].hidden = number !== chosen;
    });
    if (focus) tabs[chosen].focus();
  };
  const list = el("div", { role: "tablist", "aria-labelledby": "rounds-heading", class: "tabs" }, tabs);
  list.addEventListener("keydown", (event) => {
    const now = tabs.indexOf(event.target);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (now < 0 || to === undefined) return;
    event.preventDefault();
    choose(to % tabs.length, true);
  });
  place.replaceChildren(
    el("h2", { id: "rounds-heading" }, "Rounds"),
    el("p", { class: "quiet" }, "Each round reads what the one before found and said. The last one’s answer is the answer."),
    list,
    ...panels,
  );
  choose(rounds.length - 1);
}

function panel(round, before) {
  const ranks = new Map(before?.hits.map((hit) => [hit.passage_id, hit.rank]));
  return [
    el(
      "dl",
      { class: "said" },
      el("dt", {}, "Answer"),
      el("dd", {}, el("strong", {}, round.answer || "none"), round.score === null ? "" : el("span", { class: "quiet" }, ` score ${score(round.score)}`)),
      el("dt", {}, round.writer ? "Context" : "Question"),
      el("dd", {}, el("p", { class: "input" }, round.input), round.writer ? el("p", { class: "quiet" }, `written by ${round.writer}`) : null),
    ),
    el("h3", {}, "Found"),
    el(
      "ol",
      { class: "hits" },
      round.hits.slice(0, SHOWN).map((hit) => {
        const old = ranks.get(hit.passage_id);
        const change = !before || old === hit.rank ? "" : old === undefined ? "new" : old > hit.rank ? `▲ ${old - hit.rank}` : `▼ ${hit.rank - old}`;
        return el(
          "li",
          {},
          el("span", { class: "rank" }, String(hit.rank)),
          el("span", { class: "title" }, hit.title || hit.passage_id),
          el("span", { class: `move ${change.startsWith("▲") || change === "new" ? "up" : "down"}` }, change),
          el("span", { class: "number" }, score(hit.score)),
        );
      }),
    ),
  ];
}
