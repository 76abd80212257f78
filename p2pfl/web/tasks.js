// The page of a process with several tasks: how each is, and starting, pausing and stopping it.

import { getJson, hasControl, postJson, Refused, setControl, takeSecrets } from "./api.js";
import { askForToken } from "./token.js";
import { $, el, figure, number, share, text } from "./dom.js";

const EVERY = 2000; // milliseconds between two questions

let timer = null;

function show(tasks) {
  const focused = document.activeElement?.id;
  $("list").replaceChildren(...tasks.map(row));
  if (focused) $(focused)?.focus(); // a row that is drawn anew keeps it
}

function row(task) {
  const state = el("td", {}, el("span", { class: task.state === "failed" ? "bad" : null }, task.state));
  if (task.failure) state.append(el("div", { class: "sub wrap" }, task.failure));
  const name = task.running ? el("a", { href: `${path(task)}/` }, task.name) : task.name;
  const figures = [number(task.running || task.round ? task.round : null), share(task.accuracy), figure(task.loss), number(task.running ? task.peers : null)];
  return el("tr", {}, el("th", { scope: "row" }, name), state, ...figures.map((value) => el("td", { class: "n" }, value)), el("td", {}, el("div", { class: "buttons" }, ...(hasControl() ? buttons(task) : []))));
}

function buttons(task) {
  if (!task.running) return task.state === "starting" ? [] : [button(task, "start", () => act(task, "start", {}))];
  const paused = task.state === "paused";
  return [
    button(task, paused ? "resume" : "pause", () => act(task, "v1/controls", { paused: !paused })),
    button(task, "stop", () => askToStop(task), "danger"),
  ];
}

function button(task, what, pressed, kind = null) {
  const made = el("button", { type: "button", id: `${what}-${task.name}`, class: kind, "aria-label": `${what} ${task.name}` }, what);
  made.addEventListener("click", pressed);
  return made;
}

const path = (task) => `tasks/${encodeURIComponent(task.name)}`;

function askToStop(task) {
  const dialog = $("ask-stop");
  dialog.returnValue = "";
  text("h-stop", `Stop ${task.name}?`);
  dialog.showModal();
  dialog.addEventListener("close", () => dialog.returnValue === "stop" && act(task, "v1/stop", {}), { once: true });
}

async function act(task, route, value) {
  try {
    await postJson(`${path(task)}/${route}`, value);
    text("said", "");
  } catch (error) {
    if (error instanceof Refused && error.status === 403) setControl(null);
    text("said", error instanceof Refused ? error.message : "The process does not answer.");
  }
  look();
}

async function look() {
  clearTimeout(timer);
  $("operator").hidden = $("no-controls").hidden = hasControl();
  try {
    show(await getJson("tasks"));
    connection("live");
  } catch (error) {
    connection("lost");
    if (error instanceof Refused && error.status === 401) await askForToken();
  }
  timer = setTimeout(look, EVERY);
}

function connection(state) {
  text("connection", state);
  $("connection").className = `connection ${state}`;
}

takeSecrets();
addEventListener("hashchange", () => {
  takeSecrets();
  look();
});
$("operator").addEventListener("submit", (event) => {
  event.preventDefault();
  setControl($("operator-token").value.trim());
  $("operator-token").value = "";
  look();
});
look();
