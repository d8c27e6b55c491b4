// The list of imports asks the server again and again how far they are. If it gets no
// answer, it says so, and asks again after a pause: each is twice as long as the last.
let failures = 0;

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.elt.id !== "imports") return;
  failures = detail.successful ? 0 : failures + 1;
  if (!failures) return;
  detail.elt.querySelector(".unanswered").hidden = false;
  const seconds = Math.min(30, 2 ** failures) * (0.5 + Math.random() / 2);
  setTimeout(() => htmx.trigger(detail.elt, "poll"), 1000 * seconds);
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { elt, xhr, pathInfo } = event.detail;
  if (elt.id === "imports" && new URL(xhr.responseURL).pathname !== pathInfo.requestPath) {
    // The session has ended: this is the login page.
    event.preventDefault();
    location.reload();
  }
});
