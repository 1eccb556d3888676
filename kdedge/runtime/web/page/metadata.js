// The metadata of an ONNX file, read from its bytes: onnxruntime-web does not give it.

// ModelProto is a sequence of fields: a tag (number * 8 + kind), then a number or a length and that many bytes. Field 14 holds an
// entry of the metadata, a message of a key (1) and a value (2).
const METADATA = 14;

// Bytes -> {key: text}
export function metadata(bytes) {
  const found = {};
  for (const [number, entry] of fields(bytes)) {
    if (number !== METADATA) continue;
    const parts = Object.fromEntries(fields(entry));
    found[text(parts[1])] = text(parts[2]);
  }
  return found;
}

function text(bytes = new Uint8Array()) {
  return new TextDecoder().decode(bytes);
}

function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError("the ONNX file ends within a number");
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const [number, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      yield [number, bytes.subarray(at, at + length)];
      at += length;
    } else throw new RangeError("this is no ONNX file");
  }
}
