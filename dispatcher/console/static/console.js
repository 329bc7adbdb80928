// A little convenience. Every page and every action works without it.
"use strict";

const REFRESH_MS = 5000;
const html = document.documentElement;
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private window */ } };
const recall = (name) => { try { return localStorage.getItem(name); } catch { return null; } };

// Live refresh: fetch this page again and replace what is marked as live. Never while somebody reads a selection.
const liveButton = one("[data-live-switch]");
let paused = recall("dispatcher-paused") === "yes";

function showPause() {
  if (!liveButton) return;
  liveButton.hidden = all("[data-live]").length === 0;
  liveButton.textContent = paused ? "Live refresh is paused" : "Pause live refresh";
  liveButton.setAttribute("aria-pressed", String(paused));
}

const inUse = () => all("[data-live]").some((part) => part.contains(document.activeElement));

// Say that what is shown does not change any more, and why; nothing to say takes that away.
let shownSince = new Date();
function tellStale(why) {
  const told = one("#stale");
  if (!why) { told?.remove(); shownSince = new Date(); return; }
  const notice = told ?? Object.assign(document.createElement("p"), { id: "stale", className: "notice doubt" });
  notice.setAttribute("role", "status");
  const text = `${why} What you see is of ${shownSince.toLocaleTimeString()}.`;
  if (notice.textContent !== text) notice.textContent = text;
  if (!told) one("#main").before(notice);
}

async function refresh() {
  if (paused || document.hidden || all("[data-live]").length === 0) return;
  if (inUse()) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    if (answer.type === "opaqueredirect") { tellStale("Your session has ended: reload the page to log in."); return; }
    if (!answer.ok) { tellStale("This page has changed: reload it."); return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (paused || inUse()) return; // somebody began to use it, or paused, while the answer was on its way
    for (const part of all("[data-live]")) {
      const update = fresh.getElementById(part.id);
      if (part.dataset.busy !== undefined && update?.dataset.busy === undefined) { location.reload(); return; }
      if (update && update.innerHTML !== part.innerHTML) part.replaceChildren(...update.childNodes);
    }
    tellStale("");
  } catch { tellStale("The console does not answer; it is asked again every five seconds."); }
}

liveButton?.addEventListener("click", () => {
  paused = !paused;
  remember("dispatcher-paused", paused ? "yes" : "no");
  showPause();
});
showPause();
setInterval(refresh, REFRESH_MS);

// On a phone filters that are set would hide the rows; what they are stands below them.
if (matchMedia("(max-width: 640px)").matches) all("details.filtering").forEach((form) => { form.open = false; });

// Selecting: all on the page, a range with shift, and how many there are.
const boxes = () => all('input[name="lead"], input[name="incident"]');
const whole = one("[data-pick-all]");
let last = null;

function counted() {
  const some = boxes().filter((box) => box.checked).length;
  all("[data-picked]").forEach((place) => { place.textContent = some ? ` (${some})` : ""; });
  if (whole) { whole.checked = some > 0 && some === boxes().length; whole.indeterminate = some > 0 && some < boxes().length; }
}
if (whole) {
  whole.hidden = false;
  whole.addEventListener("change", () => { boxes().forEach((box) => { box.checked = whole.checked; }); counted(); });
}
document.addEventListener("click", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || !boxes().includes(box)) return;
  if (event.shiftKey && last) {
    const [from, to] = [boxes().indexOf(last), boxes().indexOf(box)].sort((a, b) => a - b);
    boxes().slice(from, to + 1).forEach((between) => { between.checked = box.checked; });
  }
  last = box;
  const selected = one('input[name="scope"][value="selected"]');
  if (selected) selected.checked = true;
  counted();
});
counted();

// A form goes once: the second click finds its button resting.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  const pressed = event.submitter;
  if (event.target.dataset.download === undefined && pressed?.dataset.download === undefined) {
    setTimeout(() => all("button", event.target).forEach((button) => { button.disabled = true; }));
  }
});
addEventListener("pageshow", () => all("form button:disabled").forEach((button) => { button.disabled = false; }));

// Copying.
all("[data-copy]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; } catch { getSelection().selectAllChildren(source); }
  });
});

// Keyboard.
const help = one("#help");
const rows = () => all("[data-row]");
let at = -1;
let leading; // the timer of a "g" that waits for its second key

function move(step) {
  if (!rows().length) return;
  rows()[at]?.classList.remove("at");
  at = Math.min(rows().length - 1, Math.max(0, at + step));
  rows()[at].classList.add("at");
  one("a", rows()[at])?.focus();
  rows()[at].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]):not([type=radio]), textarea, select");
  if (event.key === "Escape" && typing) { typing.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
  if (leading) {
    clearTimeout(leading);
    leading = undefined;
    const goal = one(`.rail nav a[data-key="${CSS.escape(event.key)}"]`);
    if (goal) { event.preventDefault(); location.href = goal.href; }
    return;
  }
  switch (event.key) {
    case "/": event.preventDefault(); one("#search")?.focus(); break;
    case "?": help?.showModal(); break;
    case "g": leading = setTimeout(() => { leading = undefined; }, 1500); break;
    case "j": move(1); break;
    case "k": move(-1); break;
    case "x": { const box = rows()[at] && one("input[type=checkbox]", rows()[at]); if (box) { box.click(); } break; }
    case "p": if (liveButton && !liveButton.hidden) liveButton.click(); break;
    case "r": { const button = one('.bar button[value="replay"]'); if (button && boxes().some((box) => box.checked)) button.click(); break; }
    default:
  }
});
all("[data-help]").forEach((button) => { button.hidden = false; button.addEventListener("click", () => help?.showModal()); });
html.dataset.script = "yes";
