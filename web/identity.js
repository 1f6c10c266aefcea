// Who this browser is: a guest with a name and a token, kept between visits.

const STORE = "tablecast.guest";
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const FIRST = ["Amber", "Calm", "Clever", "Jade", "Lucky", "Quiet", "Red", "Silver", "Swift", "Wise"];
const SECOND = ["Advisor", "Cannon", "Carp", "Chariot", "Crane", "Elephant", "Fox", "Heron", "Horse", "Tiger"];

const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** @typedef {{token: string, player: string, name: string, expires_at: number|string}} Guest */

export class Identity {
  /** @type {Guest|null} */
  #guest = read();

  get name() {
    return this.#guest?.name ?? "";
  }

  get player() {
    return this.#guest?.player ?? null;
  }

  /** A token that has not run out, from the server if need be. */
  async token() {
    if (!this.#guest || expiry(this.#guest) < Date.now()) await this.rename(this.name);
    else if (expiry(this.#guest) < Date.now() + DAY_MS) await this.#renew();
    return this.#guest.token;
  }

  /** When the token is to be renewed over the open connection. */
  get renewAt() {
    return this.#guest ? expiry(this.#guest) - 5 * MINUTE_MS : Infinity;
  }

  /** Stays the same player with a token that is good for longer; if that fails, the old one has some time left. */
  async #renew() {
    const { name, token } = this.#guest;
    await this.#ask({ name, token }).catch((error) => console.warn("tablecast:", error.message));
  }

  /** The server did not take our token. */
  forget() {
    this.#guest = null;
    localStorage.removeItem(STORE);
  }

  /** Becomes a guest of this name: another player to the server, so seats are left behind. */
  async rename(name) {
    await this.#ask({ name: name.trim() || `${pick(FIRST)} ${pick(SECOND)}` });
  }

  async #ask(wish) {
    const response = await fetch("/v1/guest", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(wish),
    });
    if (!response.ok) throw new Error(await reason(response));
    this.#guest = await response.json();
    localStorage.setItem(STORE, JSON.stringify(this.#guest));
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORE));
  } catch {
    return null;
  }
}

function expiry({ expires_at: at }) {
  const time = typeof at === "number" ? at : Date.parse(at);
  return time < 1e12 ? time * 1000 : time;
}

async function reason(response) {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return body.message ?? text;
  } catch {
    return text || `the server answered ${response.status}`;
  }
}
