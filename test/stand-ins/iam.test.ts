import { describe, expect, test } from 'vitest';
import { decide, type Policy, type Request, type Statement } from './iam.ts';

const resource = 'arn:aws:sqs:eu-central-1:123456789012:blue';
const allow: Statement = { Effect: 'Allow', Action: ['sqs:SendMessage'], Resource: resource };

function said(statements: readonly Statement[], request: Partial<Request> = {}) {
  const policy: Policy = { Version: '2012-10-17', Statement: statements };
  return decide([policy], { action: 'sqs:SendMessage', resource, ...request });
}

test('what nothing allows is denied', () => {
  expect(said([])).toBe('denied');
  expect(said([allow], { action: 'sqs:ReceiveMessage' })).toBe('denied');
  expect(said([allow], { resource: `${resource}-dead-letters` })).toBe('denied');
});

test('what a statement allows is allowed, unless another denies it', () => {
  expect(said([allow])).toBe('allowed');
  expect(said([{ ...allow, Action: 'sqs:*' }])).toBe('allowed');
  expect(
    said([
      { ...allow, Resource: '*' },
      { ...allow, Effect: 'Deny' },
    ]),
  ).toBe('denied');
});

describe('a condition', () => {
  const rule = 'arn:aws:events:eu-central-1:123456789012:rule/one';
  const only = (operator: string): Statement => ({
    ...allow,
    Condition: { [operator]: { 'aws:SourceArn': [rule, `${rule}-more`] } },
  });
  const from = (arn: string): Partial<Request> => ({ context: { 'aws:SourceArn': arn } });

  test('of equality takes one of the values, and needs the key', () => {
    expect(said([only('ArnEquals')], from(rule))).toBe('allowed');
    expect(said([only('ArnEquals')], from(`${rule}-other`))).toBe('denied');
    expect(said([only('ArnEquals')])).toBe('denied');
  });

  test('of inequality takes none of the values, and does without the key', () => {
    expect(said([only('ArnNotEquals')], from(rule))).toBe('denied');
    expect(said([only('ArnNotEquals')], from(`${rule}-other`))).toBe('allowed');
    expect(said([only('ArnNotEquals')])).toBe('allowed');
  });

  test('of several keys takes them all', () => {
    const both = {
      'aws:SourceArn': rule,
      'aws:PrincipalArn': 'arn:aws:iam::123456789012:role/one',
    };
    const statement = { ...allow, Condition: { ArnNotEquals: both } };
    expect(said([statement], from(rule))).toBe('denied');
    expect(said([statement], { context: { 'aws:PrincipalArn': both['aws:PrincipalArn'] } })).toBe(
      'denied',
    );
    expect(said([statement])).toBe('allowed');
  });

  test('that is not known is an error', () => {
    expect(() => said([only('IpAddress')])).toThrow('IpAddress');
  });
});

test('a principal is a service or anybody', () => {
  const service = { ...allow, Principal: { Service: ['events.amazonaws.com'] } };
  expect(said([service], { service: 'events.amazonaws.com' })).toBe('allowed');
  expect(said([service], { service: 'sns.amazonaws.com' })).toBe('denied');
  expect(said([service])).toBe('denied');
  expect(said([{ ...allow, Principal: { AWS: '*' } }])).toBe('allowed');
});
