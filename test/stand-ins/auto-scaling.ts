import { randomUUID } from 'node:crypto';
import { answerWithFault, createFaults, type Answer, type Faults } from './faults.ts';
import { startHttpService, type HttpService } from './http-service.ts';

export type AutoScalingAction =
  | 'CompleteLifecycleAction'
  | 'RecordLifecycleActionHeartbeat'
  | 'DescribeLifecycleHooks'
  | 'TerminateInstanceInAutoScalingGroup';

export type Transition =
  | 'autoscaling:EC2_INSTANCE_TERMINATING'
  | 'autoscaling:EC2_INSTANCE_LAUNCHING';

export type HookSpec = {
  readonly group: string;
  readonly hook: string;
  /** Terminating unless given. */
  readonly transition?: Transition;
  /** 3600 unless given, as on AWS. */
  readonly heartbeatTimeoutSeconds?: number;
  readonly defaultResult?: 'CONTINUE' | 'ABANDON';
};

/** An instance that waits for somebody to complete a hook. Times are epoch ms. */
export type LifecycleAction = {
  readonly token: string;
  readonly group: string;
  readonly hook: string;
  readonly instanceId: string;
  readonly transition: Transition;
  readonly startedAt: number;
  /** Pushed out by heartbeats, up to 100 timeouts or 48 h after its start. */
  expiresAt: number;
  completedAt: number | undefined;
  result: string | undefined;
};

export type AutoScalingCall = {
  /** Epoch ms of its arrival. */
  readonly at: number;
  readonly action: string;
  readonly parameters: Readonly<Record<string, string>>;
  /** 0: no answer was sent. */
  readonly status: number;
  /** Of an error. */
  readonly code: string | undefined;
};

export type AutoScaling = {
  /** For AWS_ENDPOINT_URL_AUTO_SCALING. */
  readonly url: string;
  readonly faults: Faults<AutoScalingAction>;
  /** Makes the group as well. */
  addHook(spec: HookSpec): void;
  /** So that TerminateInstanceInAutoScalingGroup knows it. */
  addInstance(group: string, instanceId: string): void;
  /**
   * An instance reaches the hook: from now on the action is active. Its token belongs in the event
   * that is sent to the queue.
   */
  beginAction(spec: {
    readonly group: string;
    readonly hook: string;
    readonly instanceId: string;
    readonly token?: string;
  }): LifecycleAction;
  actions(filter?: { readonly instanceId?: string; readonly token?: string }): LifecycleAction[];
  /** Instances ended by TerminateInstanceInAutoScalingGroup. */
  terminated(): readonly string[];
  /** Calls of clients, oldest first. */
  calls(action?: AutoScalingAction): readonly AutoScalingCall[];
  goAway: HttpService['goAway'];
  comeBack: HttpService['comeBack'];
  stop(): Promise<void>;
};

type Parameters = Readonly<Record<string, string>>;
type Group = { readonly hooks: Map<string, HookSpec>; readonly instances: Set<string> };

const longestJournal = 100_000;
const defaultTimeoutSeconds = 3600;

