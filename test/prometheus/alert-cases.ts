/** Series by the minute, in the notation of Prometheus' own tests, and how many alerts there are then. */
type AlertCase = Readonly<{
  alert: string;
  when: string;
  series: readonly string[];
  atMinute: number;
  fires: number;
}>;

const requests = 'node_termination_requests_total{api="sqs",operation="ReceiveMessage",code="200"}';
const late = (kind: string) => `node_termination_drains_total{kind="${kind}",outcome="late"}`;
const hooks = (result: string) =>
  `node_termination_lifecycle_hooks_total{request="completion",result="${result}"}`;
const histogram = (name: string, bounds: Readonly<Record<string, string>>) =>
  Object.entries(bounds).map(
    ([le, values]) => `node_termination_${name}_bucket{le="${le}"} ${values}`,
  );

export const ALERT_CASES: readonly AlertCase[] = [
  {
    alert: 'NodeTerminationLate',
    when: 'one drain is late, the first since the start',
    series: [`${late('spot-interruption')} 0x9 1x20`, `${late('rebalance')} 0x30`],
    atMinute: 15,
    fires: 1,
  },
  {
    alert: 'NodeTerminationLate',
    when: 'the last late drain was long ago',
    series: [`${late('spot-interruption')} 1x60`],
    atMinute: 60,
    fires: 0,
  },
  {
    alert: 'NodeTerminationLittleTimeToSpare',
    when: 'two of ten nodes came too late',
    series: histogram('deadline_spare_seconds', {
      '-5': '0x9 2x50',
      '0': '0x9 2x50',
      '5': '0x9 2x50',
      '60': '0x9 10x50',
      '+Inf': '0x9 10x50',
    }),
    atMinute: 50,
    fires: 1,
  },
  {
    alert: 'NodeTerminationLittleTimeToSpare',
    when: 'all had more time',
    series: histogram('deadline_spare_seconds', {
      '5': '0x60',
      '60': '0x9 10x50',
      '+Inf': '0x9 10x50',
    }),
    atMinute: 50,
    fires: 0,
  },
  {
    alert: 'NodeTerminationLittleTimeToSpare',
    when: 'nothing was drained',
    series: histogram('deadline_spare_seconds', { '5': '0x60', '60': '0x60', '+Inf': '0x60' }),
    atMinute: 50,
    fires: 0,
  },
  {
    alert: 'NodeTerminationQueueNotRead',
    when: 'the leader receives',
    series: ['node_termination_leader 1x30', `${requests} 0+3x30`],
    atMinute: 30,
    fires: 0,
  },
  {
    alert: 'NodeTerminationQueueNotRead',
    when: 'it receives no more',
    series: ['node_termination_leader 1x30', `${requests} 0+3x10 30x20`],
    atMinute: 30,
    fires: 1,
  },
  {
    alert: 'NodeTerminationQueueNotRead',
    when: 'it never has',
    series: ['node_termination_leader 1x30'],
    atMinute: 30,
    fires: 1,
  },
  {
    alert: 'NodeTerminationNoLeader',
    when: 'one of two leads',
    series: ['node_termination_leader{pod="a"} 1x30', 'node_termination_leader{pod="b"} 0x30'],
    atMinute: 30,
    fires: 0,
  },
  {
    alert: 'NodeTerminationNoLeader',
    when: 'neither does',
    series: ['node_termination_leader{pod="a"} 0x30', 'node_termination_leader{pod="b"} 0x30'],
    atMinute: 30,
    fires: 1,
  },
  {
    alert: 'NodeTerminationNoLeader',
    when: 'nobody is scraped',
    series: ['up 1x30'],
    atMinute: 30,
    fires: 1,
  },
  {
    alert: 'NodeTerminationNoLeader',
    when: 'one of two releases has none',
    series: [
      'node_termination_leader{namespace="a"} 0x30',
      'node_termination_leader{namespace="b"} 1x30',
    ],
    atMinute: 30,
    fires: 1,
  },
  {
    alert: 'NodeTerminationHooksFailing',
    when: 'all completions fail',
    series: [`${hooks('failed')} 0x9 0+1x20`, `${hooks('accepted')} 0x30`],
    atMinute: 20,
    fires: 1,
  },
  {
    alert: 'NodeTerminationHooksFailing',
    when: 'some fail at first',
    series: [`${hooks('failed')} 0x9 2x20`, `${hooks('accepted')} 0x9 0+1x20`],
    atMinute: 20,
    fires: 0,
  },
  {
    alert: 'NodeTerminationMarksSlow',
    when: 'half of the marks take over five seconds',
    series: histogram('mark_delay_seconds', {
      '2': '0x9 5x20',
      '5': '0x9 5x20',
      '10': '0x9 10x20',
      '+Inf': '0x9 10x20',
    }),
    atMinute: 15,
    fires: 1,
  },
  {
    alert: 'NodeTerminationMarksSlow',
    when: 'they take a moment',
    series: histogram('mark_delay_seconds', {
      '0.1': '0x9 10x20',
      '2': '0x9 10x20',
      '+Inf': '0x9 10x20',
    }),
    atMinute: 15,
    fires: 0,
  },
  {
    alert: 'NodeTerminationMessagesUnreadable',
    when: 'one message cannot be read, the first since the start',
    series: [
      'node_termination_messages_total{kind="none",outcome="malformed"} 0x9 1x60',
      'node_termination_messages_total{kind="rebalance",outcome="recorded"} 0+1x60',
    ],
    atMinute: 30,
    fires: 1,
  },
  {
    alert: 'NodeTerminationMessagesUnreadable',
    when: 'all can be read',
    series: ['node_termination_messages_total{kind="none",outcome="malformed"} 0x60'],
    atMinute: 30,
    fires: 0,
  },
];
