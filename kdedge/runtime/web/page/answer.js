// From the network's numbers to an answer, as kdedge.runtime.classifier gives it.

import { Problem } from "./problem.js";

const ROUNDING = 1e-3; // how far above 1 a probability may lie: float16 and int8 round

// Softmax in float64.
export function softmax(logits) {
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(logits, (value) => Math.exp(value - highest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / total);
}

// Values of one image's output -> [{label, probability}], most probable first; equal ones in the order of the labels.
export function ranked(values, card, top) {
  if (!values.every(Number.isFinite)) {
    throw new Problem("The network gave values that are not finite numbers; export it again.");
  }
  const given = probabilityOutput(card);
  if (given && values.some((value) => value < 0 || value > 1 + ROUNDING)) {
    throw new Problem("The card says that the network gives probabilities, but its values are outside 0 to 1.");
  }
  const probabilities = given ? Array.from(values) : softmax(values);
  const order = probabilities.map((_, place) => place).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  return order.slice(0, top).map((place) => ({ label: card.labels[place], probability: probabilities[place] }));
}

// Name of the output that classifies; the first one where the card does not say.
export function answerOutput(card, names) {
  return card.outputs?.logits || card.outputs?.probabilities || names[0];
}

function probabilityOutput(card) {
  return Boolean(card.outputs?.probabilities && !card.outputs?.logits);
}