/** Errors as AWS names them. */
class ServiceError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Auto Scaling as far as lifecycle hooks go, in its Query protocol. */
export async function startAutoScaling(): Promise<AutoScaling> {
  const groups = new Map<string, Group>();
  const actions: LifecycleAction[] = [];
  const terminated: string[] = [];
  const calls: AutoScalingCall[] = [];
  const faults = createFaults<AutoScalingAction>();

  const groupOf = (name: string | undefined): Group => {
    const group = groups.get(name ?? '');
    if (!group) {
      throw new ServiceError('ValidationError', 'AutoScalingGroup name not found - null');
    }
    return group;
  };
  const madeGroup = (name: string): Group => {
    const group = groups.get(name) ?? { hooks: new Map(), instances: new Set() };
    groups.set(name, group);
    return group;
  };

  const handlers: Readonly<Record<AutoScalingAction, (parameters: Parameters) => string>> = {
    CompleteLifecycleAction(parameters) {
      required(parameters, 'LifecycleActionResult');
      const action = activeAction(groupOf(parameters['AutoScalingGroupName']), actions, parameters);
      action.completedAt = Date.now();
      action.result = parameters['LifecycleActionResult'];
      return '';
    },
    RecordLifecycleActionHeartbeat(parameters) {
      const group = groupOf(parameters['AutoScalingGroupName']);
      const action = activeAction(group, actions, parameters);
      const timeoutMs = timeoutOf(group.hooks.get(action.hook)) * 1000;
      const latest = action.startedAt + Math.min(100 * timeoutMs, 48 * 3_600_000);
      action.expiresAt = Math.min(Date.now() + timeoutMs, latest);
      return '';
    },
    DescribeLifecycleHooks(parameters) {
      const name = required(parameters, 'AutoScalingGroupName');
      const wanted = Object.entries(parameters)
        .filter(([key]) => key.startsWith('LifecycleHookNames.member.'))
        .map(([, hook]) => hook);
      const hooks = [...groupOf(name).hooks.values()].filter(
        ({ hook }) => wanted.length === 0 || wanted.includes(hook),
      );
      return `<LifecycleHooks>${hooks.map(describeHook).join('')}</LifecycleHooks>`;
    },
    TerminateInstanceInAutoScalingGroup(parameters) {
      const instanceId = required(parameters, 'InstanceId');
      required(parameters, 'ShouldDecrementDesiredCapacity');
      const group = [...groups].find(([, { instances }]) => instances.has(instanceId));
      if (!group) {
        throw new ServiceError(
          'ValidationError',
          `Instance Id not found - No managed instance found for instance ID: ${instanceId}`,
        );
      }
      terminated.push(instanceId);
      return describeActivity(group[0], instanceId);
    },
  };

  const service = await startHttpService(async (_request, body, response) => {
    const at = Date.now();
    const { Action: action = '', ...parameters } = Object.fromEntries(new URLSearchParams(body));
    let code: string | undefined;
    const status = await answerWithFault(
      response,
      faults.next(action),
      async () => {
        try {
          if (!isAction(action)) throw new ServiceError('InvalidAction', `Unknown: ${action}`);
          return resultAnswer(action, handlers[action](parameters));
        } catch (error) {
          if (!(error instanceof ServiceError)) throw error;
          code = error.code;
          return errorAnswer(400, error.code, error.message);
        }
      },
      (fault) => {
        ({ code } = fault);
        return errorAnswer(fault.status, fault.code, fault.message ?? fault.code);
      },
    );
    if (calls.length >= longestJournal) throw new Error(`over ${longestJournal} calls`);
    calls.push({ at, action, parameters, status, code });
  });

  return {
    url: service.url,
    faults,
    addHook(spec) {
      madeGroup(spec.group).hooks.set(spec.hook, spec);
    },
    addInstance(group, instanceId) {
      madeGroup(group).instances.add(instanceId);
    },
    beginAction({ group, hook, instanceId, token = randomUUID() }) {
      const spec = groups.get(group)?.hooks.get(hook);
      if (!spec) throw new Error(`group ${group} has no hook ${hook}`);
      const startedAt = Date.now();
      const action: LifecycleAction = {
        token,
        group,
        hook,
        instanceId,
        transition: transitionOf(spec),
        startedAt,
        expiresAt: startedAt + timeoutOf(spec) * 1000,
        completedAt: undefined,
        result: undefined,
      };
      actions.push(action);
      return action;
    },
    actions: ({ instanceId, token } = {}) =>
      actions.filter(
        (action) =>
          (instanceId ?? action.instanceId) === action.instanceId &&
          (token ?? action.token) === action.token,
      ),
    terminated: () => terminated,
    calls: (action) =>
      action === undefined ? calls : calls.filter((call) => call.action === action),
    goAway: service.goAway,
    comeBack: service.comeBack,
    stop: async () => service.stop(),
  };
}

/** Common faults: `faults.add({ fault: throttling })`. */
export const throttling = {
  kind: 'error',
  status: 400,
  code: 'Throttling',
  message: 'Rate exceeded',
} as const;
export const internalFailure = {
  kind: 'error',
  status: 500,
  code: 'InternalFailure',
  message: 'The request processing has failed because of an unknown error.',
} as const;
export const accessDenied = {
  kind: 'error',
  status: 403,
  code: 'AccessDenied',
  message: 'User: arn:aws:iam::123456789012:user/test is not authorized to perform this action',
} as const;

