// One table: what all games share. The game itself is drawn by the renderer of its kind.

import { chess } from "./chess.js";
import { drawer, h } from "./dom.js";
import { genericGame } from "./generic-game.js";
import { liapTui } from "./liap-tui.js";

/**
 * Makes the renderer of a kind. `draw(view)` answers nodes, `phase(view)` a word, `onEvents(events, view)`
 * sees what happened, `prompt(view)` says what is awaited: `{text, isMine}`, `status(view)` goes beside the controls.
 */
const RENDERERS = { chess, "liap-tui": liapTui };

/** Between two looks for a table that is about to be opened. */
const COMING_MS = 500;

const GONE = {
  unknown_table: "There is no such table.",
  archived: "This game is over and in the archive.",
  too_many: "Too many tables are being followed at once.",
};

export function tableScreen(root, app, table) {
  let view = null;
  let seq = 0;
  let gone = null;
  let renderer = null;
  let copied = false;
  const draw = drawer(root, () => [screen()]);
  const context = { app, table, redraw: draw, send, now: () => app.connection.now() };

  const stop = app.connection.follow(table, onFrame);
  draw();
  return () => {
    draw.stop();
    stop();
  };

  function onFrame(frame) {
    switch (frame.type) {
      case "subscribed":
        renderer ??= (RENDERERS[frame.kind] ?? genericGame)(context, frame.kind);
        gone = null;
        break;
      case "commit":
        if (view) renderer?.onEvents?.(frame.events, view);
        break;
      case "snapshot":
        onView(frame.view, frame.seq);
        break;
      case "unsubscribed":
        if (frame.reason === "unknown_table" && app.isComing(table)) {
          setTimeout(() => app.connection.refollow(table), COMING_MS);
          break;
        }
        gone = GONE[frame.reason] ?? (frame.reason === "asked" ? gone : "The table cannot be reached. Trying again …");
        break;
    }
    draw();
  }

  function onView(next, nextSeq) {
    const wasGoingOn = view && view.status !== "ended";
    [view, seq] = [next, nextSeq];
    const goesOn = view.successor && view.you !== null && !view.seats[view.you].bot_plays;
    if (goesOn && wasGoingOn) {
      app.goOn(view.successor);
      return;
    }
    if (view.you !== null && view.status !== "ended") app.sitsAt(table);
    else if (app.myTable === table) app.sitsAt(null);
    const isMine = shown().status === "running" && renderer?.prompt?.(shown()).isMine;
    document.title = isMine ? "Your turn · Tablecast" : "Tablecast";
  }

  /** The view as a game draws it: for the game, a table that waits for a rematch is over. */
  function shown() {
    return view.rematch ? { ...view, status: "ended" } : view;
  }

  /** @returns whether the server accepted it */
  function send(command) {
    return app.attempt(() => app.connection.command(table, command));
  }

  async function changeSeat(command) {
    // Who we are at the table decides what we may see.
    if (await send(command)) app.connection.refollow(table);
  }

  async function leave() {
    await send({ type: "table.leave" });
    app.sitsAt(null);
    app.go("/");
  }

  async function share() {
    try {
      if (matchMedia("(pointer: coarse)").matches && navigator.share) {
        await navigator.share({ title: "Tablecast", url: location.href });
        return;
      }
      await navigator.clipboard.writeText(location.href);
      copied = true;
      setTimeout(() => { copied = false; draw(); }, 2000);
    } catch {
      app.toast(`The address of this table: ${location.href}`);
    }
    draw();
  }

  function screen() {
    if (gone && !view) {
      return h("section.gone", { key: "gone" }, h("p", { data: { testid: "gone" } }, gone), h("a.button", { href: "/" }, "All tables"));
    }
    if (!view || !renderer) return h("p.loading", { key: "loading" }, "Coming to the table …");
    const phase = view.status === "running" || view.status === "ended" ? renderer.phase(shown()) : view.status;
    return h("section.table", {
      key: "table", "aria-label": "Table",
      data: { testid: "table", phase, seq, status: view.status, you: view.you ?? "spectator" },
    },
      controls(),
      rematchBar(),
      view.status === "waiting" ? waitingRoom() : renderer.draw(shown()),
      h("footer.foot", null, h("span", { data: { testid: "seq" } }, `#${seq}`), view.you === null ? "You are watching" : `You sit in seat ${view.you + 1}`));
  }

  function controls() {
    const me = view.you === null ? null : view.seats[view.you];
    const isRunning = view.status === "running";
    return h("div.controls", { key: "controls" },
      view.status !== "waiting" && renderer.status?.(shown()),
      h("span.top-space"),
      gone && h("span.notice", { role: "status" }, gone),
      me && isRunning && me.bot_plays && h("button.primary", { data: { testid: "return" }, onclick: () => changeSeat({ type: "table.sit", seat: view.you }) }, "Take your seat back"),
      view.you === null && h("span.badge", { data: { testid: "spectator" } }, "watching"),
      h("button.quiet", { data: { testid: "share" }, onclick: share }, copied ? "Copied" : "Share"),
      me && view.status !== "ended" && !me.bot_plays && !view.game?.relayed && h("button.quiet", { data: { testid: "leave" }, onclick: leave }, "Leave"));
  }

  function rematchBar() {
    const { rematch, successor, you, seats } = view;
    if (successor) {
      return h("p.notice", { key: "rematch" }, "They play again. ",
        h("a.button.primary", { href: `/t/${successor}`, data: { testid: "successor" } }, you === null ? "Watch the next game" : "To the next game"));
    }
    if (!rematch) return null;
    const wanted = rematch.wanted.filter((seat) => seat !== you).map((seat) => seats[seat].name);
    const isWanted = rematch.wanted.includes(you);
    const who = wanted.length ? `${wanted.join(" and ")} ${wanted.length > 1 ? "want" : "wants"} to play again. ` : "";
    const wait = isWanted ? "Waiting for the others … " : "";
    return h("p.notice", { key: "rematch", role: "status", data: { testid: "rematch-bar", wanted: rematch.wanted.join(",") } },
      h("span", null, who || wait ? who + wait : "The game is over. "),
      h("span.muted", { "aria-hidden": "true", data: { until: rematch.until } }, app.secondsLeft(rematch.until)),
      you !== null && !isWanted && h("button.primary", { data: { testid: "rematch" }, onclick: () => send({ type: "table.rematch" }) }, "Rematch"));
  }

  function waitingRoom() {
    const isHost = view.host !== null && view.host === view.you;
    const isFull = view.seats.every(({ holder }) => holder !== "open");
    const canSit = view.you === null && view.seats.some(({ holder }) => holder !== "human");
    const prompt = isHost
      ? (isFull ? "All seats are filled: start when you like." : "Share this page, or seat bots, then start.")
      : (view.start === "when_full" ? "The game starts when all seats are filled." : "Waiting for the host to start.");
    return h("section.waiting", { key: "waiting", "aria-label": "Seats" },
      h("h1", null, "Before the game"),
      h("p.prompt", { role: "status", data: { testid: "prompt" } }, prompt),
      h("ol.seat-list", null, view.seats.map((seat) => seatRow(seat, isHost))),
      h("div.actions", null,
        isHost && h("button.primary", { data: { testid: "start" }, disabled: !isFull, onclick: () => send({ type: "table.start" }) }, "Start"),
        canSit && h("button.primary", { data: { testid: "sit" }, onclick: () => changeSeat({ type: "table.sit" }) }, "Take a seat")));
  }

  function seatRow({ seat, holder, name, present }, isHost) {
    const mayChange = isHost && seat !== view.you;
    return h("li", { key: seat, class: holder },
      h("span.seat-number", { "aria-hidden": "true" }, seat + 1),
      h("span.seat-name", null, holder === "open" ? "Open seat" : name),
      seat === view.host && h("span.badge", null, "host"),
      seat === view.you && h("span.badge", null, "you"),
      holder === "bot" && h("span.badge", null, "bot"),
      holder === "human" && !present && h("span.badge.warn", null, "away"),
      h("span.top-space"),
      mayChange && holder === "open" && h("button.quiet", { data: { testid: `add-bot-${seat}` }, onclick: () => send({ type: "table.add_bot", seat }) }, "Seat a bot"),
      mayChange && holder !== "open" && h("button.quiet", { data: { testid: `remove-${seat}` }, onclick: () => send({ type: "table.remove_player", seat }) }, "Remove"));
  }
}
