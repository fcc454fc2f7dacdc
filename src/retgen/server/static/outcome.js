// One answer and the way of its passages, as it stands at the λ that is chosen.

import { jointScores, ordered } from "./joint.js";

export class Outcome {
  /** @param response of /v1/answer  @param pipeline of /v1/pipeline */
  constructor(response, pipeline) {
    this.response = response;
    this.pipeline = pipeline;
    const byId = new Map(response.passages.map((passage) => [passage.passage_id, passage]));
    // In the retrieved order, in which ties stand.
    this.retrieved = response.columns.retrieved.map((id) => byId.get(id));
    this.cited = new Map(response.citations.map((citation) => [citation.passage_id, citation.mark]));
    this.reads = response.columns.used.length;
    const parts = response.reranker === "jpr" ? Object.keys(response.weights) : [];
    const whole = parts.length === 2 && this.retrieved.every((p) => parts.every((name) => name in p.components));
    [this.first, this.second] = whole ? parts : [null, null];
    this.serverWeight = whole ? response.weights[this.second] : null;
    this.reset();
  }

  /** Whether λ can be moved. */
  get movable() {
    return this.serverWeight !== null && this.retrieved.length > 1;
  }

  /** The order and the scores as the server sent them. */
  reset() {
    this.weight = this.serverWeight;
    this.ranked = this.response.passages;
    this.joint = new Map(this.ranked.map((passage) => [passage.passage_id, passage.components.joint]));
  }

  /** Another λ: the same scores, weighed anew. */
  weigh(weight) {
    if (weight === this.serverWeight) {
      this.reset();
      return;
    }
    const scores = jointScores(this.retrieved, this.first, this.second, weight);
    this.weight = weight;
    this.ranked = ordered(this.retrieved, scores).map((place) => this.retrieved[place]);
    this.joint = new Map(this.retrieved.map((passage, place) => [passage.passage_id, scores[place]]));
  }

  /** Whether the answer was made at another λ than the one that is shown. */
  get moved() {
    return this.weight !== this.serverWeight;
  }

  /** What the answerer reads, or would read at this λ. */
  get used() {
    return this.ranked.slice(0, this.reads);
  }

  /** A component of a passage at this λ. */
  component(passage, name) {
    return name === "joint" ? this.joint.get(passage.passage_id) : passage.components[name];
  }
}

/** How a passage moved: `{by, text, spoken}`; `by` > 0 is up. */
export function move(passage, rank) {
  const by = passage.rank_retrieved - rank;
  if (by === 0) return { by, text: "=", spoken: "where it was retrieved" };
  return by > 0
    ? { by, text: `▲ ${by}`, spoken: `up ${by}, from ${passage.rank_retrieved}` }
    : { by, text: `▼ ${-by}`, spoken: `down ${-by}, from ${passage.rank_retrieved}` };
}

export const titleOf = (passage) => passage.title || passage.passage_id;
