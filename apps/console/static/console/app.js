// The little that HTML and htmx can't do alone: all of it is optional, every page works without.
"use strict";

// A page that nobody looks at does not poll.
document.addEventListener("htmx:beforeRequest", (event) => {
  const polls = event.detail.elt.matches("[data-live]");
  if (polls && document.hidden) event.preventDefault();
});

// A part that is replaced while it is read keeps what the reader had opened.
let openBefore = new Set();
document.addEventListener("htmx:beforeSwap", (event) => {
  openBefore = new Set([...event.detail.target.querySelectorAll("details[open][id]")].map((d) => d.id));
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of openBefore) document.getElementById(id)?.setAttribute("open", "");
});

// When the control plane stops answering, the page says how old its figures are instead of looking alive; what somebody
// has asked for is answered where its answer would stand.
const stale = () => document.getElementById("stale");
const why = ({ xhr }) => {
  if (!xhr.status) return "The control plane does not answer: try again.";
  try {
    return JSON.parse(xhr.responseText).detail ?? `Answered with ${xhr.status}: try again.`;
  } catch {
    return `Answered with ${xhr.status}: try again.`;
  }
};
for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(failure, (event) => {
    if (event.detail.elt.matches("[data-live]")) {
      stale()?.removeAttribute("hidden");
      return;
    }
    const notice = document.createElement("div");
    notice.className = "notice bad";
    notice.setAttribute("role", "alert");
    notice.textContent = why(event.detail);
    event.detail.target.replaceChildren(notice);
    notice.scrollIntoView({ block: "nearest" });
  });
}
document.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.elt.matches("[data-live]")) stale()?.setAttribute("hidden", "");
});

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(document.getElementById(copy.dataset.copy).textContent.trim());
    copy.textContent = "Copied";
    return;
  }
  // A menu closes when something else is clicked.
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.removeAttribute("open");
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  }
});
