// The page at /: documents in, boxes over their pages as they are read, and every output format to copy or keep.
// It is a client like any other: what it does, the API documents.

const $ = (id) => document.getElementById(id);
const DOUBTFUL = 0.85;
// As they are read: of the others, browsers show films on and on, and leave WebP on its side.
const SHOWN_BY_BROWSERS = new Set(["image/jpeg", "image/png", "image/bmp"]);
const STEPS = {
  orientation: "turn pages upright", contrast: "darken faint print", deskew: "level crooked pages",
  denoise: "take out specks", upscale: "enlarge small print",
};
const SUFFIXES = {
  text: "txt", markdown: "md", json: "json", hocr: "hocr.html", alto: "alto.xml", tsv: "tsv", pdf: "ocr.pdf",
};
const SVG = "http://www.w3.org/2000/svg";

let files = [];
let done = []; // those of them that were read to their end: they can be had in other formats
let unread = []; // why the others were not
let running = null;
let chosen = null;

// ---- talking to the service

function headers(more = {}) {
  const key = $("key").value.trim();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

function form(file, more = {}) {
  const body = new FormData();
  body.append("file", file, titled(file));
  for (const name of ["pages", "language", "text_layer"]) {
    const value = $("form").elements[name].value.trim();
    if (value) body.append(name, value);
  }
  for (const box of $("steps").querySelectorAll("input")) body.append(box.name, String(box.checked));
  for (const [name, value] of Object.entries(more)) body.set(name, value);
  return body;
}

async function post(path, body, accept, signal) {
  const answer = await fetch(path, { method: "POST", headers: headers({ Accept: accept }), body, signal });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  if (answer.status === 401) {
    $("options").open = true;
    $("key").focus();
  }
  const { status } = answer;
  try {
    return Object.assign(told(await answer.json()), { status });
  } catch {
    return Object.assign(new Error(`The service answered ${status}.`), { status });
  }
}

function told(problem) {
  const parts = [problem.detail, problem.expected && `expected ${problem.expected}`, problem.remedy].filter(Boolean);
  return Object.assign(new Error(parts.join("; ") || problem.title), { subject: problem.subject });
}

function titled(file) {
  return file.name || "pasted.png";
}

// An error in words that say whose it is: other files may have errors, too.
function worded(file, error) {
  return [...new Set([titled(file), error.subject, error.message].filter(Boolean))].join(": ");
}

async function* records(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
  }
  if (rest.trim()) yield JSON.parse(rest);
}

// ---- reading

