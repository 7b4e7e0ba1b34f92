import { CfnAlarm } from 'aws-cdk-lib/aws-cloudwatch';
import { CfnRule } from 'aws-cdk-lib/aws-events';
import { AnyPrincipal, Effect, PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Queue, QueueEncryption, RedrivePermission } from 'aws-cdk-lib/aws-sqs';
import { CfnResource, Duration, Lazy, Stack, Token } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import type { EventKind } from '../src/events/event.ts';
import { pascalCase, RULES } from './event-patterns.ts';
import { anyOf, guard, onlyIf, type Switch } from './switch.ts';

export interface InterruptionQueueProps {
  /** Of the queue; the dead letter queue is called `NAME-dead-letters`. At most 67 characters. */
  readonly queueName: string;
  /** Kinds of events that get no rule, or one under a condition. All others get a rule. */
  readonly kinds?: Readonly<Partial<Record<EventKind, Switch>>>;
  /** The SNS topic that the alarms tell. None: the alarms are there to be looked at. */
  readonly alarmTopic?: AlarmTopic;
}

type AlarmTopic = Readonly<{ arn: string; on?: Switch }>;
type Sender = Readonly<{ arn: string; on: Exclude<Switch, false> }>;

/**
 * News of a scheduled change comes once, so a message must outlive a long weekend without a
 * controller. That spot notices are old by then hurts nobody: they are recognised as such.
 */
const RETENTION = Duration.days(4);
/** A message keeps its age when it moves, so here it is kept for the rest of 14 days. */
const DEAD_LETTER_RETENTION = Duration.days(14);
/** The controller asks for 20 s with each receive; this is for whoever looks into the queue by hand. */
const VISIBILITY = Duration.seconds(20);
/**
 * A message that is given back has been received: an API server that flaps costs one receive every
 * 30 s, a crash loop one every few minutes. Good messages must outlast an hour of that; a malformed
 * one comes back every 20 s and is out of the way after half an hour.
 */
const MAX_RECEIVES = 100;
/**
 * A message without a node waits for 90 s, one that cannot be recorded until its deadline. A launch
 * hook's message is kept until its node is ready, which may take longer: see docs/aws.md.
 */
const OLDEST_MESSAGE = Duration.minutes(10);

/** The queue that a controller consumes, the rules that feed it, and the alarms that watch it. */
export class InterruptionQueue extends Construct {
  readonly queue: Queue;
  readonly deadLetterQueue: Queue;
  /** By kind of event; the disabled ones are missing. */
  readonly rules: ReadonlyMap<EventKind, CfnRule>;
  private readonly topics: Sender[] = [];
  private readonly principals: Sender[] = [];
  private anyPrincipal: Switch = false;

  constructor(scope: Construct, id: string, props: InterruptionQueueProps) {
    super(scope, id);
    const { queueName, kinds = {}, alarmTopic } = props;
    // By name: the two queues' policies name each other.
    const queueArn = Stack.of(this).formatArn({ service: 'sqs', resource: queueName });
    this.deadLetterQueue = new Queue(this, 'DeadLetters', {
      queueName: `${queueName}-dead-letters`,
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: DEAD_LETTER_RETENTION,
      redriveAllowPolicy: {
        redrivePermission: RedrivePermission.BY_QUEUE,
        sourceQueues: [Queue.fromQueueArn(this, 'Source', queueArn)],
      },
    });
    this.queue = new Queue(this, 'Queue', {
      queueName,
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: RETENTION,
      visibilityTimeout: VISIBILITY,
      receiveMessageWaitTime: Duration.seconds(20),
      deadLetterQueue: { queue: this.deadLetterQueue, maxReceiveCount: MAX_RECEIVES },
    });
    this.rules = this.makeRules(kinds);
    this.admitSenders();
    this.makeAlarms(alarmTopic);
  }

  /** Lets a topic send that the queue subscribes to, with raw delivery or without. */
  allowTopic(arn: string, on: Switch = true): void {
    if (on !== false) this.topics.push({ arn, on });
  }

  /** Lets a principal of this account send whose own policies allow it: a role that drills, or redrives. */
  allowPrincipal(arn: string, on: Switch = true): void {
    if (on === false) return;
    this.principals.push({ arn, on });
    const id = `AnyOf${this.principals.length}Principals`;
    this.anyPrincipal = anyOf(this, id, [this.anyPrincipal, on]);
  }

