// Draws any game: its view as a tree, its `choices` as buttons, and a box for commands. Of a relayed table, whose
// view is its state and its last commits: the state as a tree, and what happened, newest first.

import { h } from "./dom.js";

/** So many of a relayed table's commits are shown. */
const COMMITS_SHOWN = 50;

export function genericGame(context, kind) {
  let text = '{"type": ""}';

  const choices = ({ you, game }) => (you === null || !Array.isArray(game?.choices) ? [] : game.choices);

  function prompt(view) {
    const isMine = choices(view).length > 0 || game(view).awaiting?.includes(view.you) === true;
    if (view.status === "ended") return { text: ended(view), isMine: false };
    if (game(view).relayed) return { text: "This game is played elsewhere.", isMine: false };
    return { text: isMine ? "Your turn." : "Others are to move.", isMine };
  }

  const game = (view) => (typeof view.game === "object" && view.game !== null ? view.game : {});

  function ended({ result, seats }) {
    const names = (result?.winners ?? []).map((seat) => seats[seat]?.name || `Seat ${seat + 1}`);
    return names.length ? `Won by ${names.join(" and ")}.` : "Over, without a winner.";
  }

  async function submit(event) {
    event.preventDefault();
    try {
      await context.send(JSON.parse(text));
    } catch (error) {
      context.app.toast(`Not JSON: ${error.message}`);
    }
  }

  return {
    prompt,
    phase: (view) => game(view).phase ?? view.status,
    draw(view) {
      return h("section.generic", { key: "generic", "aria-label": kind },
        h("h1", null, kind),
        h("p.prompt", { role: "status", data: { testid: "prompt" } }, prompt(view).text),
        h("ol.seat-list", null, view.seats.map(({ seat, name, bot_plays: isBot, present }) =>
          h("li", { key: seat }, h("span.seat-number", null, seat + 1), h("span.seat-name", null, name || "Open seat"),
            isBot && h("span.badge", null, "bot"), !present && name && h("span.badge.warn", null, "away"), seat === view.you && h("span.badge", null, "you")))),
        h("div.actions", null, choices(view).map((command) =>
          h("button", { data: { testid: "choice" }, onclick: () => context.send(command) }, label(command)))),
        view.status === "ended" && h("p.result", { data: { testid: "game-over" } },
          h("strong", { data: { testid: "winner", winners: view.result?.winners.join(",") } }, ended(view))),
        ...(game(view).relayed ? relayed(view.game) : [tree("view", view.game, true)]),
        view.you !== null && view.status === "running" && !game(view).relayed && h("form.command", { onsubmit: submit },
          h("label.field", null, "Command ", h("textarea", { rows: 3, spellcheck: "false", oninput: (event) => { text = event.target.value; } }, text)),
          h("button", { type: "submit" }, "Send")));
    },
  };
}

function relayed({ state, your_state: own, commits, missing }) {
  const shown = commits.filter(({ events }) => events.length).slice(-COMMITS_SHOWN).reverse();
  const isShort = missing > 0 || shown.length === COMMITS_SHOWN;
  return [
    state !== undefined && tree("state", state, true),
    own !== undefined && tree("yours", own, true),
    h("ol.relayed", { reversed: true, "aria-label": "What happened", data: { testid: "commits" } }, shown.map(({ seq, events }) =>
      h("li", { key: `c${seq}`, value: seq, data: { testid: "relayed-commit", seq } }, events.map((event) => h("div", null, label(event)))))),
    isShort && h("p.muted", null, "Older commits are not shown."),
  ];
}

/** `{"type": "mark", "cell": 4}` as `mark · cell 4`. */
function label({ type, ...fields }) {
  const rest = Object.entries(fields).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`);
  return [type, ...rest].join(" · ");
}

function tree(name, value, isOpen = false) {
  if (typeof value !== "object" || value === null) {
    return h("div.leaf", null, h("span.muted", null, `${name} `), h("code", null, JSON.stringify(value)));
  }
  const entries = Object.entries(value);
  const isFlat = entries.every(([, item]) => typeof item !== "object" || item === null);
  if (Array.isArray(value) && isFlat) {
    return h("div.leaf", null, h("span.muted", null, `${name} `), h("code", null, value.map((item) => JSON.stringify(item)).join("  ") || "none"));
  }
  return h("details.branch", { open: isOpen || entries.length < 12 }, h("summary", null, name),
    entries.map(([key, item]) => tree(key, item)));
}
