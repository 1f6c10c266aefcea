// The board of chess: pieces, the chosen square, where it may go, and what a pawn becomes.

import { h } from "./dom.js";

const FILES = "abcdefgh";
const NAMES = { p: "pawn", n: "knight", b: "bishop", r: "rook", q: "queen", k: "king" };

/** `{e1: {kind: "k", isWhite: true}, …}` */
export function piecesOf(fen) {
  const pieces = {};
  fen.split(" ")[0].split("/").forEach((row, down) => {
    let file = 0;
    for (const letter of row) {
      if (/\d/.test(letter)) {
        file += Number(letter);
        continue;
      }
      const kind = letter.toLowerCase();
      pieces[FILES[file] + (8 - down)] = { kind, isWhite: letter !== kind };
      file += 1;
    }
  });
  return pieces;
}

/** @param {(uci: string) => void} onMove a move that the server offered */
export function chessBoard(redraw, onMove) {
  let from = null;
  /** A move that lacks its piece, as in `e7e8`. */
  let promoting = null;
  /** Where the keyboard is; one stop of the Tab key for all squares. */
  let cursor = "e2";
  let last = "";

  return {
    /** @param {{fen: string, moves: string[], lastMove: string|null, isCheck: boolean, isFlipped: boolean}} shown */
    draw(shown) {
      if (shown.fen !== last) [from, promoting, last] = [null, null, shown.fen];
      // Nothing to choose: it is not our turn any more.
      if (from && !shown.moves.some((uci) => uci.startsWith(from))) from = promoting = null;
      const pieces = piecesOf(shown.fen);
      const ranks = shown.isFlipped ? [1, 2, 3, 4, 5, 6, 7, 8] : [8, 7, 6, 5, 4, 3, 2, 1];
      const files = shown.isFlipped ? [...FILES].reverse() : [...FILES];
      const squares = ranks.flatMap((rank) => files.map((file) => file + rank));
      return h("div.chess-frame", { key: "board" },
        h("div.chess-board", { role: "group", "aria-label": "Board: arrow keys move, Enter chooses", onkeydown: (event) => walk(event, squares), data: { testid: "board" } },
          squares.map((square, place) => squareNode(square, place, shown, pieces))),
        promoting && chooser(shown, pieces));
    },
  };

  function squareNode(square, place, { moves, lastMove, isCheck, fen }, pieces) {
    const piece = pieces[square];
    const isDark = (FILES.indexOf(square[0]) + Number(square[1])) % 2 === 1;
    const isGoal = from !== null && moves.some((uci) => uci.startsWith(from + square));
    const mayMove = moves.some((uci) => uci.startsWith(square));
    const isKingInCheck = isCheck && piece?.kind === "k" && piece.isWhite === (fen.split(" ")[1] === "w");
    const states = [
      isDark ? "dark" : "light",
      square === from && "chosen",
      isGoal && (piece ? "goal taken" : "goal"),
      lastMove && (lastMove.startsWith(square) || lastMove.slice(2, 4) === square) && "last",
      isKingInCheck && "check",
      mayMove && "mine",
    ].filter(Boolean).join(" ");
    const name = piece ? `${piece.isWhite ? "white" : "black"} ${NAMES[piece.kind]}` : "empty";
    return h("button.square", {
      key: square, type: "button", class: states, tabindex: square === cursor ? 0 : -1,
      "aria-label": `${square}, ${name}${isGoal ? ", can be moved to" : ""}`,
      "aria-pressed": square === from ? "true" : null,
      data: { square, testid: "square", piece: piece && (piece.isWhite ? piece.kind.toUpperCase() : piece.kind) },
      onclick: () => click(square, moves),
    },
      place % 8 === 0 && h("span.coord.rank", { "aria-hidden": "true" }, square[1]),
      place >= 56 && h("span.coord.file", { "aria-hidden": "true" }, square[0]),
      piece && pieceNode(piece));
  }

  function click(square, moves) {
    cursor = square;
    const named = moves.filter((uci) => from !== null && uci.startsWith(from + square));
    promoting = null;
    if (named.length > 1) promoting = from + square;
    else if (named.length === 1) {
      from = null;
      onMove(named[0]);
    } else {
      from = square !== from && moves.some((uci) => uci.startsWith(square)) ? square : null;
    }
    redraw();
  }

  function chooser({ moves }, pieces) {
    const { isWhite } = pieces[promoting.slice(0, 2)];
    const named = moves.filter((uci) => uci.startsWith(promoting));
    return h("div.promotion", { key: "promotion", role: "group", "aria-label": "What the pawn becomes", onkeydown: cancel },
      ["q", "r", "b", "n"].map((kind) => promoting + kind).filter((uci) => named.includes(uci)).map((uci) =>
        h("button", { key: uci, type: "button", "aria-label": NAMES[uci[4]], data: { testid: `promote-${uci[4]}` }, onclick: () => { from = promoting = null; onMove(uci); redraw(); } },
          pieceNode({ kind: uci[4], isWhite }))));
  }

  function cancel(event) {
    if (event.key !== "Escape") return;
    from = promoting = null;
    redraw();
  }

  function walk(event, squares) {
    cancel(event);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = squares.indexOf(cursor);
    const next = at + step;
    const isOff = next < 0 || next > 63 || (Math.abs(step) === 1 && Math.floor(next / 8) !== Math.floor(at / 8));
    if (isOff) return;
    cursor = squares[next];
    event.currentTarget.children[next].focus();
    redraw();
  }
}

function pieceNode({ kind, isWhite }) {
  return h("svg", { key: `${kind}${isWhite}`, "aria-hidden": "true", class: `chess-piece ${isWhite ? "white" : "black"}` },
    h("use", { href: `/assets/chess-pieces.svg#${kind}` }));
}
