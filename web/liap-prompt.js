// What is awaited at a table of Liap Tui, in one sentence.

const REASONS = {
  accepted_redeal: "asked for the new deal",
  has_general_red: "holds the red General",
  won_last_turn: "won the last turn",
};

/** `You`, or the name of whoever holds the seat. */
export const nameOf = (view, seat) => (seat === view.you ? "You" : view.seats[seat].name);

/** `You win`, `Ann wins`. */
export const says = (view, seat, verb) => `${nameOf(view, seat)} ${verb}${seat === view.you ? "" : "s"}`;

/** `You, Ann and Ben`. */
export function names(view, seats) {
  const list = seats.map((seat) => nameOf(view, seat));
  return list.length < 2 ? list.join("") : `${list.slice(0, -1).join(", ")} and ${list.at(-1)}`;
}

export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** @returns {{text: string, isMine: boolean}} */
export function phasePrompt(view) {
  const isMine = view.status === "running" && view.you !== null && view.game.awaiting.includes(view.you);
  return { text: sentence(view, isMine), isMine };
}

function sentence(view, isMine) {
  const { game } = view;
  if (view.status === "ended" && game.phase !== "game_over") return "The table was left: the game is over without a winner.";
  switch (game.phase) {
    case "preparation":
      return preparation(view, isMine);
    case "round_start":
      return game.starter
        ? `${says(view, game.starter.seat, "start")} round ${game.round}: ${game.starter.seat === view.you ? youReason(game.starter.reason) : REASONS[game.starter.reason]}.`
        : `Round ${game.round} begins.`;
    case "declaration":
      return isMine ? "Your turn: how many piles will you take?" : `${names(view, game.awaiting)} declares.`;
    case "turn":
      return turn(view, isMine);
    case "turn_results":
      return turnWon(view);
    case "scoring":
      return `Round ${game.round} is over.`;
    case "game_over":
      return `The game is over: ${names(view, game.result?.winners ?? [])} won.`;
    default:
      return "Waiting for the start.";
  }
}

const youReason = (reason) => REASONS[reason].replace(/^holds/, "you hold").replace(/^(asked|won)/, "you $1");

function preparation(view, isMine) {
  const { redeal, requester, multiplier, round } = view.game;
  if (redeal) {
    if (isMine) return "Your hand is weak. Do you want a new deal?";
    const undecided = redeal.weak.filter((seat) => !redeal.decided.includes(seat));
    return `Weak hands: ${names(view, undecided)} ${undecided.length === 1 ? "decides" : "decide"} on a new deal.`;
  }
  if (requester !== null) return `New deal for ${names(view, [requester]).replace("You", "you")}: this round counts ×${multiplier}.`;
  return `Round ${round}: the pieces are dealt.`;
}

function turn(view, isMine) {
  const { game } = view;
  if (!game.awaiting.length) return turnWon(view);
  if (game.required === null) {
    return isMine ? "Your turn: lead with a set of 1 to 6 pieces." : `${names(view, game.awaiting)} leads.`;
  }
  const what = counted(game.required, "piece");
  return isMine ? `Your turn: play ${what}.` : `${names(view, game.awaiting)} plays ${what}.`;
}

function turnWon(view) {
  const { last_turn: last } = view.game;
  return last ? `${says(view, last.winner, "win")} ${counted(last.piles_won, "pile")}.` : "The turn is over.";
}
