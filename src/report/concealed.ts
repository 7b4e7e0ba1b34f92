/** A value that its user alone is to read. What turns it into text, such as a log, gets `shown`. */
export type Concealed<Value> = Readonly<{
  reveal: () => Value;
  toJSON: () => string;
}>;

export function concealed<Value>(value: Value, shown: string): Concealed<Value> {
  return { reveal: () => value, toJSON: () => shown };
}
