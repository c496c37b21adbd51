"use strict";
const form = document.querySelector("form");
const [field, button, output] = ["input", "button", "output"].map(name => form.querySelector(name));
const chapters = [...document.querySelectorAll("details")];
const all = document.querySelectorAll("tbody tr").length;
let before = new Map(); // which chapters were open before something was typed

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length && !before.size) before = new Map(chapters.map(chapter => [chapter, chapter.open]));
  let shown = 0;
  for (const chapter of chapters) {
    const title = chapter.dataset.words;
    let found = 0;
    for (const row of chapter.querySelectorAll("tbody tr")) {
      const text = `${title} ${row.cells[0].textContent.toLowerCase()}`;
      row.hidden = !words.every(word => text.includes(word));
      found += !row.hidden;
    }
    chapter.hidden = !found;
    shown += found;
    const is_for_cases = words.length && !words.every(word => title.includes(word));
    if (before.size) chapter.open = is_for_cases ? found > 0 : before.get(chapter);
  }
  if (!words.length) before.clear();
  output.textContent = words.length ? `${shown} of ${all} cases` : "";
  name_button();
}

function name_button() {
  button.textContent = chapters.every(chapter => chapter.open || chapter.hidden) ? "Close all" : "Open all";
}

button.addEventListener("click", () => {
  const open = button.textContent === "Open all";
  for (const chapter of chapters) chapter.open = open;
  name_button();
});
for (const chapter of chapters) chapter.addEventListener("toggle", name_button);
field.addEventListener("input", filter);
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
filter(); // what the browser kept in the field when the page was loaded again
