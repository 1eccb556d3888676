// The answer on the page: label, bars, times.

import { $, el, milliseconds, percent, show } from "./dom.js";

const TIMES = [
  ["read", "upload"],
  ["queue", "waiting"],
  ["decode", "decode"],
  ["preprocess", "preprocess"],
  ["inference", "inference"],
  ["network", "network and page"],
];
const SPOKEN_EVERY = 2500; // ms between two answers that a screen reader is told while the camera runs

let spoken = { label: "", at: 0 };

// {label, probability, unknown, top, ms, total}; `live` while the camera runs; `says` for a screen reader in place of the label.
export function showResult(answer, { live = false, says } = {}) {
  show($("waiting"), false);
  show($("result"));
  const { unknown, top } = answer;
  $("label").textContent = unknown ? "unknown" : answer.label;
  $("probability").textContent = unknown ? "" : percent(answer.probability);
  $("result").classList.toggle("live", live);
  $("result").classList.toggle("is-unknown", Boolean(unknown));
  show($("unknown-note"), Boolean(unknown));
  if (unknown) $("unknown-note").textContent = "It looks like none of the classes. Those it is least unlike:";
  bars(top);
  times(answer.ms, answer.total);
  announce(says ?? (unknown ? "Unknown" : `${answer.label}, ${percent(answer.probability)}`), live);
}

export function clearResult(text, { spoken: aloud = false } = {}) {
  show($("result"), false);
  show($("waiting"));
  $("waiting").textContent = text;
  if (aloud) announce(text, false);
}

function bars(top) {
  const list = $("bars");
  while (list.children.length > top.length) list.lastChild.remove();
  top.forEach(({ label, probability }, place) => {
    const row = list.children[place] ?? list.appendChild(bar());
    const [name, track, value] = row.children;
    name.textContent = label;
    name.title = label;
    value.textContent = percent(probability);
    track.firstChild.style.width = `${Math.max(0, Math.min(1, probability)) * 100}%`;
  });
}

function bar() {
  const track = el("span", { class: "track", "aria-hidden": "true" }, el("span", { class: "fill" }));
  return el("li", {}, el("span", { class: "name" }), track, el("span", { class: "value" }));
}

// A strip of the parts, in proportion, and what each of them took.
function times(ms, total) {
  const known = TIMES.filter(([key]) => Number.isFinite(ms?.[key]));
  const more = Object.keys(ms ?? {}).filter((key) => !TIMES.some(([name]) => name === key) && Number.isFinite(ms[key]));
  const parts = [...known.map(([key, words]) => [key, words, ms[key]]), ...more.map((key) => ["other", key, ms[key]])];
  const strip = el("div", { class: "strip", "aria-hidden": "true" });
  const list = el("dl");
  for (const [key, words, value] of parts) {
    const piece = el("span", { class: `part-${key}` });
    piece.style.flexGrow = String(value);
    strip.append(piece);
    list.append(el("div", {}, el("dt", { class: `part-${key}` }, words), el("dd", {}, milliseconds(value))));
  }
  list.append(el("div", { class: "total" }, el("dt", {}, "in all"), el("dd", { id: "total" }, milliseconds(total))));
  $("times").replaceChildren(strip, list);
}

function announce(text, live) {
  const now = performance.now();
  if (live && (text.split(",")[0] === spoken.label || now - spoken.at < SPOKEN_EVERY)) return;
  spoken = { label: text.split(",")[0], at: now };
  $("status").textContent = text;
}
