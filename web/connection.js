// The WebSocket: says hello, comes back by itself, follows tables again, and matches verdicts to commands.

const SUBPROTOCOL = "tablecast.v1.json";
const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 10_000;
const BAD_TOKEN = 4503;
const TOKEN_EXPIRED = 4003;
const RETRIES_MAX = 4;

/** A command that was refused; its message is meant for people. */
export class Rejected extends Error {
  constructor({ code, message, retry_after_ms: retryAfterMs }) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** `online`, `connecting` (with `retryAt`), or `closed` for good (with `reason`). */
export class Connection {
  state = { name: "connecting", retryAt: 0 };
  /** Whether the server reaches the games: while it does not, everything stays as it is. */
  isBusAway = false;
  #identity;
  #socket = null;
  #isReady = false;
  #attempt = 0;
  #badTokens = 0;
  /** When the server said that we should come back, in milliseconds after it went. */
  #comeBackMs = null;
  #retryTimer = 0;
  #pulseTimer = 0;
  #heardAt = 0;
  #clockOffset = 0;
  /** @type {Map<string, {frame: object, tries: number, resolve: Function, reject: Function}>} */
  #pending = new Map();
  /** @type {Map<string, {cursor: number|null, listener: Function}>} */
  #tables = new Map();
  #onLobby = null;
  #onState;

  /** @param {import("./identity.js").Identity} identity */
  constructor(identity, onState) {
    this.#identity = identity;
    this.#onState = onState;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    this.#connect();
  }

  /** The server's clock, as well as we know it. */
  now() {
    return Date.now() + this.#clockOffset;
  }

