// Chess at a table: the board between two players with their clocks, the moves, and how a game can end.

import { chessBoard } from "./chess-board.js";
import { LOW_MS, clockText } from "./clock.js";
import { h } from "./dom.js";
import { nameOf, says } from "./liap-prompt.js";
import { openGame } from "./new-game.js";

const REASONS = {
  checkmate: "Checkmate",
  resignation: "Resignation",
  timeout: "Out of time",
  timeout_without_material: "Out of time, but nothing left to mate with",
  stalemate: "Stalemate",
  insufficient_material: "Nothing left to mate with",
  agreement: "Agreed",
  threefold_repetition: "The position occurred three times",
  fifty_moves: "Fifty moves without a capture or a pawn move",
  fivefold_repetition: "The position occurred five times",
  seventy_five_moves: "75 moves without a capture or a pawn move",
};
/** How long a first click on Resign waits for the second. */
const RESIGN_MS = 4000;

export function chess(context) {
  let isBusy = false;
  let isFlipped = null;
  let resignsUntil = 0;
  const board = chessBoard(context.redraw, (uci) => act({ type: "move", uci }));

  return {
    phase: ({ game }) => game.phase,
    prompt,
    status: ({ game }) => h("span", { title: "Time for each side, and what a move adds" }, timeControl(game)),
    draw(view) {
      const { game, you } = view;
      const bottom = (isFlipped ?? you === 1) ? 1 : 0;
      return h("div.chess", { key: "chess" },
        player(view, 1 - bottom),
        board.draw({
          fen: game.fen, lastMove: game.last_move, isCheck: game.is_check, isFlipped: bottom === 1,
          moves: isBusy ? [] : game.choices.filter(({ type }) => type === "move").map(({ uci }) => uci),
        }),
        player(view, bottom),
        side(view));
    },
  };

  async function act(command) {
    if (isBusy) return;
    isBusy = true;
    context.redraw();
    await context.send(command);
    isBusy = false;
    context.redraw();
  }

  async function playAgain() {
    await context.app.attempt(async () => context.app.go(`/t/${await openGame(context.app, "chess")}`));
  }

  function player(view, seat) {
    const { game, you, seats } = view;
    const { name, holder, bot_plays: isBot, present } = seats[seat];
    const isNext = game.awaiting.includes(seat);
    const { running, deadline, left_ms: left } = game.clocks;
    const isRunning = running === seat && view.status === "running";
    const leftMs = isRunning ? deadline - context.now() : left[seat];
    return h("article.chess-player", { key: `player-${seat}`, class: isNext ? "next" : "", data: { seat }, "aria-label": `${seat ? "Black" : "White"}: ${name}` },
      h("span.chess-colour", { class: seat ? "black" : "white", "aria-hidden": "true" }),
      h("span.seat-name", { title: name }, name),
      seat === you && h("span.badge", null, "you"),
      holder === "bot" && h("span.badge", null, "bot"),
      holder === "human" && isBot && h("span.badge.warn", { title: "A bot plays for this player" }, "bot plays"),
      holder === "human" && !present && !isBot && h("span.badge.warn", null, "away"),
      game.draw_offer === seat && h("span.badge.hot", null, "offers a draw"),
      h("span.top-space"),
      h("time.clock", { class: `${isRunning ? "running" : ""} ${leftMs < LOW_MS ? "low" : ""}`, role: "timer", data: { testid: `clock-${seat}`, clock: isRunning ? deadline : null } }, clockText(leftMs)));
  }

  function side(view) {
    const { text, isMine } = prompt(view);
    return h("section.chess-side", { key: "side", "aria-label": "The game" },
      view.status === "ended" ? gameOver(view) : h("p.prompt", { role: "status", class: isMine && !isBusy ? "mine" : "", data: { testid: "prompt" } }, text),
      h("div.actions", { key: "actions" }, view.status === "running" && buttons(view),
        h("button.quiet", { key: "flip", data: { testid: "flip" }, onclick: () => { isFlipped = !(isFlipped ?? view.you === 1); context.redraw(); } }, "Turn the board")),
      moveList(view.game));
  }

  function buttons({ you, game, seats }) {
    if (you === null || seats[you].bot_plays) return null;
    const may = (type) => game.choices.some((choice) => choice.type === type);
    const button = (type, label, kind = "") => h("button", { key: type, class: kind, data: { testid: type }, disabled: isBusy, onclick: () => act({ type }) }, label);
    const isSure = resignsUntil > context.now();
    return [
      may("accept_draw") && button("accept_draw", "Accept the draw", "primary"),
      may("decline_draw") && button("decline_draw", "Decline"),
      may("claim_draw") && button("claim_draw", "Claim a draw", "primary"),
      may("offer_draw") && button("offer_draw", "Offer a draw"),
      h("button", { key: "resign", class: isSure ? "danger" : "", data: { testid: "resign" }, disabled: isBusy, onclick: () => resign(isSure) }, isSure ? "Really resign?" : "Resign"),
    ];
  }

  function resign(isSure) {
    if (isSure) {
      resignsUntil = 0;
      act({ type: "resign" });
      return;
    }
    resignsUntil = context.now() + RESIGN_MS;
    setTimeout(context.redraw, RESIGN_MS + 50);
    context.redraw();
  }

  function gameOver(view) {
    const winners = view.result?.winners ?? [];
    const isWin = winners.includes(view.you);
    return h("section.game-over", { key: "over", data: { testid: "game-over" }, "aria-label": "Game over" },
      h("h1", { data: { testid: "winner", winners: winners.join(",") } }, winners.length ? `${isWin ? "You win" : says(view, winners[0], "win")}!` : view.game.result ? "A draw" : "Over"),
      h("p", { data: { testid: "reason" } }, view.game.result ? `${REASONS[view.game.result.reason]}.` : "The table was left."),
      h("div.actions", null,
        h("button.primary", { data: { testid: "play-again" }, onclick: playAgain }, view.you === null ? "Play a game" : "Play again"),
        h("a.button", { href: "/" }, "All tables")));
  }
}

/** @returns {{text: string, isMine: boolean}} */
function prompt(view) {
  const { game, you, status } = view;
  if (status !== "running") return { text: "The game is over.", isMine: false };
  const isMine = you !== null && game.choices.length > 0;
  const next = game.awaiting[0];
  if (isMine && game.draw_offer !== null && game.draw_offer !== you) {
    return { text: `${nameOf(view, game.draw_offer)} offers a draw.`, isMine };
  }
  const check = game.is_check ? "Check! " : "";
  return { text: next === you ? `${check}Your turn.` : `${check}${nameOf(view, next)} is to move.`, isMine };
}

/** `5 min + 3 s` for each move. */
function timeControl({ clocks: { initial_ms: initial, increment_ms: increment } }) {
  const start = initial % 60_000 === 0 ? `${initial / 60_000} min` : `${initial / 1000} s`;
  return increment ? `${start} + ${increment / 1000} s` : start;
}

function moveList({ moves, start_fen: start }) {
  const [, side, , , , number] = start.split(" ");
  const first = side === "b" ? ["…", ...moves] : moves;
  const rows = [];
  for (let at = 0; at < first.length; at += 2) rows.push([Number(number) + at / 2, first[at], first[at + 1]]);
  return h("div.chess-moves", { key: "moves", tabindex: 0, role: "region", "aria-label": "Moves", data: { testid: "moves", count: moves.length } },
    h("ol", null, rows.map(([turn, white, black]) =>
      h("li", { key: turn }, h("span.muted", null, `${turn}.`), h("span", null, white), h("span", null, black ?? "")))));
}
