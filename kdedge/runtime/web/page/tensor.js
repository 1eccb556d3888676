// From fitted pixels to the network's input, exactly as kdedge.preprocess.Preprocess.normalize makes it.

// What each of the 256 values of a channel becomes, in float32: (value - mean) * (1 / std).
function table(mean, std) {
  const scale = Math.fround(1 / Math.fround(std));
  return Float32Array.from({ length: 256 }, (_, value) => Math.fround(value - Math.fround(mean)) * scale);
}

// RGB bytes (size, size, 3) -> float32 (batch, 3, size, size); a file that fixes the number of images gets the same one again.
export function tensor(rgb, preprocess, batch = 1) {
  const { size, mean, std, color } = preprocess;
  const pixels = size * size;
  const out = new Float32Array(batch * 3 * pixels);
  const order = color === "bgr" ? [2, 1, 0] : [0, 1, 2];
  for (let plane = 0; plane < 3; plane++) {
    const values = table(mean[plane], std[plane]);
    for (let i = 0, from = order[plane], to = plane * pixels; i < pixels; i++, from += 3) out[to + i] = values[rgb[from]];
  }
  for (let image = 1; image < batch; image++) out.copyWithin(image * 3 * pixels, 0, 3 * pixels);
  return out;
}
