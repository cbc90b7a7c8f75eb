"use strict";
// Everything here is also a button or a link: this file only gives them keys. Single keys can be switched off (WCAG 2.1.4).

const OFF = "spiritsafe-keys-off";
const dialog = document.getElementById("keys");
const toggle = document.getElementById("keys-on");

function keysAreOn() {
  return localStorage.getItem(OFF) !== "1";
}

function rows() {
  return Array.from(document.querySelectorAll("a.main"));
}

function move(step) {
  const links = rows();
  if (links.length === 0) return;
  const here = links.indexOf(document.activeElement);
  const next = here < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(here + step, 0), links.length - 1);
  links[next].focus();
  links[next].scrollIntoView({ block: "nearest" });
}

function choose(number) {
  const step = document.querySelector(`.ladder [data-step="${number}"]`);
  if (step === null || step.disabled) return;
  step.checked = true;
  step.dispatchEvent(new Event("change", { bubbles: true }));
  // A dismissal has to say what it was instead; a step has said so.
  const finding = document.getElementById("finding");
  document.getElementById(finding.value === "" ? "finding" : "note").focus();
}

function press(name) {
  const target = document.querySelector(`[data-key="${name}"]`);
  if (target === null) return;
  if (target.matches("a, button")) target.click();
  else {
    target.focus();
    target.scrollIntoView({ block: "center" });
  }
}

// Take the alert of the row that has the focus, or the one that the page is about.
function take() {
  const row = document.activeElement.closest("tr");
  const button = row === null ? null : row.querySelector("[data-take]");
  if (button !== null) button.click();
  else if (row === null) press("a");
}

let section = -1;
function nextSection() {
  const headings = Array.from(document.querySelectorAll("main section > header h2, main section > h2"));
  if (headings.length === 0) return;
  section = (section + 1) % headings.length;
  headings[section].tabIndex = -1;
  headings[section].focus();
  headings[section].scrollIntoView({ block: "start" });
}

const GO = { q: "/", a: "/accounts", m: "/models", s: "/snapshots", p: "/policies", l: "/audit" };
let going = false;

function onKey(event) {
  const typing = event.target.matches("input:not([type=radio]):not([type=checkbox]), textarea, select");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (!keysAreOn() || dialog.open) return;
  if (going && GO[event.key]) {
    location.href = GO[event.key];
    return;
  }
  going = event.key === "g";
  const actions = {
    j: () => move(1),
    k: () => move(-1),
    e: nextSection,
    x: () => choose(0),
    1: () => choose(1),
    2: () => choose(2),
    3: () => choose(3),
    4: () => choose(4),
    5: () => choose(5),
    6: () => choose(6),
    "?": () => dialog.showModal(),
    "/": () => press("/"),
    r: () => press("r"),
    n: () => press("n"),
    c: () => press("c"),
    u: () => press("u"),
    a: take,
    b: () => press("b"),
    d: () => press("d"),
    s: () => press("s"),
    v: () => press("v"),
    "]": () => press("]"),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
}

// The button of a decision says what it will do.
function nameDecision() {
  const form = document.querySelector("form.decide");
  if (form === null) return;
  const button = form.querySelector("button[type=submit]");
  const expiry = form.querySelector("[data-expiry]");
  let before = "";
  const update = () => {
    const chosen = form.querySelector("[name=decision]:checked, select[name=decision]");
    const days = form.querySelector("[name=days]");
    expiry.hidden = chosen !== null && chosen.value === "dismiss";
    const finding = form.querySelector("[name=finding]");
    if (chosen !== null && chosen.value !== before) {
      // What alerts are about is the finding that goes with a step; a dismissal needs one of its own.
      if (chosen.value === "dismiss" && finding.value === "harvesting") finding.value = "";
      if (chosen.value !== "dismiss" && chosen.value !== "" && finding.value === "") finding.value = "harvesting";
      before = chosen.value;
    }
    form.querySelector("#tokens").closest(".field").hidden = chosen === null || chosen.value !== "cap";
    if (chosen === null || form.dataset.about !== undefined) return;
    const span = days.selectedOptions[0].textContent.trim();
    button.firstChild.textContent = chosen.value === "dismiss" ? "Dismiss this alert" : `${chosen.dataset.verb} for ${span}`;
    button.classList.toggle("danger", chosen.value === "suspend" || chosen.value === "verify");
  };
  form.addEventListener("change", update);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(button);
  });
  update();
}

// What each step would have done is read from the traffic, which takes a moment: the page does not wait for it.
async function loadForecasts() {
  const ladder = document.querySelector("[data-load]");
  if (ladder === null) return;
  const state = ladder.querySelector("[data-state]");
  const tokens = document.getElementById("tokens");
  const load = async () => {
    ladder.setAttribute("aria-busy", "true");
    state.textContent = "";
    try {
      const answer = await fetch(`${ladder.dataset.load}?tokens=${encodeURIComponent(tokens.value)}`);
      if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
      const found = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const place of ladder.querySelectorAll("[data-place]")) {
        const forecast = found.querySelector(`[data-forecast="${place.dataset.place}"]`);
        if (forecast !== null) {
          place.textContent = forecast.textContent;
          place.title = forecast.title;
        }
      }
    } catch {
      state.textContent = "What each step would have done could not be read. It can be decided all the same; reload the page to try again.";
    }
    ladder.removeAttribute("aria-busy");
  };
  tokens.addEventListener("change", load);
  if (ladder.dataset.loaded === undefined) await load();
}

document.addEventListener("keydown", onKey);
for (const select of document.querySelectorAll("form.filters select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
if (dialog !== null) {
  document.querySelector("[data-opens=keys]").addEventListener("click", () => dialog.showModal());
  toggle.checked = keysAreOn();
  toggle.addEventListener("change", () => localStorage.setItem(OFF, toggle.checked ? "0" : "1"));
}
nameDecision();
loadForecasts();