  /** Connects anew, as whoever the identity now is. */
  restart() {
    for (const table of this.#tables.values()) table.cursor = null;
    this.#attempt = 0;
    if (this.#socket) this.#socket.close(1000);
    else this.#hurry();
  }

  /** @returns {Promise<{table: string, seq: number}>} rejects with {@link Rejected} */
  command(table, command) {
    return this.#request({ type: "command", table, command });
  }

  /** Opens a table. @returns {Promise<{table: string, seq: number}>} */
  open(wish) {
    return this.#request({ type: "open", ...wish });
  }

  /** Sends every frame of a table to `listener` until the returned function is called. */
  follow(table, listener) {
    this.#tables.set(table, { cursor: null, listener });
    if (this.#isReady) this.#subscribe(table);
    return () => {
      this.#tables.delete(table);
      if (this.#isReady) this.#send({ type: "unsubscribe", table });
    };
  }

  /** Follows a table from a fresh snapshot: what we may see has changed. */
  refollow(table) {
    const followed = this.#tables.get(table);
    if (!followed) return;
    followed.cursor = null;
    if (this.#isReady) this.#subscribe(table);
  }

  /** Sends the list of tables to `listener` until the returned function is called. */
  watchLobby(listener) {
    this.#onLobby = listener;
    if (this.#isReady) this.#send({ type: "watch_lobby" });
    return () => {
      this.#onLobby = null;
      if (this.#isReady) this.#send({ type: "unwatch_lobby" });
    };
  }

  #request(frame) {
    const id = newId();
    return new Promise((resolve, reject) => {
      const entry = { frame: { ...frame, id }, tries: 0, resolve, reject };
      this.#pending.set(id, entry);
      if (this.#isReady) this.#send(entry.frame);
    });
  }

  async #connect() {
    clearTimeout(this.#retryTimer);
    this.#setState({ name: "connecting", retryAt: 0 });
    let token;
    try {
      token = await this.#identity.token();
    } catch {
      this.#retry();
      return;
    }
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket = socket;
    socket.onopen = () => this.#send({ type: "hello", token });
    socket.onmessage = ({ data }) => {
      this.#heardAt = Date.now();
      this.#onFrame(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket === socket) this.#onClose(code, reason);
    };
  }

  #onClose(code, reason) {
    this.#socket = null;
    this.#isReady = false;
    // The next gateway says so itself if it is no better off.
    this.isBusAway = false;
    clearInterval(this.#pulseTimer);
    if (code === TOKEN_EXPIRED) this.#identity.forget();
    if (code === BAD_TOKEN && this.#badTokens === 0) {
      this.#badTokens += 1;
      this.#identity.forget();
    } else if (code >= 4500 && code <= 4999) {
      this.#setState({ name: "closed", reason: reason || `code ${code}` });
      this.#giveUp(() => true, "the server ended the connection");
      return;
    }
    // Asked again, an opening would make a second table; a command is safe by its id.
    this.#giveUp(({ frame }) => frame.type === "open", "the connection was lost before the table was there");
    this.#retry();
  }

  #giveUp(isLost, message) {
    for (const [id, entry] of this.#pending) {
      if (!isLost(entry)) continue;
      this.#pending.delete(id);
      entry.reject(new Rejected({ code: "connection_lost", message }));
    }
  }

  /** Full jitter, so that a thousand browsers do not come back in the same moment. */
  #retry() {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#attempt);
    let wait = this.#attempt === 0 ? Math.random() * ceiling : ceiling * (0.5 + Math.random() / 2);
    const told = this.#comeBackMs;
    this.#comeBackMs = null;
    if (told !== null) wait = told;
    this.#attempt += 1;
    this.#setState({ name: "connecting", retryAt: Date.now() + wait });
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
  }

  #hurry() {
    if (this.#socket || this.state.name !== "connecting" || !this.state.retryAt) return;
    this.#connect();
  }

  #onFrame(frame) {
    switch (frame.type) {
      case "welcome":
        this.#clockOffset = frame.now - Date.now();
        if (frame.player) this.#onReady(frame);
        break;
      case "opened":
      case "accepted":
        this.#take(frame.id)?.resolve(frame);
        break;
      case "rejected":
        this.#onRejected(frame);
        break;
      case "lobby":
        this.#onLobby?.(frame.tables);
        break;
      case "status":
        this.#onStatus(frame.bus === "unavailable");
        break;
      case "goodbye":
        this.#comeBackMs = frame.reconnect_after_ms;
        break;
      case "error":
        console.warn("tablecast:", frame.code, frame.message);
        break;
      case "pong":
        break;
      default:
        this.#onTableFrame(frame);
    }
  }

  #onStatus(isBusAway) {
    if (isBusAway === this.isBusAway) return;
    this.isBusAway = isBusAway;
    if (!isBusAway) {
      // What was refused meanwhile, a little spread: everyone else does the same now.
      for (const entry of this.#pending.values()) {
        if (entry.isHeld) setTimeout(() => this.#sendAgain(entry), Math.random() * 500);
        entry.isHeld = false;
      }
    }
    this.#setState(this.state);
  }

  #sendAgain({ frame }) {
    if (this.#isReady && this.#pending.has(frame.id)) this.#send(frame);
  }

  #onReady({ ping_interval_ms: interval }) {
    // A token that was renewed over the open connection: all goes on as it was.
    if (this.#isReady) return;
    this.#isReady = true;
    this.#attempt = 0;
    this.#badTokens = 0;
    this.#startPulse(interval || 15_000);
    for (const table of this.#tables.keys()) this.#subscribe(table);
    if (this.#onLobby) this.#send({ type: "watch_lobby" });
    // The id makes this safe: a command that did arrive gets its first verdict again.
    for (const { frame } of this.#pending.values()) this.#send(frame);
    this.#setState({ name: "online" });
  }

  /** A page cannot see the server's pings, so it asks for answers of its own. */
  #startPulse(interval) {
    clearInterval(this.#pulseTimer);
    this.#heardAt = Date.now();
    const socket = this.#socket;
    this.#pulseTimer = setInterval(() => {
      if (Date.now() > this.#identity.renewAt) this.#renew();
      if (Date.now() - this.#heardAt < 2.5 * interval) {
        this.#send({ type: "ping", data: 0 });
        return;
      }
      // A dead path may hold back the close event for minutes.
      socket.onclose = null;
      socket.close();
      this.#onClose(1006, "");
    }, interval);
  }

  async #renew() {
    const token = await this.#identity.token().catch(() => null);
    if (this.#isReady && token) this.#send({ type: "hello", token });
  }

  #onTableFrame(frame) {
    const followed = this.#tables.get(frame.table);
    if (!followed) return;
    if (frame.type === "commit" || frame.type === "snapshot") followed.cursor = frame.seq;
    if (frame.type === "unsubscribed" && frame.reason === "unavailable") {
      setTimeout(() => this.refollow(frame.table), 1000 + Math.random() * 1000);
    }
    followed.listener(frame);
  }

  #onRejected(frame) {
    const entry = this.#pending.get(frame.id);
    if (!entry) return;
    if (frame.code === "unavailable" && this.isBusAway) {
      entry.isHeld = true;
      return;
    }
    if (frame.retry_after_ms !== undefined && entry.tries < RETRIES_MAX) {
      entry.tries += 1;
      setTimeout(() => this.#sendAgain(entry), frame.retry_after_ms * (1 + Math.random() / 4));
      return;
    }
    this.#take(frame.id).reject(new Rejected(frame));
  }

  #take(id) {
    const entry = this.#pending.get(id);
    this.#pending.delete(id);
    return entry;
  }

  #subscribe(table) {
    const { cursor } = this.#tables.get(table);
    this.#send({ type: "subscribe", table, deliver: "views", ...(cursor === null ? {} : { cursor }) });
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #setState(state) {
    this.state = state;
    this.#onState(state);
  }
}

/** Random enough to be nobody else's; `crypto.randomUUID` is missing on plain http. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
