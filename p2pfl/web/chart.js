// Line charts as SVG.

import { svg } from "./dom.js";

const LEFT = 58, RIGHT = 12, TOP = 24, BOTTOM = 34;

// series: [{ name, kind: own | second | peer, points: [[x, y], ...] }]; from: the lowest y, or null;
// xName; xText, yText: numbers to text.  xSteps: between two marks, for what is not counted in tens.  Of the peers only one is named: they look alike.
export function draw(chart, { series, from = null, to = null, xName, xText, xSteps = null, yText, summary }) {
  const width = chart.clientWidth || 400, height = chart.clientHeight || 230;
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.setAttribute("aria-label", summary);
  series = series.filter(({ points }) => points.length);
  const all = series.flatMap(({ points }) => points);
  if (!all.length) {
    chart.replaceChildren(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing yet"));
    return;
  }
  const xs = all.map(([x]) => x), ys = all.map(([, y]) => y);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const yTicks = ticks(from ?? Math.min(...ys), Math.max(to ?? -Infinity, Math.max(...ys)), 4);
  const [y0, y1] = [Math.min(yTicks[0], from ?? Infinity), Math.max(yTicks.at(-1), Math.max(...ys))];
  const right = width - RIGHT, bottom = height - BOTTOM;
  const px = (x) => LEFT + ((x - x0) / (x1 - x0 || 1)) * (right - LEFT);
  const py = (y) => bottom - ((y - y0) / (y1 - y0 || 1)) * (bottom - TOP);
  const parts = yTicks.flatMap((y) => [
    svg("line", { class: "axis", x1: LEFT, x2: right, y1: py(y), y2: py(y) }),
    svg("text", { x: LEFT - 8, y: py(y) + 4, "text-anchor": "end" }, yText(y)),
  ]);
  for (const x of ticks(x0, x1, Math.max(2, Math.floor(width / 90)), xSteps)) {
    if (x < x0 || x > x1) continue;
    parts.push(svg("text", { x: px(x), y: bottom + 16, "text-anchor": "middle" }, xText(x)));
  }
  parts.push(svg("text", { x: right, y: height - 3, "text-anchor": "end" }, xName));
  for (const { kind, points } of [...series].reverse()) {
    parts.push(svg("polyline", { class: `curve ${kind}`, points: points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ") }));
    if (points.length === 1) parts.push(svg("circle", { class: `curve ${kind}`, cx: px(points[0][0]), cy: py(points[0][1]), r: 2 }));
  }
  let at = 2;
  for (const { kind, name } of series.filter(({ kind }, i) => series.findIndex((one) => one.kind === kind) === i)) {
    parts.push(svg("line", { class: `key ${kind}`, x1: at, x2: at + 18, y1: 9, y2: 9 }), svg("text", { x: at + 23, y: 13 }, name));
    at += 23 + 7 * name.length + 14;
  }
  chart.replaceChildren(...parts);
}

// About `count` round numbers from at most `low` to at least `high`.
export function ticks(low, high, count, steps = null) {
  if (!(high > low)) return [low, low + (Math.abs(low) || 1)];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = steps?.find((one) => one >= rough) ?? power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.floor(low / step + 1e-9); (i - 1) * step < high - 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}
