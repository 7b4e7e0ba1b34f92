import { setTimeout as delay } from 'node:timers/promises';
import type { NodeObject } from '../control-plane/objects.ts';
import type { Queue } from '../stand-ins/queue.ts';
import { evict, podsOn } from './cluster.ts';
import type { World } from './world.ts';

type Received = Readonly<{ MessageId: string; ReceiptHandle: string; Body: string }>;

export type SecondConsumer = {
  /** IDs of the messages that it received, in order. */
  readonly received: readonly string[];
  /** Receives nothing more; resolves when what it has begun has ended. */
  stop(): Promise<void>;
};

/**
 * Another handler on a queue, scripted to do what the older ones do: it receives a message, cordons
 * the node, evicts its pods, waits until they are gone, completes the hook, and only then deletes the
 * message, whose visibility it never extends.
 */
export function startSecondConsumer(
  world: World,
  queue: Queue,
  options: { readonly visibilitySeconds?: number } = {},
): SecondConsumer {
  const { visibilitySeconds = 20 } = options;
  const received: string[] = [];
  const handling = new Set<Promise<void>>();
  const stopping = new AbortController();

  const ask = async (url: string, headers: Readonly<Record<string, string>>, body: string) => {
    const response = await fetch(url, { method: 'POST', headers, body });
    return response.text();
  };
  const sqs = async (action: string, parameters: object): Promise<string> =>
    ask(
      world.queues.url,
      {
        'content-type': 'application/x-amz-json-1.0',
        'x-amz-target': `AmazonSQS.${action}`,
      },
      JSON.stringify({ QueueUrl: queue.url, ...parameters }),
    );

  const handle = async ({ MessageId, ReceiptHandle, Body }: Received): Promise<void> => {
    received.push(MessageId);
    const { detail = {} } = JSON.parse(Body) as { detail?: Record<string, string> };
    const instanceId = detail['EC2InstanceId'] ?? detail['instance-id'] ?? 'none';
    const nodes = await world.api.list<NodeObject & { spec: { providerID?: string } }>(
      '/api/v1/nodes',
    );
    const node = nodes.find(({ spec }) => spec.providerID?.endsWith(`/${instanceId}`) === true);
    if (node !== undefined) {
      const { name } = node.metadata;
      await world.api.patch(`/api/v1/nodes/${name}`, { spec: { unschedulable: true } });
      const pods = await podsOn(world.api, name);
      await Promise.all(
        pods.map(({ metadata }) =>
          evict(world.api, metadata.name, { namespace: metadata.namespace ?? 'default' }),
        ),
      );
      while ((await podsOn(world.api, name)).length > 0) await delay(50);
      if (detail['LifecycleActionToken'] !== undefined) {
        const parameters = new URLSearchParams({
          Action: 'CompleteLifecycleAction',
          AutoScalingGroupName: detail['AutoScalingGroupName'] ?? '',
          LifecycleHookName: detail['LifecycleHookName'] ?? '',
          LifecycleActionToken: detail['LifecycleActionToken'],
          LifecycleActionResult: 'CONTINUE',
          InstanceId: instanceId,
        });
        const headers = { 'content-type': 'application/x-www-form-urlencoded' };
        await ask(world.autoScaling.url, headers, parameters.toString());
      }
    }
    await sqs('DeleteMessage', { ReceiptHandle });
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const request = {
        MaxNumberOfMessages: 1,
        WaitTimeSeconds: 0,
        VisibilityTimeout: visibilitySeconds,
      };
      const { Messages = [] } = JSON.parse(await sqs('ReceiveMessage', request)) as {
        Messages?: readonly Received[];
      };
      for (const message of Messages) {
        const work = handle(message).finally(() => handling.delete(work));
        handling.add(work);
      }
      await delay(20);
    }
    await Promise.all(handling);
  };
  const running = run();
  return {
    received,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
