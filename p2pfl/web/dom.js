// Elements and numbers. What comes from a node goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

export function text(id, value) {
  const element = $(id);
  if (element.textContent !== value) element.textContent = value;
}

export const share = (value) => (typeof value === "number" ? `${(100 * value).toFixed(1)} %` : "–");
export const number = (value) => (typeof value === "number" ? Math.round(value).toLocaleString("en") : "–");

export function figure(value) {
  if (typeof value !== "number") return "–";
  return value === 0 || Math.abs(value) >= 0.001 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : Number(value.toFixed(1))} ${units[unit]}`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

// An address from a peer, as a link only if it is one of the web.
export function link(address, label) {
  let url = null;
  try {
    url = new URL(address);
  } catch {
    return label;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return label;
  return el("a", { href: url.href, rel: "noopener noreferrer" }, label);
}

export function bars(list, entries, first) {
  list.replaceChildren(
    ...entries.map(({ label, share, shown }) => {
      const fill = el("div", { class: "fill" });
      fill.style.width = `${100 * share}%`;
      return el("li", { class: label === first ? "first" : null }, el("span", { class: "label", title: label }, label), el("div", { class: "track", "aria-hidden": "true" }, fill), el("span", { class: "value" }, shown));
    }),
  );
}
