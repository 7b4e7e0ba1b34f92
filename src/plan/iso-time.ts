/** The last moment a Date can hold, and with its sign the first. */
const LATEST_DATE = 8.64e15;

/** RFC 3339, of epoch ms. A forged message or journal may hold, or add up to, more than a Date can: that is cut, for it must not throw. */
export function isoTime(time: number): string {
  return new Date(Math.min(Math.max(time, -LATEST_DATE), LATEST_DATE)).toISOString();
}
