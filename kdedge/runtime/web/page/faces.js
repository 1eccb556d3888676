// The faces of a picture, where the server looks for them: boxes on the picture, a button for each, one answer in full.

import { $, el, percent, show } from "./dom.js";
import { clearResult, showResult } from "./result.js";

// An answer, of a whole picture or of its faces; `live` while the camera runs.
export function present(answer, { live = false } = {}) {
  const { faces } = answer;
  if (!faces) {
    clearFaces();
    showResult(answer, { live });
    return;
  }
  boxes(answer);
  if (!faces.length) {
    show($("people"), false);
    clearResult("No face was found.", { spoken: !live });
    return;
  }
  choose(answer, live ? widest(faces) : 0, live);
}

export function clearFaces() {
  $("boxes").replaceChildren();
  $("people").replaceChildren();
  for (const id of ["boxes", "people"]) show($(id), false);
}

// What is said of a picture in a line: "Ada", "Ada, unknown", "no face".
export function named(answer) {
  if (!answer.faces) return answer.unknown ? "unknown" : answer.label;
  return answer.faces.map(labelOf).join(", ") || "no face";
}

// A row for each answer in a picture: {name, label, probability, unknown}; none has none.
export function rowsOf(name, { faces, ...whole }) {
  return faces ? faces.map((face, place) => ({ ...face, name: `${name}#${place + 1}` })) : [{ ...whole, name }];
}

function labelOf({ label, unknown }) {
  return unknown ? "unknown" : label;
}

function widest(faces) {
  return faces.reduce((best, { box }, place) => (box[2] > faces[best].box[2] ? place : best), 0);
}

// Tell of one of them in full; the others are a button away.
function choose(answer, chosen, live = false) {
  const { faces, ms, total } = answer;
  const all = faces.map(labelOf).join(", ");
  showResult({ ...faces[chosen], ms, total }, { live, says: faces.length > 1 ? `${faces.length} faces: ${all}` : undefined });
  const people = $("people");
  show(people, faces.length > 1);
  people.replaceChildren(
    ...faces.map((face, place) => {
      const text = face.unknown ? "unknown" : `${face.label} ${percent(face.probability)}`;
      if (live) return el("li", {}, text); // gone with the next frame, before anybody could press it
      const pressed = String(place === chosen);
      const button = el("button", { type: "button", class: "small", "aria-pressed": pressed }, text);
      button.addEventListener("click", () => {
        choose(answer, place);
        people.children[place].firstChild.focus();
      });
      return el("li", {}, button);
    }),
  );
  [...$("boxes").children].forEach((box, place) => {
    box.classList.toggle("chosen", place === chosen);
    if (!live) box.onclick = () => choose(answer, place);
  });
}

// Boxes over the picture or the video. A mirrored video has them mirrored; its words stay readable.
function boxes({ faces, size }) {
  const layer = $("boxes");
  const video = $("video");
  const shown = video.hidden ? $("image") : video;
  const [width, height] = size ?? [shown.naturalWidth, shown.naturalHeight];
  layer.replaceChildren();
  show(layer, !shown.hidden && width > 0);
  const mirrored = shown.classList.contains("mirrored");
  for (const { box, ...face } of width > 0 ? faces : []) {
    const [left, top, wide, high] = box;
    const drawn = el("div", { class: face.unknown ? "face is-unknown" : "face" }, el("span", {}, labelOf(face)));
    drawn.style.left = `${(100 * (mirrored ? width - left - wide : left)) / width}%`;
    drawn.style.top = `${(100 * top) / height}%`;
    drawn.style.width = `${(100 * wide) / width}%`;
    drawn.style.height = `${(100 * high) / height}%`;
    layer.append(drawn);
  }
}
