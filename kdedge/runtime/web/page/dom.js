// Small helpers around the document.

export const $ = (id) => document.getElementById(id);

// An element with text and attributes: el("li", {class: "a"}, "text", child).
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function show(element, wanted = true) {
  element.hidden = !wanted;
}

const number = (options) => new Intl.NumberFormat("en-GB", options);
const percents = number({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const whole = number({});

export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1%";
  if (share < 1 && share >= 0.9995) return "> 99.9%";
  return percents.format(share);
}

export function count(value) {
  return whole.format(value);
}

export function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function megabytes(bytes) {
  return bytes < 1e5 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
