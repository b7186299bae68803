// Sorting, filtering and the theme switch of a report's pages; each page is whole without them.
"use strict";

const FEW = 6; // rows that need no filter
const THEMES = ["auto", "light", "dark"];
let theme = "auto";
try { theme = sessionStorage.getItem("genbench-theme") || theme; } catch { /* a browser that stores nothing */ }
show(theme);

function show(name) {
  theme = THEMES.includes(name) ? name : "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll("button.theme")) button.textContent = `Theme: ${theme}`;
}

function next() {
  show(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  try { sessionStorage.setItem("genbench-theme", theme); } catch { /* then it is for this page alone */ }
}

function element(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

// A cell's number or text; null for a dash.
function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "") return null;
  return Number.isNaN(Number(text)) ? text.toLowerCase() : Number(text);
}

// Rows move within their block only. Whatever the direction, means without the seeds that failed come after whole ones,
// and dashes come last.
function sortBy(table, column, direction) {
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("block"));
    const keys = new Map(rows.map((row, i) => {
      row.dataset.place ??= i;
      const cell = row.cells[column] ?? row;
      const value = valueOf(cell);
      return [row, { value, group: value === null ? 2 : "last" in cell.dataset ? 1 : 0, place: Number(row.dataset.place) }];
    }));
    const ordered = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
    rows.sort((one, other) => {
      const a = keys.get(one), b = keys.get(other);
      const byValue = a.group === 2 ? 0 : direction * ordered(a.value, b.value);
      return direction === 0 ? a.place - b.place : a.group - b.group || byValue || a.place - b.place;
    });
    body.append(...rows);
  }
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button", title: "sort" }, ...head.childNodes);
    head.append(button);
    button.firstChild.textContent = button.firstChild.textContent.trimEnd(); // so that the arrow stays on its line
    button.insertBefore(element("span", { className: "arrow" }), button.querySelector("small"));
    button.addEventListener("click", () => {
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const then = now === first ? second : now === second ? null : first;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (then) head.setAttribute("aria-sort", then);
      sortBy(table, column, then === "ascending" ? 1 : then ? -1 : 0);
    });
  });
}

function makeFilterable(table, number) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.classList.contains("block"));
  if (rows.length < FEW) return;
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const input = element("input", { type: "search", id: `filter-${number}`, autocomplete: "off" });
  const count = element("span", { role: "status" });
  const label = element("label", { htmlFor: input.id }, "Filter rows");
  table.closest(".scroll").before(element("div", { className: "filter" }, count, label, input));
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
    count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
}

document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("button.theme")) {
    button.hidden = false;
    button.addEventListener("click", next);
  }
  show(theme);
  document.querySelectorAll("table.sortable").forEach((table, number) => {
    makeSortable(table);
    makeFilterable(table, number);
  });
});
