// The background job's card: one job at a time, and a word when its reports stop coming.

import { $ } from "./page.js";
import { flash, saw, tag } from "./processes.js";

const NOBODY_MS = 65000; // the layer keeps a waiting job for a minute
const SILENT_MS = 8000;

let current = null; // { id, web, timer } while a job is on its way
const number = new Intl.NumberFormat("en");

export function start(line) {
  if (!line.send({ type: "job" })) return;
  $("start").disabled = true;
}

export function report(message) {
  if (message.state === "waiting") {
    current = { id: message.job, web: message.pid };
    $("job").hidden = false;
    $("progress").removeAttribute("value");
    $("result").textContent = "";
    $("detail").textContent = "Waiting for a worker…";
    $("trail").replaceChildren(tag(message.pid, "web"), " → channel “jobs”");
    watch(NOBODY_MS, "No worker took the job within a minute.");
    return;
  }
  if (current?.id !== message.job) return; // of a job that this page has given up
  saw(message.worker, "worker", message.state === "done" ? "waits for work" : "throws darts");
  flash(message.worker);
  $("progress").value = message.step / message.steps;
  $("result").textContent = `π ≈ ${message.pi.toFixed(5)}`;
  $("detail").textContent = `${number.format(message.darts)} darts in ${message.seconds.toFixed(1)} s`;
  $("trail").replaceChildren(
    tag(current.web, "web"), " → channel “jobs” → ", tag(message.worker, "worker"), " → this tab's channel",
  );
  if (message.state === "done") {
    end();
  } else {
    watch(SILENT_MS, "The worker fell silent. The job is lost with it.");
    $("start").disabled = true;
  }
}

// The tab's channel changed with its connection, so reports to the old one cannot arrive any more.
export function lineLost() {
  if (current) giveUp("The connection was lost, and with it the channel that the worker reports to.");
  $("start").disabled = true;
}

export const lineOpen = () => ($("start").disabled = current !== null);

function watch(ms, complaint) {
  clearTimeout(current.timer);
  current.timer = setTimeout(() => giveUp(complaint), ms);
}

function giveUp(complaint) {
  $("result").textContent = "";
  $("detail").textContent = complaint;
  if (!$("progress").hasAttribute("value")) $("progress").value = 0;
  end();
}

function end() {
  clearTimeout(current.timer);
  current = null;
  $("start").disabled = false;
}
