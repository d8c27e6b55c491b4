// The pages follow the queue, but not in a hidden tab, and not while somebody chooses jobs
// or says why a queue is paused.
document.addEventListener("htmx:beforeRequest", (event) => {
  const live = event.target.closest("[data-live]");
  if (live && (document.hidden || live.querySelector("input:checked, .pause[open]"))) event.preventDefault();
});

// The session has ended: show the login page.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, requestConfig } = event.detail;
  const asked = new URL(requestConfig.path, location.href).pathname;
  if (new URL(xhr.responseURL).pathname !== asked) {
    event.preventDefault();
    location.reload();
  }
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-choose-all]")) return;
  const boxes = event.target.closest("table").querySelectorAll("input[name=job]");
  for (const box of boxes) box.checked = event.target.checked;
});
