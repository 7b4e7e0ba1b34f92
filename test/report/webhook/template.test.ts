import { describe, expect, test } from 'vitest';
import { outcomeEvent } from '../../../src/report/outcome.ts';
import { templateFormat, type BodyFormat } from '../../../src/report/webhook/body.ts';
import {
  exampleMessages,
  webhookDataSchema,
  webhookMessage,
} from '../../../src/report/webhook/message.ts';
import { interruption } from '../../plan/samples.ts';
import { end, receipt } from './told.ts';

function formatOf(template: string, contentType = 'application/json'): BodyFormat {
  const format = templateFormat(template, contentType);
  if ('fault' in format) throw new Error(format.fault);
  return format;
}

function faultOf(template: string, contentType = 'application/json'): string | undefined {
  const format = templateFormat(template, contentType);
  return 'fault' in format ? format.fault : undefined;
}

const hook = {
  group: 'a "group"\n\\',
  name: 'drain',
  token: 'token',
  timeoutSeconds: 300,
  completedAt: undefined,
  unknown: {},
};
const facts = {
  providerId: 'aws:///eu-central-1a/i-0123456789abcdef0',
  instanceType: 'm7g.large',
  zone: 'eu-central-1a',
  labels: { pool: 'spot' },
};
const odd = webhookMessage(
  end({ interruption: interruption({ kind: 'terminate-hook', row: 'terminate-hook', hook }) }),
  facts,
);

describe('a template', () => {
  test('has every field of the handler it may come from, under that name, with or without its dot', () => {
    const names = [
      'EventID',
      'Kind',
      'Description',
      'State',
      'AutoScalingGroupName',
      'NodeName',
      'NodeLabels',
      'Pods',
      'InstanceID',
      'ProviderID',
      'InstanceType',
      'StartTime',
    ];
    for (const dot of ['', '.']) {
      const fields = names.map((name) => {
        const value = `{{ ${dot}${name} }}`;
        return `"${name}":${['NodeLabels', 'Pods'].includes(name) ? value : `"${value}"`}`;
      });
      const { text, contentType } = formatOf(`{${fields.join(',')}}`).write(odd);
      expect(contentType).toBe('application/json');
      expect(JSON.parse(text)).toEqual({
        EventID: odd.data.eventId,
        Kind: 'terminate-hook',
        Description: odd.data.description,
        State: 'drained',
        AutoScalingGroupName: hook.group,
        NodeName: 'node-1',
        NodeLabels: { pool: 'spot' },
        Pods: ['shop/web-0', 'shop/web-1'],
        InstanceID: 'i-0123456789abcdef0',
        ProviderID: facts.providerId,
        InstanceType: 'm7g.large',
        StartTime: '2026-03-01T12:00:00.000Z',
      });
    }
  });

  test('has every field of a message', () => {
    const fields = Object.keys(odd.data).map((name) => `"${name}":{{ ${name} | json }}`);
    const { text } = formatOf(`{${fields.join(',')}}`).write(odd);
    expect(JSON.parse(text)).toEqual(odd.data);
  });

  test('cannot be broken by what a value holds', () => {
    const template = '{"text":"{{ description }} {{ autoScalingGroup | upcase }}"}';
    const { text } = formatOf(template).write(odd);
    expect(JSON.parse(text)).toEqual({
      text: `${odd.data.description} ${hook.group.toUpperCase()}`,
    });
  });

  test('writes values as they are where the body is said not to be JSON', () => {
    const { text, contentType } = formatOf('{{ autoScalingGroup }}', 'text/plain').write(odd);
    expect({ text, contentType }).toEqual({ text: hook.group, contentType: 'text/plain' });
  });

  test('has lists, labels and choices', () => {
    const template =
      '{"text":"{{ pods | join: ", " }}{% if stage == "failed" %}!{% endif %} {{ nodeLabels.pool }}{{ nodeLabels["no/such"] }}"}';
    expect(formatOf(template).write(odd).text).toBe('{"text":"shop/web-0, shop/web-1 spot"}');
  });

  test.each([
    ['{"a":"{{ nodeLabels.pool }}"}', true],
    ['{"a":{{ .NodeLabels }}}', true],
    ['{"a":"{{ node }}"}', false],
  ])('says whether it wants the labels of nodes: %s', (template, wants) => {
    expect(formatOf(template).usesLabels).toBe(wants);
  });

  test.each([
    ['{"a":"{{ NodeNam }}"}', 'uses NodeNam, which is no field of a message'],
    ['{"a":"{{ node "}', 'cannot be filled in: '],
    ['{"a":"{{ node | shout }}"}', 'cannot be filled in: undefined filter: shout'],
    ['{"a":"{{ range .Pods }}{{ . }}{{ end }}"}', 'cannot be filled in: '],
    ['{"a":{{ node }}}', 'makes no JSON of the stage received: '],
    ['{"a":"{{ autoScalingGroup | raw }}"}', 'makes no JSON of the stage received: '],
    ['{"a":{{ secondsToSpare }}}', 'makes no JSON of the stage received: '],
    ['{"a":1{% if stage == "failed" %},{% endif %}}', 'makes no JSON of the stage failed: '],
    ['{% render "/etc/passwd" %}', 'cannot be filled in: '],
    ['{% for i in (1..100000000) %}x{% endfor %}', 'cannot be filled in: memory alloc limit'],
    [
      '{% for i in (1..3900000) %}{% assign x = i %}{% endfor %}{}',
      'cannot be filled in: template render limit',
    ],
  ])('that is wrong is told so: %s', (template, fault) => {
    expect(faultOf(template)).toContain(fault);
  });

  test('is not asked to be JSON where the body is said not to be', () => {
    expect(faultOf('{"a":{{ node }}}', 'text/plain; charset=utf-8')).toBeUndefined();
    expect(faultOf('{"a":{{ node }}}', 'application/vnd.x+json; charset=utf-8')).toContain('JSON');
  });
});

