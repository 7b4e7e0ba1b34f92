import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { policyJson } from '../../infra/print.ts';
import { resolvedStack, propertiesOf } from './stack.ts';

const folder = resolve(import.meta.dirname, '../../deploy/terraform');
const example = readFileSync(resolve(folder, 'main.tf'), 'utf8');

function matches(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, found = '']) => found))].toSorted();
}

test('the example reads what is beside it, and fills in every placeholder', () => {
  const read = matches(example, /"\$\{path\.module\}\/([^"]+)"/g);
  expect(read).toEqual(['policy.json', 'rules.json']);
  const policy = readFileSync(resolve(folder, 'policy.json'), 'utf8');
  const filled = /templatefile\([^{]*\$\{path\.module\}[^{]*\{([^}]*)\}/.exec(example)?.[1] ?? '';
  expect(matches(filled, /^\s*(\w+)\s*=/gm)).toEqual(matches(policy, /\$\{(\w+)\}/g));
});

test("the example's queues are as the stack's", () => {
  const [deadLetters = {}, queue = {}] = Object.values(
    propertiesOf(resolvedStack(), 'AWS::SQS::Queue'),
  );
  const { maxReceiveCount } = queue['RedrivePolicy'] as { maxReceiveCount: number };
  const numbers = (name: string) => matches(example, new RegExp(`^\\s*${name}\\s*= (\\d+)$`, 'gm'));
  expect(numbers('message_retention_seconds').map(Number)).toEqual([
    deadLetters['MessageRetentionPeriod'],
    queue['MessageRetentionPeriod'],
  ]);
  expect(numbers('visibility_timeout_seconds').map(Number)).toEqual([queue['VisibilityTimeout']]);
  expect(numbers('maxReceiveCount').map(Number)).toEqual([maxReceiveCount]);
});

test('the policy is printed for given resources and features, without placeholders', () => {
  const text = policyJson({
    'queue-arn': 'arn:queue',
    'group-arn': ['arn:one', 'arn:two'],
    'replace-instances': true,
    'outcome-bus-arn': 'arn:bus',
  });
  expect(text).not.toContain('$');
  expect(JSON.parse(text)).toMatchObject({
    Statement: [
      { Sid: 'ConsumeInterruptions', Resource: ['arn:queue'] },
      { Sid: 'CompleteLifecycleHooks', Resource: ['arn:one', 'arn:two'] },
      { Sid: 'ReadLifecycleHooks', Resource: ['*'] },
      { Sid: 'ReplaceInstances', Resource: ['arn:one', 'arn:two'] },
      { Sid: 'TellOutcomes', Resource: ['arn:bus'] },
    ],
  });
});
