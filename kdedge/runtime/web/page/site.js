// What this page is a page of: site.json beside it says where the card, the network and onnxruntime-web are.

import { answered } from "./server.js";

// -> {mode: "server" | "static", install, network, runtime: {version, script, wasm} or null}, URLs made absolute.
export async function openSite() {
  const base = new URL(".", import.meta.url);
  const site = await (await answered(new URL("site.json", base))).json();
  const absolute = (path) => new URL(path, base).href;
  const runtime = site.runtime && {
    ...site.runtime,
    script: absolute(site.runtime.script),
    wasm: absolute(site.runtime.wasm),
  };
  return { ...site, card: absolute(site.card), network: absolute(site.network), classify: absolute("v1/classify"), runtime };
}

export async function openCard(site) {
  return (await answered(site.card)).json();
}
