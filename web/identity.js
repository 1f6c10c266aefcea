// Who this browser is: a guest with a name and a token, kept between visits.

const STORE = "tablecast.guest";
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
    if (!this.#guest || expiry(this.#guest) < Date.now() + 60_000) await this.rename(this.name);
    return this.#guest.token;
  }

  /** The server did not take our token. */
  forget() {
    this.#guest = null;
    localStorage.removeItem(STORE);
  }

  /** Becomes a guest of this name: another player to the server, so seats are left behind. */
  async rename(name) {
    const wanted = name.trim() || `${pick(FIRST)} ${pick(SECOND)}`;
    const response = await fetch("/v1/guest", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: wanted }),
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
