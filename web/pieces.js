// The pieces of Liap Tui: what they are worth, which sets are plays, and how they are drawn.

import { h } from "./dom.js";

const NAMES = ["General", "Advisor", "Elephant", "Chariot", "Horse", "Cannon", "Soldier"];
const FAMILIES = [["General", "Advisor", "Elephant"], ["Chariot", "Horse", "Cannon"]];

/** By kind, in falling points. @type {Record<string, {name: string, colour: string, points: number}>} */
export const PIECES = Object.fromEntries(NAMES.flatMap((name, place) =>
  ["red", "black"].map((colour, side) =>
    [`${name}_${colour}`.toUpperCase(), { name, colour, points: 14 - 2 * place - side }])));

/** For people: `red General, 14 points`. */
export function pieceTitle(piece) {
  const { name, colour, points } = PIECES[piece];
  return `${colour} ${name}, ${points} ${points === 1 ? "point" : "points"}`;
}

export const pointsOf = (pieces) => pieces.reduce((sum, piece) => sum + PIECES[piece].points, 0);

/** The type of a set of pieces by section 8 of the rules; `INVALID` if it is none. The server judges. */
export function playType(pieces) {
  const kinds = new Set(pieces);
  const { name, colour } = PIECES[pieces[0]] ?? {};
  if (kinds.size === 1) {
    const types = name === "Soldier"
      ? ["SINGLE", "PAIR", "THREE_OF_A_KIND", "FOUR_OF_A_KIND", "FIVE_OF_A_KIND"]
      : ["SINGLE", "PAIR"];
    return types[pieces.length - 1] ?? "INVALID";
  }
  if (kinds.size !== 3 || pieces.some((piece) => PIECES[piece].colour !== colour)) return "INVALID";
  const family = FAMILIES.find((names) => names.includes(name));
  if (!family || pieces.some((piece) => !family.includes(PIECES[piece].name))) return "INVALID";
  return { 3: "STRAIGHT", 4: "EXTENDED_STRAIGHT", 5: "EXTENDED_STRAIGHT_5", 6: "DOUBLE_STRAIGHT" }[pieces.length] ?? "INVALID";
}

/** `THREE_OF_A_KIND` as people write it. */
export function typeName(type) {
  if (type === "INVALID") return "No set";
  if (type === "EXTENDED_STRAIGHT_5") return "Extended straight of 5";
  return type.charAt(0) + type.slice(1).toLowerCase().replaceAll("_", " ");
}

/** A piece, face up. Its size is the font's. */
export function pieceNode(piece, props = {}) {
  const { colour, points } = PIECES[piece];
  return h("span.piece", { role: "img", "aria-label": pieceTitle(piece), title: pieceTitle(piece), data: { face: piece }, ...props, class: `${colour} ${props.class ?? ""}` }, face(piece, points));
}

/** The button by which a piece of the own hand is chosen. */
export function handPiece(piece, { key, isChosen, isOff, onclick }) {
  const { name, colour, points } = PIECES[piece];
  return h("button.hand-piece", { key, type: "button", data: { testid: "hand-piece", piece }, "aria-pressed": String(isChosen), "aria-label": pieceTitle(piece), title: pieceTitle(piece), "aria-disabled": isOff && "true", onclick },
    h("span.piece", { class: colour }, face(piece, points)),
    h("span.piece-name", { "aria-hidden": "true" }, name));
}

/** Pieces that are face down. */
export function backs(count) {
  return Array.from({ length: count }, () => h("span.piece.back", { "aria-hidden": "true" }));
}

function face(piece, points) {
  return [
    h("svg", { "aria-hidden": "true" }, h("use", { href: `/assets/pieces.svg#${piece}` })),
    h("b", { "aria-hidden": "true" }, points),
  ];
}
