// What the node's operator may change, and the model to take away.

import { ask, getJson, hasControl, postJson, Refused, setControl } from "./api.js";
import { $, el } from "./dom.js";

const NAMES = { lr: "Learning rate", local_steps: "Local steps", local_epochs: "Local epochs", batch_size: "Batch size", fanout: "Fan-out", merge: "Merge rule" };

let known = null; // the node's controls, as it said last
let name = "model";
let started = false;

export async function startControls() {
  if (!started) listen();
  started = true;
  $("operator").hidden = $("no-controls").hidden = hasControl();
  $("controls").hidden = true;
  if (!hasControl()) return;
  try {
    show(await getJson("v1/controls"));
  } catch (error) {
    if (error instanceof Refused && error.status !== 503 && error.status !== 429) setControl(null);
    $("operator").hidden = $("no-controls").hidden = hasControl();
    $("no-controls").hidden = false;
    $("no-controls").textContent = error instanceof Refused ? error.message : "The node does not answer.";
  }
}

// The status changed: somebody else may have paused the node.
export function showState(status) {
  name = `${status.task.name}-${status.model}`;
  if (known !== null && (status.state === "paused") !== known.paused && !$("controls").hidden) refresh();
}

async function refresh() {
  known = null; // one question at a time
  try {
    show(await getJson("v1/controls"), false);
  } catch {
    say("The node does not answer.");
  }
}

function listen() {
  $("operator").addEventListener("submit", (event) => {
    event.preventDefault();
    setControl($("operator-token").value.trim());
    $("operator-token").value = "";
    startControls();
  });
  $("pause").addEventListener("click", () => change({ paused: !known?.paused }));
  $("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    change(wanted());
  });
  $("leave").addEventListener("click", () => {
    const dialog = $("ask-leave");
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => dialog.returnValue === "leave" && leave(), { once: true });
  });
  $("download").addEventListener("click", download);
}

function show(document, fields = true) {
  known = document;
  $("controls").hidden = false;
  $("operator").hidden = $("no-controls").hidden = true;
  $("pause").textContent = document.paused ? "Resume" : "Pause";
  if (fields) $("settings").replaceChildren(...Object.entries(document.settings).map(([key, value]) => field(key, value, document.choices?.[key] || {})));
}

function field(key, value, choice) {
  const numeric = typeof value === "number" || [choice.type].flat().some((type) => type === "number" || type === "integer");
  const whole = [choice.type].flat().includes("integer");
  const input = el("input", {
    name: key, id: `set-${key}`, title: choice.description || null,
    type: numeric ? "number" : "text", step: numeric ? (whole ? "1" : "any") : null,
    min: choice.minimum ?? null, max: choice.maximum ?? null, value: value ?? "",
    list: choice.examples ? `choices-${key}` : null, placeholder: value === null ? "not set" : null,
    spellcheck: "false", autocomplete: "off",
  });
  const examples = choice.examples ? el("datalist", { id: `choices-${key}` }, ...choice.examples.map((one) => el("option", { value: one }))) : null;
  return el("div", {}, el("label", { for: `set-${key}` }, NAMES[key] || key, input), examples);
}

// What differs from what the node said. An empty field takes a setting back.
function wanted() {
  const values = {};
  for (const input of $("settings").querySelectorAll("input")) {
    const before = known.settings[input.name];
    const now = input.value === "" ? null : input.type === "number" ? Number(input.value) : input.value;
    if (now !== before) values[input.name] = now;
  }
  return values;
}

async function change(values) {
  if (!Object.keys(values).length) return say("Nothing is different.");
  try {
    const document = await postJson("v1/controls", values);
    show(document);
    say([...(document.warnings || []), "paused" in values ? (document.paused ? "Paused: the round under way is the last." : "Training goes on.") : "Taken, from the next round."].join(" "));
  } catch (error) {
    say(error instanceof Refused ? error.message : "The node does not answer.");
    if (error.field) $(`set-${error.field}`)?.focus();
  }
}

async function leave() {
  try {
    await postJson("v1/stop", {});
    say("The node says farewell and ends.");
  } catch (error) {
    say(error instanceof Refused ? error.message : "The node does not answer.");
  }
}

async function download() {
  const button = $("download");
  button.disabled = true;
  try {
    const url = URL.createObjectURL(await (await ask("v1/model.safetensors")).blob());
    const anchor = el("a", { href: url, download: `${name}.safetensors` });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  } catch (error) {
    button.textContent = error instanceof Refused ? error.message : "The node does not answer";
  }
  button.disabled = false;
}

function say(message) {
  $("controls-said").textContent = message;
}
