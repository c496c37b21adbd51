const field = document.querySelector("input[type=search]");
const chapters = [...document.querySelectorAll("details.chapter")];
const wasOpen = new Map(chapters.map((chapter) => [chapter, chapter.open]));
field.hidden = false;
field.addEventListener("input", () => {
  const wanted = field.value.trim().toLowerCase();
  for (const chapter of chapters) {
    const isChapter = chapter.dataset.name.toLowerCase().includes(wanted);
    let found = 0;
    for (const line of chapter.querySelectorAll("[data-name]")) {
      line.hidden = !isChapter && !line.dataset.name.toLowerCase().includes(wanted);
      found += !line.hidden;
    }
    chapter.hidden = !isChapter && !found;
    chapter.open = wanted && !isChapter ? found > 0 : wasOpen.get(chapter);
  }
});
