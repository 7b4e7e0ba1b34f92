/** Of Leases and events: six decimals, and nothing else. */
export function microTime(at: number): string {
  return new Date(at).toISOString().replace('Z', '000Z');
}
