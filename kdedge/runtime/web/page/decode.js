// From the bytes of a picture, or a camera's frame, to rows of opaque RGBA pixels. Runs in a worker.

import { Problem } from "./problem.js";

export const MAX_PIXELS = 50_000_000; // as kdedge.preprocess.MAX_PIXELS

// As stored: no conversion of colours, turned as the EXIF orientation says.
const AS_STORED = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };

// An ImageBitmap of a Blob.
export async function decoded(blob, name = "The picture") {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (!bytes.length) throw new Problem(`${name} is empty.`);
  if (truncated(bytes)) throw new Problem(`${name} is cut off: its end is missing.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, AS_STORED);
  } catch {
    const kind = blob.type ? ` (${blob.type})` : "";
    throw new Problem(`${name}${kind} is not an image that this browser can read; JPEG, PNG and WebP always work.`);
  }
  if (bitmap.width * bitmap.height > MAX_PIXELS) {
    const millions = Math.round((bitmap.width * bitmap.height) / 1e6);
    bitmap.close();
    throw new Problem(`${name} has ${millions} megapixels, more than the ${MAX_PIXELS / 1e6} that are allowed; scale it down.`);
  }
  return bitmap;
}

// A function (top, rows) -> RGBA bytes of whole rows of a region, transparent pixels laid on white. A strip at a time, since
// some browsers have no canvas as large as a photograph.
export function reader(bitmap, box, strip) {
  const canvas = new OffscreenCanvas(box.width, Math.min(strip, box.height));
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  if (!context) throw new Problem("This browser gives no canvas to read pixels from.");
  context.imageSmoothingEnabled = false;
  return (top, rows) => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, box.width, rows);
    context.drawImage(bitmap, box.left, box.top + top, box.width, rows, 0, 0, box.width, rows);
    return context.getImageData(0, 0, box.width, rows).data;
  };
}

// Some browsers protect against fingerprinting by adding noise to every pixel that a page reads: a classifier would see it.
export function refuseAltered() {
  const canvas = new OffscreenCanvas(16, 16);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  if (!context) throw new Problem("This browser gives no canvas to read pixels from.");
  const drawn = new ImageData(16, 16);
  for (let i = 0; i < drawn.data.length; i++) drawn.data[i] = i % 4 === 3 ? 255 : (i * 37) % 251;
  context.putImageData(drawn, 0, 0);
  const read = context.getImageData(0, 0, 16, 16).data;
  if (read.some((value, i) => value !== drawn.data[i])) {
    throw new Problem(
      "This browser alters the pixels that pages read (protection against fingerprinting), so answers would be wrong; " +
        "allow canvas access for this page.",
    );
  }
}

// Browsers show what there is of a cut-off file; a classifier must not. As kdedge.preprocess refuses it.
export function truncated(bytes) {
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return !jpegEnds(bytes);
  if (text(1, 3) === "PNG" && bytes[0] === 0x89) {
    for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) if (text(at + 4, 4) === "IEND") return false;
    return true;
  }
  return text(0, 4) === "RIFF" && text(8, 4) === "WEBP" && view.getUint32(4, true) + 8 > bytes.length;
}

// Whether there is an end marker; what lies inside a segment, a thumbnail say, is passed over.
function jpegEnds(bytes) {
  let at = 2;
  while ((at = bytes.indexOf(0xff, at)) >= 0 && at + 1 < bytes.length) {
    const marker = bytes[at + 1];
    if (marker === 0xd9) return true;
    const bare = marker === 0x00 || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    if (marker === 0xff) at += 1;
    else at += bare ? 2 : 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
  }
  return false;
}
