// Bring an image to the network's size exactly as kdedge.preprocess.resize does with OpenCV: area averaging shrinks,
// bilinear interpolation enlarges. Pure functions over bytes; nothing here knows of a browser.

// The part of a (width x height) image that the network sees: the central square, or all of it.
export function region(width, height, mode) {
  if (mode !== "crop") return { left: 0, top: 0, width, height };
  const side = Math.min(width, height);
  return { left: Math.floor((width - side) / 2), top: Math.floor((height - side) / 2), width: side, height: side };
}

// (width x height) -> (size x size): RGB bytes, row by row, three a pixel.
// read(top, rows) gives RGBA bytes of that many whole rows; it is called for rows from top to bottom, at most `strip` at once.
export function fit(width, height, read, size, strip = 256) {
  if (width === size && height === size) return copied(width, height, read, strip);
  const shrinks = size * size < width * height;
  if (shrinks && width >= size && height >= size) {
    const whole = width % size === 0 && height % size === 0;
    return whole ? blocks(width, height, read, size, strip) : areas(width, height, read, size, strip);
  }
  const taps = shrinks ? areaTaps : linearTaps;
  return interpolated(width, height, read, size, strip, taps(width, size), taps(height, size));
}

function copied(width, height, read, strip) {
  const out = new Uint8Array(width * height * 3);
  eachRow(width, height, read, strip, (rgba, at, y) => {
    for (let x = 0, to = y * width * 3; x < width; x++, at += 4) {
      out[to++] = rgba[at];
      out[to++] = rgba[at + 1];
      out[to++] = rgba[at + 2];
    }
  });
  return out;
}

// Whole blocks of pixels: integer sums, so that a mean is rounded once. OpenCV rounds the half of a 2 x 2 mean up.
function blocks(width, height, read, size, strip) {
  const [stepX, stepY] = [width / size, height / size];
  const out = new Uint8Array(size * size * 3);
  const sums = new Float64Array(size * 3);
  const share = Math.fround(1 / (stepX * stepY));
  const two = stepX === 2 && stepY === 2;
  eachRow(width, height, read, strip, (rgba, at, y) => {
    for (let place = 0; place < sums.length; place += 3) {
      for (let step = 0; step < stepX; step++, at += 4) {
        sums[place] += rgba[at];
        sums[place + 1] += rgba[at + 1];
        sums[place + 2] += rgba[at + 2];
      }
    }
    if ((y + 1) % stepY) return;
    const to = ((y + 1) / stepY - 1) * size * 3;
    for (let i = 0; i < sums.length; i++) out[to + i] = two ? (sums[i] + 2) >> 2 : even(Math.fround(sums[i] * share));
    sums.fill(0);
  });
  return out;
}

// Overlaps of pixels: weights by the share of a pixel that lies in the cell. Products and sums are float32, as OpenCV's are.
function areas(width, height, read, size, strip) {
  const { fround } = Math;
  const across = cells(width, size);
  const down = cells(height, size);
  const out = new Uint8Array(size * size * 3);
  const line = new Float32Array(size * 3);
  const sums = new Float32Array(size * 3);
  let next = 0;
  eachRow(width, height, read, strip, (rgba, at, y) => {
    if (down.from[next] !== y) return;
    line.fill(0);
    for (let i = 0; i < across.from.length; i++) {
      const to = across.to[i] * 3;
      const share = across.share[i];
      const pixel = at + across.from[i] * 4;
      line[to] += fround(rgba[pixel] * share);
      line[to + 1] += fround(rgba[pixel + 1] * share);
      line[to + 2] += fround(rgba[pixel + 2] * share);
    }
    for (; down.from[next] === y; next++) { // a row on the edge of two cells counts in both
      const share = down.share[next];
      for (let i = 0; i < line.length; i++) sums[i] += fround(line[i] * share);
      const row = down.to[next];
      if (down.to[next + 1] === row) continue;
      for (let i = 0; i < sums.length; i++) out[row * sums.length + i] = even(sums[i]);
      sums.fill(0);
    }
  });
  return out;
}

