"use strict";
// Tables sort by the number of a cell, or by its text; cells without a value stand last.
const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.number ?? cell.textContent;
  return { text, number: text === "" ? NaN : Number(text) };
};
const compare = (one, other) => {
  if (one.text === "" || other.text === "") return 0;
  return Number.isNaN(one.number) || Number.isNaN(other.number)
    ? one.text.localeCompare(other.text)
    : one.number - other.number;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row, column) }));
      rows.sort((a, b) => {
        if ((a.value.text === "") !== (b.value.text === "")) return a.value.text === "" ? 1 : -1;
        return (down ? -1 : 1) * compare(a.value, b.value);
      });
      table.tBodies[0].append(...rows.map(({ row }) => row));
    });
  });
}
const copied = (text) => {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
};
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre").textContent;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      done = copied(text);
    }
    button.textContent = done ? "copied" : "select and copy it";
  });
}
