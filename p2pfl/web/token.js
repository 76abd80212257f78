// The dialog that asks for the network's token.

import { hasToken, setToken } from "./api.js";
import { $ } from "./dom.js";

let asking = null; // one dialog for all who were refused

export function askForToken() {
  asking ??= new Promise((done) => {
    const dialog = $("ask-token");
    $("token-wrong").hidden = !hasToken();
    dialog.showModal();
    dialog.addEventListener("close", () => {
      if ($("token").value) setToken($("token").value.trim());
      $("token").value = "";
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}