// Which pixel counts how much in which cell, in the order of the cells.
function cells(length, size) {
  const scale = 1 / (size / length); // OpenCV inverts the ratio it was given, which is not length / size to the last bit
  const [to, from, share] = [[], [], []];
  const add = (cell, pixel, part) => {
    to.push(cell);
    from.push(pixel);
    share.push(Math.fround(part));
  };
  for (let cell = 0; cell < size; cell++) {
    const [start, end] = [cell * scale, cell * scale + scale];
    const wide = Math.min(scale, length - start);
    const last = Math.min(Math.floor(end), length - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) add(cell, first - 1, (first - start) / wide);
    for (let pixel = first; pixel < last; pixel++) add(cell, pixel, 1 / wide);
    if (end - last > 1e-3) add(cell, last, Math.min(end - last, 1, wide) / wide);
  }
  return { to: Int32Array.from(to), from: Int32Array.from(from), share: Float32Array.from(share) };
}

// Two neighbours for each output pixel and the weight of the second, in 2048ths: OpenCV interpolates bytes in integers.
function linearTaps(length, size) {
  const scale = 1 / (size / length);
  return taps(length, size, (place) => {
    const at = Math.fround((place + 0.5) * scale - 0.5);
    return [Math.floor(at), at - Math.floor(at)];
  });
}

// What OpenCV does where an image is shrunk along one axis alone, so that there is no area to average over.
function areaTaps(length, size) {
  const scale = 1 / (size / length);
  return taps(length, size, (place) => {
    const first = Math.floor(place * scale);
    const part = Math.fround(place + 1 - (first + 1) * (size / length));
    return [first, part <= 0 ? 0 : part - Math.floor(part)];
  });
}

function taps(length, size, position) {
  const found = { first: new Int32Array(size), second: new Int32Array(size), near: new Int32Array(size), far: new Int32Array(size) };
  for (let place = 0; place < size; place++) {
    const [below, part] = position(place);
    found.first[place] = Math.max(0, Math.min(below, length - 1));
    found.second[place] = Math.max(0, Math.min(below + 1, length - 1));
    found.near[place] = even(Math.fround(1 - part) * 2048);
    found.far[place] = even(Math.fround(part) * 2048);
  }
  return found;
}

function interpolated(width, height, read, size, strip, across, down) {
  const out = new Uint8Array(size * size * 3);
  let row = 0;
  let [above, line] = [new Int32Array(size * 3), new Int32Array(size * 3)];
  eachRow(width, height, read, strip, (rgba, at, y) => {
    [above, line] = [line, above];
    for (let x = 0, to = 0; x < size; x++) {
      const [left, right] = [at + across.first[x] * 4, at + across.second[x] * 4];
      const [near, far] = [across.near[x], across.far[x]];
      for (let c = 0; c < 3; c++) line[to++] = rgba[left + c] * near + rgba[right + c] * far;
    }
    for (; row < size && down.second[row] === y; row++) {
      const upper = down.first[row] === y ? line : above; // both are the same row at the edges
      const [near, far, to] = [down.near[row], down.far[row], row * line.length];
      for (let i = 0; i < line.length; i++) {
        out[to + i] = (((near * (upper[i] >> 4)) >> 16) + ((far * (line[i] >> 4)) >> 16) + 2) >> 2;
      }
    }
  });
  return out;
}

function eachRow(width, height, read, strip, row) {
  for (let top = 0; top < height; top += strip) {
    const rows = Math.min(strip, height - top);
    const rgba = read(top, rows);
    for (let y = 0; y < rows; y++) row(rgba, y * width * 4, top + y);
  }
}

// To the nearest whole number, halves to the even one, as OpenCV rounds.
function even(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 ? low + 1 : low;
}
