// The camera: open it, take one frame after the other as fast as they are classified, close it.

import { Problem } from "./problem.js";

export class Camera {
  constructor(video) {
    this.video = video;
    this.stream = null;
    this.device = null;
    this.run = 0;
  }

  get on() {
    return this.stream !== null;
  }

  // Start to show what the camera sees; a Problem if it cannot be had.
  async open(device = null) {
    if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
      throw new Problem(
        "Browsers give the camera to pages from https:// or localhost only; this one is neither. Pictures can still be dropped.",
      );
    }
    const wanted = device ? { deviceId: { exact: device } } : { facingMode: { ideal: "environment" } };
    const run = ++this.run;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, ...wanted }, audio: false });
    } catch (error) {
      throw refusal(error);
    }
    if (run !== this.run) { // closed, or opened once more, while the browser asked
      stop(stream);
      return;
    }
    this.stream = stream;
    const [track] = stream.getVideoTracks();
    const { deviceId, facingMode } = track.getSettings();
    this.device = deviceId;
    track.onended = () => this.on && this.ended?.();
    this.video.srcObject = stream;
    this.video.classList.toggle("mirrored", facingMode === "user");
    await this.video.play();
  }

  close() {
    this.run++;
    if (this.stream) stop(this.stream);
    this.stream = null;
    this.video.srcObject = null;
  }

  // Id of the camera after the one that is used; null if there is but one.
  async other() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    if (cameras.length < 2) return null;
    const place = cameras.findIndex(({ deviceId }) => deviceId === this.device);
    return cameras[(place + 1) % cameras.length].deviceId;
  }

  // Call classify(video) and then show(answer, frames a second), frame after frame, until the camera is closed.
  async loop(classify, show) {
    const { run } = this;
    const ends = [];
    while (run === this.run) {
      await nextFrame(this.video);
      if (document.hidden || run !== this.run) continue;
      const answer = await classify(this.video);
      if (run !== this.run) return;
      ends.push(performance.now());
      if (ends.length > 20) ends.shift();
      show(answer, ends.length > 1 ? (1000 * (ends.length - 1)) / (ends.at(-1) - ends[0]) : null);
    }
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

// The next picture of the video, or a little later where the browser cannot tell (or draws nothing at the moment).
function nextFrame(video) {
  return new Promise((resolve) => {
    video.requestVideoFrameCallback?.(resolve);
    setTimeout(resolve, video.requestVideoFrameCallback ? 250 : 30);
  });
}

function refusal(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Problem("The camera was not allowed; allow it for this page in the browser's settings (beside the address), then try again.");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Problem("No camera was found on this device.");
    case "NotReadableError":
    case "AbortError":
      return new Problem("The camera is there but cannot be opened; is another program using it?");
  }
  return new Problem(`The camera cannot be opened: ${error.message || error.name}.`);
}
