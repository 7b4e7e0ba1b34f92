import type { Ports } from './controller.ts';
import type { EvictionAnswer } from './drain/pods.ts';
import type { Metrics } from './report/metrics.ts';

/** The same ports, whose answers are counted: those that people ask about by name. */
export function measuredPorts(ports: Ports): Ports {
  const { pods, hooks, metrics } = ports;
  return {
    ...ports,
    pods: {
      onNode: pods.onNode.bind(pods),
      read: pods.read.bind(pods),
      watch: pods.watch.bind(pods),
      evict: (...args) => countedEviction(metrics, 'eviction', pods.evict(...args)),
      delete: (...args) => countedEviction(metrics, 'deletion', pods.delete(...args)),
    },
    hooks: {
      describe: hooks.describe.bind(hooks),
      complete: (...args) => countedHook(metrics, 'completion', hooks.complete(...args)),
      heartbeat: (...args) => countedHook(metrics, 'heartbeat', hooks.heartbeat(...args)),
      replace: (...args) => countedHook(metrics, 'replacement', hooks.replace(...args)),
    },
  };
}

async function countedEviction(
  metrics: Metrics,
  request: 'eviction' | 'deletion',
  asked: Promise<EvictionAnswer>,
): Promise<EvictionAnswer> {
  const answer = await asked;
  metrics.count('evictions_total', { request, answer: answer.outcome });
  return answer;
}

async function countedHook<Answer extends Readonly<{ outcome: string }>>(
  metrics: Metrics,
  request: 'completion' | 'heartbeat' | 'replacement',
  asked: Promise<Answer>,
): Promise<Answer> {
  const answer = await asked;
  metrics.count('lifecycle_hooks_total', { request, result: answer.outcome });
  return answer;
}
