// What is known of the model.

import { $, count, el, megabytes, milliseconds, show } from "./dom.js";

export function showCard(card) {
  $("name").textContent = document.title = card.name;
  const few = card.labels.slice(0, 6).join(", ");
  const more = card.labels.length > 6 ? ` and ${card.labels.length - 6} more` : "";
  const expects = card.faces ? " The server looks for faces in each picture." : card.expects ? ` It expects ${card.expects}.` : "";
  $("purpose").textContent = `Tells ${count(card.labels.length)} classes apart: ${few}${more}.${expects}`;
  $("labels").querySelector("summary").textContent = `All ${count(card.labels.length)} labels`;
  $("labels").querySelector("ul").replaceChildren(...card.labels.map((label) => el("li", {}, label)));
  show($("labels"), card.labels.length > 6);
}

// started: what BrowserPlace.prepare gave, or null.
export function showFacts(card, site, place, started) {
  const { size, resize } = card.preprocess;
  const bytes = started?.bytes.model ?? card.bytes;
  const runs =
    place === "server"
      ? `on the server${card.provider ? `, ${card.provider}` : ""}`
      : `in this browser, WebAssembly${started ? `, ${started.threads} thread${started.threads === 1 ? "" : "s"}` : ""}`;
  const faces = card.faces && place === "server";
  const part = faces ? "each face, turned upright" : resize === "crop" ? "the central square" : "the whole picture, squashed";
  const rows = [
    ["network", card.student],
    ["precision", [card.precision, card.target && `made for ${card.target}`].filter(Boolean).join(", ")],
    ["size", bytes ? megabytes(bytes) : ""],
    ["weights", card.parameters ? count(card.parameters) : ""],
    ["classes", count(card.labels.length)],
    ["input", `${size} × ${size} pixels, ${part}`],
    ["runs", runs],
    ["runtime", place === "browser" && site.runtime ? `onnxruntime-web ${site.runtime.version}` : ""],
    ["start", started ? `${milliseconds(started.ms.session)} after the download, first run ${milliseconds(started.ms.first)}` : ""],
    ["licence", card.licence],
    ["notes", card.notes],
  ];
  const filled = rows.filter(([, text]) => text);
  $("facts").replaceChildren(...filled.map(([key, text]) => el("div", text.length > 70 ? { class: "long" } : {}, el("dt", {}, key), el("dd", {}, text))));
  $("made").textContent = `kdedge ${site.kdedge}`;
  show($("licences"), Boolean(site.runtime));
}
