// Liap Tui at a table: the four seats, what lies in the middle, and the own hand.

import { h } from "./dom.js";
import { declareBox, gameOver, lastTurn, redealBox, roundResult, scoreboard } from "./liap-parts.js";
import { eventLine } from "./liap-log.js";
import { phasePrompt } from "./liap-prompt.js";
import { openGame } from "./new-game.js";
import { PIECES, backs, handPiece, pieceNode, playType, pointsOf, typeName } from "./pieces.js";

const LOG_LINES = 40;
/** Where a seat is drawn, counted from the viewer's own: play goes round with the clock. */
const PLACES = ["me", "left", "across", "right"];

export function liapTui(context) {
  /** Chosen pieces of the own hand: `SOLDIER_RED#1` is the second red Soldier. @type {Set<string>} */
  const chosen = new Set();
  const log = [];
  let lines = 0;
  let isBusy = false;
  let order = "points";

  return {
    phase: ({ game }) => game.phase,
    prompt: phasePrompt,
    status,
    onEvents(events, view) {
      for (const event of events) {
        const text = eventLine(event, view);
        if (text) log.unshift({ text, key: (lines += 1) });
      }
      log.length = Math.min(log.length, LOG_LINES);
    },
    draw(view) {
      const hand = sortedHand(view.game);
      forgetPlayed(hand);
      return [
        h("div.board", { key: "board" },
          view.seats.map((_, step) => seatPanel(view, ((view.you ?? 0) + step) % 4, PLACES[step])),
          middle(view)),
        hand.length > 0 && handPanel(view, hand),
        h("div.records", { key: "records" }, scoreboard(view), logPanel()),
      ];
    },
  };

  async function act(command) {
    if (isBusy) return;
    isBusy = true;
    context.redraw();
    const isAccepted = await context.send(command);
    isBusy = false;
    context.redraw();
    return isAccepted;
  }

  async function play(pieces) {
    const keys = [...chosen];
    // At once: of two equal pieces the one that stays must not look chosen.
    chosen.clear();
    if (!await act({ type: "play", pieces })) keys.forEach((key) => chosen.add(key));
  }

  async function playAgain() {
    await context.app.attempt(async () => context.app.go(`/t/${await openGame(context.app)}`));
  }

  function status({ game }) {
    return [
      h("span", null, "Round ", h("b", null, game.round)),
      game.turn > 0 && h("span", null, "Turn ", h("b", null, game.turn)),
      game.multiplier > 1 && h("span.badge.hot", { data: { testid: "multiplier" }, title: "Points of this round are multiplied" }, `×${game.multiplier}`),
      h("span.muted.target", null, `to ${game.target}`),
    ];
  }

  function seatPanel({ seats, game, you, host }, seat, place) {
    const { name, bot_plays: isBot, holder, present } = seats[seat];
    const shown = shownPlay(game, seat);
    const declared = game.declared[seat];
    const isNext = game.awaiting.includes(seat);
    const state = declared === null ? "" : game.piles[seat] === declared ? "exact" : game.piles[seat] > declared ? "over" : "";
    return h(`article.seat.${place}`, { key: `seat-${seat}`, class: `${isNext ? "next" : ""} ${shown.isWinner ? "won" : ""}`, data: { seat }, "aria-label": `Seat ${seat + 1}: ${name}` },
      h("header", null,
        h("span.seat-name", { title: name }, name),
        seat === you && h("span.badge", null, "you"),
        holder === "bot" && h("span.badge", null, "bot"),
        holder === "human" && isBot && h("span.badge.warn", { title: "A bot plays for this player" }, "bot plays"),
        holder === "human" && !present && !isBot && h("span.badge.warn", null, "away"),
        seat === host && holder === "human" && seat !== you && h("span.badge", null, "host"),
        game.starter?.seat === seat && h("span.badge.first", { title: "Starts the round" }, "1st")),
      h("dl.facts", null,
        fact("Piles", h("span", { class: state, title: "Taken of declared" }, `${game.piles[seat]}/${declared ?? "–"}`)),
        fact("Hand", h("span", { data: { testid: "hand-size" } }, game.hand_sizes[seat])),
        fact("Score", h("span", { data: { testid: "total", seat } }, game.totals[seat]))),
      h("div.play", null, shown.nodes,
        shown.label && h("span.play-type", { class: shown.isWinner ? "won" : "" }, shown.label)));
  }

  function middle(view) {
    const { game } = view;
    const { text, isMine } = phasePrompt(view);
    return h("section.middle", { key: "middle", "aria-label": "What is going on" },
      h("p.prompt", { role: "status", class: isMine && !isBusy ? "mine" : "", data: { testid: "prompt" } }, text),
      game.until && view.status === "running" && h("div.pause", { key: "pause", "aria-hidden": "true" }, h("i", { data: { bar: game.until } })),
      redealBox(view, act, isBusy, context.app.secondsLeft(view.game.redeal?.deadline)),
      declareBox(view, act, isBusy),
      roundResult(view),
      game.phase === "game_over" && gameOver(view, playAgain),
      lastTurn(view));
  }

  /** What lies before a seat: the turn in progress, or the last one while it is being looked at. */
  function shownPlay(game, seat) {
    const isOver = game.plays.length === 0 && (game.phase === "turn_results" || (game.phase === "turn" && game.awaiting.length === 0));
    if (isOver && game.last_turn) {
      const play = game.last_turn.plays.find((each) => each.seat === seat);
      const isWinner = game.last_turn.winner === seat;
      const lead = game.last_turn.plays[0].play_type;
      const isOut = play.play_type !== lead;
      const nodes = play.pieces.map((piece, place) => pieceNode(piece, { key: `up-${place}`, class: isOut ? "dim" : "" }));
      return { nodes, isWinner, label: playLabel(play) };
    }
    const play = game.plays.find((each) => each.seat === seat);
    if (!play) return { nodes: [] };
    if (!play.pieces) return { nodes: [h("span.face-down", { key: "down", role: "img", "aria-label": `${play.count} face down` }, backs(play.count))] };
    return { nodes: play.pieces.map((piece, place) => pieceNode(piece, { key: `own-${place}` })), label: playLabel(play) };
  }

  function handPanel(view, hand) {
    const { game, you } = view;
    const isMyPlay = game.phase === "turn" && game.awaiting.includes(you);
    const pieces = hand.filter(({ key }) => chosen.has(key)).map(({ piece }) => piece);
    const { text, mayPlay } = judge(game, pieces);
    return h("section.hand", { key: "hand", "aria-label": "Your hand", class: isMyPlay ? "mine" : "" },
      h("div.hand-pieces", { role: "group", "aria-label": "Your pieces", onkeydown: moveFocus },
        hand.map(({ key, piece }) => handPiece(piece, { key, isChosen: chosen.has(key), onclick: () => toggle(key) }))),
      h("div.hand-bar", null,
        h("p.hint", { data: { testid: "hint" }, "aria-live": "polite" }, isMyPlay || pieces.length ? text : "Your hand"),
        h("button.quiet", { data: { testid: "sort" }, title: "Change the order of the pieces", onclick: () => { order = order === "points" ? "sets" : "points"; context.redraw(); } }, order === "points" ? "Sort by sets" : "Sort by points"),
        game.phase === "turn" && h("button.primary", { key: "play", data: { testid: "play" }, disabled: !isMyPlay || !mayPlay || isBusy, onclick: () => play(pieces) }, pieces.length ? `Play ${pieces.length}` : "Play")));
  }

  /** A hint only: the server judges. */
  function judge(game, pieces) {
    const type = pieces.length ? playType(pieces) : null;
    const what = type && `${typeName(type)} · ${pointsOf(pieces)} ${pointsOf(pieces) === 1 ? "point" : "points"}`;
    if (game.required === null) {
      if (!type) return { text: "Choose 1 to 6 pieces that make a set.", mayPlay: false };
      const mayPlay = type !== "INVALID";
      return { text: mayPlay ? what : "Not a set: cannot lead.", mayPlay };
    }
    const missing = game.required - pieces.length;
    if (missing > 0) return { text: `Choose ${missing}${pieces.length ? " more" : ""}.${type ? ` Now: ${typeName(type)}.` : ""}`, mayPlay: false };
    if (missing < 0) return { text: `${-missing} too many: play exactly ${game.required}.`, mayPlay: false };
    return { text: type === "INVALID" ? "Not a set: cannot win." : what, mayPlay: true };
  }

  function toggle(key) {
    if (!chosen.delete(key)) chosen.add(key);
    context.redraw();
  }

  /** Arrows walk along the hand; digits choose. Only while the hand has the focus. */
  function moveFocus(event) {
    const buttons = [...event.currentTarget.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) buttons[(at + step + buttons.length) % buttons.length]?.focus();
    else if (/^[1-8]$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) buttons[event.key - 1]?.click();
    else return;
    event.preventDefault();
  }

  function sortedHand({ hand }) {
    const seen = {};
    const keyed = (hand ?? []).map((piece) => {
      seen[piece] = (seen[piece] ?? -1) + 1;
      return { piece, key: `${piece}#${seen[piece]}` };
    });
    const rank = ({ piece }) => {
      const { name, colour, points } = PIECES[piece];
      if (order === "points") return -points;
      const family = { Soldier: 2, Chariot: 1, Horse: 1, Cannon: 1 }[name] ?? 0;
      return (colour === "red" ? 0 : 100) + family * 20 - points;
    };
    return keyed.sort((a, b) => rank(a) - rank(b));
  }

  function forgetPlayed(hand) {
    const held = new Set(hand.map(({ key }) => key));
    for (const key of chosen) if (!held.has(key)) chosen.delete(key);
  }

  function logPanel() {
    return h("section.log", { key: "log", "aria-label": "What happened" },
      h("h2", null, "What happened"),
      h("ol", null, log.map(({ text, key }) => h("li", { key }, text))));
  }
}

/** `Pair · 16`: the strength by which plays of a type are compared. */
function playLabel({ play_type: type, strength }) {
  return strength > 0 ? `${typeName(type)} · ${strength}` : typeName(type);
}

function fact(name, value) {
  return h("div", null, h("dt", null, name), h("dd", null, value));
}
