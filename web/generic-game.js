// Draws any game: its view as a tree, its `choices` as buttons, and a box for commands.

import { h } from "./dom.js";

export function genericGame(context, kind) {
  let text = '{"type": ""}';

  const choices = ({ you, game }) => (you === null || !Array.isArray(game?.choices) ? [] : game.choices);

  function prompt(view) {
    const isMine = choices(view).length > 0 || game(view).awaiting?.includes(view.you) === true;
    if (view.status === "ended") return { text: ended(view), isMine: false };
    return { text: isMine ? "Your turn." : "Others are to move.", isMine };
  }

  const game = (view) => (typeof view.game === "object" && view.game !== null ? view.game : {});

  function ended({ result, seats }) {
    const names = (result?.winners ?? []).map((seat) => seats[seat].name);
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
        tree("view", view.game, true),
        view.you !== null && view.status === "running" && h("form.command", { onsubmit: submit },
          h("label.field", null, "Command ", h("textarea", { rows: 3, spellcheck: "false", oninput: (event) => { text = event.target.value; } }, text)),
          h("button", { type: "submit" }, "Send")));
    },
  };
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
