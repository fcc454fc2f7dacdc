// The answer, and what it stands on.

import { around, el, marked, score } from "./dom.js";
import { nameOf } from "./names.js";
import { titleOf } from "./outcome.js";

const READ = "Read from";
const ALONGSIDE = "Found beside it";

/** Show the answer. `open(passageId)` opens a passage. */
export function showAnswer(place, outcome, open) {
  const { response } = outcome;
  const found = response.answer !== "";
  place.replaceChildren(
    el("h2", { id: "answer-heading", class: "sr" }, "Answer"),
    el("p", { class: "question-asked quiet" }, response.question),
    el("p", { id: "answer-text", class: found ? "answer-text" : "answer-text none" }, found ? response.answer : "No answer was found in the documents."),
    el("p", { class: "facts quiet" }, facts(outcome)),
    response.citations.length ? citations(outcome, open) : null,
  );
}

function facts({ response, pipeline }) {
  const made = [nameOf(pipeline.answerer)];
  if (response.answerable !== null) made.push(`${Math.round(100 * response.answerable)} % likely to be right`);
  if (response.score !== null) made.push(`score ${score(response.score)}`);
  if (response.rounds.length > 1) made.push(`${response.rounds.length} rounds`);
  return made.join(" · ");
}

function citations(outcome, open) {
  const passages = new Map(outcome.retrieved.map((passage) => [passage.passage_id, passage]));
  const alongside = outcome.response.citations.every((citation) => citation.basis === "alongside");
  const items = outcome.response.citations.map((citation) => {
    const spans = citation.start === null ? [] : [[citation.start, citation.end]];
    const shown = around(passages.get(citation.passage_id).text, spans, 90, 240);
    return el(
      "li",
      {},
      el(
        "button",
        { type: "button", class: "source", "aria-label": `Source ${citation.mark}, ${titleOf(citation)}: show the passage`, on: { click: () => open(citation.passage_id) } },
        el("span", { class: "mark-number" }, String(citation.mark)),
        titleOf(citation),
        citation.share === null ? null : el("span", { class: "quiet" }, ` ${Math.round(100 * citation.share)} %`),
      ),
      el("blockquote", {}, marked(shown.text, shown.spans)),
    );
  });
  return el(
    "div",
    { class: "citations" },
    el("h3", {}, alongside ? ALONGSIDE : READ),
    alongside ? el("p", { class: "quiet" }, "The answer was written without reading these passages; they were found with it and hold its words.") : null,
    el("ol", {}, items),
  );
}
