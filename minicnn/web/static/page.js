// Sends a picture to the server and shows the answer.  Without it the form does the same, page by page.
const KNOWN = ["png", "jpeg", "webp", "bmp", "gif"].map((name) => `image/${name}`);
const SHOWN = 10; // classes
const TRIES = 4; // of a server that is busy

const find = (id) => document.getElementById(id);
const [LARGEST_BYTES, LARGEST_PIXELS] = ["bytes", "pixels"].map((name) => Number(find("form").dataset[name]));
const LARGEST_SIDE = Math.min(2048, Math.sqrt(LARGEST_BYTES)); // of what is made here
let asking = null; // what ends the request that is on its way
let shown = null; // the address of the picture that is shown

// Tell those who see, and those who listen; quiet: only the latter, the others see it anyway.
function say(text, { busy = false, quiet = false } = {}) {
  find("status").textContent = text;
  find("status").classList.toggle("quiet", quiet);
  document.body.classList.toggle("busy", busy);
}

function complain(text) {
  say("", { quiet: true });
  document.body.classList.add("failed");
  find("problem").hidden = false;
  find("problem").textContent = text;
}

function percent(share) {
  if (share > 0.995 && share < 1) return ">\u00a099\u00a0%";
  if (share > 0 && share < 0.005) return "<\u00a01\u00a0%";
  return `${Math.round(100 * share)}\u00a0%`;
}

function picture(id, address) {
  if (address) find(id).src = address;
  else find(id).removeAttribute("src");
}

function clear() {
  document.body.classList.remove("failed");
  for (const id of ["top", "note", "unsure", "scale", "problem"]) find(id).hidden = true;
  for (const id of ["given", "seen", "looked"]) picture(id, null);
  find("bars").replaceChildren();
  find("rest").textContent = "";
}

function bar({ class: name, probability }) {
  const item = document.createElement("li");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  svg.setAttribute("aria-hidden", "true");
  rect.setAttribute("height", "100%");
  rect.setAttribute("rx", "6");
  rect.setAttribute("width", "0");
  svg.append(rect);
  for (const [kind, text] of [["name", name], ["share", percent(probability)]]) {
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    item.append(span);
  }
  item.insertBefore(svg, item.lastChild);
  requestAnimationFrame(() => rect.setAttribute("width", `${100 * probability}%`));
  return item;
}

function show(answer, note) {
  const { class: name, probability } = answer;
  find("top-name").textContent = name;
  find("top-share").textContent = percent(probability);
  find("top").hidden = false;
  find("unsure").hidden = answer.certain;
  picture("seen", answer.picture);
  picture("looked", answer.looked);
  find("looked-figure").hidden = find("scale").hidden = !answer.looked;
  find("bars").replaceChildren(...answer.top.slice(0, SHOWN).map(bar));
  const others = answer.top.slice(SHOWN);
  const left = others.reduce((sum, entry) => sum + entry.probability, 0);
  find("rest").textContent = others.length ? `${others.length} other classes: ${percent(left)} together` : "";
  find("answer").scrollIntoView({ block: "nearest" });
  const doubt = answer.certain ? "" : ", but it isn’t sure";
  find("note").textContent = note;
  find("note").hidden = !note;
  say(`It says ${name}, ${percent(probability)}${doubt}. ${note}`, { quiet: true });
}

// Show a picture of the user's; return it if the browser can read it.
async function preview(blob) {
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(blob);
  const image = new Image();
  image.src = shown;
  try {
    await image.decode();
  } catch {
    return null; // perhaps the server can
  }
  picture("given", shown);
  return image;
}

// A photograph from a phone may be larger than the server takes, or of a kind that the browser knows
// and the server doesn't, such as HEIC.  Drawing it turns it upright, too.
async function redraw(image) {
  const scale = Math.min(1, LARGEST_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const small = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return { small, note: `It was sent as a JPEG of ${canvas.width} × ${canvas.height} pixels, made here.` };
}

async function ask(blob, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch("/api/predict", { method: "POST", body: blob, signal });
    if (response.status === 503 && attempt < TRIES) {
      say("The server is busy. Trying again …", { busy: true });
      const wait = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((done) => setTimeout(done, 1000 * wait));
      signal.throwIfAborted();
      continue;
    }
    const answer = await response.json();
    if (!response.ok) throw new Refusal(answer.error);
    return answer;
  }
}

class Refusal extends Error {}

// Refuse what is nothing, or can't be read: sending it would fail as if the server were gone.
async function check(blob) {
  if (blob.size === 0) throw new Refusal("This file is empty.");
  try {
    await blob.slice(0, 1).arrayBuffer();
  } catch {
    throw new Refusal("This can’t be read. Is it a folder, or a file that has changed since?");
  }
}

// Make room for an answer; one that is still on its way isn't wanted any more.
function begin(sample = null) {
  asking?.abort();
  asking = new AbortController();
  clear();
  for (const link of document.querySelectorAll(".samples a")) {
    if (link === sample) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  return asking.signal;
}

// load: what gives the picture.
async function look(load, sample = null) {
  const signal = begin(sample);
  say("Looking …", { busy: true });
  find("answer").scrollIntoView({ block: "nearest" });
  try {
    let blob = await load(signal);
    await check(blob);
    if (signal.aborted) return;
    const image = await preview(blob);
    if (signal.aborted) return;
    let note = "";
    const pixels = image ? image.naturalWidth * image.naturalHeight : 0;
    const fits = blob.size <= LARGEST_BYTES && pixels <= LARGEST_PIXELS && KNOWN.includes(blob.type);
    if (pixels && !fits) ({ small: blob, note } = await redraw(image));
    if (!blob || blob.size > LARGEST_BYTES) {
      const megabytes = Number((LARGEST_BYTES / 2 ** 20).toPrecision(6));
      throw new Refusal(`This file is larger than ${megabytes} MB, and no picture that this browser could shrink.`);
    }
    const answer = await ask(blob, signal);
    if (!signal.aborted) show(answer, note);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refusal)) console.warn(error);
    complain(error instanceof Refusal ? error.message : "The server can’t be reached. Is it still running?");
  }
}

function lookAtFirst(files, otherwise) {
  const [file] = files; // the event's own list is empty later
  if (file) look(() => file);
  else {
    begin();
    complain(otherwise);
  }
}

for (const id of ["file", "photo"]) {
  const field = find(id);
  field.addEventListener("change", () => {
    const [file] = field.files;
    if (file) look(() => file);
    field.value = ""; // the same file may be chosen again
  });
}

find("form").addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("paste", (event) => {
  event.preventDefault();
  lookAtFirst(event.clipboardData.files, "There is no picture on the clipboard.");
});

let depth = 0; // of elements that the pointer has entered with a file
function dropping(change) {
  depth = change ? depth + change : 0;
  document.body.classList.toggle("dropping", depth > 0);
}
document.addEventListener("dragenter", () => dropping(1));
document.addEventListener("dragleave", () => dropping(-1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dropping(0);
  const isLink = event.dataTransfer.types.includes("text/uri-list");
  const why = isLink ? "That was a link to a picture: save it first, or copy and paste it." : "That was no file.";
  lookAtFirst(event.dataTransfer.files, why);
});

for (const link of document.querySelectorAll(".samples a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    look(async (signal) => {
      const response = await fetch(link.querySelector("img").src, { signal });
      if (!response.ok) throw new Error(response.status);
      return response.blob();
    }, link);
  });
}