describe('what a message says', () => {
  test.each(exampleMessages().map((message) => [message.id, message] as const))(
    'is as its schema has it: %s',
    (_, { data }) => {
      expect(webhookDataSchema.parse(data)).toStrictEqual(data);
    },
  );

  test.each([
    [
      receipt(),
      'Recorded on node node-1: spot interruption of instance i-0123456789abcdef0; its pods have to be gone by 2026-03-01T12:02:00.000Z.',
    ],
    [
      receipt({
        deadlineAt: undefined,
        interruption: interruption({ kind: 'rebalance', row: 'rebalance' }),
      }),
      'Recorded on node node-1: rebalance recommendation of instance i-0123456789abcdef0.',
    ],
    [
      end(),
      'Node node-1 is empty, for spot interruption of instance i-0123456789abcdef0: 2 pods left; 90 s to spare.',
    ],
    [
      end({
        outcome: 'forced',
        pods: { evicted: 0, deletedPastBudget: 1, leftByThemselves: 0, stayed: 0 },
      }),
      'Node node-1 is empty, for spot interruption of instance i-0123456789abcdef0: 1 pod left, 1 past their budgets; 90 s to spare.',
    ],
    [
      end({
        outcome: 'late',
        pods: { evicted: 1, deletedPastBudget: 0, leftByThemselves: 0, stayed: 2 },
      }),
      'Node node-1 was not empty in time, for spot interruption of instance i-0123456789abcdef0: 2 pods there at the deadline.',
    ],
    [
      end({ outcome: 'not-possible' }),
      'Node node-1 or its machine was gone before it was empty, for spot interruption of instance i-0123456789abcdef0: 0 pods had not left.',
    ],
    [
      end({ outcome: 'not-possible', pods: undefined }),
      'Node node-1 or its machine was gone before it was empty, for spot interruption of instance i-0123456789abcdef0: its pods are not known.',
    ],
    [
      end({ outcome: 'cancelled', pods: undefined }),
      'Over before node node-1 was empty: spot interruption of instance i-0123456789abcdef0.',
    ],
  ])('is a sentence, too', (told, sentence) => {
    expect(webhookMessage(told).data.description).toBe(sentence);
  });

  test('of a time that no date can hold is the last that one can', () => {
    const far = 9e15;
    const told = end({ deadlineAt: far, interruption: interruption({ time: -far }) });
    const { deadline, time } = webhookMessage(told).data;
    expect([deadline, time]).toEqual([
      '+275760-09-13T00:00:00.000Z',
      '-271821-04-20T00:00:00.000Z',
    ]);
    expect(outcomeEvent(told)).toMatchObject({ deadline, time });
  });

  test('of a scheduled change is its start, too', () => {
    const startAt = Date.parse('2026-04-01T00:00:00Z');
    const change = {
      startAt,
      endAt: undefined,
      updatedAt: startAt,
      closed: false,
      doneUntil: undefined,
      told: [],
      unknown: {},
    };
    const { data } = webhookMessage(
      receipt({ interruption: interruption({ kind: 'scheduled-change', row: 'reboot', change }) }),
    );
    expect(data.startTime).toBe('2026-04-01T00:00:00.000Z');
    expect(data.time).toBe('2026-03-01T12:00:00.000Z');
  });
});
