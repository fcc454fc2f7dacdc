// The question, and everything that one answer shows.

import { showAnswer } from "./answer.js";
import { call, failure } from "./api.js";
import { announce, byId, count, counted, el } from "./dom.js";
import { nameOf } from "./names.js";
import { Outcome, titleOf } from "./outcome.js";
import { Passages } from "./passages.js";
import { showRounds } from "./rounds.js";
import { Way } from "./way.js";

const MOST_ROUNDS = 5;

/** The view on which questions are asked. */
export class Ask {
  constructor(pipeline) {
    this.pipeline = pipeline;
    this.question = byId("question");
    this.question.maxLength = pipeline.limits.query_characters;
    this.running = null;
    this.asked = null;
    this.choices();
    byId("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.question.value.trim();
      if (text) this.run(text);
    });
  }

  /** Controls for what this pipeline lets one choose; none where there is no choice. */
  choices() {
    const { pipeline } = this;
    const made = [];
    if (pipeline.retrievers.length > 1) {
      this.retriever = el("select", { on: { change: () => this.fit() } }, pipeline.retrievers.map((name) => el("option", { value: name, selected: name === pipeline.retriever }, nameOf(name))));
      made.push(el("label", {}, "Retriever ", this.retriever));
    }
    if (pipeline.rounds) {
      this.rounds = el("select", { id: "rounds-wanted" }, Array.from({ length: MOST_ROUNDS + 1 }, (_, number) => el("option", { value: number }, number === 0 ? "none" : String(number))));
      made.push(el("label", {}, "Further rounds ", this.rounds));
    }
    const reads = !["unigen", "closed-book"].includes(pipeline.answerer);
    if (reads) {
      this.reads = el("input", { type: "number", min: 1, max: 100, step: 1, value: pipeline.top_k, inputmode: "numeric", id: "reads" });
      made.push(el("label", {}, "Passages to read ", this.reads));
    }
    byId("choices").replaceChildren(...made);
    byId("choices").hidden = made.length === 0;
    this.fit();
  }

  /** Rounds are UniGen's own. */
  fit() {
    if (this.rounds) this.rounds.disabled = (this.retriever?.value ?? this.pipeline.retriever) !== "unigen";
  }

  /** What to see before the first question. */
  welcome() {
    const { pipeline } = this;
    const steps = [["Retrieve", nameOf(pipeline.retriever), `${counted(pipeline.candidates, "passage")} of ${counted(pipeline.documents, "document")}`]];
    if (pipeline.reranker) {
      const weights = Object.entries(pipeline.reranker.weights);
      steps.push(["Re-rank", nameOf(pipeline.reranker.kind), weights.length > 1 ? weights.map(([name, weight]) => `${nameOf(name)} ${weight.toFixed(2)}`).join(", ") : ""]);
    }
    const reads = ["unigen", "closed-book"].includes(pipeline.answerer) ? "reads no passages" : `reads ${counted(pipeline.top_k, "passage")}`;
    steps.push(["Answer", nameOf(pipeline.answerer), reads]);
    byId("welcome").replaceChildren(
      el("p", {}, `Ask ${count(pipeline.documents) === "1" ? "the one document" : `${count(pipeline.documents)} documents`} a question: the answer comes with the passages behind it, and with what moved them up or down.`),
      el("ol", { class: "steps" }, steps.map(([step, what, note]) => el("li", {}, el("span", { class: "quiet" }, step), el("strong", {}, what), el("span", { class: "quiet" }, note)))),
    );
  }

  /** Ask what an address says. */
  from(text) {
    if (!text || text === this.asked) return;
    this.question.value = text;
    this.run(text);
  }

  /** Ask. @param weight λ, where it is to be another than the server's own */
  async run(text, weight = null) {
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    this.asked = text;
    document.title = `${text} · retgen`;
    const address = `#${new URLSearchParams({ q: text })}`;
    if (location.hash !== address) history.pushState(null, "", address);
    const body = { question: text };
    if (this.retriever) body.with = this.retriever.value;
    if (this.rounds && !this.rounds.disabled && Number(this.rounds.value)) body.rounds = Number(this.rounds.value);
    if (this.reads?.value) body.top_k = Number(this.reads.value);
    if (weight !== null) body.generator_weight = weight;
    this.busy(true);
    byId("ask-failure").replaceChildren();
    announce("Asking.");
    try {
      this.show(new Outcome(await call("POST", "v1/answer", body, running.signal), this.pipeline));
    } catch (error) {
      if (error.name === "AbortError") return;
      byId("result").hidden = true;
      byId("welcome").hidden = true;
      byId("ask-failure").replaceChildren(failure(error, () => this.run(text, weight)));
      announce("");
    } finally {
      if (this.running === running) this.busy(false);
    }
  }

  busy(on) {
    byId("result").setAttribute("aria-busy", String(on));
    byId("ask-form").classList.toggle("busy", on);
    byId("ask").textContent = on ? "Asking…" : "Ask";
  }

  show(outcome) {
    this.outcome = outcome;
    this.way?.end();
    byId("welcome").hidden = true;
    byId("result").hidden = false;
    const open = (id) => this.passages.open(id);
    showAnswer(byId("answer"), outcome, open);
    showRounds(byId("rounds"), outcome.response.rounds);
    this.passages = new Passages(byId("passages"), outcome);
    byId("way").hidden = outcome.retrieved.length === 0;
    this.way = new Way(byId("way"), outcome, {
      open,
      onWeight: (weight) => this.weigh(weight),
      onSettled: () => this.tell(),
      askAgain: (weight) => this.run(outcome.response.question, weight),
    });
    const { answer } = outcome.response;
    announce(`${answer ? `Answer: ${answer}` : "No answer was found"}. ${counted(outcome.retrieved.length, "passage")}.`);
  }

  weigh(weight) {
    this.outcome.weigh(weight);
    this.way.update();
    this.passages.update();
  }

  tell() {
    const { outcome } = this;
    announce(`At λ ${outcome.weight.toFixed(2)} the first passage is ${titleOf(outcome.ranked[0])}.`);
  }

  focusPassages() {
    if (!byId("result").hidden) this.passages?.focusFirst();
  }
}
