import { worded, type ObjectEvents, type ToldEvent } from '../../../src/report/object-events.ts';

/** Keeps all that is told. */
export class FakeObjectEvents implements ObjectEvents {
  readonly told: ToldEvent[] = [];
  readonly onNode: ObjectEvents['onNode'];
  readonly onPod: ObjectEvents['onPod'];

  constructor() {
    const events = worded((event) => this.told.push(event));
    this.onNode = (...args) => events.onNode(...args);
    this.onPod = (...args) => events.onPod(...args);
  }

  /** Notes of that reason, oldest first. */
  notes(reason: ToldEvent['reason']): readonly string[] {
    return this.told.flatMap((event) => (event.reason === reason ? [event.note] : []));
  }
}
