// Requests to the node that served this page. Addresses are relative: a node may live below /tasks/NAME/.

const TOKEN = "p2pfl-token";
const CONTROL = "p2pfl-control";

// Secrets come in the fragment, which is sent to nobody; they are kept for this tab, and not in the address bar.
export function takeSecrets() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, place] of [["token", TOKEN], ["control", CONTROL]]) {
    if (given.get(key)) sessionStorage.setItem(place, given.get(key));
  }
  if (given.has("token") || given.has("control")) history.replaceState(null, "", location.pathname + location.search);
}

export const setToken = (value) => sessionStorage.setItem(TOKEN, value);
export const setControl = (value) => (value === null ? sessionStorage.removeItem(CONTROL) : sessionStorage.setItem(CONTROL, value));
export const hasControl = () => sessionStorage.getItem(CONTROL) !== null;
export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `the node answered ${status}`);
    this.status = status;
    this.reason = (problem.type || "").replace("urn:p2pfl:", "");
    this.field = problem.field || "";
  }
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (hasToken()) headers.authorization = `Bearer ${sessionStorage.getItem(TOKEN)}`;
  if (hasControl()) headers["p2pfl-control"] = sessionStorage.getItem(CONTROL);
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  return response;
}

export const getJson = async (path) => (await ask(path)).json();

export async function postJson(path, value) {
  const response = await ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });
  return response.json();
}
