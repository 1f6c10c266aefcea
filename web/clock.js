// Time as chess clocks show it.

/** Below this a clock counts in tenths, and warns. */
export const LOW_MS = 20_000;

/** `4:59`; under 20 s `0:09.4`; from an hour on `1:02:30`. */
export function clockText(leftMs) {
  const left = Math.max(0, leftMs);
  if (left < LOW_MS) {
    const tenths = Math.floor(left / 100);
    return `0:${String(Math.floor(tenths / 10)).padStart(2, "0")}.${tenths % 10}`;
  }
  const seconds = Math.floor(left / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const tail = String(seconds % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}
