// The picture or the camera on the page, with the part that the network sees.

import { $, show } from "./dom.js";
import { clearFaces } from "./faces.js";
import { region } from "./fit.js";

let shownUrl = null;

// A Blob, and how the network crops it (null where it sees faces alone); what the browser cannot draw is named only.
export async function showPicture(blob, name, mode) {
  const image = $("image");
  clear();
  setCaption(name);
  shownUrl = URL.createObjectURL(blob);
  image.src = shownUrl;
  image.alt = `The picture: ${name}`;
  try {
    await image.decode();
  } catch {
    if (image.src === shownUrl) placeholder(name);
    return;
  }
  show(image);
  reveal(image.naturalWidth, image.naturalHeight, mode);
}

export function showVideo(mode) {
  const video = $("video");
  clear();
  show(video);
  const settle = () => reveal(video.videoWidth, video.videoHeight, mode);
  video.onresize = settle; // a phone that is turned
  settle();
}

export function setCaption(text) {
  $("caption").textContent = text;
}

// Back to the invitation.
export function clear() {
  if (shownUrl) URL.revokeObjectURL(shownUrl);
  shownUrl = null;
  for (const id of ["image", "video", "seen", "no-preview", "shown", "rate", "crop-note"]) show($(id), false);
  clearFaces();
  $("image").removeAttribute("src");
  setCaption("");
  show($("invitation"));
  $("stage").classList.add("empty");
}

function placeholder(name) {
  $("no-preview").textContent = `${name}: no preview`;
  show($("no-preview"));
  show($("invitation"), false);
  show($("shown"));
}

function reveal(width, height, mode) {
  if (!width || !height) return;
  const figure = $("shown");
  figure.style.setProperty("--ratio", String(width / height));
  const box = mode ? region(width, height, mode) : { left: 0, top: 0, width, height };
  const seen = $("seen");
  seen.style.left = `${(100 * box.left) / width}%`;
  seen.style.top = `${(100 * box.top) / height}%`;
  seen.style.width = `${(100 * box.width) / width}%`;
  seen.style.height = `${(100 * box.height) / height}%`;
  const cropped = box.width !== width || box.height !== height;
  show(seen, cropped);
  show($("crop-note"), cropped);
  show($("invitation"), false);
  show(figure);
  $("stage").classList.remove("empty");
}
