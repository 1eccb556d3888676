// The pictures so far: thumbnails to come back to, and a CSV file of all answers.

import { $, el, percent, show } from "./dom.js";
import { named, rowsOf } from "./faces.js";

const MOST = 60; // pictures that are kept; of older ones the row of the CSV file alone
const SIDE = 96; // pixels of a thumbnail
const rows = []; // [file or face, label, probability, unknown, where, milliseconds]

// open(entry) is called with what `remember` was given.
export function setUp(open) {
  $("save").addEventListener("click", save);
  $("forget").addEventListener("click", () => {
    rows.length = 0;
    $("past").replaceChildren();
    show($("history"), false);
    $("choose").querySelector("input").focus();
  });
  $("past").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(button.entry);
  });
}

// {blob, name, answer, place}: the newest comes first.
export async function remember(entry) {
  const { answer, name, blob } = entry;
  const told = rowsOf(name, answer);
  rows.push(...told.map((one) => [one.name, one.label, one.probability, Boolean(one.unknown), entry.place, answer.total]));
  const label = named(answer);
  const picture = el("span", { class: "thumb", "aria-hidden": "true" });
  const sure = told.length === 1 && !told[0].unknown;
  const words = el("span", { class: "words" }, el("b", {}, label), el("span", {}, sure ? percent(told[0].probability) : name));
  const button = el("button", { type: "button", title: name, "aria-label": `${name}: ${label}` }, picture, words);
  button.entry = entry;
  const list = $("past");
  list.prepend(el("li", {}, button));
  while (list.children.length > MOST) list.lastChild.remove();
  show($("history"));
  picture.append(await thumbnail(blob));
}

// One that was classified again, on the other side say, keeps its place.
export function mark(entry) {
  for (const button of $("past").querySelectorAll("button")) {
    if (button.entry === entry) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

async function thumbnail(blob) {
  const canvas = el("canvas", { width: String(SIDE), height: String(SIDE) });
  try {
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
    const side = Math.min(bitmap.width, bitmap.height);
    const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, left, top, side, side, 0, 0, SIDE, SIDE);
    bitmap.close();
    return canvas;
  } catch {
    return document.createTextNode("?");
  }
}

function save() {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const lines = [["image", "label", "probability", "unknown", "where", "ms"], ...rows].map((row) => row.map(quoted).join(","));
  const url = URL.createObjectURL(new Blob([lines.join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" }));
  el("a", { href: url, download: "answers.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
