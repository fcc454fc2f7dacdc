// The documents of the index: a list, one whole, new ones, and removal.

import { ApiError, call, failure } from "./api.js";
import { announce, count, counted, el } from "./dom.js";

const PAGE = 20;
const path = (id) => `v1/documents/${encodeURIComponent(id)}`;

/** The view of the documents. */
export class Documents {
  /** @param onCount called with how many documents there are, after a change */
  constructor(place, pipeline, onCount) {
    this.pipeline = pipeline;
    this.onCount = onCount;
    this.offset = 0;
    this.note = el("div", { class: "note" });
    this.list = el("ol", { class: "documents", id: "document-list" });
    this.where = el("span", { class: "quiet" });
    this.back = el("button", { type: "button", on: { click: () => this.load(this.offset - PAGE) } }, "Previous");
    this.on = el("button", { type: "button", on: { click: () => this.load(this.offset + PAGE) } }, "Next");
    this.dialog = el("dialog", { "aria-labelledby": "dialog-heading" });
    this.heading = el("h2", { id: "documents-heading", tabindex: -1 }, "Documents");
    place.replaceChildren(
      this.heading,
      el(
        "div",
        { class: "halves" },
        el("div", {}, this.note, this.list, el("div", { class: "pager" }, this.back, this.where, this.on)),
        pipeline.can_change ? this.form() : el("p", { class: "card fixed" }, el("strong", {}, "Documents cannot be changed here: "), `${pipeline.cannot_change_because}.`),
      ),
      this.dialog,
    );
  }

  /** Called when the view is opened. */
  show() {
    this.load(this.offset);
  }

  /** A page of the list; `mark` is the id of a document to point at. */
  async load(offset, mark = null) {
    // At once, so that "Next" twice is two pages on; of answers that overtake each other the last asked for counts.
    this.offset = Math.max(0, offset);
    this.list.setAttribute("aria-busy", "true");
    const asked = (this.asked = Symbol("a page"));
    try {
      const page = await call("GET", `v1/documents?offset=${this.offset}&limit=${PAGE}`);
      if (asked !== this.asked) return;
      if (page.documents.length === 0 && page.total > 0) {
        await this.load(Math.floor((page.total - 1) / PAGE) * PAGE, mark);
        return;
      }
      this.list.start = page.offset + 1;
      this.list.replaceChildren(...page.documents.map((document) => this.row(document, document.id === mark)));
      this.where.textContent = `${count(page.offset + 1)} to ${count(page.offset + page.documents.length)} of ${count(page.total)}`;
      this.back.disabled = page.offset === 0;
      this.on.disabled = page.next_offset === null;
      this.list.querySelector(".new")?.scrollIntoView({ block: "center" });
    } catch (error) {
      this.list.replaceChildren(el("li", {}, failure(error, () => this.load(offset, mark))));
    } finally {
      this.list.removeAttribute("aria-busy");
    }
  }

  row(document, marked) {
    const title = document.title || document.id;
    return el(
      "li",
      { class: marked ? "document new" : "document", dataset: { id: document.id } },
      el(
        "div",
        { class: "text" },
        el("h3", {}, el("button", { type: "button", class: "opener", "aria-haspopup": "dialog", on: { click: () => this.open(document.id) } }, title)),
        el("p", {}, document.snippet),
        el("p", { class: "id quiet" }, document.id, document.characters === null ? "" : ` · ${counted(document.characters, "character")}`),
      ),
      this.pipeline.can_change
        ? el("button", { type: "button", class: "remove", "aria-haspopup": "dialog", "aria-label": `Remove ${title}`, on: { click: () => this.confirm(document) } }, "Remove")
        : null,
    );
  }

  /** One document, whole. */
  async open(id) {
    try {
      const found = await call("GET", path(id));
      const metadata = Object.entries(found.metadata);
      this.pop(
        found.title || found.id,
        el("p", { class: "whole", tabindex: 0 }, found.text),
        el(
          "dl",
          { class: "about" },
          el("dt", {}, "id"), el("dd", { class: "id" }, found.id),
          ...metadata.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, typeof value === "string" ? value : JSON.stringify(value))]),
          found.passages.length > 1 ? [el("dt", {}, "passages"), el("dd", {}, count(found.passages.length))] : [],
        ),
        el("div", { class: "row" }, this.closer("Close")),
      );
    } catch (error) {
      this.say(failure(error, () => this.open(id)));
    }
  }

  confirm(document) {
    const go = el("button", { type: "button", class: "danger", on: { click: () => this.remove(document, go) } }, "Remove it");
    this.pop(
      `Remove ${document.title || document.id}?`,
      el("p", {}, "It is gone from this index at once, and nothing here brings it back."),
      el("p", { class: "id quiet" }, document.id),
      el("div", { class: "row" }, this.closer("Keep it"), go),
    );
  }

  async remove(document, button) {
    button.disabled = true;
    button.textContent = "Removing…";
    try {
      const done = await call("DELETE", path(document.id));
      this.onCount(done.documents);
      this.say(el("p", { class: "done" }, `Removed ${document.title || document.id}.`));
      announce(`Removed. ${counted(done.documents, "document")} left.`);
      await this.load(this.offset);
    } catch (error) {
      this.say(failure(error));
    } finally {
      this.dialog.close();
      this.heading.focus({ preventScroll: true });
    }
  }

  form() {
    const { limits } = this.pipeline;
    const title = el("input", { id: "new-title", autocomplete: "off" });
    const text = el("textarea", { id: "new-text", rows: 8, required: true, maxlength: limits.document_characters });
    const id = el("input", { id: "new-id", autocomplete: "off", maxlength: 512, spellcheck: "false", "aria-describedby": "new-id-note" });
    const replace = el("input", { type: "checkbox", id: "new-replace" });
    const add = el("button", { class: "primary" }, "Add");
    const send = async (event) => {
      event.preventDefault();
      add.disabled = true;
      add.textContent = "Adding…";
      const document = { text: text.value, title: title.value.trim() };
      if (id.value.trim()) document.id = id.value.trim();
      try {
        const done = await call("POST", "v1/documents", { documents: [document], replace: replace.checked });
        this.onCount(done.documents);
        const [made] = [...done.added, ...done.replaced];
        this.say(el("p", { class: "done" }, `${done.replaced.length ? "Replaced" : "Added"} `, el("span", { class: "id" }, made), ". It can be found now."));
        announce(`${done.replaced.length ? "Replaced" : "Added"}. ${counted(done.documents, "document")} in all.`);
        form.reset();
        await this.load(Math.floor((done.documents - 1) / PAGE) * PAGE, made);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        this.say(failure(error));
      } finally {
        add.disabled = false;
        add.textContent = "Add";
      }
    };
    const form = el(
      "form",
      { class: "card add", "aria-labelledby": "add-heading", on: { submit: send } },
      el("h3", { id: "add-heading" }, "Add a document"),
      el("label", { for: "new-title" }, "Title"), title,
      el("label", { for: "new-text" }, "Text"), text,
      el("label", { for: "new-id" }, "Id"), id,
      el("p", { id: "new-id-note", class: "quiet" }, "Left empty, the server makes one."),
      el("label", { class: "check" }, replace, " Replace a document that has this id"),
      el("div", { class: "row" }, add),
    );
    return form;
  }

  say(...what) {
    this.note.replaceChildren(...what);
  }

  closer(text) {
    return el("button", { type: "button", on: { click: () => this.dialog.close() } }, text);
  }

  pop(heading, ...content) {
    this.dialog.replaceChildren(el("h2", { id: "dialog-heading" }, heading), ...content);
    this.dialog.showModal();
  }
}
