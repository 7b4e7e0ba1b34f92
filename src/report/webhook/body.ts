import { CloudEvent, HTTP } from 'cloudevents';
import { Liquid } from 'liquidjs';
import { exampleMessages, STAGES, type Stage, type WebhookMessage } from './message.ts';

export type Body = Readonly<{ text: string; contentType: string }>;

/** How messages are written. */
export type BodyFormat = Readonly<{
  /** Throws where a template cannot be filled in with this message. */
  write(message: WebhookMessage): Body;
  /** Whether it wants the labels of nodes. */
  usesLabels: boolean;
}>;

const SOURCE = 'node-termination-controller';

/** CloudEvents 1.0, structured. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md */
export const cloudEvents: BodyFormat = {
  write({ id, data }) {
    const event = new CloudEvent({
      id,
      source: SOURCE,
      type: `${SOURCE}.interruption.${data.stage}`,
      subject: data.node,
      time: data.endedAt ?? data.recordedAt,
      datacontenttype: 'application/json',
      data,
    });
    const { headers, body } = HTTP.structured(event);
    return { text: String(body), contentType: String(headers['content-type']) };
  },
  usesLabels: false,
};

/** Of what one rendering may make, in characters and items. */
const MOST_RENDERED = 4_000_000;
/** Nothing else happens in this process meanwhile. */
const LONGEST_RENDERING_MS = 1000;

/**
 * Liquid (https://liquidjs.com). Reads no files. Of a JSON body every value is escaped for a place
 * between quotation marks, but for objects and lists, which are written as JSON.
 */
function engineFor(json: boolean): Liquid {
  const engine = new Liquid({
    strictFilters: true,
    ownPropertyOnly: true,
    templates: {},
    memoryLimit: MOST_RENDERED,
    renderLimit: LONGEST_RENDERING_MS,
    ...(json && { outputEscape: escapeForJson }),
  });
  engine.registerFilter('json', { raw: true, handler: (value: unknown) => JSON.stringify(value) });
  return engine;
}

function escapeForJson(value: unknown): string {
  if (value === undefined || value === null) return '';
  const json = JSON.stringify(value);
  return typeof value === 'string' ? json.slice(1, -1) : json;
}

/**
 * A body from a template. It is filled in with an example of each stage: what it cannot be filled in
 * with, or what is no JSON though `contentType` says so, is a fault. It completes "…, which".
 */
export function templateFormat(
  template: string,
  contentType: string,
  stages: readonly Stage[] = STAGES,
  integrationKey?: string,
): BodyFormat | Readonly<{ fault: string }> {
  const json = isJson(contentType);
  const engine = engineFor(json);
  try {
    const parsed = engine.parse(template);
    const used = engine.globalVariablesSync(parsed);
    const fill = (message: WebhookMessage, key: string | undefined): string =>
      String(engine.renderSync(parsed, contextOf(message, key)));
    const examples = exampleMessages().filter(({ data }) => stages.includes(data.stage));
    const fields = examples.flatMap((message) => Object.keys(contextOf(message, '')));
    const unknown = used.find((name) => !fields.includes(name));
    const usesKey = used.includes(KEY_FIELD);
    if (usesKey && integrationKey === undefined) {
      return { fault: `uses ${KEY_FIELD}, but WEBHOOK_INTEGRATION_KEY is not given` };
    }
    if (!usesKey && integrationKey !== undefined) {
      return { fault: `does not use ${KEY_FIELD}, but WEBHOOK_INTEGRATION_KEY is given` };
    }
    if (unknown !== undefined) return { fault: `uses ${unknown}, which is no field of a message` };
    const faultWith = (key: string | undefined): string | undefined => {
      for (const message of examples) {
        const fault = faultOf(() => fill(message, key), json, message.data.stage);
        if (fault !== undefined) return fault;
      }
      return undefined;
    };
    const fault = faultWith(integrationKey);
    if (fault === undefined) {
      return {
        write: (message) => ({ text: fill(message, integrationKey), contentType }),
        usesLabels: used.some((name) => LABEL_FIELDS.includes(name)),
      };
    }
    if (integrationKey === undefined) return { fault };
    // The reason may have a part of the body in it: that of one with the key is told to nobody.
    return { fault: faultWith(STAND_IN_KEY) ?? 'cannot be filled in with WEBHOOK_INTEGRATION_KEY' };
  } catch (error) {
    return { fault: `cannot be filled in: ${reasonOf(error)}` };
  }
}

function faultOf(fill: () => string, json: boolean, stage: Stage): string | undefined {
  let text: string;
  try {
    text = fill();
  } catch (error) {
    return `cannot be filled in: ${reasonOf(error)}`;
  }
  if (!json) return undefined;
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return `makes no JSON of the stage ${stage}: ${reasonOf(error)}`;
  }
}

function isJson(contentType: string): boolean {
  return /^[-\w.]+\/([-\w.]+\+)?json\s*(;|$)/i.test(contentType);
}

/** A template may have a key in it, as some receivers want it. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'no reason';
  return error.message.replace(/(\.\.\.)?"[^]*"(\.\.\.)?/, '"…"');
}

const KEY_FIELD = 'integrationKey';
const STAND_IN_KEY = 'key';
const LABEL_FIELDS = ['nodeLabels', 'NodeLabels'];

/** Under our names, and under those of aws-node-termination-handler. */
function contextOf({ data, nodeLabels }: WebhookMessage, integrationKey: string | undefined) {
  return {
    ...data,
    [KEY_FIELD]: integrationKey,
    nodeLabels,
    EventID: data.eventId,
    Kind: data.kind,
    Description: data.description,
    State: data.stage,
    AutoScalingGroupName: data.autoScalingGroup,
    NodeName: data.node,
    NodeLabels: nodeLabels,
    Pods: data.pods,
    InstanceID: data.instanceId,
    ProviderID: data.providerId,
    InstanceType: data.instanceType,
    StartTime: data.startTime,
  };
}
