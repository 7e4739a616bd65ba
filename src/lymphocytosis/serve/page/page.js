"use strict";
// One patient at a time: what was chosen, the request under way, the last answer.
const id = (name) => document.getElementById(name);
let chosen = [];
let request = null;
let retry = null;
let clock = null;
let answer = null;
let limits = null;

const PICTURE = /\.(jpe?g|png|bmp|tiff?|zip)$/i;
const ADVICE = {
  refer: ["refer", "Refer to flow cytometry", "The model finds this patient more like those with a tumoral form."],
  "do not refer": ["keep", "Do not refer", "The model finds this patient more like those with a reactive form."],
  "look again": ["look", "Look again", "The model can't tell reliably on this patient, for the reasons below. A person should look at the blood film."],
};
const KINDS = [
  ["toward_tumoral", "Speak most for a tumoral form", "No cell does."],
  ["toward_reactive", "Speak most for a reactive form", "No cell does."],
  ["typical", "Most typical of this patient", ""],
];

// --- what to send

function choose(files) {
  chosen = files.filter(([path]) => !path.split("/").some((part) => part.startsWith(".")));
  const bytes = chosen.reduce((sum, [, file]) => sum + file.size, 0);
  const pictures = chosen.filter(([path]) => PICTURE.test(path)).length;
  const folder = chosen.length && chosen[0][0].includes("/") ? ` in ${chosen[0][0].split("/").slice(0, -1).join("/")}` : "";
  const zip = chosen.length === 1 && /\.zip$/i.test(chosen[0][0]);
  const what = zip ? chosen[0][0] : `${chosen.length} ${chosen.length === 1 ? "file" : "files"}${folder}`;
  const others = chosen.length - pictures;
  id("chosen").textContent = chosen.length
    ? `Chosen: ${what}, ${size(bytes)}${others ? `; ${others} without a picture's name` : ""}.`
    : "Nothing chosen yet.";
  if (chosen.length) id("problem").hidden = true;
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function listed(input) {
  return [...input.files].map((file) => [file.webkitRelativePath || file.name, file]);
}

async function inside(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return [[entry.fullPath.replace(/^\//, ""), file]];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A hundred at a time, until there are no more.
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const each of some) found.push(...(await inside(each)));
  }
}

for (const name of ["folder", "files"]) {
  id(name).addEventListener("change", (event) => choose(listed(event.target)));
}
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    id("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) id("drop").classList.remove("over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  id("drop").classList.remove("over");
  if (request || retry) return;
  if (!id("result").hidden) id("again").click();
  try {
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    choose((await Promise.all(entries.map(inside))).flat());
  } catch {
    fail("What was dropped can't be read. Is the folder still there?");
  }
});

// --- the request

id("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const bytes = chosen.reduce((sum, [, file]) => sum + file.size, 0);
  if (!chosen.length) fail("Choose a patient's pictures first.");
  else if (limits && bytes > limits.bytes) fail(`These are ${size(bytes)}; at most ${size(limits.bytes)} are taken. Choose one patient's pictures.`);
  else if (limits && chosen.length > limits.pictures) fail(`These are ${chosen.length} files; at most ${limits.pictures} are taken. Choose one patient's pictures.`);
  else send();
});

function send() {
  retry = null;
  const form = new FormData();
  for (const name of ["age", "count"]) form.append(name, id(name).value);
  form.append("show", "true");
  for (const [path, file] of chosen) form.append("pictures", file, path);
  request = new XMLHttpRequest();
  request.open("POST", "/v1/predict");
  request.responseType = "json";
  if (id("token").value) request.setRequestHeader("Authorization", `Bearer ${id("token").value}`);
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) id("bar").value = event.loaded / event.total;
  });
  request.upload.addEventListener("load", () => {
    id("bar").removeAttribute("value");
    step("The pictures have arrived. The model looks at them.");
  });
  request.addEventListener("load", () => receive(request));
  request.addEventListener("error", () => fail("The service can't be reached, or a file changed or vanished. Is the service still running?"));
  request.addEventListener("abort", () => stop());
  id("bar").value = 0;
  step("The pictures are sent.");
  show("work");
  const start = Date.now();
  clearInterval(clock);
  clock = setInterval(() => { id("seconds").textContent = `${Math.round((Date.now() - start) / 1000)} s`; }, 1000);
  request.send(form);
}

function receive(done) {
  if (done.status === 200 && done.response) {
    stop();
    present(done.response);
  } else if (done.status === 429) {
    const seconds = Number(done.getResponseHeader("Retry-After")) || 2;
    request = null;
    id("bar").removeAttribute("value");
    step(`The service is busy. This patient is sent again in ${seconds} s.`);
    retry = setTimeout(send, seconds * 1000);
  } else {
    if (done.status === 401) id("token-line").hidden = false;
    const detail = done.response && done.response.detail;
    fail(done.status === 401 ? "The access token is missing or wrong. Type it above." : detail || `The service answered with status ${done.status}.`);
  }
}

