// Building the page. Whatever comes from documents, models or people goes through here, as text: never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `attributes`: `on` has listeners, `class`, `dataset`, else attributes; null, undefined and false are left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, heard] of Object.entries(value)) made.addEventListener(event, heard);
    else if (name === "dataset") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Say something to people who listen to the page. */
export function announce(text) {
  byId("status").textContent = text;
}

/** The text with spans marked. Positions count characters (code points), as the server does, not UTF-16 units. */
export function marked(text, spans) {
  const characters = Array.from(text);
  const parts = [];
  let at = 0;
  for (const [start, end] of [...spans].sort((one, other) => one[0] - other[0])) {
    if (start < at || end <= start || end > characters.length) continue;
    parts.push(characters.slice(at, start).join(""), el("mark", {}, characters.slice(start, end).join("")));
    at = end;
  }
  parts.push(characters.slice(at).join(""));
  return parts.filter((part) => part !== "");
}

/** The text around its first span, and its spans there; what is cut away is told by an ellipsis. */
export function around(text, spans, before, length) {
  const characters = Array.from(text);
  const first = spans.length ? spans[0][0] : 0;
  let start = first > before ? first - before : 0;
  while (start > 0 && start < first && characters[start - 1].trim()) start += 1;
  const least = spans.length ? spans[0][1] : 0;
  let end = Math.min(characters.length, Math.max(start + length, least));
  while (end < characters.length && end > least && end > start + 1 && characters[end].trim()) end -= 1;
  const lead = start > 0 ? "… " : "";
  const shift = lead.length - start;
  return {
    text: lead + characters.slice(start, end).join("").trimEnd() + (end < characters.length ? " …" : ""),
    spans: spans.filter(([from, to]) => from >= start && to <= end).map(([from, to]) => [from + shift, to + shift]),
  };
}

const whole = new Intl.NumberFormat("en");

/** 1016 → "1,016". */
export const count = (number) => whole.format(number);

/** "1 passage", "3 passages". */
export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A score: as many digits as can be told apart at a glance, with a real minus sign. */
export function score(value) {
  const size = Math.abs(value);
  const text = size >= 1000 ? count(Math.round(size)) : size.toFixed(size >= 100 ? 1 : 2);
  return value < 0 && Number(text.replaceAll(",", "")) !== 0 ? `−${text}` : text;
}
