// Starts the page: identity, connection, the top bar, and which screen is shown.

import { LOW_MS, clockText } from "./clock.js";
import { Connection } from "./connection.js";
import { drawer, h } from "./dom.js";
import { Identity } from "./identity.js";
import { lobbyScreen } from "./lobby.js";
import { tableScreen } from "./table.js";

const TOAST_MS = 6000;
/** How long a table may take to be opened that was said to come. */
const SUCCESSOR_MS = 60_000;
const $ = (id) => document.getElementById(id);

/** What the screens share. */
class App {
  identity = new Identity();
  /** The games that can be opened here: `kind`, and whether it has `bots`. */
  games = [];
  /** The table at which this player last sat, so that the lobby can lead back. */
  myTable = sessionStorage.getItem("tablecast.table");
  #leaveScreen = () => {};

  /** The table at which the players of the one before go on: it may not be there quite yet. */
  #successor = null;

  constructor() {
    this.drawTop = drawer($("top"), () => topBar(this));
    this.connection = new Connection(this.identity, (state) => this.#onConnection(state));
    addEventListener("popstate", () => this.show());
    document.addEventListener("click", (event) => this.#onClick(event));
    setInterval(() => this.#tick(), 100);
    this.show();
    this.#loadGames();
  }

  async #loadGames() {
    const response = await fetch("/v1/games").catch(() => null);
    if (response?.ok) this.games = (await response.json()).games;
    if (document.body.className === "in-lobby") this.show();
  }

  go(path) {
    history.pushState(null, "", path);
    this.show();
    $("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  /** Follows the players of a table to their next one. */
  goOn(table) {
    this.#successor = { table, until: Date.now() + SUCCESSOR_MS };
    this.go(`/t/${table}`);
  }

  isComing(table) {
    return this.#successor?.table === table && Date.now() < this.#successor.until;
  }

  show() {
    this.#leaveScreen();
    const table = /^\/t\/([\w-]+)\/?$/.exec(location.pathname)?.[1];
    document.body.className = table ? "at-table" : "in-lobby";
    document.title = "Tablecast";
    this.#leaveScreen = table ? tableScreen($("main"), this, table) : lobbyScreen($("main"), this);
    this.drawTop();
  }

  sitsAt(table) {
    if (this.myTable === table) return;
    this.myTable = table;
    if (table) sessionStorage.setItem("tablecast.table", table);
    else sessionStorage.removeItem("tablecast.table");
  }

  toast(text) {
    const toast = h("p.toast", { data: { testid: "toast" } }, text);
    $("toasts").append(toast);
    setTimeout(() => toast.remove(), TOAST_MS);
  }

  /** Runs something that may be refused, and shows why. @returns whether it went through */
  async attempt(work) {
    try {
      await work();
      return true;
    } catch (error) {
      this.toast(sentence(error.message));
      return false;
    }
  }

  #onConnection(state) {
    const banner = $("banner");
    const isOnline = state.name === "online";
    // The first try is not worth a banner.
    const isBusAway = isOnline && this.connection.isBusAway;
    banner.hidden = !isBusAway && (isOnline || (!this.wasOnline && !state.retryAt && state.name !== "closed"));
    banner.classList.toggle("calm", isBusAway);
    if (isBusAway) banner.textContent = "The games are paused for a moment. Nothing is lost; play goes on by itself.";
    else if (state.name === "closed") {
      banner.textContent = `The server ended the connection (${state.reason}). Reload the page to try again.`;
    } else banner.textContent = "Connection lost. Coming back …";
    this.wasOnline ||= isOnline;
    this.drawTop?.();
  }

  /** Links within the page change the screen and keep the connection. */
  #onClick(event) {
    const link = event.target.closest("a[href^='/']");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.go(link.getAttribute("href"));
  }

  /** Moves countdowns, clocks and pause bars. Everything else changes only with a view. */
  #tick() {
    for (const node of document.querySelectorAll("[data-until]")) {
      node.textContent = this.secondsLeft(Number(node.dataset.until));
    }
    for (const node of document.querySelectorAll("[data-clock]")) {
      const left = Number(node.dataset.clock) - this.connection.now();
      node.textContent = clockText(left);
      node.classList.toggle("low", left < LOW_MS);
    }
    for (const node of document.querySelectorAll("[data-bar]")) {
      const left = Math.max(0, Number(node.dataset.bar) - this.connection.now());
      if (node.$until !== node.dataset.bar) [node.$until, node.$span] = [node.dataset.bar, left || 1];
      node.style.transform = `scaleX(${Math.min(1, left / node.$span)})`;
    }
  }

  secondsLeft(until) {
    return `${Math.max(0, Math.ceil((until - this.connection.now()) / 1000))} s`;
  }
}

function topBar(app) {
  const state = app.connection?.state.name ?? "connecting";
  const label = { online: "Live", connecting: "Connecting", closed: "Offline" }[state];
  return [
    h("a.brand", { href: "/", "aria-label": "Tablecast: all tables" },
      h("span.brand-mark", { "aria-hidden": "true" }), h("span.brand-name", null, "Tablecast")),
    h("span.top-space"),
    h("span.live", { class: state, data: { testid: "connection" } }, h("span.dot", { "aria-hidden": "true" }), label),
    h("span.whoami", { data: { testid: "player-name" }, title: "Your name" }, app.identity.name),
  ];
}

/** Messages of the server begin in lower case and have no full stop. */
function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?)]$/.test(text) ? "" : "."}`;
}

new App();