async function readAll(list) {
  const full = [...list].filter((file) => file.size);
  const empty = [...list].filter((file) => !file.size).map((file) => `${titled(file)} is empty.`);
  if (!full.length) {
    // What is shown, or being read, stays.
    unread = [...new Set([...unread, ...empty])];
    tell();
    return;
  }
  running?.abort();
  const mine = (running = new AbortController());
  files = full;
  const whole = (done = []);
  unread = empty;
  tell();
  choose(null);
  document.body.classList.add("full");
  $("main").hidden = false;
  $("exports").hidden = true;
  for (const img of document.querySelectorAll(".sheet img")) URL.revokeObjectURL(img.src);
  $("pages").replaceChildren();
  $("cancel").hidden = $("progress").hidden = false;
  const start = performance.now();
  try {
    for (const file of files) {
      try {
        if (await read(file, mine.signal)) whole.push(file);
        mine.signal.throwIfAborted();
      } catch (error) {
        // Without the right key, the next would be refused as well.
        if (mine.signal.aborted || error.status === 401) throw error;
        unread.push(worded(file, error));
        tell();
      }
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const pages = document.querySelectorAll(".lines:not(:empty)").length;
    const lines = document.querySelectorAll(".lines button").length;
    const summary = `${pages} page${pages === 1 ? "" : "s"}, ${lines} lines in ${seconds} s.`;
    say(pages || !unread.length ? summary : "");
  } catch (error) {
    if (mine !== running) return;
    say(mine.signal.aborted ? "Stopped." : "");
    if (!mine.signal.aborted) unread.push(error.message);
    tell();
  } finally {
    if (mine === running) {
      $("cancel").hidden = $("progress").hidden = true;
      $("exports").hidden = !whole.length;
    }
  }
}

async function read(file, signal) {
  say(`Reading ${file.name || "the pasted picture"} …`);
  $("progress").removeAttribute("value");
  const seen = SHOWN_BY_BROWSERS.has(file.type) ? article(file, 1) : null;
  const answer = await post("/v1/ocr", form(file), "application/x-ndjson", signal);
  let count = 0;
  for await (const record of records(answer)) {
    signal.throwIfAborted(); // what had come by then belongs on no page of what is read now
    if (record.event === "problem") throw told(record.problem);
    if (record.event !== "page") continue;
    const page = record.page;
    fill(count === 0 && seen ? seen : article(file, page.number), file, page);
    count += 1;
    if (page.of) {
      $("progress").max = page.of;
      $("progress").value = count;
      say(`Read page ${count} of ${page.of} of ${file.name} …`);
    }
  }
  return count;
}

function article(file, number) {
  const node = $("page").content.cloneNode(true).firstElementChild;
  const name = file.name || "pasted picture";
  node.querySelector("h2").textContent = files.length > 1 || number > 1 ? `${name}, page ${number}` : name;
  const img = node.querySelector("img");
  img.alt = `Page ${number} of ${name}`;
  if (number === 1 && SHOWN_BY_BROWSERS.has(file.type)) img.src = URL.createObjectURL(file);
  $("pages").append(node);
  return node;
}

function fill(node, file, page) {
  const sheet = node.querySelector(".sheet");
  const svg = node.querySelector("svg");
  const img = node.querySelector("img");
  sheet.style.aspectRatio = `${page.width} / ${page.height}`;
  svg.setAttribute("viewBox", `0 0 ${page.width} ${page.height}`);
  const blocks = page.blocks.length ? page.blocks : [{ kind: "text", lines: page.lines.map((_, i) => i) }];
  const list = node.querySelector(".lines");
  for (const block of blocks) {
    block.lines.forEach((index, place) => {
      const line = page.lines[index];
      const shape = svg.appendChild(document.createElementNS(SVG, "polygon"));
      shape.setAttribute("points", line.polygon.map((corner) => corner.join(",")).join(" "));
      const item = list.appendChild(document.createElement("li"));
      const button = item.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = line.text;
      item.classList.toggle("first", place === 0);
      button.classList.toggle("heading", block.kind === "heading");
      for (const part of [shape, button]) {
        part.classList.toggle("doubtful", line.confidence < DOUBTFUL);
        part.addEventListener("click", () => choose({ line, shape, button }));
      }
    });
  }
  if (!page.lines.length) {
    const item = list.appendChild(document.createElement("li"));
    item.className = "none";
    item.textContent = "No text was found on this page.";
  }
  if (!img.src) whenNear(node, () => picture(file, page, img, svg));
}

function whenNear(node, work) {
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    work();
  }, { rootMargin: "100%" }).observe(node);
}

async function picture(file, page, img, svg) {
  try {
    const answer = await post("/v1/preview", form(file, { pages: String(page.number) }), "*/*");
    if (answer.status === 200) {
      const blob = await answer.blob();
      // Once its page is gone, nobody would give the picture's memory back.
      if (img.isConnected) img.src = URL.createObjectURL(blob);
      return;
    }
  } catch {
    // The text is there all the same; the picture only helps to find it.
  }
  img.hidden = true;
  for (const line of page.lines) {
    const [[left, top], [right], , [, bottom]] = line.polygon;
    const text = svg.insertBefore(document.createElementNS(SVG, "text"), svg.firstChild);
    text.textContent = line.text;
    text.setAttribute("x", left);
    text.setAttribute("y", top + 0.8 * (bottom - top));
    text.setAttribute("font-size", 0.85 * (bottom - top));
    text.setAttribute("textLength", Math.max(1, right - left));
    text.setAttribute("lengthAdjust", "spacingAndGlyphs");
  }
}

// ---- one line

