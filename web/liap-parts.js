// What lies in the middle of a table of Liap Tui, and its scoreboard.

import { h } from "./dom.js";
import { signed } from "./liap-log.js";
import { nameOf, names } from "./liap-prompt.js";
import { pieceNode, typeName } from "./pieces.js";

/** Accept or decline a new deal, with the time that is left. */
export function redealBox(view, act, isBusy, timeLeft) {
  const { redeal } = view.game;
  if (!redeal) return null;
  const mayDecide = view.game.awaiting.includes(view.you);
  const said = redeal.own_decision;
  return h("div.redeal", { key: "redeal" },
    h("p.muted", null, "No piece above 9 points: ", names(view, redeal.weak), ". Time left: ",
      h("b", { data: { until: redeal.deadline } }, timeLeft)),
    said !== null && said !== undefined && h("p", null, said ? "You asked for a new deal." : "You keep your hand."),
    mayDecide && h("div.actions", null,
      h("button.primary", { data: { testid: "redeal-accept" }, disabled: isBusy, onclick: () => act({ type: "redeal_accept" }) }, "New deal"),
      h("button", { data: { testid: "redeal-decline" }, disabled: isBusy, onclick: () => act({ type: "redeal_decline" }) }, "Keep my hand")));
}

/** The numbers that may be declared, or what has been declared so far. */
export function declareBox(view, act, isBusy) {
  const { game } = view;
  if (game.phase !== "declaration") return null;
  const total = game.declared.reduce((sum, value) => sum + (value ?? 0), 0);
  const sum = h("p.muted", { key: "sum" }, `Declared so far: ${total} of 8 piles.`);
  if (!game.awaiting.includes(view.you)) return sum;
  const why = (value) => (value === 0 && game.zero_streaks[view.you] >= 2 ? "Not three zeros in a row" : "The four may not add up to 8");
  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...event.currentTarget.querySelectorAll("button:enabled")];
    buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length)?.focus();
    event.preventDefault();
  };
  return [sum, h("div.declare", { key: "declare", role: "group", "aria-label": "Piles to declare", onkeydown: walk },
    Array.from({ length: 9 }, (_, value) => {
      const isLegal = game.legal_declarations.includes(value);
      return h("button", { key: value, data: { testid: `declare-${value}` }, disabled: !isLegal || isBusy, title: isLegal ? null : why(value), "aria-label": `Declare ${value}`, onclick: () => act({ type: "declare", value }) }, value);
    }))];
}

/** The last complete turn, small, while the next one goes on. */
export function lastTurn(view) {
  const { last_turn: last, plays, phase, awaiting } = view.game;
  if (!last || phase !== "turn" || (!awaiting.length && !plays.length)) return null;
  return h("div.last-turn", { key: "last" },
    h("h3", null, `Turn ${last.turn}`),
    h("ul", null, last.plays.map((play) =>
      h("li", { key: play.seat, class: play.seat === last.winner ? "won" : "" },
        h("span.seat-name", null, nameOf(view, play.seat)),
        h("span.minis", null, play.pieces.map((piece) => pieceNode(piece))),
        h("span.muted", null, play.seat === last.winner ? `${typeName(play.play_type)}, takes ${last.piles_won}` : typeName(play.play_type))))));
}

/** How the round that just ended was scored. */
export function roundResult(view) {
  const { phase, scores } = view.game;
  const last = scores.at(-1);
  if (phase !== "scoring" || !last) return null;
  return h("table.round-result", { key: "round", data: { testid: "round-result" } },
    h("caption", null, `Round ${last.round}${last.multiplier > 1 ? `, ×${last.multiplier}` : ""}`),
    h("thead", null, h("tr", null, ["Seat", "Declared", "Took", "Score", "Total"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", null, view.seats.map(({ seat }) =>
      h("tr", { class: last.score[seat] > 0 ? "gain" : "loss" },
        h("th", { scope: "row" }, nameOf(view, seat)),
        [last.declared[seat], last.taken[seat], signed(last.score[seat]), last.totals[seat]].map((value) => h("td", null, value))))));
}

/** Ranking and what to do next. */
export function gameOver(view, playAgain) {
  const { result, totals, scores } = view.game;
  if (!result) return null;
  const isWin = result.winners.includes(view.you);
  return h("section.game-over", { key: "over", data: { testid: "game-over" }, "aria-label": "Game over" },
    h("h1", { data: { testid: "winner", winners: result.winners.join(",") } },
      isWin && result.winners.length === 1 ? "You win!" : `${names(view, result.winners)} ${result.winners.length > 1 ? "share the win" : "wins"}`),
    h("p.muted", null, `after ${scores.length} rounds`),
    h("ol.ranking", null, result.ranking.map((seat) =>
      h("li", { class: result.winners.includes(seat) ? "won" : "" }, h("span.seat-name", null, nameOf(view, seat)), h("b", null, totals[seat])))),
    h("div.actions", null,
      h("button.primary", { data: { testid: "play-again" }, onclick: playAgain }, view.you === null ? "Play a game" : "Play again"),
      h("a.button", { href: "/" }, "All tables")));
}

/** One row per scored round: points, and taken of declared. */
export function scoreboard(view) {
  const { scores, totals } = view.game;
  return h("section.scores", { key: "scores", data: { testid: "scoreboard" } },
    h("table", null,
      h("caption", null, "Scores"),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Round"), view.seats.map(({ seat }) => h("th", { scope: "col" }, nameOf(view, seat))))),
      h("tbody", null, scores.map(({ round, multiplier, score, taken, declared }) =>
        h("tr", { key: round },
          h("th", { scope: "row" }, round, multiplier > 1 && h("span.badge.hot", null, `×${multiplier}`)),
          score.map((points, seat) => h("td", { class: points > 0 ? "gain" : "loss" }, signed(points), h("small", { title: "Taken of declared" }, ` ${taken[seat]}/${declared[seat]}`)))))),
      h("tfoot", null, h("tr", null, h("th", { scope: "row" }, "Total"), totals.map((total, seat) => h("td", { data: { total: seat } }, total))))));
}
