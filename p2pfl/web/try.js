// Pictures for the model: drawn here, chosen, or dropped. The node answers; nothing of it is kept there.

import { ask, Refused } from "./api.js";
import { $, bars, share } from "./dom.js";

const PEN = 30; // pixels of the pad's 280: about as thick as the strokes of the digits that models learn
const LARGEST = 512; // pixels of a side; larger pictures are made smaller here
const AGAIN = 2000; // milliseconds between two questions about the same picture
const SHOWN = 10; // classes

let picture = null; // { blob, drawn }
let underWay = false;
let due = false;
let version = null;
let lastAsked = 0;

export function startTrying() {
  const pad = $("pad"), pen = pad.getContext("2d");
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#fff";
  let last = null;
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(last, last);
  });
  pad.addEventListener("pointermove", (event) => {
    if (last === null) return;
    for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
      const next = place(one);
      stroke(last, next);
      last = next;
    }
  });
  const stroke = ([x0, y0], [x1, y1]) => {
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
  };
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, () => {
      if (last === null) return;
      last = null;
      pad.toBlob((blob) => look(blob, true), "image/png");
    });
  }
  $("clear").addEventListener("click", () => {
    pen.clearRect(0, 0, pad.width, pad.height);
    picture = null;
    $("verdict").textContent = "Draw, or choose a picture.";
    $("bars").replaceChildren();
    $("seen").hidden = true;
    $("picture").value = "";
  });
  $("picture").addEventListener("change", (event) => choose(event.target.files[0]));
  $("invert").addEventListener("change", () => picture && question());
  const area = $("try");
  for (const kind of ["dragenter", "dragover"]) {
    area.addEventListener(kind, (event) => {
      event.preventDefault();
      area.classList.add("over");
    });
  }
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    choose(event.dataTransfer.files[0]);
  });
}

// The model has learnt something: what does it say of the picture now?
export function modelChanged(status) {
  $("drawing").hidden = !(status.task.input_shape.length === 3 && status.task.input_shape[0] === 1);
  const changed = version !== null && status.version !== version;
  version = status.version;
  if (changed && picture && Date.now() - lastAsked > AGAIN) question();
}

async function choose(file) {
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => look(blob, false), "image/png");
  } catch {
    $("verdict").textContent = "This file is not a picture that the browser knows.";
  }
}

function look(blob, drawn) {
  picture = { blob, drawn };
  question();
}

async function question() {
  due = true;
  if (underWay) return;
  underWay = true;
  while (due && picture) {
    due = false;
    lastAsked = Date.now();
    const invert = picture.drawn ? "no" : $("invert").value;
    try {
      const response = await ask(`v1/predict?drawn=${picture.drawn ? 1 : 0}&invert=${invert}`, { method: "POST", headers: { "content-type": "image/png" }, body: picture.blob });
      const answer = await response.json();
      if (picture) show(answer);
    } catch (error) {
      $("verdict").textContent = error instanceof Refused ? error.message : "The node does not answer.";
    }
  }
  underWay = false;
}

function show({ classes, probabilities, seen }) {
  const order = probabilities.map((_, i) => i);
  const likely = order.reduce((best, i) => (probabilities[i] > probabilities[best] ? i : best), 0);
  const shown = classes.length <= SHOWN ? order : order.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, SHOWN);
  const said = `${classes[likely]}, ${share(probabilities[likely])}`;
  if ($("verdict").textContent !== said) $("verdict").textContent = said;
  bars($("bars"), shown.map((i) => ({ label: classes[i], share: probabilities[i], shown: share(probabilities[i]) })), classes[likely]);
  $("seen").hidden = seen === null;
  if (seen === null) return;
  const [channels, height, width] = seen.shape;
  const canvas = $("seen-pixels");
  [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = seen.pixels[channels === 3 ? c * width * height + i : i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
