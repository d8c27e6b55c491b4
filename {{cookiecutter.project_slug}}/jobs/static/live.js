// For pages that follow their jobs. Elements with data-live ask the server for their new
// content again and again, by htmx's hx-get and hx-trigger="every …".

// It stays where it is: screen readers announce only what changes in such an element.
const notice = document.createElement("p");
notice.setAttribute("role", "status");
const say = (text, classes) => {
  notice.className = classes;
  notice.textContent = text;
};
say("", "hidden");
document.querySelector("[data-live]").before(notice);

let failures = 0;
let pausedUntil = 0;

// They rest in a hidden tab, while somebody fills in a form in them, and after a failure.
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt } = event.detail.requestConfig;
  const inUse = elt.querySelector("input:checked, details[open] input");
  const rests = document.hidden || inUse || Date.now() < pausedUntil;
  if (elt.matches("[data-live]") && rests) event.preventDefault();
});

// What is replaced between press and release gets no click.
let pressed = false;
document.addEventListener("pointerdown", () => { pressed = true; });
for (const end of ["pointerup", "pointercancel", "contextmenu"]) {
  document.addEventListener(end, () => { pressed = false; });
}

// Nothing but a new version of the element replaces it.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const { xhr, pathInfo, requestConfig } = detail;
  const { elt } = requestConfig;
  if (!elt.matches("[data-live]")) return;
  if (pressed) detail.shouldSwap = false;
  const asked = new URL(pathInfo.requestPath, location.href).pathname;
  // The session has ended: show the login page.
  if (new URL(xhr.responseURL).pathname !== asked) location.reload();
  else if (xhr.responseText.includes(`id="${elt.id}"`)) return;
  detail.shouldSwap = false;
  detail.isError = true;
});

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  // Not detail.elt: after a swap, that is what remains around the element.
  if (!detail.requestConfig.elt.matches("[data-live]")) return;
  if (detail.successful) {
    if (failures) say("", "hidden");
    failures = 0;
    return;
  }
  if (!failures) say("The server does not answer. This page will ask again.", "message warning");
  failures += 1;
  // Each pause is twice as long as the last, half a minute at most, and random: otherwise,
  // all open pages would ask at once when the server is back.
  const seconds = Math.min(30, 2 ** failures) * (0.5 + Math.random() / 2);
  pausedUntil = Date.now() + 1000 * seconds;
});

// What changes in the data-news of elements is announced.
const allNews = () => [...document.querySelectorAll("[data-news]")].map((elt) => elt.dataset.news);
let knownNews = allNews();
document.addEventListener("htmx:afterSwap", () => {
  const news = allNews().filter((text) => !knownNews.includes(text));
  if (news.length) say(news.join(". "), "hidden");
  knownNews = allNews();
});
