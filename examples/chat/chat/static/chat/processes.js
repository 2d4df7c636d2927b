// The picture of the processes: which there are, whose sockets each one holds, and which one just did something.

import { $, make } from "./page.js";

const HUES = 6;
const MOST = 8;
const FORGET_MS = 30000;
const FORGET_WORKER_MS = 600000; // a worker without work says nothing
const processes = new Map(); // pid -> { kind, hue, seen, item, text, timer }
let mine = null;

// A process showed itself. `note` is what stands below its number, if it is to change.
export function saw(pid, kind, note) {
  let process = processes.get(pid);
  if (!process) {
    if (processes.size >= MOST) remove([...processes.keys()].find((known) => known !== mine));
    process = { kind, hue: freeHue(pid), text: make("span") };
    process.item = make("li", "", make("span", "pid", `${kind} ${pid}`), process.text);
    process.item.dataset.hue = process.hue;
    processes.set(pid, process);
    if (kind !== "web") $("workers").querySelector(".unknown")?.remove();
    $(kind === "web" ? "web" : "workers").append(process.item);
  }
  process.seen = Date.now();
  if (note !== undefined) process.text.textContent = note;
  return process;
}

// By its number, so that a process has the same colour in every tab, unless another one has it already.
function freeHue(pid) {
  const taken = new Set([...processes.values()].map(({ hue }) => hue));
  const hues = Array.from({ length: HUES }, (_, step) => (pid + step) % HUES);
  return hues.find((hue) => !taken.has(hue)) ?? hues[0];
}

export function flash(pid) {
  const process = processes.get(pid);
  if (!process) return;
  process.item.classList.add("busy");
  clearTimeout(process.timer);
  process.timer = setTimeout(() => process.item.classList.remove("busy"), 500);
}

export function iAmAt(pid) {
  processes.get(mine)?.item.classList.remove("here");
  mine = pid;
  saw(pid, "web").item.classList.add("here");
}

// "web 4711" in its process's colour, for use in a line of text.
export function tag(pid, kind) {
  const span = make("span", "pid", `${kind} ${pid}`);
  span.dataset.hue = saw(pid, kind).hue;
  return span;
}

// Say below each web process how many tabs of this room it holds; forget those that have fallen silent.
export function tidy(people) {
  const tabs = new Map();
  for (const { pid } of people) tabs.set(pid, (tabs.get(pid) ?? 0) + 1);
  for (const [pid, { kind, seen, text }] of processes) {
    const forget = kind === "worker" ? FORGET_WORKER_MS : FORGET_MS;
    if (pid !== mine && !tabs.has(pid) && Date.now() - seen > forget) remove(pid);
    if (kind !== "web") continue;
    const others = (tabs.get(pid) ?? 0) - (pid === mine ? 1 : 0);
    const count = others > 0 ? `${others} ${pid === mine ? "more" : others === 1 ? "tab" : "tabs"}` : "";
    text.textContent = [pid === mine ? "this tab" : "", count].filter(Boolean).join(", ") || "no tab here";
  }
}

function remove(pid) {
  processes.get(pid)?.item.remove();
  processes.delete(pid);
}
