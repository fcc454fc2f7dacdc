// The page: what is served, which view is open, and the keys that work everywhere.

import { call, failure } from "./api.js";
import { Ask } from "./ask.js";
import { byId, counted } from "./dom.js";
import { Documents } from "./documents.js";

let ask = null;
let documents = null;

async function start() {
  try {
    const pipeline = await call("GET", "v1/pipeline");
    ask = new Ask(pipeline);
    documents = new Documents(byId("view-documents"), pipeline, (number) => served(pipeline, number));
    served(pipeline, pipeline.documents);
    byId("version").textContent = `· retgen ${pipeline.version}`;
    show();
  } catch (error) {
    byId("ask-failure").replaceChildren(failure(error, () => location.reload()));
  }
}

function served(pipeline, number) {
  pipeline.documents = number;
  byId("served").textContent = `${pipeline.index} · ${counted(number, "document")}`;
  ask.welcome();
}

/** The view that the address names: `#documents`, `#ask`, or `#q=…` with a question in it. */
function show() {
  const at = location.hash.slice(1);
  const inDocuments = at === "documents";
  byId("view-ask").hidden = inDocuments;
  byId("view-documents").hidden = !inDocuments;
  for (const [id, here] of [["to-ask", !inDocuments], ["to-documents", inDocuments]]) {
    if (here) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  document.title = inDocuments ? "Documents · retgen" : "retgen";
  if (inDocuments) documents?.show();
  else if (at.startsWith("q=")) ask?.from(new URLSearchParams(at).get("q"));
  else if (document.activeElement === document.body) byId("question").focus();
}

const typing = (element) => element.matches("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const { target } = event;
  if (event.key === "/" && !typing(target)) {
    event.preventDefault();
    if (location.hash === "#documents") location.hash = "ask";
    requestAnimationFrame(() => {
      byId("question").focus();
      byId("question").select();
    });
  } else if (byId("view-ask").hidden) {
    return;
  } else if (event.key === "ArrowDown" && (target === document.body || target === byId("question"))) {
    event.preventDefault();
    ask?.focusPassages();
  } else if (event.key === "Escape" && !typing(target)) {
    byId("question").focus();
  }
});
window.addEventListener("hashchange", show);
start();
