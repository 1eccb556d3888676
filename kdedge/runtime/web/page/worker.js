// Runs the network with onnxruntime-web, off the page's thread, so that the page never stands still.
//
// A message {id, do, ...} is answered by {id, answer} or {id, problem}; {id, progress} may come before.

import { answerOutput, ranked } from "./answer.js";
import { decoded, reader, refuseAltered } from "./decode.js";
import { fetched } from "./fetched.js";
import { fit, region } from "./fit.js";
import { judge, score } from "./known.js";
import { metadata } from "./metadata.js";
import { Problem, sentence } from "./problem.js";
import { tensor } from "./tensor.js";

const STRIP = 256; // rows of a picture that are read at once
let network = null; // {ort, session, card, input, output, batch, known}

self.onmessage = async ({ data }) => {
  const { id } = data;
  try {
    const answer = await actions[data.do](data, (progress) => self.postMessage({ id, progress }));
    self.postMessage({ id, answer });
  } catch (error) {
    self.postMessage({ id, problem: { message: sentence(error), retry: Boolean(error.retry) } });
  }
};

const actions = {
  // Fetch and start: {card, network, runtime: {script, wasm}, threads, headers} -> {threads, bytes, ms}
  async load({ card, network: url, runtime, threads, headers }, progress) {
    refuseAltered();
    const began = performance.now();
    const ort = await import(runtime.script).catch(() => {
      throw new Problem(`onnxruntime-web could not be loaded from ${runtime.script}; is the site complete?`, { retry: true });
    });
    const [wasm, model] = await fetched([runtime.wasm, url], headers, progress);
    const loaded = performance.now();
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmBinary = wasm.buffer;
    ort.env.logLevel = "error";
    let session;
    try {
      session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    } catch (error) {
      throw new Problem(`onnxruntime-web cannot run this model: ${error?.message ?? error}`);
    }
    network = { ...described(ort, session, card), known: judge(card, session.outputNames, metadata(model)) };
    const created = performance.now();
    await run(new Float32Array(network.batch * 3 * card.preprocess.size ** 2)); // the first run is slower
    const ms = { fetch: loaded - began, session: created - loaded, first: performance.now() - created };
    return { threads, bytes: { runtime: wasm.length, model: model.length }, ms };
  },

  // {blob, name} or {bitmap}, top -> {top, unknown, score, ms}; with `raw` the input and output, too, which tests compare
  async classify({ blob, bitmap, name, top, raw }) {
    const { card, known } = network;
    const began = performance.now();
    const image = bitmap ?? (await decoded(blob, name));
    const opened = performance.now();
    const box = region(image.width, image.height, card.preprocess.resize);
    const pixels = fit(box.width, box.height, reader(image, box, STRIP), card.preprocess.size, STRIP);
    image.close();
    const input = tensor(pixels, card.preprocess, network.batch);
    const ready = performance.now();
    const { values, embedding } = await run(input);
    const found = known ? score(embedding, known.prototypes) : null;
    const ended = performance.now();
    const decode = blob ? { decode: opened - began } : {}; // a camera's frame is decoded already
    const ms = { ...decode, preprocess: ready - opened, inference: ended - ready };
    const unknown = known !== null && found < known.threshold;
    return { top: ranked(values, card, top), unknown, score: found, ms, ...(raw ? { pixels, input, values } : {}) };
  },
};

function described(ort, session, card) {
  const output = answerOutput(card, session.outputNames);
  if (!session.outputNames.includes(output)) {
    throw new Problem(`The card says that "${output}" holds the answer; the model has ${session.outputNames.join(", ")}.`);
  }
  const shape = session.inputMetadata?.[0]?.shape ?? [];
  const batch = (typeof shape[0] === "number" && shape[0]) || card.input?.batch || 1;
  return { ort, session, card, input: session.inputNames[0], output, batch };
}

// Answer, and embedding if that is needed, of the first image of a batch.
async function run(values) {
  const { ort, session, card, input, output, batch, known } = network;
  const { size } = card.preprocess;
  const given = new ort.Tensor("float32", values, [batch, 3, size, size]);
  const results = await session.run({ [input]: given }, known ? [output, known.output] : [output]);
  const found = results[output];
  if (found.data.length !== batch * card.labels.length) {
    throw new Problem(`The model gave ${found.data.length / batch} values, its card has ${card.labels.length} labels.`);
  }
  const vectors = known ? results[known.output].data : [];
  return { values: found.data.slice(0, card.labels.length), embedding: vectors.slice(0, vectors.length / batch) };
}
