import { expect, test } from 'vitest';
import { matchesPattern } from './event-pattern.ts';

const event = {
  source: 'aws.ec2',
  'detail-type': 'EC2 Instance State-change Notification',
  resources: ['arn:one', 'arn:two'],
  detail: { state: 'stopping', count: 3, flag: true, none: null, deep: { er: 'yes' } },
};

test.each([
  ['a value', { source: ['aws.ec2'] }],
  ['one of several values', { source: ['aws.health', 'aws.ec2'] }],
  ['all fields', { source: ['aws.ec2'], detail: { state: ['stopping'] } }],
  ['a field further down', { detail: { deep: { er: ['yes'] } } }],
  ['an entry of a list', { resources: ['arn:two'] }],
  ['a number', { detail: { count: [3] } }],
  ['true', { detail: { flag: [true] } }],
  ['null', { detail: { none: [null] } }],
])('takes an event by %s', (_, pattern) => {
  expect(matchesPattern(pattern, event)).toBe(true);
});

test.each([
  ['of another value', { source: ['aws.health'] }],
  ['of another case', { source: ['AWS.EC2'] }],
  ['of which one field is right and one wrong', { source: ['aws.ec2'], detail: { state: ['x'] } }],
  ['without the field', { account: ['1'] }],
  ['without the nested field', { detail: { other: { er: ['yes'] } } }],
  ['whose field is no object', { source: { er: ['yes'] } }],
  ['with a number for a text', { detail: { count: ['3'] } }],
  ['without the field, for null', { detail: { missing: [null] } }],
])('takes no event %s', (_, pattern) => {
  expect(matchesPattern(pattern, event)).toBe(false);
});

test.each<[string, Parameters<typeof matchesPattern>[0]]>([
  ['a comparison', { source: [{ prefix: 'aws.' }] }],
  ['an empty list', { source: [] }],
  ['an empty pattern', {}],
  ['a pattern like "aws.ec2"', { source: 'aws.ec2' }],
])('refuses %s', (fault, pattern) => {
  expect(() => matchesPattern(pattern, event)).toThrow(fault);
});
