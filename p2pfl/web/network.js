// The network as this node sees it: a ring of its peers, and the same as a table.

import { $, bytes, el, link, number, share, span, svg } from "./dom.js";

const LABELLED = 24; // as many peers as have room for their names
const RECENT = 10; // seconds

export const shortName = (peer) => peer.name || (peer.id ? peer.id.slice(0, 8) : peer.url.replace(/^https?:\/\//, ""));

// Everybody that a status names, in a stable order.
export function everybody(status) {
  const peers = status.peers.map((peer) => ({ ...peer, standing: peer.standing || (peer.state === "live" ? "alive" : "new") }));
  const known = new Set(peers.map((peer) => peer.id));
  const others = [...status.callers.map((caller) => ({ ...caller, url: "", state: "calls us" })), ...status.gone.map((gone) => ({ ...gone, state: "gone" }))];
  for (const other of others) if (!known.has(other.id)) peers.push({ name: "", ...other });
  return peers.sort((a, b) => (a.id + a.url < b.id + b.url ? -1 : 1));
}

export function drawGraph(status, past) {
  const graph = $("graph"), peers = everybody(status), latest = past.latest();
  const width = graph.clientWidth || 400, height = graph.clientHeight || 320;
  const [cx, cy] = [width / 2, height / 2];
  const named = peers.length <= LABELLED;
  const rx = Math.max(60, cx - (named ? 84 : 20)), ry = cy - (named ? 34 : 20);
  const size = peers.length > 60 ? 4 : peers.length > LABELLED ? 5 : 7;
  const lines = [], marks = [];
  peers.forEach((peer, i) => {
    const angle = (2 * Math.PI * i) / peers.length - Math.PI / 2;
    const [x, y] = [cx + rx * Math.cos(angle), cy + ry * Math.sin(angle)];
    const exchange = latest.get(peer.id);
    const recent = exchange && past.now - exchange.t < RECENT;
    const kind = !recent ? "" : exchange.outcome === "ok" ? " recent" : " failed";
    lines.push(svg("line", { class: `link${kind}`, x1: cx, y1: cy, x2: x, y2: y }));
    const mark = markOf(peer.standing, x, y, size);
    mark.append(svg("title", {}, `${shortName(peer)}: ${peer.standing}${peer.node_state ? `, ${peer.node_state}` : ""}`));
    marks.push(mark);
    if (named) {
      const anchor = Math.abs(Math.cos(angle)) < 0.3 ? "middle" : Math.cos(angle) > 0 ? "start" : "end";
      const dx = anchor === "middle" ? 0 : anchor === "start" ? 12 : -12;
      const dy = anchor === "middle" ? (Math.sin(angle) > 0 ? 24 : -14) : 4;
      marks.push(svg("text", { x: x + dx, y: y + dy, "text-anchor": anchor }, clipped(shortName(peer), 11)));
    }
  });
  marks.push(svg("circle", { class: "mark self", cx, cy, r: 11 }));
  marks.push(svg("text", { class: "strong", x: cx, y: cy + 28, "text-anchor": "middle" }, clipped(status.name || status.id.slice(0, 8), 18)));
  if (!peers.length) marks.push(svg("text", { x: cx, y: cy + 48, "text-anchor": "middle" }, "no peers yet"));
  graph.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const alive = peers.filter((peer) => peer.standing === "alive").length;
  graph.setAttribute("aria-label", `This node knows ${peers.length} others, ${alive} of them alive; the table has the details.`);
  graph.replaceChildren(...lines, ...marks);
}

function markOf(standing, x, y, r) {
  const place = { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
  if (standing === "suspect") return svg("path", { class: "mark suspect", d: `M0${-r - 2} ${r + 2} 0 0 ${r + 2} ${-r - 2} 0Z`, ...place });
  if (standing === "dead") return svg("path", { class: "mark dead", d: `M${-r + 1} ${-r + 1} ${r - 1} ${r - 1}M${-r + 1} ${r - 1} ${r - 1} ${-r + 1}`, ...place });
  return svg("circle", { class: `mark ${standing === "alive" ? "alive" : "left"}`, r, ...place });
}

const clipped = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
const TONES = { alive: "good", suspect: "warn", dead: "bad" };

export function listPeers(status, past) {
  const latest = past.latest();
  const rows = everybody(status).map((peer) => {
    const exchange = latest.get(peer.id);
    const counted = "bytes_in" in peer;
    return el(
      "tr",
      {},
      el("td", {}, peer.url ? link(peer.url, shortName(peer)) : shortName(peer), peer.name ? el("span", { class: "sub" }, ` ${peer.id.slice(0, 8)}`) : null),
      el("td", { class: TONES[peer.standing] || null, title: peer.detail || null }, peer.standing === "new" ? peer.state : peer.standing),
      el("td", {}, peer.node_state || "–"),
      el("td", { class: "n" }, counted ? number(peer.round) : "–"),
      el("td", { class: "n" }, number(peer.age)),
      el("td", { class: "n" }, share(peer.accuracy)),
      el("td", { class: "n" }, counted ? `${peer.exchanges_in} / ${peer.exchanges_out}` : "–"),
      el("td", { class: "n" }, counted ? `${bytes(peer.bytes_in)} / ${bytes(peer.bytes_out)}` : "–"),
      el("td", { class: "n" }, exchange ? `${span(Math.max(0, past.now - exchange.t))} ago` : "–"),
    );
  });
  $("peers").replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { colspan: 9 }, "none yet"))]));
}

export function listExchanges(status, past) {
  const names = new Map(everybody(status).map((peer) => [peer.id, shortName(peer)]));
  $("exchanges").replaceChildren(
    ...past.exchanges.slice(-40).reverse().map((exchange) =>
      el(
        "tr",
        {},
        el("td", {}, `${span(Math.max(0, past.now - exchange.t))} ago`),
        el("td", {}, names.get(exchange.peer) || exchange.peer.slice(0, 8)),
        el("td", {}, `${exchange.mode}, ${exchange.direction === "in" ? "it called" : "we called"}`),
        el("td", { class: "n" }, `${bytes(exchange.received)} / ${bytes(exchange.sent)}`),
        el("td", { class: exchange.outcome === "ok" ? "good" : "bad" }, exchange.outcome),
      ),
    ),
  );
}
