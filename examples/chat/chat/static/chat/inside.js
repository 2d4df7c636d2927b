// The page "Inside": asks for the counters every second, and shows what has changed since the last answer.

import { $, make } from "./page.js";

const EVERY_MS = 1000;
const REASONS = ["full", "expired", "dead", "slow", "memory", "damaged", "undecodable", "errors"];
let last = null;

async function look() {
  try {
    const response = await fetch(document.body.dataset.numbers, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const now = await response.json();
    if (now.error) throw new Error(now.error);
    now.at = performance.now();
    show(now, last?.machine === now.machine ? last : null);
    last = now;
    state("open", `machine ${now.machine}`);
  } catch (error) {
    state("closed", error instanceof TypeError ? "The site does not answer" : error.message);
  }
  setTimeout(look, EVERY_MS);
}

function state(name, text) {
  $("line").dataset.state = name;
  $("line").textContent = text;
}

function show(now, before) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const dropped = ({ counters }) => REASONS.reduce((sum, key) => sum + counters[key], 0);
  $("sent").textContent = rate(now.counters.sent, before?.counters.sent, seconds);
  $("received").textContent = rate(now.counters.received, before?.counters.received, seconds);
  $("dropped").textContent = rate(dropped(now), before && dropped(before), seconds);
  const { used, limit } = now.memory.messages;
  $("memory").textContent = `${size(used)} of ${size(limit)}`;
  const reasons = REASONS.filter((key) => now.counters[key]).map((key) => `${now.counters[key]} ${key}`);
  $("reasons").textContent = reasons.length ? `Dropped since the segment was made: ${reasons.join(", ")}` : "";

  const old = new Map(before?.channels.map((channel) => [channel.name, channel]));
  fill("channels", now.channels, (channel) => [
    channel.name,
    channel.pending,
    channel.capacity ?? "–",
    channel.pending ? `${channel.oldest_age.toFixed(1)} s` : "–",
    rate(channel.sent, old.get(channel.name)?.sent, seconds),
    rate(channel.received, old.get(channel.name)?.received, seconds),
    channel.waiting,
  ]);
  $("none").hidden = now.channels.length > 0;
  fill("processes", now.processes, ({ pid, unread, waiting, members, command }) => [
    pid ?? "–", unread, waiting, members, command.replace(/^\S*\//, "") || "in another container",
  ]);
}

function fill(id, rows, cells) {
  $(id).replaceChildren(...rows.map((row) => make("tr", "", ...cells(row).map((cell) => make("td", "", String(cell))))));
}

function rate(after, before, seconds) {
  if (after == null || before == null || !seconds || after < before) return "–";
  const number = (after - before) / seconds;
  return `${number >= 10 || number === 0 ? number.toFixed(0) : number.toFixed(1)}/s`;
}

function size(bytes) {
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

look();