id("cancel").addEventListener("click", () => {
  if (request) request.abort();
  else stop();
});

function stop() {
  clearTimeout(retry);
  clearInterval(clock);
  request = retry = null;
  id("seconds").textContent = "";
  show("form");
  id("start").focus();
}

function fail(text) {
  stop();
  id("problem-text").textContent = text;
  id("problem").hidden = false;
  id("problem").focus();
}

function step(text) {
  id("step").textContent = text;
}

function show(part) {
  id("form").hidden = part === "work" || part === "result";
  id("work").hidden = part !== "work";
  id("result").hidden = part !== "result";
  id("problem").hidden = true;
}

// --- the answer

function present(given) {
  answer = given;
  const row = given.row;
  const [kind, words, meaning] = ADVICE[row.advice];
  id("result").className = `box ${kind}`;
  const sample = id("sample").value.trim();
  id("of").textContent = [
    sample,
    `${row.cell_count} ${row.cell_count === 1 ? "cell" : "cells"}`,
    row.age_years === null ? "age not given" : `${row.age_years} years`,
    row.lymphocyte_count === null ? "count not given" : `${row.lymphocyte_count} × 10⁹ lymphocytes per litre`,
    new Date().toLocaleString(),
  ].filter(Boolean).join(" · ");
  id("advice").textContent = words;
  id("meaning").textContent = meaning;
  list("reasons", row.reasons);
  const clinical = row.inputs !== "pictures";
  id("numbers").replaceChildren(
    ...(clinical ? [number(row.probability, "probability of a tumoral form, pictures and clinical values")] : []),
    number(row.probability_pictures, clinical ? "the same, from the pictures alone" : "probability of a tumoral form, from the pictures alone"),
  );
  list("flags", row.flags);
  id("unlike").hidden = !row.flags.length;
  list("warnings", row.warnings);
  id("warned").hidden = !row.warnings.length;
  id("shown").replaceChildren(...KINDS.flatMap(([name, title, none]) => group(title, given.shown[name], none)));
  id("cells").replaceChildren(...given.cells.map((cell) => {
    const line = make("tr");
    const became = cell.status === "left_out" ? `left out: ${cell.reason}` : [cell.status, cell.reason, cell.odd ? "odd" : ""].filter(Boolean).join("; ");
    line.append(make("td", cell.image_id), make("td", share(cell.contribution)), make("td", became));
    return line;
  }));
  show("result");
  id("advice").focus();
  scrollTo(0, 0);
}

function number(value, words) {
  const box = make("div");
  box.append(make("dt", words), make("dd", value === null ? "–" : `${(100 * value).toFixed(1)} %`));
  return box;
}

function share(value) {
  return value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(2)}`;
}

function group(title, cells, none) {
  const cellList = make("ul");
  cellList.className = "cells";
  for (const cell of cells) {
    const item = make("li");
    const figure = make("figure");
    const picture = make("img");
    picture.src = cell.picture;
    picture.alt = `Cell ${cell.image_id}`;
    const caption = make("figcaption");
    const value = make("span", share(cell.contribution));
    value.className = "share";
    caption.append(value, ` ${cell.image_id}${cell.odd ? ", odd" : ""}`);
    if (cell.odd) figure.className = "odd";
    figure.append(picture, caption);
    item.append(figure);
    cellList.append(item);
  }
  return [make("h4", title), cells.length ? cellList : make("p", none)];
}

function list(name, texts) {
  id(name).replaceChildren(...texts.map((text) => make("li", text)));
}

function make(tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

id("print").addEventListener("click", () => print());
id("save").addEventListener("click", () => {
  const link = make("a");
  const { shown, ...kept } = answer;
  link.href = URL.createObjectURL(new Blob([JSON.stringify(kept, null, 1)], { type: "application/json" }));
  link.download = "diagnosis.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
id("again").addEventListener("click", () => {
  answer = null;
  id("form").reset();
  choose([]);
  show("form");
  id("folder").focus();
});

// --- the model

async function describe() {
  const token = id("token").value;
  const reply = await fetch("/v1/model", token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  id("token-line").hidden = reply.status !== 401 && !token;
  if (!reply.ok) return;
  const model = await reply.json();
  limits = model.limits;
  id("card").textContent = model.card;
  id("card-box").hidden = false;
  id("model").textContent = `Model ${model.fingerprint.slice(0, 16)}, lymphocytosis ${model.version}`;
  const sentence = /[^.]*not a medical device[^.]*\./i.exec(model.card.replace(/[*_#>]/g, "").replace(/\s+/g, " "));
  id("device").textContent = sentence ? sentence[0].trim() : "";
}
id("token").addEventListener("change", () => describe().catch(() => {}));
describe().catch(() => {});
