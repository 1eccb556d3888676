// The page: what happens when somebody drops a picture, presses a button or switches sides.

import { BrowserPlace } from "./browser.js";
import { Camera } from "./camera.js";
import { $, megabytes, show } from "./dom.js";
import { present } from "./faces.js";
import { showCard, showFacts } from "./facts.js";
import { mark, remember, setUp } from "./past.js";
import { Problem, sentence } from "./problem.js";
import { clearResult } from "./result.js";
import { keepKey, ServerPlace } from "./server.js";
import { openCard, openSite } from "./site.js";
import { clear, setCaption, showPicture, showVideo } from "./stage.js";

const TOP = 5;

const camera = new Camera($("video"));
let site, card, places;
let place = "server"; // or "browser"
let current = null; // {blob, name} on the stage
let task = 0; // goes up when something else is asked for: answers of before are dropped
let repeat = null; // what "Try again" does

// Find out what this is a page of.
function start() {
  return attempt(async () => {
    site = await openSite();
    card = await openCard(site);
    places = { server: new ServerPlace(site, card), browser: new BrowserPlace(site, card) };
    place = site.mode === "static" ? "browser" : "server";
    showCard(card);
    choices();
    attempt(settle); // not waited for: a picture can be dropped while the model is fetched
  });
}

function choices() {
  show($("places"), site.mode !== "static");
  const radio = document.querySelector('input[value="browser"]');
  radio.disabled = !site.runtime || card.download === false;
  document.querySelector('input[value="server"]').checked = place === "server";
}

// Say where it runs, and start what can be started before the first picture.
async function settle() {
  $("place-note").textContent = place === "server" ? serverNote() : browserNote();
  showFacts(card, site, place, null);
  if (place === "browser" && (site.mode !== "static" || !navigator.connection?.saveData)) await ready();
}

// How the network crops a picture; null where it gets the faces in it.
function crop() {
  return place === "server" && card.faces ? null : card.preprocess.resize;
}

function serverNote() {
  const sent = "Pictures are sent to the server.";
  if (!site.runtime) return `${sent} To run the model in this browser, too, call “${site.install}” there and start it again.`;
  return card.download === false ? `${sent} It does not give its model to browsers.` : sent;
}

function browserNote() {
  const stay = `Pictures stay on this device.${card.faces ? " Faces are not looked for here: show it a face alone." : ""}`;
  if (!card.enrolled?.length) return stay;
  return `${stay} What was enrolled on the server (${card.enrolled.join(", ")}) is not known here.`;
}

async function ready() {
  const asked = place;
  if (asked !== "browser") return;
  const bar = $("loading-bar");
  const tell = ({ done, total }) => {
    show($("loading"), done !== total || !total);
    const of = total ? ` of ${megabytes(total)}` : "";
    $("loading-text").textContent = `Fetching the model and its runtime: ${megabytes(done)}${of}`;
    if (total) bar.value = done / total;
    else bar.removeAttribute("value");
  };
  try {
    const started = await places.browser.prepare(tell);
    if (place === asked) showFacts(card, site, place, started);
  } finally {
    show($("loading"), false);
  }
}

// Do something; say what went wrong with it, if something did.
async function attempt(action, again = null) {
  clearProblem();
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) console.error(error);
    if (error.key) {
      repeat = again ?? (() => attempt(action, again));
      show($("key-form"));
      $("key").focus();
      return;
    }
    tell(sentence(error));
    repeat = again ?? (() => attempt(action, again));
    show($("again"), Boolean(error.retry));
  }
}

function tell(text) {
  $("problem").textContent = text;
  show($("problem"));
}

function clearProblem() {
  show($("problem"), false);
  show($("again"), false);
  show($("key-form"), false);
}

// Classify files one after the other; what cannot be read is told at the end.
async function classifyAll(files) {
  await opening; // somebody may be quicker than the page
  if (!files.length || !card) return;
  stopCamera();
  const mine = ++task;
  const wrong = [];
  await attempt(async () => {
    for (const [number, blob] of files.entries()) {
      if (mine !== task) return;
      const name = blob.name || "pasted picture";
      try {
        await classifyOne(blob, name, mine, files.length > 1 ? `${number + 1} of ${files.length}` : "");
      } catch (error) {
        if (!(error instanceof Problem) || error.key || files.length === 1) throw error;
        wrong.push(error.message);
      }
    }
    if (wrong.length) tell(wrong.length < 4 ? wrong.join(" ") : `${wrong.slice(0, 3).join(" ")} And ${wrong.length - 3} more.`);
  }, () => classifyAll(files));
}

