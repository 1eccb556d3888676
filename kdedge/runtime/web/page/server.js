// Let the server classify.

import { megabytes } from "./dom.js";
import { Problem } from "./problem.js";

const KEY = "kdedge-key";
const MOST_WAITS = 4; // how often a full server is asked again
const FRAME_SIDE = 640; // pixels of the long side of a camera's frame as it is sent

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function keyHeaders() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// A response that is all right; a Problem otherwise.
export async function answered(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { ...options.headers, ...keyHeaders() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached; is it running, and is the connection up?", { retry: true });
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const said = await reason(response);
  switch (response.status) {
    case 401:
      return new Problem("The server asks for an API key.", { key: true });
    case 413:
      return new Problem(said || "This picture is larger than the server takes; scale it down.");
    case 429:
    case 503:
      return Object.assign(new Problem("The server has too much to do; try again in a moment.", { retry: true }), {
        seconds: pause(response.headers.get("Retry-After")),
      });
    case 504:
    case 408:
      return new Problem("The server took too long; try again in a moment.", { retry: true });
  }
  if (said) return new Problem(said, { retry: response.status >= 500 });
  return new Problem(`The server answered ${response.status} ${response.statusText}.`, { retry: response.status >= 500 });
}

// Seconds to wait: what the server asks for, 1 if it does not say.
function pause(header) {
  const seconds = header === null ? NaN : Number(header);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0.25), 10) : 1;
}

async function reason(response) {
  try {
    const { detail, error, message } = await response.json();
    const text = detail ?? error?.message ?? error ?? message;
    return typeof text === "string" ? text : "";
  } catch {
    return "";
  }
}

export class ServerPlace {
  constructor(site, card) {
    this.url = site.classify;
    this.most = card.limits?.bytes ?? Infinity;
  }

  async prepare() {}

  // A Blob -> {label, probability, unknown, score, top, ms, total}, or {faces: [{box, label, ...}], ms, total}
  async classify(blob, { top, signal, onWait }) {
    if (blob.size > this.most) {
      throw new Problem(`This picture has ${megabytes(blob.size)}, the server takes ${megabytes(this.most)}; scale it down.`);
    }
    const headers = { "Content-Type": blob.type.startsWith("image/") ? blob.type : "application/octet-stream" };
    for (let wait = 1; ; wait++) {
      try {
        const began = performance.now();
        const response = await answered(`${this.url}?top=${top}`, { method: "POST", body: blob, headers, signal });
        const { results, ms } = await response.json();
        const total = performance.now() - began;
        const inside = Object.values(ms ?? {}).filter(Number.isFinite);
        const known = ms?.total ?? inside.reduce((a, b) => a + b, 0);
        return { ...results[0], ms: { ...parts(ms), network: Math.max(0, total - known) }, total };
      } catch (error) {
        if (!error.seconds || wait === MOST_WAITS) throw error;
        onWait?.(error.seconds);
        await new Promise((resolve) => setTimeout(resolve, 1000 * error.seconds));
        signal?.throwIfAborted();
      }
    }
  }

  // What a <video> shows, as a JPEG of at most FRAME_SIDE pixels.
  async frame(video, options) {
    const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
    canvas.getContext("2d", { alpha: false }).drawImage(video, 0, 0, canvas.width, canvas.height);
    const answer = await this.classify(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }), options);
    return { ...answer, size: [canvas.width, canvas.height] };
  }
}

function parts(ms = {}) {
  return Object.fromEntries(Object.entries(ms).filter(([name, value]) => name !== "total" && Number.isFinite(value)));
}
