import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { templateFormat } from '../../../src/report/webhook/body.ts';
import { exampleMessages, STAGES, webhookMessage } from '../../../src/report/webhook/message.ts';
import { interruption } from '../../plan/samples.ts';
import { end, receipt } from './told.ts';

const folder = resolve(import.meta.dirname, '../../../deploy/chart/files/webhook');

async function bodyOf(name: string, message: ReturnType<typeof webhookMessage>): Promise<unknown> {
  const template = await readFile(`${folder}/${name}.liquid`, 'utf8');
  const key = name === 'pagerduty' ? 'R0123456789' : undefined;
  const format = templateFormat(template, 'application/json', STAGES, key);
  if ('fault' in format) throw new Error(format.fault);
  return JSON.parse(format.write(message).text);
}

const received = webhookMessage(receipt());
const failed = webhookMessage(
  end({
    outcome: 'late',
    pods: { evicted: 1, deletedPastBudget: 0, leftByThemselves: 0, stayed: 2 },
    podNames: { left: ['shop/web-0'], stayed: ['shop/db-0', 'shop/db-1'] },
  }),
);

describe('the template for', () => {
  test.each(['slack', 'teams', 'pagerduty'])('%s takes every message', async (name) => {
    for (const message of exampleMessages()) {
      expect(await bodyOf(name, message)).toBeTypeOf('object');
    }
  });

  // https://docs.slack.dev/messaging/formatting-message-text/#escaping
  test('Slack escapes its three controls, and names the pods that stayed', async () => {
    const hook = {
      group: '<!channel> & co',
      name: 'drain',
      token: 'token',
      timeoutSeconds: 300,
      completedAt: undefined,
      unknown: {},
    };
    const odd = webhookMessage(
      receipt({
        interruption: interruption({ kind: 'terminate-hook', row: 'terminate-hook', hook }),
      }),
    );
    expect(await bodyOf('slack', odd)).toEqual({
      text: expect.stringContaining('(hook &lt;!channel&gt; &amp; co/drain)') as unknown,
    });
    expect(await bodyOf('slack', failed)).toEqual({
      text: `:rotating_light: ${failed.data.description}\nNot left: shop/db-0, shop/db-1`,
    });
  });

  // https://adaptivecards.io/explorer/
  test('Teams makes an adaptive card', async () => {
    expect(await bodyOf('teams', failed)).toMatchObject({
      type: 'message',
      attachments: [
        {
          contentType: 'application/vnd.microsoft.card.adaptive',
          content: {
            type: 'AdaptiveCard',
            body: [
              { type: 'TextBlock', color: 'Attention', text: 'node-1: failed' },
              { type: 'TextBlock', text: failed.data.description },
              {
                type: 'FactSet',
                facts: expect.arrayContaining([
                  { title: 'Not left', value: 'shop/db-0, shop/db-1' },
                ]) as unknown,
              },
            ],
          },
        },
      ],
    });
    expect(await bodyOf('teams', received)).toMatchObject({
      attachments: [
        {
          content: {
            body: [
              { color: 'Default' },
              {},
              {
                facts: expect.arrayContaining([{ title: 'Not left', value: 'none' }]) as unknown,
              },
            ],
          },
        },
      ],
    });
  });

  // https://developer.pagerduty.com/docs/events-api-v2-overview
  test('PagerDuty raises an alert, and resolves the same one, by the key in the body', async () => {
    expect(await bodyOf('pagerduty', received)).toMatchObject({
      routing_key: 'R0123456789',
      event_action: 'trigger',
      dedup_key: received.data.eventId,
      payload: { severity: 'info', source: 'node-1', timestamp: received.data.recordedAt },
    });
    expect(await bodyOf('pagerduty', failed)).toMatchObject({
      event_action: 'trigger',
      payload: { severity: 'critical', custom_details: { pods_left: ['shop/db-0', 'shop/db-1'] } },
    });
    for (const outcome of ['drained', 'cancelled'] as const) {
      expect(await bodyOf('pagerduty', webhookMessage(end({ outcome })))).toMatchObject({
        event_action: 'resolve',
        dedup_key: received.data.eventId,
      });
    }
  });
});