async function classifyOne(blob, name, mine, progress) {
  current = { blob, name };
  await showPicture(blob, progress ? `${name} (${progress})` : name, crop());
  const entry = await answered(current, mine);
  if (!entry) return;
  setCaption(name);
  remember(entry);
  mark(entry);
}

// Classify what is on the stage, and show the answer; null if something else was asked for meanwhile.
async function answered({ blob, name }, mine) {
  busy(true);
  try {
    await ready();
    const onWait = (seconds) => clearResult(`The server is busy; asking again in ${Math.ceil(seconds)} s …`);
    const answer = await places[place].classify(blob, { top: TOP, name, onWait });
    if (mine !== task) return null;
    present(answer);
    return { blob, name, answer, place };
  } catch (error) {
    if (mine === task) clearResult("No answer.");
    throw error;
  } finally {
    if (mine === task) busy(false);
  }
}

function busy(yes) {
  $("answer").setAttribute("aria-busy", String(yes));
  $("result").classList.toggle("stale", yes);
}

async function startCamera(device = null) {
  await opening;
  if (!card) return;
  const mine = ++task;
  current = null;
  await attempt(async () => {
    clear();
    camera.close();
    await camera.open(device);
    if (mine !== task) return camera.close();
    showVideo(crop());
    cameraButtons(true);
    await ready();
    const rate = $("rate");
    await camera.loop(
      (video) => places[place].frame(video, { top: TOP }),
      (answer, rateNow) => {
        if (mine !== task) return;
        present(answer, { live: true });
        rate.textContent = rateNow ? `${rateNow < 10 ? rateNow.toFixed(1) : Math.round(rateNow)} frames/s` : "";
        show(rate, Boolean(rateNow));
      },
    );
  }, () => startCamera(device));
  if (!$("problem").hidden && mine === task) stopCamera();
}

function stopCamera() {
  if (!camera.on) return;
  task++;
  camera.close();
  clear();
  cameraButtons(false);
}

async function cameraButtons(on) {
  const button = $("camera");
  button.textContent = on ? "Stop the camera" : "Use the camera";
  button.classList.toggle("stop", on);
  show($("other-camera"), false);
  show($("other-camera"), on && (await camera.other().catch(() => null)) !== null);
}

async function switchPlace(value) {
  place = value;
  const mine = ++task;
  await attempt(async () => {
    await settle();
    if (mine !== task) return;
    if (camera.on) return startCamera(camera.device);
    if (!current) return;
    if (card.faces) await showPicture(current.blob, current.name, crop());
    await answered(current, mine);
  }, () => switchPlace(value));
}

async function showAgain(entry) {
  stopCamera();
  task++;
  current = entry;
  clearProblem();
  busy(false);
  await showPicture(entry.blob, entry.name, entry.answer.faces ? null : card.preprocess.resize);
  present(entry.answer);
  mark(entry);
}

function listen() {
  const stage = $("stage");
  setUp(showAgain);
  $("files").addEventListener("change", ({ target }) => {
    const files = [...target.files];
    target.value = ""; // the same file may be chosen again
    classifyAll(files);
  });
  $("camera").addEventListener("click", () => (camera.on ? stopCamera() : startCamera()));
  $("other-camera").addEventListener("click", async () => startCamera(await camera.other()));
  $("again").addEventListener("click", () => repeat?.());
  $("places").addEventListener("change", ({ target }) => switchPlace(target.value));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey($("key").value);
    $("key").value = "";
    clearProblem();
    repeat?.();
  });
  document.addEventListener("paste", ({ clipboardData }) => classifyAll([...(clipboardData?.files ?? [])]));
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    stage.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) classifyAll(files);
    else tell("Nothing that can be read was dropped; drop a file, not a link.");
  });
  camera.ended = () => {
    stopCamera();
    tell("The camera was taken away.");
  };
  window.addEventListener("pagehide", stopCamera);
}

show($("unstarted"), false);
show($("page"));
listen();
const opening = start();
