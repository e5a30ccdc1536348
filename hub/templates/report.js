"use strict";
// Shows one slice at a time, in one window, and the slices that a sentence or a finding rests on.
const viewer = document.getElementById("viewer");
const slider = document.getElementById("slider");
const slices = [...document.querySelectorAll(".slice")];
const cells = [...document.querySelectorAll(".strip button")];
const findings = [...document.querySelectorAll(".finding")];
const links = [...document.querySelectorAll("a[data-findings]")];
const outlines = [...document.querySelectorAll(".outlines path")];
const outlined = document.getElementById("outlined"); // null if no finding has patches that stand out
const windows = [...document.querySelectorAll("input[name=window]")];
const numbers = (text) => text.split(" ").filter(Boolean).map(Number);
let chosen = []; // the findings whose evidence is shown; none for all of them

function show(number) {
  const shown = Math.min(Math.max(number, 1), slices.length);
  slices.forEach((slice, index) => slice.classList.toggle("shown", index + 1 === shown));
  cells.forEach((cell, index) => cell.classList.toggle("shown", index + 1 === shown));
  slider.value = shown;
  slider.setAttribute("aria-valuetext", slices[shown - 1].querySelector("figcaption").textContent.trim());
}

function choose(indices) {
  chosen = indices;
  const meant = findings.filter((finding) => !chosen.length || chosen.includes(finding.id));
  findings.forEach((finding) => finding.classList.toggle("chosen", chosen.includes(finding.id)));
  slices.forEach((slice, index) => {
    const here = numbers(slice.dataset.here).map((index) => `finding-${index}`);
    const rests = here.some((id) => !chosen.length || chosen.includes(id));
    slice.classList.toggle("rests", rests);
    cells[index].classList.toggle("rests", rests);
  });
  outlines.forEach((outline) => {
    outline.classList.toggle("other", chosen.length > 0 && !chosen.includes(`finding-${outline.dataset.finding}`));
  });
  const shares = meant.map((finding) => numbers(finding.dataset.shares));
  cells.forEach((cell, index) => {
    cell.firstElementChild.style.height = `${100 * Math.max(0, ...shares.map((share) => share[index]))}%`;
  });
}

function tell(text) {
  document.querySelector(".status").textContent = text;
}

function follow(link) {
  const rests = numbers(link.dataset.slices);
  const ids = link.dataset.findings.split(" ").map((index) => `finding-${index}`);
  const again = ids.join() === chosen.join() ? rests.indexOf(Number(slider.value)) + 1 : 0;
  links.forEach((other) => other.classList.toggle("chosen", other === link));
  choose(ids);
  const names = ids.map((id) => document.querySelector(`#${id} .label`).textContent).join(" and ");
  if (rests.length) {
    const number = rests[again % rests.length];
    show(number);
    slices[number - 1].scrollIntoView({ block: "nearest" });
    tell(`${names}: rests on slice${rests.length > 1 ? "s" : ""} ${rests.join(", ")}. Slice ${number} is shown.`);
  } else {
    tell(`${names}: no slice stands out.`);
  }
}

function scroll(steps) {
  show(Number(slider.value) + steps);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-findings]");
  const cell = event.target.closest(".strip button");
  if (link) {
    event.preventDefault();
    follow(link);
  } else if (cell) {
    show(Number(cell.dataset.slice));
  }
});

slider.addEventListener("input", () => show(Number(slider.value)));

windows.forEach((input) =>
  input.addEventListener("change", () => {
    document.documentElement.dataset.window = input.value;
  }),
);

outlined?.addEventListener("change", () => {
  document.documentElement.dataset.outlines = outlined.checked ? "on" : "off";
});

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input")) return;
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (viewer.contains(event.target)) {
    Object.assign(steps, { ArrowUp: -1, ArrowDown: 1, Home: -slices.length, End: slices.length });
    windows[Number(event.key) - 1]?.click();
  }
  if (event.key in steps) {
    event.preventDefault();
    scroll(steps[event.key]);
  } else if (event.key === "Escape") {
    links.forEach((link) => link.classList.remove("chosen"));
    choose([]);
    tell("");
  }
});

let turned = 0; // of the wheel, in pixels
document.querySelector(".slices").addEventListener(
  "wheel",
  (event) => {
    const next = Number(slider.value) + Math.sign(event.deltaY);
    if (event.ctrlKey || next < 1 || next > slices.length) return; // it zooms, or the page scrolls on
    event.preventDefault();
    turned += event.deltaMode ? 40 * Math.sign(event.deltaY) : event.deltaY;
    if (Math.abs(turned) >= 40) {
      scroll(Math.sign(turned));
      turned = 0;
    }
  },
  { passive: false },
);

document.documentElement.classList.add("scripted");
choose([]);
show(Number(/^#slice-(\d+)$/.exec(location.hash)?.[1] ?? slider.value));
