// The room: who is here, what is said, and the wiring of the page. No library, no build.

import * as job from "./job.js";
import { Line } from "./line.js";
import { $, make } from "./page.js";
import { flash, iAmAt, saw, tag, tidy } from "./processes.js";

const MOST_MESSAGES = 200;
const MOST_PEOPLE = 100;
const SILENT_MS = 16000; // three heartbeats
const room = document.body.dataset.room;
const people = new Map(); // id -> { name, pid, seen }
let before = new Set(); // ids of those who were here when the connection was lost: no news when they turn up again
let me = null; // { id, pid, name }, from the server
let whisperTo = null; // an id, while messages go to one person only

const line = new Line({
  address(elsewhere) {
    const query = new URLSearchParams({ name: $("name").value });
    if (elsewhere !== null) query.set("elsewhere", elsewhere);
    return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/${room}/?${query}`;
  },
  message: (message) => handlers[message.type]?.(message),
  changed(state, seconds) {
    $("line").dataset.state = state;
    $("again").hidden = state !== "closed";
    $("send").disabled = $("move").disabled = state !== "open";
    if (state === "connecting") $("line").textContent = "Connecting…";
    if (state === "closed") $("line").textContent = `Connection lost. Next try in ${seconds} s.`;
    state === "open" ? job.lineOpen() : job.lineLost();
  },
});

const handlers = {
  welcome({ id, name, pid, channel }) {
    const moved = me && me.pid !== pid;
    me = { id, pid, name };
    before = new Set(people.keys());
    people.clear(); // whoever is here answers our greeting
    iAmAt(pid);
    $("line").replaceChildren("Your socket is held by ", tag(pid, "web"));
    $("channel").textContent = channel;
    note("chat.pid", pid, localStorage);
    if (moved) say("Your socket is now held by ", tag(pid, "web"), ".");
    stopWhisper();
    showPeople();
  },
  here({ id, name, pid }) {
    if (!people.has(id) && people.size >= MOST_PEOPLE) return;
    const known = people.get(id);
    if (!known && id !== me.id && !before.has(id)) say(`${name} is here, through `, tag(pid, "web"), ".");
    people.set(id, { name, pid, seen: Date.now() });
    saw(pid, "web");
    if (known?.name !== name || known?.pid !== pid) showPeople();
  },
  left({ id, name }) {
    if (!people.delete(id)) return;
    say(`${name} has left.`);
    showPeople();
  },
  said(message) {
    const mine = message.id === me.id;
    const way = [tag(message.pid, message.kind)];
    if (message.pid !== me.pid) way.push(" → ", tag(me.pid, "web"));
    if (message.ms !== null) way.push(` · ${message.ms.toFixed(message.ms < 10 ? 1 : 0)} ms`);
    const time = make("time", "", new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    const meta = make("div", "meta", make("b", "", mine ? "You" : message.name), make("span", "via", ...way), time);
    if (message.private) meta.append(mine ? `only to ${people.get(message.to)?.name ?? "one"}` : "only to you");
    const text = make("div", "body", message.text);
    text.dir = "auto";
    append(make("li", `${mine ? "mine" : ""} ${message.private ? "private" : ""}`, meta, text), mine);
    saw(message.pid, message.kind, message.kind === "web" ? undefined : "said something");
    flash(message.pid);
    if (message.pid !== me.pid) flash(me.pid);
  },
  job: job.report,
  refused({ reason }) {
    $("refused").textContent = reason;
    job.lineOpen();
  },
};

// What is said

function say(...parts) {
  append(make("li", "event", ...parts), false);
}

function append(item, follow) {
  $("empty").hidden = true;
  $("messages").append(item);
  while ($("messages").children.length > MOST_MESSAGES) $("messages").firstElementChild.remove();
  if (following || follow) toEnd();
  else $("newer").hidden = false;
}

// The newest message stays in sight, also when the window changes, unless one has scrolled up to read.
let following = true;

function toEnd() {
  following = true;
  $("newer").hidden = true;
  $("messages").scrollTop = $("messages").scrollHeight;
}

$("messages").addEventListener("scroll", ({ target }) => {
  following = target.scrollHeight - target.scrollTop - target.clientHeight < 60;
  if (following) $("newer").hidden = true;
});
new ResizeObserver(() => following && toEnd()).observe($("messages"));
$("newer").addEventListener("click", toEnd);

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  $("refused").textContent = "";
  if (!text) return;
  // While there is no connection, the text stays where it is, so that nothing typed is lost.
  if (line.send(whisperTo ? { type: "whisper", to: whisperTo, text } : { type: "say", text })) $("text").value = "";
});

// Who is here

function showPeople() {
  const rows = [...people].map(([id, { name, pid }]) => {
    const row = make("li", "", make("span", "who", id === me.id ? `${name} (you)` : name), tag(pid, "web"));
    if (id !== me.id) {
      const button = make("button", "quiet", "Whisper");
      button.type = "button";
      button.setAttribute("aria-label", `Whisper to ${name}`);
      button.addEventListener("click", () => whisper(id, name));
      row.append(button);
    }
    return row;
  });
  $("people").replaceChildren(...rows);
  $("count").textContent = people.size || "";
  if (whisperTo && !people.has(whisperTo)) stopWhisper();
  tidy(people.values());
}

function whisper(id, name) {
  whisperTo = id;
  $("private").hidden = false;
  $("private").querySelector("b").textContent = name;
  $("text").focus();
}

function stopWhisper() {
  whisperTo = null;
  $("private").hidden = true;
}

// A process that was killed could not say who left with it.
setInterval(() => {
  if (!me) return;
  for (const [id, { name, seen }] of people) {
    if (id !== me.id && Date.now() - seen > SILENT_MS) handlers.left({ id, name });
  }
  tidy(people.values());
}, 2000);

// The tab's own name, kept for as long as the tab lives

function note(key, value, storage) {
  try {
    if (value !== undefined) storage.setItem(key, value);
    return storage.getItem(key);
  } catch {
    return null; // storage is turned off; the page works without
  }
}

function newName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  const first = ["Calm", "Swift", "Quiet", "Bright", "Gentle", "Merry", "Bold", "Clever", "Sunny", "Steady"];
  return `${pick(first)} ${pick(["Otter", "Heron", "Fox", "Finch", "Badger", "Lynx", "Robin", "Hare", "Wren", "Seal"])}`;
}

$("name").value = note("chat.name", undefined, sessionStorage) || newName();
note("chat.name", $("name").value, sessionStorage);
$("name").addEventListener("change", () => {
  const name = $("name").value.trim() || newName();
  $("name").value = note("chat.name", name, sessionStorage) ?? name;
  line.send({ type: "name", name });
});

$("public").addEventListener("click", stopWhisper);
$("again").addEventListener("click", () => line.now());
$("move").addEventListener("click", () => line.connect(me.pid));
$("start").addEventListener("click", () => job.start(line));

// A new tab asks for another process than the tab before it got, so that one sees two at work.
line.connect(note("chat.pid", undefined, localStorage));
