// The page of one node: takes what the node says, and shows it at most once in a frame.

import { Past } from "./past.js";
import { draw } from "./chart.js";
import { drawGraph, listExchanges, listPeers } from "./network.js";
import { getJson, takeSecrets } from "./api.js";
import { askForToken } from "./token.js";
import { $, bars, bytes, el, figure, link, number, share, span, text } from "./dom.js";
import { startControls, showState } from "./controls.js";
import { startTrying, modelChanged } from "./try.js";
import { watch } from "./live.js";

const past = new Past();
let status = null;
let asked = false;

function showSoon() {
  if (asked || status === null) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    show();
  });
}

function show() {
  const name = status.name || status.id.slice(0, 8);
  document.title = `${name} · p2pfl`;
  text("name", name);
  text("state", status.state);
  text("round", number(status.round));
  text("accuracy", share(status.accuracy ?? past.rounds.findLast((point) => point.accuracy !== null)?.accuracy));
  drawGraph(status, past);
  listPeers(status, past);
  listExchanges(status, past);
  showCurves();
  showTraffic();
  showFacts();
  showRefused();
  showLog();
}

function showCurves() {
  const curve = (key) => past.rounds.filter((point) => point[key] !== null).map((point) => [point.round, point[key]]);
  const peers = Map.groupBy ? Map.groupBy(past.peers, (point) => point.peer) : grouped(past.peers);
  const others = [...peers.values()].map((points) => ({ name: peers.size === 1 ? "1 peer" : `${peers.size} peers`, kind: "peer", points: points.map((point) => [point.round, point.accuracy]) }));
  const own = curve("accuracy"), balanced = curve("balanced_accuracy");
  draw($("accuracy-chart"), {
    series: [{ name: "this node", kind: "own", points: own }, { name: "balanced", kind: "second", points: balanced }, ...others],
    xName: "round", xText: whole, yText: (y) => `${Number((100 * y).toFixed(1))} %`,
    summary: own.length ? `Accuracy over rounds: from ${share(own[0][1])} to ${share(own.at(-1)[1])} in round ${own.at(-1)[0]}` : "No accuracy yet",
  });
  const loss = curve("loss"), training = curve("training_loss");
  draw($("loss-chart"), {
    series: [{ name: "held-out data", kind: "own", points: loss }, { name: "training", kind: "second", points: training }],
    from: 0, xName: "round", xText: whole, yText: figure,
    summary: loss.length ? `Loss on held-out data: from ${figure(loss[0][1])} to ${figure(loss.at(-1)[1])}` : "No loss yet",
  });
}

const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14400, 43200, 86400, 172800, 604800]; // seconds
const whole = (x) => (Number.isInteger(x) ? String(x) : "");

function grouped(points) {
  const found = new Map();
  for (const point of points) found.set(point.peer, [...(found.get(point.peer) || []), point]);
  return found;
}

function showTraffic() {
  const now = { t: past.at, received: past.received, sent: past.sent };
  const points = [...past.traffic, now];
  text("traffic-total", `received ${bytes(past.received)}, sent ${bytes(past.sent)} in ${span(past.at)}`);
  draw($("traffic-chart"), {
    series: [{ name: "received", kind: "own", points: points.map((p) => [p.t, p.received]) }, { name: "sent", kind: "second", points: points.map((p) => [p.t, p.sent]) }],
    from: 0, xName: "since the start", xText: span, xSteps: TIMES, yText: bytes,
    summary: `Bytes since the start: received ${bytes(past.received)}, sent ${bytes(past.sent)}`,
  });
}

function showFacts() {
  const storage = status.storage;
  const facts = {
    Id: status.id,
    Address: status.url ? link(status.url, status.url) : "cannot be called",
    Task: `${status.task.name}: ${status.task.classes.length} classes (${status.task.classes.slice(0, 12).join(", ")}${status.task.classes.length > 12 ? ", …" : ""})`,
    Model: `${status.model}, ${number(status.parameters)} parameters`,
    "Training samples": number(status.samples),
    "Age of the model": `${number(status.age)} samples`,
    Loss: figure(status.loss),
    "Merge rule": status.kept_own ? `${status.merge}; too few models ${status.kept_own} times` : status.merge,
    Signs: status.signs ? (status.requires_signatures ? "yes, and takes nothing unsigned" : "yes") : "no",
    Storage: storage === null ? "keeps nothing" : Object.entries(storage).filter(([, value]) => value !== "" && value !== null).map(([key, value]) => `${key.replaceAll("_", " ")}: ${Array.isArray(value) ? value.join("; ") || "none" : value}`).join(", "),
  };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function showRefused() {
  const reasons = Object.entries(status.rejected).sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...reasons.map(([, count]) => count));
  bars($("refused"), reasons.map(([label, count]) => ({ label, share: count / most, shown: number(count) })));
  const lines = [...status.refusals].reverse().map(({ reason, source, detail }) => el("li", {}, el("span", { class: "kind" }, reason), ` from ${source || "nobody"}: ${detail}`));
  $("refusals").replaceChildren(...(lines.length ? lines : [el("li", {}, "none")]));
}

function showLog() {
  const log = $("log"), atTop = log.scrollTop < 8;
  log.replaceChildren(
    ...past.log.slice(-200).reverse().map((line) => el("li", {}, el("span", { class: "when" }, `${span(Math.max(0, past.now - line.t))} ago `), el("span", { class: "kind" }, line.event), ` ${line.text}`)),
  );
  if (atTop) log.scrollTop = 0;
}

function connection(state) {
  const words = { live: "live", polling: "live, every few seconds", lost: "the node does not answer; trying again" };
  text("connection", words[state]);
  $("connection").className = `connection ${state === "lost" ? "lost" : "live"}`;
}

// A process with several tasks: each has such a page, and the process one that lists them.
async function linkTasks() {
  const tasks = await getJson("../../tasks").catch(() => []);
  const links = tasks.map(({ name }) => {
    const url = new URL(`../${encodeURIComponent(name)}/`, location.href);
    return el("a", { href: url.href, "aria-current": url.pathname === location.pathname ? "page" : null }, name);
  });
  $("tasks").replaceChildren(el("a", { href: "../../" }, "all tasks"), ...links);
  $("tasks").hidden = false;
}

takeSecrets();
addEventListener("hashchange", () => {
  takeSecrets();
  startControls();
});
addEventListener("resize", showSoon);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showSoon);
setInterval(showSoon, 5000); // what is so long ago
startTrying();
startControls();
if (/\/tasks\/[^/]+\/$/.test(location.pathname)) linkTasks();
watch({
  history(document) {
    past.add(document);
    showSoon();
  },
  status(document) {
    status = document;
    modelChanged(document);
    showState(document);
    showSoon();
  },
  connection,
  unauthorised: askForToken,
});
