// Why a passage stands where it does, token by token: /v1/explain.

import { call, failure } from "./api.js";
import { el, score } from "./dom.js";
import { nameOf } from "./names.js";

const STRONGEST = 5;
/** Nats. A token that the passage makes e⁻⁸ likely has no colour left. */
const UNLIKELY = 8;

const SAYS = {
  generator: "The question’s tokens, each with its log-likelihood under this passage: 0 is certain, stronger colour is likelier.",
  cross_encoder: "The passage’s words: what each adds to the score, and what each takes away.",
  bm25: "The question’s terms, and what each adds to the sum.",
};

/** Ask for the explanation of a passage, and show it. */
export async function showHeat(place, question, passageId, pipeline) {
  if (pipeline.explains.length === 0) {
    place.replaceChildren(el("p", { class: "quiet" }, "No part of this pipeline explains its scores."));
    return;
  }
  place.replaceChildren(el("p", { class: "quiet loading" }, "Asking why…"));
  place.setAttribute("aria-busy", "true");
  try {
    const told = await call("POST", "v1/explain", { query: question, doc_id: passageId });
    place.replaceChildren(...told.parts.toReversed().map(part));
  } catch (error) {
    place.replaceChildren(failure(error, () => showHeat(place, question, passageId, pipeline)));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

function part({ part: name, components, tokens_of, tokens }) {
  const total = components[name];
  const heading = el("h4", {}, nameOf(name), " ", el("span", { class: "number quiet" }, total === undefined ? "" : score(total)));
  const shown = tokens.length === 0 ? el("p", { class: "quiet" }, "None of the question’s terms is in this passage.") : tokens_of === "passage" ? words(tokens) : chips(name, tokens);
  return el("section", { class: "heat", dataset: { part: name } }, heading, el("p", { class: "quiet" }, SAYS[name] ?? ""), shown);
}

function warm(element, strength, positive = true) {
  element.style.setProperty("--heat", Math.max(0, Math.min(1, strength)).toFixed(3));
  element.classList.add(positive ? "plus" : "minus");
  return element;
}

/** Few tokens: each with its number below. */
function chips(name, tokens) {
  const most = Math.max(...tokens.map((token) => Math.abs(token.score)), 1e-9);
  return el("ul", { class: "chips" }, tokens.map((token) => {
    const strength = name === "generator" ? 1 - Math.abs(token.score) / UNLIKELY : Math.abs(token.score) / most;
    // WordPiece's sign for a piece that goes on with the word before it.
    const goesOn = token.token.startsWith("##");
    const text = goesOn ? token.text.replace(/^##/, "") : token.text;
    const made = el("li", { class: token.special ? "special" : goesOn ? "goes-on" : null }, el("span", { class: "token" }, text || token.token), el("span", { class: "number" }, score(token.score)));
    return warm(made, strength, name === "generator" || token.score >= 0);
  }));
}

/** Many tokens: the text itself in colours, and the strongest ones with their numbers. */
function words(tokens) {
  const most = Math.max(...tokens.map((token) => Math.abs(token.score)), 1e-9);
  const strongest = [...tokens].sort((one, other) => Math.abs(other.score) - Math.abs(one.score)).slice(0, STRONGEST);
  return el(
    "div",
    {},
    el("p", { class: "words" }, tokens.flatMap((token) => [warm(el("span", { title: score(token.score) }, token.text || token.token), Math.abs(token.score) / most, token.score >= 0), " "])),
    el("p", { class: "quiet" }, "Strongest: ", strongest.map((token, place) => `${place ? ", " : ""}${token.text || token.token} ${token.score > 0 ? "+" : ""}${score(token.score)}`).join("")),
  );
}
