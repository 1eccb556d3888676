// How known a picture looks: kdedge.runtime.prototypes, for a network without enrolled classes.

import { Problem } from "./problem.js";

const KEY = "kdedge.prototypes";
const FORMAT = 1;
const LEAST = 1e-12;

// What decides whether a picture is of none of the classes: {output, threshold, prototypes}; null where the card sets no threshold.
export function judge(card, names, metadata) {
  if (!card.rejection?.applied) return null;
  const output = card.outputs?.embedding;
  if (!metadata[KEY] || !names.includes(output)) {
    throw new Problem("The card sets a threshold for unknown pictures, but the file has no prototypes; export the model again.");
  }
  const prototypes = decoded(JSON.parse(metadata[KEY]));
  if (prototypes.means.length !== card.labels.length) {
    throw new Problem(`The model has ${card.labels.length} labels and prototypes of ${prototypes.means.length} classes.`);
  }
  return { output, threshold: card.rejection.threshold, prototypes };
}

// Cosine, -1 to 1, of an embedding with the class that explains it best.
export function score(embedding, { centre, nuisance, means, counts, rho }) {
  const unit = unitOf(embedding, centre, nuisance);
  const own = dot(unit, unit);
  let best = -Infinity;
  let cosine = 0;
  means.forEach((mean, place) => {
    const weight = (counts[place] * rho) / (1 + (counts[place] - 1) * rho);
    const variance = 1 - rho * weight;
    const along = dot(unit, mean);
    const length = dot(mean, mean);
    const away = own - 2 * weight * along + weight ** 2 * length;
    const ratio = (own - Math.log(variance) - away / variance) / 2;
    if (ratio > best) [best, cosine] = [ratio, along / Math.max(Math.sqrt(length), LEAST)];
  });
  return cosine;
}

function unitOf(embedding, centre, nuisance) {
  const moved = Float64Array.from(embedding, (value, place) => value - centre[place]);
  const parts = nuisance.map((row) => dot(moved, row));
  nuisance.forEach((row, place) => {
    for (let i = 0; i < moved.length; i++) moved[i] -= parts[place] * row[i];
  });
  const length = Math.max(Math.sqrt(dot(moved, moved)), LEAST);
  return moved.map((value) => value / length);
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function decoded(value) {
  if (value.format !== FORMAT) throw new Problem(`Prototypes of format ${value.format} are newer than this page; update kdedge.`);
  const centre = Array.from(new Uint16Array(bytes(value.centre).buffer), half);
  const nuisance = rows(value.nuisance, value.dim).map((row) => {
    const length = Math.max(Math.sqrt(dot(row, row)), LEAST);
    return row.map((part) => part / length);
  });
  return { centre, nuisance, means: rows(value.means, value.dim), counts: value.counts, rho: value.rho };
}

function rows(packed, dim) {
  const steps = new Float32Array(bytes(packed.steps).buffer);
  const whole = new Int8Array(bytes(packed.rows).buffer);
  return Array.from(steps, (step, row) => Float64Array.from(whole.subarray(row * dim, (row + 1) * dim), (part) => part * step));
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
}

// A 16-bit float as it is stored.
function half(stored) {
  const [sign, exponent, part] = [stored >> 15 ? -1 : 1, (stored >> 10) & 31, stored & 1023];
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : 2 ** -24 * part);
}
