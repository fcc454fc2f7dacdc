// What the parts of a pipeline are called on the page.

const NAMES = {
  bm25: "BM25",
  dense: "Dense",
  doct5query: "DocT5Query",
  unigen: "UniGen",
  cross_encoder: "Cross-encoder",
  "cross-encoder": "Cross-encoder",
  generator: "Generator",
  "query-likelihood": "Generator",
  joint: "Joint",
  jpr: "JPR",
  "best-span": "Best span",
  fid: "FiD",
  rag: "RAG",
  "closed-book": "Closed book",
};

/** A name to read for a component, a re-ranker or an answerer; the name itself where there is none. */
export const nameOf = (name) => NAMES[name] ?? name;

/** The order in which components are shown. */
export const COMPONENTS = ["bm25", "dense", "doct5query", "unigen", "cross_encoder", "generator", "joint"];

/** Known components first, in their order; then others. */
export function componentsOf(passages) {
  const found = new Set(passages.flatMap((passage) => Object.keys(passage.components)));
  return [...COMPONENTS.filter((name) => found.has(name)), ...[...found].filter((name) => !COMPONENTS.includes(name))];
}