function choose(what) {
  for (const part of [chosen?.shape, chosen?.button]) part?.classList.remove("at");
  chosen = what;
  $("detail").hidden = !what;
  if (!what) return;
  for (const part of [what.shape, what.button]) part.classList.add("at");
  what.button.scrollIntoView({ block: "nearest" });
  what.shape.scrollIntoView({ block: "nearest" });
  $("detail-text").textContent = what.line.text;
  const least = what.line.words.reduce((a, b) => (b.confidence < a.confidence ? b : a), what.line.words[0]);
  const percent = (value) => `${(100 * value).toFixed(0)} %`;
  $("detail-facts").textContent =
    `Confidence ${percent(what.line.confidence)}` +
    (what.line.words.length > 1 ? `; least sure of “${least.text}”, ${percent(least.confidence)}` : "");
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen) {
    const { button } = chosen;
    choose(null);
    button.focus();
  }
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || !event.target.closest?.(".lines")) return;
  const all = [...document.querySelectorAll(".lines button")];
  const next = all[all.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
  if (chosen) next.click();
});

// ---- outputs

async function exported() {
  const output = $("output").value;
  // All that is asked for is settled now: other files may be handed in, and options changed, before it has come.
  const asked = done.map((file) => ({ file, name: named(file, output), body: form(file, { output }) }));
  const answers = [];
  for (const { file, name, body } of asked) {
    try {
      answers.push({ name, blob: await (await post("/v1/ocr", body, "*/*")).blob() });
    } catch (error) {
      throw new Error(worded(file, error));
    }
  }
  return answers;
}

async function copied(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Without TLS browsers offer no clipboard but this old way.
  const area = document.body.appendChild(document.createElement("textarea"));
  area.value = text;
  area.select();
  const taken = document.execCommand("copy");
  area.remove();
  if (!taken) throw new Error("The browser let nothing be copied; mark the text and copy it by hand, or download it.");
}

function named(file, output) {
  return `${(file.name || "pasted").replace(/\.[^.]*$/, "")}.${SUFFIXES[output]}`;
}

async function attempt(work) {
  tell();
  try {
    await work();
  } catch (error) {
    if ($("progress").hidden) say("");
    tell(error.message);
  }
}

$("copy").addEventListener("click", () => attempt(async () => {
  const parts = await Promise.all((await exported()).map(({ blob }) => blob.text()));
  await copied(parts.join("\n"));
  say("Copied.");
}));

$("download").addEventListener("click", () => attempt(async () => {
  for (const { name, blob } of await exported()) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}));

$("output").addEventListener("change", () => {
  $("copy").disabled = $("output").value === "pdf";
});

$("detail-copy").addEventListener("click", () => attempt(async () => {
  await copied(chosen.line.text);
  say("Copied.");
}));
$("detail-close").addEventListener("click", () => choose(null));
$("cancel").addEventListener("click", () => running?.abort());

// ---- what people hand in

$("file").addEventListener("change", () => {
  const list = [...$("file").files];
  // Else browsers keep quiet when the same file is chosen again, which may have changed.
  $("file").value = "";
  readAll(list);
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("options").addEventListener("change", (event) => {
  sessionStorage.setItem("key", $("key").value);
  if (event.target.id !== "key" && files.length && $("form").reportValidity()) readAll(files);
  else if (event.target.id === "key" && !$("problem").hidden && files.length) readAll(files);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files.length) readAll(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) readAll(event.clipboardData.files);
});

function say(text) {
  $("status").textContent = text;
}

// What could not be read, and what else just went wrong, a line each. Screen readers hear only of what is new.
function tell(...more) {
  const text = [...unread, ...more].join("\n");
  if (text !== $("problem").textContent) $("problem").textContent = text;
  $("problem").hidden = !text;
  if (text) $("main").hidden = false;
}

async function begin() {
  $("key").value = sessionStorage.getItem("key") ?? "";
  let about = {};
  try {
    about = await (await fetch("/v1/about", { headers: headers() })).json();
  } catch {
    // Told when something is read.
  }
  const defaults = about.options?.properties ?? {};
  for (const [name, words] of Object.entries(STEPS)) {
    const label = $("steps").appendChild(document.createElement("label"));
    const box = label.appendChild(document.createElement("input"));
    Object.assign(box, { type: "checkbox", name, checked: defaults[name]?.default ?? false });
    label.append(` ${words}`);
  }
  if (about.release) $("release").textContent = `release ${about.release.replace("sha256:", "").slice(0, 12)}`;
  if (about.formats) $("formats").textContent = `${about.formats.join(", ")}.`;
}

begin();
