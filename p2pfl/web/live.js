// What happens at the node, as it happens: server-sent events read by fetch, since EventSource sends no headers.
// Where streams do not get through, the same is asked for every few seconds.

import { ask, getJson, Refused } from "./api.js";

const PAUSE = 2000; // milliseconds until the next try
const POLL = 3000;
const POLLS = 20; // before a stream is tried again

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// hear: { history(document), status(document), connection(state), unauthorised(): Promise }
export async function watch(hear) {
  let failures = 0;
  for (;;) {
    let heard = false;
    try {
      await stream((kind, document) => {
        heard = true;
        failures = 0;
        hear.connection("live");
        if (kind === "history") hear.history(document);
        if (kind === "status") hear.status(document);
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        await hear.unauthorised();
        continue;
      }
    }
    hear.connection("lost");
    if (!heard && ++failures >= 2) await poll(hear).catch(() => {});
    else await sleep(PAUSE);
  }
}

async function stream(take) {
  const response = await ask("v1/events", { headers: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let kind = "";
  let data = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (pending + value).split("\n");
    pending = lines.pop();
    for (const line of lines) {
      if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
      else if (line === "" && data) {
        take(kind, JSON.parse(data));
        [kind, data] = ["", ""];
      }
    }
  }
}

async function poll(hear) {
  for (let i = 0; i < POLLS; i++) {
    const [past, status] = await Promise.all([getJson("v1/history"), getJson("v1/status")]);
    hear.connection("polling");
    hear.history(past);
    hear.status(status);
    await sleep(POLL);
  }
}
