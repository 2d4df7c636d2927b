// A WebSocket that comes back: it waits a little longer after each failure, tries at once when the network or the tab
// returns, and gives up on a connection that fell silent, which a browser would not notice by itself for minutes.

const SILENCE_MS = 16000; // three heartbeats of the server
const LONGEST_WAIT_MS = 10000;
const ELSEWHERE = 4001; // the server's word for: this is the process that you wanted to avoid
const TRIES_ELSEWHERE = 6;

export class Line {
  // `address(elsewhere)` makes the URL; `changed(state, seconds)` is told "connecting", "open" or "closed".
  constructor({ address, message, changed }) {
    Object.assign(this, { address, message, changed });
    this.failures = 0;
    this.elsewhere = null;
    this.triesElsewhere = 0;
    setInterval(() => this.open && Date.now() - this.heard > SILENCE_MS && this.drop(), 2000);
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(request) {
    if (this.open) this.socket.send(JSON.stringify(request));
    return this.open;
  }

  // Connect, to another process than `pid` if the kernel gives us one within a few tries.
  connect(pid = null) {
    if (pid !== null) [this.elsewhere, this.triesElsewhere] = [pid, TRIES_ELSEWHERE];
    this.forget();
    this.changed("connecting");
    const socket = new WebSocket(this.address(this.triesElsewhere > 0 ? this.elsewhere : null));
    this.socket = socket;
    socket.onmessage = (event) => {
      this.heard = Date.now();
      const message = JSON.parse(event.data);
      if (message.type === "welcome") {
        this.failures = this.triesElsewhere = 0;
        this.changed("open");
      }
      this.message(message);
    };
    socket.onopen = () => (this.heard = Date.now());
    socket.onclose = (event) => {
      if (event.code === ELSEWHERE && this.triesElsewhere > 0) {
        this.triesElsewhere -= 1;
        this.connect();
      } else {
        this.lost();
      }
    };
  }

  // Try at once, if there is nothing to keep.
  now() {
    if (this.socket && this.socket.readyState === WebSocket.CLOSED) this.connect();
  }

  drop() {
    this.forget();
    this.lost();
  }

  lost() {
    this.triesElsewhere = 0;
    // A random part, so that the tabs of a restarted server do not come back all at once.
    const wait = Math.min(LONGEST_WAIT_MS, 250 * 2 ** this.failures++) * (0.6 + 0.4 * Math.random());
    this.timer = setTimeout(() => this.connect(), wait);
    this.changed("closed", Math.ceil(wait / 1000));
  }

  forget() {
    clearTimeout(this.timer);
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = this.socket.onopen = null;
    this.socket.close();
  }
}