/** By token, by instance, or both, which then must belong together. */
function activeAction(
  group: Group,
  actions: readonly LifecycleAction[],
  parameters: Parameters,
): LifecycleAction {
  const hook = required(parameters, 'LifecycleHookName');
  const token = parameters['LifecycleActionToken'];
  const instanceId = parameters['InstanceId'];
  if (token === undefined && instanceId === undefined) {
    throw new ServiceError(
      'ValidationError',
      'Either InstanceId or LifecycleActionToken is required',
    );
  }
  const now = Date.now();
  const action = group.hooks.has(hook)
    ? actions.find(
        (candidate) =>
          candidate.group === parameters['AutoScalingGroupName'] &&
          candidate.hook === hook &&
          (token ?? candidate.token) === candidate.token &&
          (instanceId ?? candidate.instanceId) === candidate.instanceId &&
          candidate.completedAt === undefined &&
          candidate.expiresAt > now,
      )
    : undefined;
  if (action) return action;
  const what = token === undefined ? `instance ID ${instanceId}` : `token ${token}`;
  throw new ServiceError('ValidationError', `No active Lifecycle Action found with ${what}`);
}

function required(parameters: Parameters, name: string): string {
  const value = parameters[name];
  if (value !== undefined && value !== '') return value;
  throw new ServiceError(
    'ValidationError',
    `1 validation error detected: Value null at '${name}' failed to satisfy constraint: Member must not be null`,
  );
}

function isAction(action: string): action is AutoScalingAction {
  return [
    'CompleteLifecycleAction',
    'RecordLifecycleActionHeartbeat',
    'DescribeLifecycleHooks',
    'TerminateInstanceInAutoScalingGroup',
  ].includes(action);
}

function transitionOf(spec: HookSpec): Transition {
  return spec.transition ?? 'autoscaling:EC2_INSTANCE_TERMINATING';
}

function timeoutOf(spec: HookSpec | undefined): number {
  return spec?.heartbeatTimeoutSeconds ?? defaultTimeoutSeconds;
}

function describeHook(spec: HookSpec): string {
  const timeoutSeconds = timeoutOf(spec);
  return element('member', {
    AutoScalingGroupName: spec.group,
    LifecycleHookName: spec.hook,
    LifecycleTransition: transitionOf(spec),
    HeartbeatTimeout: timeoutSeconds,
    GlobalTimeout: Math.min(100 * timeoutSeconds, 48 * 3600),
    DefaultResult: spec.defaultResult ?? 'ABANDON',
  });
}

function describeActivity(group: string, instanceId: string): string {
  return element('Activity', {
    ActivityId: randomUUID(),
    AutoScalingGroupName: group,
    Description: `Terminating EC2 instance: ${instanceId}`,
    Cause: 'instance was taken out of service in response to a user request.',
    StartTime: new Date().toISOString(),
    StatusCode: 'InProgress',
    Progress: 0,
  });
}

function element(name: string, fields: Readonly<Record<string, string | number>>): string {
  const inner = Object.entries(fields)
    .map(([key, value]) => `<${key}>${escapeXml(String(value))}</${key}>`)
    .join('');
  return `<${name}>${inner}</${name}>`;
}

const namespace = 'xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"';

function resultAnswer(action: string, result: string): Answer {
  return xmlAnswer(
    200,
    `<${action}Response ${namespace}><${action}Result>${result}</${action}Result>${element('ResponseMetadata', { RequestId: randomUUID() })}</${action}Response>`,
  );
}

function errorAnswer(status: number, code: string, message: string): Answer {
  const type = status < 500 ? 'Sender' : 'Receiver';
  const error = element('Error', { Type: type, Code: code, Message: message });
  return xmlAnswer(
    status,
    `<ErrorResponse ${namespace}>${error}<RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
  );
}

function xmlAnswer(status: number, body: string): Answer {
  return { status, headers: { 'content-type': 'text/xml' }, body };
}

function escapeXml(text: string): string {
  return text.replace(/[&<>]/g, (c) => (c === '&' ? '&amp;' : c === '<' ? '&lt;' : '&gt;'));
}
