import { describe, expect, onTestFinished, test } from 'vitest';
import type { Term } from '../../src/election/election.ts';
import { beginFresh } from '../../src/election/fresh-term.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

/** A replica that has won the Lease; its watch last spoke so long ago. */
async function win(silentMs: number) {
  const outside = new Outside();
  outside.cluster.addNode('node-1');
  const { nodes, clock, report } = outside.connect();
  const speakAgain = nodes.silence();
  await clock.advance(silentMs);
  const ends: string[] = [];
  /** Names of the Nodes known when the term began. */
  const begun: (readonly string[])[] = [];
  const begin = (): Term => {
    begun.push([...nodes.all()].map(({ name }) => name));
    return {
      end: () => Promise.resolve(void ends.push('ended')),
      cut: () => Promise.resolve(void ends.push('cut')),
    };
  };
  onTestFinished(() => expect(clock.pending()).toEqual([]));
  return {
    cluster: outside.cluster,
    nodes,
    clock,
    report,
    begun,
    ends,
    speakAgain,
    beginTerm: () => beginFresh({ view: nodes, clock, report }, begin),
  };
}

describe('a term', () => {
  test('begins at once where the watch has just spoken', async () => {
    const { beginTerm, begun, nodes } = await win(2000);
    beginTerm();
    expect(begun).toEqual([['node-1']]);
    expect(nodes.refreshes.count).toBe(0);
  });

  test('begins with all there is where the watch has been silent', async () => {
    const { beginTerm, begun, cluster, clock, nodes, report } = await win(60_000);
    cluster.addNode('node-2');
    beginTerm();
    expect(begun).toEqual([]);
    await clock.advance(1000);
    expect(begun).toEqual([['node-1', 'node-2']]);
    expect(nodes.refreshes.count).toBe(1);
    expect(report.told('looking at the nodes anew')).toEqual([{ silentSeconds: 60 }]);
    expect(report.told('nodes perhaps out of date')).toEqual([]);
  });

  test('asks again for what there is, and begins without it after ten seconds', async () => {
    const { beginTerm, begun, clock, nodes, report } = await win(60_000);
    nodes.refreshes.answerBy(() => {
      throw new Error('429');
    });
    beginTerm();
    await clock.advance(9900);
    expect(begun).toEqual([]);
    expect(nodes.refreshes.count).toBeGreaterThan(5);
    await clock.advance(200);
    expect(begun).toEqual([['node-1']]);
    expect(report.told('nodes perhaps out of date')).toHaveLength(1);
  });

  test('begins without it where no answer comes at all', async () => {
    const { beginTerm, begun, clock, nodes } = await win(60_000);
    nodes.refreshes.hold();
    beginTerm();
    await clock.advance(10_100);
    expect(begun).toEqual([['node-1']]);
  });

  test.each(['end', 'cut'] as const)('never begins after its %s', async (how) => {
    const { beginTerm, begun, ends, clock, nodes, report } = await win(60_000);
    const answer = nodes.refreshes.hold();
    const term = beginTerm();
    await clock.advance(1000);
    await clock.resolved(term[how]());
    answer();
    await clock.advance(20_000);
    expect(begun).toEqual([]);
    expect(ends).toEqual([]);
    expect(report.told('nodes perhaps out of date')).toEqual([]);
  });

  test.each(['end', 'cut'] as const)('that has begun is told of its %s', async (how) => {
    const { beginTerm, ends, clock } = await win(60_000);
    const term = beginTerm();
    await clock.advance(1000);
    await clock.resolved(term[how]());
    expect(ends).toEqual([{ end: 'ended', cut: 'cut' }[how]]);
  });
});
