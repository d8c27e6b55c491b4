// A file may be dropped anywhere: dropped beside the field, it would replace the page.
const field = document.querySelector(".drop input");

document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  field.parentElement.classList.add("over");
});

document.addEventListener("dragleave", (event) => {
  // Without a related target, it has left the window.
  if (!event.relatedTarget) field.parentElement.classList.remove("over");
});

document.addEventListener("drop", (event) => {
  field.parentElement.classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  const first = new DataTransfer();
  first.items.add(event.dataTransfer.files[0]);
  field.files = first.files;
});
