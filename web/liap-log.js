// One line for each event of Liap Tui, and of a table's life, that people want to read.

import { counted, names, says } from "./liap-prompt.js";
import { typeName } from "./pieces.js";

/** @returns {string|null} nothing for events that the table itself shows */
export function eventLine(event, view) {
  switch (event.type) {
    case "round_started":
      return `Round ${event.round}`;
    case "weak_hands_found":
      return `Weak: ${names(view, event.seats)}`;
    case "redeal_executed":
      return `New deal for ${names(view, event.accepting)}: ×${event.multiplier}`;
    case "starter_chosen":
      return says(view, event.seat, "start");
    case "declaration_made":
      return `${says(view, event.seat, "declare")} ${event.value}`;
    case "pieces_played":
      return `${says(view, event.seat, "play")} ${counted(event.count, "piece")}`;
    case "turn_completed": {
      const best = event.plays.find(({ seat }) => seat === event.winner);
      return `${says(view, event.winner, "win")} ${counted(event.piles_won, "pile")}: ${typeName(best.play_type)}`;
    }
    case "round_scored":
      return `Round ${event.round}: ${view.seats.map(({ seat, name }) => `${name} ${signed(event.score[seat])}`).join(", ")}`;
    case "game_ended":
      return `Game over: ${names(view, event.winners)}`;
    case "table.player_away":
      return `${view.seats[event.seat].name} is away`;
    case "table.player_back":
      return `${view.seats[event.seat].name} is back`;
    case "table.seat_taken_by_bot":
      return `A bot plays for ${view.seats[event.seat].name}`;
    case "table.seat_returned":
      return `${view.seats[event.seat].name} plays again`;
    default:
      return null;
  }
}

export const signed = (number) => (number > 0 ? `+${number}` : `${number}`.replace("-", "−"));
