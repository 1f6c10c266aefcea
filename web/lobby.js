// The list of tables, the name, and the way to a new game.

import { drawer, h } from "./dom.js";
import { PACES, openGame, pace, setPace } from "./new-game.js";
import { pieceNode } from "./pieces.js";

const HERO = ["GENERAL_RED", "CHARIOT_BLACK", "HORSE_RED", "CANNON_BLACK", "SOLDIER_RED"];
const KIND_NAMES = { chess: "Chess", "liap-tui": "Liap Tui" };
/** What the buttons of a game say, and who sits where when a friend is invited. */
const OFFERS = { chess: { alone: "Chess against a bot", together: "Chess with a friend", seats: ["me", "open"] } };

export function lobbyScreen(root, app) {
  let tables = null;
  let isBusy = false;
  let isNaming = false;
  const draw = drawer(root, () => [hero(), returnCard(), list("Being played", "running"), list("Waiting for players", "waiting"), empty()]);

  const stop = app.connection.watchLobby((entries) => {
    tables = entries;
    draw();
  });
  draw();
  return () => {
    draw.stop();
    stop();
  };

  async function during(work) {
    if (isBusy) return;
    isBusy = true;
    draw();
    await app.attempt(work);
    isBusy = false;
    draw();
  }

  function newGame(kind, seats) {
    during(async () => app.go(`/t/${await openGame(app, kind, seats)}`));
  }

  function sit(table) {
    during(async () => {
      await app.connection.command(table, { type: "table.sit" });
      app.go(`/t/${table}`);
    });
  }

  function rename(event) {
    event.preventDefault();
    const name = new FormData(event.target).get("name");
    during(async () => {
      await app.identity.rename(name);
      isNaming = false;
      app.drawTop();
      app.connection.restart();
    });
  }

  function hero() {
    // Until the list is here, the game that comes with Tablecast is likely among it.
    const hasLiapTui = !app.games.length || app.games.some(({ kind }) => kind === "liap-tui");
    const others = app.games.filter(({ kind }) => kind !== "liap-tui");
    return h("section.hero", { key: "hero", "aria-labelledby": "hero-title" },
      h("div.hero-pieces", { "aria-hidden": "true" }, HERO.map((piece) => pieceNode(piece))),
      h("h1", { id: "hero-title" }, hasLiapTui ? "Liap Tui" : "Tables"),
      hasLiapTui && h("p.lead", null, "Say how many piles you will take, then take exactly that many. Four seats, 32 pieces, first to 50."),
      h("div.actions", null,
        hasLiapTui && h("button.primary", { data: { testid: "new-game" }, disabled: isBusy, onclick: () => newGame("liap-tui") }, "New game against bots"),
        hasLiapTui && h("button", { data: { testid: "new-table" }, disabled: isBusy, onclick: () => newGame("liap-tui", ["me", "open", "open", "open"]) }, "Invite friends"),
        others.map(({ kind, bots }) => [
          h("button", { key: kind, data: { testid: "new-other", kind }, disabled: isBusy || !bots, onclick: () => newGame(kind) }, OFFERS[kind]?.alone ?? `New ${kind}`),
          OFFERS[kind] && h("button", { key: `${kind}-invite`, data: { testid: "invite-other", kind }, disabled: isBusy, onclick: () => newGame(kind, OFFERS[kind].seats) }, OFFERS[kind].together),
        ]),
        h("label.field", null, "Pace ",
          h("select", { data: { testid: "pace" }, onchange: (event) => setPace(event.target.value) },
            Object.entries(PACES).map(([value, { label }]) => h("option", { value, selected: value === pace() }, label))))),
      nameForm());
  }

  function nameForm() {
    if (!isNaming) {
      return h("p.name", { key: "name" }, "You play as ", h("strong", null, app.identity.name || "…"), " ",
        !myGame() && h("button.link", { data: { testid: "rename" }, onclick: () => { isNaming = true; draw(); } }, "Change name"));
    }
    return h("form.name", { key: "name-form", onsubmit: rename },
      h("label.field", null, "Your name ",
        h("input", { name: "name", value: app.identity.name, maxlength: 24, required: true, autocomplete: "nickname", data: { testid: "name-input" } })),
      h("button", { type: "submit", disabled: isBusy }, "Save"));
  }

  /** The running table at which this player sits; under another name the seat would be lost. */
  function myGame() {
    return tables?.find(({ table, status }) => table === app.myTable && status === "running");
  }

  function returnCard() {
    const mine = myGame();
    return mine && h("p.notice", { key: "return" }, "Your game is going on. ", h("a.button.primary", { href: `/t/${mine.table}` }, "Back to your seat"));
  }

  function list(title, status) {
    const entries = tables?.filter((entry) => entry.status === status) ?? [];
    if (!entries.length) return null;
    return h("section.tables", { key: status, "aria-label": title },
      h("h2", null, title, " ", h("span.count", null, entries.length)),
      h("ul", null, entries.map(row)));
  }

  function row({ table, kind, status, seats }) {
    const people = seats.filter(({ name, bot }) => name && !bot).length;
    const kindName = KIND_NAMES[kind] ?? kind;
    return h("li.table-row", { key: table, data: { testid: "table-row", table, status } },
      h("div.table-what", null,
        h("strong", null, kindName), h("span.muted", null, ` #${table.slice(-4)}`),
        people ? null : h("span.badge", null, "bots")),
      h("ol.table-who", { "aria-label": "Seats" }, seats.map(({ name, bot }) =>
        h("li", { class: name ? (bot ? "bot" : "human") : "open" }, name || "open seat"))),
      status === "waiting"
        ? h("button.primary", { data: { testid: "sit" }, disabled: isBusy, "aria-label": `Take a seat at ${kindName} #${table.slice(-4)}`, onclick: () => sit(table) }, "Take a seat")
        : h("a.button", { href: `/t/${table}`, data: { testid: "watch" }, "aria-label": `Watch ${kindName} #${table.slice(-4)}` }, "Watch"));
  }

  function empty() {
    if (tables === null) return h("p.loading", { key: "empty" }, "Looking for tables …");
    if (tables.length) return null;
    return h("p.empty", { key: "empty", data: { testid: "empty" } }, "No table is open. Start a game: bots are ready to play.");
  }
}
