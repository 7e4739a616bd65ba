"use strict";
const id = (name) => document.getElementById(name);
const table = id("patients");
const rows = [...table.tBodies[0].rows];
const headers = [...table.tHead.rows[0].cells];

// --- sort, search, filter

function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = Number(text);
  return text === "-" ? null : text !== "" && Number.isFinite(number) ? number : text;
}

function sortBy(column) {
  const header = headers[column];
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = rows.map((row) => [valueOf(row, column), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // last, whichever way
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
    return down ? -order : order;
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

headers.forEach((header, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = header.textContent;
  button.addEventListener("click", () => sortBy(column));
  header.replaceChildren(button);
});

function filter() {
  const words = id("search").value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits =
      row.cells[0].textContent.toLowerCase().includes(words) &&
      (!id("group").value || row.dataset.group === id("group").value) &&
      (!id("answer").value || row.dataset.answer === id("answer").value) &&
      (!id("wrong").checked || row.dataset.wrong) &&
      (!id("flagged").checked || row.cells[row.cells.length - 1].textContent !== "0");
    row.hidden = !fits;
    id(`patient-${row.dataset.key}`).hidden = !fits;
    shown += fits;
  }
  id("count").textContent = shown === rows.length ? `${shown} patients` : `${shown} of ${rows.length} patients`;
}

id("filters").hidden = false;
id("filters").addEventListener("input", filter);
id("filters").addEventListener("submit", (event) => event.preventDefault());

// --- pictures, drawn when a patient is opened

function sheet(kind, key) {
  const data = id(`${kind}-${key}`);
  if (!data) return null;
  const bytes = Uint8Array.from(atob(data.textContent), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/webp" });
}

async function draw(patient) {
  if (patient.dataset.drawn) return;
  patient.dataset.drawn = "1";
  const { key } = patient.dataset;
  const all = sheet("all", key);
  if (all) patient.querySelector(".sheet").src = URL.createObjectURL(all);
  const chosen = sheet("chosen", key);
  if (!chosen) return;
  const picture = await createImageBitmap(chosen);
  for (const canvas of patient.querySelectorAll("canvas")) {
    const side = picture.height;
    canvas.getContext("2d").drawImage(picture, canvas.dataset.at * side, 0, side, side, 0, 0, canvas.width, canvas.height);
  }
}

for (const patient of document.querySelectorAll(".patient")) {
  patient.addEventListener("toggle", () => patient.open && draw(patient));
}

// --- from the table to a patient

function goTo(hash) {
  const patient = /^#patient-\d+$/.test(hash) && id(hash.slice(1));
  if (!patient) return;
  patient.hidden = false;
  patient.open = true;
  patient.querySelector("summary").focus({ preventScroll: true });
  patient.scrollIntoView();
}
table.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link) setTimeout(() => goTo(link.hash)); // after the browser went there
});
addEventListener("hashchange", () => goTo(location.hash));
goTo(location.hash);
