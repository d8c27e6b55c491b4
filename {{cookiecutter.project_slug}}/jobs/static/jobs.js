// A box above the list chooses all jobs of the page.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-choose-all]")) return;
  const boxes = event.target.closest("table").querySelectorAll("input[name=job]");
  for (const box of boxes) box.checked = event.target.checked;
});