  /** What must be in place before anything sends. */
  get policy(): CfnResource {
    const { defaultChild } = this.queue.node.findChild('Policy').node;
    if (CfnResource.isCfnResource(defaultChild)) return defaultChild;
    throw new Error('the queue has no policy');
  }

  private makeRules(kinds: Readonly<Partial<Record<EventKind, Switch>>>): Map<EventKind, CfnRule> {
    const rules = new Map<EventKind, CfnRule>();
    for (const { kind, pattern } of RULES) {
      const on = kinds[kind] ?? true;
      if (on === false) continue;
      const rule = new CfnRule(this, `${pascalCase(kind)}Rule`, {
        description: `node-termination-controller: ${kind}`,
        eventPattern: pattern,
        targets: [{ id: 'queue', arn: this.queue.queueArn }],
      });
      guard(on, rule);
      rules.set(kind, rule);
    }
    if (rules.size === 0) throw new Error('all kinds of events are switched off');
    return rules;
  }

  /** The rules, the topics and the principals that were named; nobody else, whatever their own policies say. */
  private admitSenders(): void {
    const sources = Lazy.any({
      produce: () => [
        ...[...this.rules.values()].map((rule) => onlyIf(conditionOf(rule), rule.attrArn)),
        ...this.topics.map(({ arn, on }) => onlyIf(on, arn)),
      ],
    });
    const principals = Lazy.any({
      produce: () => {
        const arns = this.principals.map(({ arn, on }) => onlyIf(on, arn));
        return this.anyPrincipal === false ? undefined : onlyIf(this.anyPrincipal, arns);
      },
    });
    this.queue.addToResourcePolicy(
      new PolicyStatement({
        sid: 'NamedRulesAndTopics',
        principals: ['events.amazonaws.com', 'sns.amazonaws.com'].map(
          (service) => new ServicePrincipal(service),
        ),
        actions: ['sqs:SendMessage'],
        resources: [this.queue.queueArn],
        conditions: { ArnEquals: { 'aws:SourceArn': sources } },
      }),
    );
    this.queue.addToResourcePolicy(
      new PolicyStatement({
        sid: 'NobodyElse',
        effect: Effect.DENY,
        principals: [new AnyPrincipal()],
        actions: ['sqs:SendMessage'],
        resources: [this.queue.queueArn],
        // A key that a request does not have counts as not equal, and all keys must be unequal.
        conditions: { ArnNotEquals: { 'aws:SourceArn': sources, 'aws:PrincipalArn': principals } },
      }),
    );
  }

  private makeAlarms(topic: AlarmTopic | undefined): void {
    const actions = topic === undefined ? {} : actionsOf(topic);
    const common = {
      namespace: 'AWS/SQS',
      statistic: 'Maximum',
      period: 60,
      comparisonOperator: 'GreaterThanThreshold',
      // SQS measures nothing of a queue that is idle for hours.
      treatMissingData: 'notBreaching',
      ...actions,
    };
    new CfnAlarm(this, 'OldestMessageAlarm', {
      ...common,
      alarmDescription:
        'Messages of node-termination-controller are not dealt with: it does not run, cannot reach the queue, or its API server does not answer.',
      metricName: 'ApproximateAgeOfOldestMessage',
      dimensions: [{ name: 'QueueName', value: this.queue.queueName }],
      threshold: OLDEST_MESSAGE.toSeconds(),
      evaluationPeriods: 3,
    });
    new CfnAlarm(this, 'DeadLettersAlarm', {
      ...common,
      alarmDescription:
        'Messages that node-termination-controller could not make sense of, or did not get done: look into the dead letter queue, and at its log for their message IDs.',
      metricName: 'ApproximateNumberOfMessagesVisible',
      dimensions: [{ name: 'QueueName', value: this.deadLetterQueue.queueName }],
      threshold: 0,
      evaluationPeriods: 1,
    });
  }
}

function actionsOf({ arn, on = true }: AlarmTopic) {
  if (on === false) return {};
  return { alarmActions: on === true ? [arn] : Token.asList(onlyIf(on, [arn])) };
}

function conditionOf({ cfnOptions: { condition } }: CfnResource) {
  return condition ?? true;
}
