// Opens tables: how fast they go is the one thing a player chooses.

const STORE = "tablecast.pace";

/** Shares of the pauses that the rules of Liap Tui name, how long bots think, and the clocks of chess. */
export const PACES = {
  calm: { label: "calm", share: 1, bots: [500, 1500], clock: { initial_ms: 600_000, increment_ms: 5000 } },
  brisk: { label: "brisk", share: 0.4, bots: [300, 800], clock: { initial_ms: 300_000, increment_ms: 3000 } },
  blitz: { label: "no pauses", share: 0, bots: [0, 0], clock: { initial_ms: 180_000, increment_ms: 2000 } },
};
const PAUSES_MS = { deal_ms: 2000, redeal_ms: 4000, round_start_ms: 5000, turn_end_ms: 5000, turn_results_ms: 7000, scoring_ms: 7000 };

export function pace() {
  const stored = localStorage.getItem(STORE);
  return stored in PACES ? stored : "brisk";
}

export function setPace(value) {
  localStorage.setItem(STORE, value);
}

/** What a game's table is opened with at a pace; other games get their own defaults. */
const SETUPS = {
  chess: ({ clock }) => clock,
  "liap-tui": ({ share }) => ({ pauses: Object.fromEntries(Object.entries(PAUSES_MS).map(([name, ms]) => [name, Math.round(ms * share)])) }),
};

/** How long the players of a finished game may think about another one. */
const REMATCH_MS = 20_000;

/**
 * Opens a table and, if every seat is filled, starts it.
 * @param {string} kind which game
 * @param {string[]} [seats] `me`, `bot` or `open` by seat; nothing means me against bots
 * @returns {Promise<string>} the table's id
 */
export async function openGame({ connection }, kind, seats) {
  const chosen = PACES[pace()];
  const setup = SETUPS[kind]?.(chosen) ?? {};
  const options = { bot_delay_ms: chosen.bots, rematch_ms: REMATCH_MS };
  const { table } = await connection.open({ kind, setup, options, ...(seats ? { seats } : {}) });
  if (!seats?.includes("open")) await connection.command(table, { type: "table.start" });
  return table;
}
