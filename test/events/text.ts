import * as fc from 'fast-check';

/** Texts of any UTF-16 units: control characters and lone surrogates among them. */
export const anyText = fc.string({
  unit: fc.nat({ max: 0xffff }).map((unit) => String.fromCharCode(unit)),
  maxLength: 200,
});
