// Let this browser classify, with onnxruntime-web in a worker.

import { Problem } from "./problem.js";
import { keyHeaders } from "./server.js";

const MOST_THREADS = 4; // as kdedge's own sessions: small networks gain nothing from more

// Browsers count logical processors, usually two a core; a thread for each makes the network slower, not faster.
function threadsHere() {
  if (!self.crossOriginIsolated) return 1;
  return Math.max(1, Math.min(MOST_THREADS, Math.floor((navigator.hardwareConcurrency || 1) / 2)));
}

export class BrowserPlace {
  constructor(site, card) {
    this.site = site;
    this.card = card;
    this.started = null;
    this.pending = new Map();
    this.last = 0;
  }

  // Fetch and start the network, once. onProgress({done, total}) in bytes. -> {threads, bytes, ms}
  prepare(onProgress) {
    this.onProgress = onProgress;
    this.started ??= this.start().catch((error) => {
      this.stop();
      throw error;
    });
    return this.started;
  }

  async start() {
    if (!this.site.runtime) throw new Problem(`onnxruntime-web is not installed here; run "${this.site.install}".`);
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.received(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.failed(new Problem(`The worker stopped: ${event.message || "it could not be loaded"}.`, { retry: true }));
    };
    const { card, site } = this;
    const { network, runtime } = site;
    return this.ask({ do: "load", card, network, runtime, threads: threadsHere(), headers: keyHeaders() });
  }

  stop() {
    this.worker?.terminate();
    this.worker = this.started = null;
  }

  async classify(blob, { top, name, raw }) {
    return this.timed({ do: "classify", blob, name, top, raw });
  }

  async frame(video, { top }) {
    const bitmap = await createImageBitmap(video, { colorSpaceConversion: "none" });
    return this.timed({ do: "classify", bitmap, top }, [bitmap]);
  }

  async timed(message, transferred) {
    const began = performance.now();
    const answer = await this.ask(message, transferred);
    return { ...answer, ...answer.top[0], total: performance.now() - began };
  }

  ask(message, transferred = []) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message }, transferred);
    });
  }

  received({ id, answer, problem, progress }) {
    if (progress) return this.onProgress?.(progress);
    const { resolve, reject } = this.pending.get(id);
    this.pending.delete(id);
    return problem ? reject(new Problem(problem.message, problem)) : resolve(answer);
  }

  failed(problem) {
    for (const { reject } of this.pending.values()) reject(problem);
    this.pending.clear();
    this.stop();
  }
}
