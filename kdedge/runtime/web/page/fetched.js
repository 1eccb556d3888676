// Download several files at once and tell how far they are.

import { Problem } from "./problem.js";

// URLs -> a Uint8Array each. progress({done, total}) in bytes; total is 0 where a server does not say.
export async function fetched(urls, headers, progress) {
  const done = urls.map(() => 0);
  const total = urls.map(() => 0);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  return Promise.all(
    urls.map(async (url, place) => {
      const response = await answered(url, headers);
      // of a compressed answer the length is that of what travels, not of what arrives here
      if (!response.headers.get("Content-Encoding")) total[place] = Number(response.headers.get("Content-Length")) || 0;
      const parts = [];
      for await (const part of chunks(response.body)) {
        parts.push(part);
        done[place] += part.length;
        progress({ done: sum(done), total: total.every(Boolean) ? sum(total) : 0 });
      }
      const whole = new Uint8Array(done[place]);
      let at = 0;
      for (const part of parts) {
        whole.set(part, at);
        at += part.length;
      }
      return whole;
    }),
  );
}

async function answered(url, headers) {
  let response;
  try {
    response = await fetch(url, { headers });
  } catch {
    throw new Problem(`${url} could not be fetched; is the connection up?`, { retry: true });
  }
  if (!response.ok) throw new Problem(`${url} could not be fetched: the server says ${response.status}.`, { retry: true });
  return response;
}

// Safari's streams cannot be iterated over.
async function* chunks(stream) {
  const source = stream.getReader();
  for (;;) {
    const { done, value } = await source.read();
    if (done) return;
    yield value;
  }
}
