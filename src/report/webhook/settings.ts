import { readFileSync } from 'node:fs';
import type { Concealed } from '../concealed.ts';
import { cloudEvents, templateFormat, type BodyFormat } from './body.ts';
import type { Stage } from './message.ts';

/** The options of the webhook, each right by itself. */
export type WebhookOptions = Readonly<{
  webhookUrl?: Concealed<URL> | undefined;
  webhookTemplate?: Concealed<string> | undefined;
  webhookTemplateFile?: string | undefined;
  webhookHeaders?: Concealed<Headers> | undefined;
  webhookSecret?: Concealed<readonly string[]> | undefined;
  webhookIntegrationKey?: Concealed<string> | undefined;
  webhookStages: readonly Stage[];
}>;

type Headers = Readonly<Record<string, string>>;

export type WebhookSettings = Readonly<{
  url: URL;
  /** Names in lower case. */
  headers: Headers;
  secrets: readonly string[];
  stages: readonly Stage[];
  format: BodyFormat;
}>;

/** In lower case. Set for each message, or between us and whoever is next on its way. */
export const RESERVED_HEADERS: readonly string[] = [
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authorization',
  'transfer-encoding',
  'upgrade',
  'webhook-id',
  'webhook-signature',
  'webhook-timestamp',
];

const LONGEST_TEMPLATE = 64 * 1024;

/** What the options make together, or why they do not fit. Reads the file of the template. */
export function webhookSettings(
  options: WebhookOptions,
  environment: Readonly<Record<string, string | undefined>>,
): WebhookSettings | undefined | Readonly<{ faults: readonly string[] }> {
  const { webhookUrl, webhookHeaders, webhookSecret, webhookStages: stages } = options;
  const faults: string[] = [];
  const headers = Object.fromEntries(
    Object.entries(webhookHeaders?.reveal() ?? {}).map(([name, value]) => [
      name.toLowerCase(),
      value,
    ]),
  );
  for (const name of RESERVED_HEADERS) {
    if (name in headers)
      faults.push(`WEBHOOK_HEADERS has ${name} in it, which is not for it to set.`);
  }
  const { 'content-type': contentType, ...others } = headers;
  const format = formatOf(options, contentType);
  if ('fault' in format) faults.push(format.fault);
  else if (contentType !== undefined && format === cloudEvents) {
    faults.push(
      'WEBHOOK_HEADERS has content-type in it, but without WEBHOOK_TEMPLATE a message is a CloudEvent, which says itself what it is.',
    );
  }
  for (const [key, variable] of NOTHING_WITHOUT_URL) {
    if (webhookUrl !== undefined || options[key] === undefined) continue;
    faults.push(`${variable} is given, but WEBHOOK_URL is not.`);
  }
  for (const variable of webhookUrl === undefined ? [] : PROXIES) {
    const proxy = environment[variable];
    if (proxy === undefined || proxy === '' || isProxy(proxy)) continue;
    faults.push(
      `${variable} is no URL of a proxy (http://HOST:PORT), and the webhook would go by it.`,
    );
  }
  if (faults.length > 0 || 'fault' in format) return { faults };
  if (webhookUrl === undefined) return undefined;
  const secrets = webhookSecret?.reveal() ?? [];
  return { url: webhookUrl.reveal(), headers: others, secrets, stages, format };
}

const NOTHING_WITHOUT_URL = [
  ['webhookTemplate', 'WEBHOOK_TEMPLATE'],
  ['webhookTemplateFile', 'WEBHOOK_TEMPLATE_FILE'],
  ['webhookHeaders', 'WEBHOOK_HEADERS'],
  ['webhookSecret', 'WEBHOOK_SECRET'],
  ['webhookIntegrationKey', 'WEBHOOK_INTEGRATION_KEY'],
] as const;

/** As undici reads them. */
const PROXIES = ['https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY'];
const PROXY_PROTOCOLS = ['http:', 'https:', 'socks:', 'socks5:'];

/** `proxy.example.com:3128` is a URL, too: of a protocol `proxy.example.com:`. */
function isProxy(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  const isEncoded = [username, password].every((part) => !/%(?![0-9A-Fa-f]{2})/.test(part));
  return isEncoded && PROXY_PROTOCOLS.includes(protocol);
}

function formatOf(
  {
    webhookTemplate,
    webhookTemplateFile: file,
    webhookStages: stages,
    webhookIntegrationKey,
  }: WebhookOptions,
  contentType = 'application/json',
): BodyFormat | Readonly<{ fault: string }> {
  if (webhookTemplate !== undefined && file !== undefined) {
    return { fault: 'WEBHOOK_TEMPLATE and WEBHOOK_TEMPLATE_FILE are both given: one is enough.' };
  }
  const read = file === undefined ? { text: webhookTemplate?.reveal() } : textIn(file);
  if ('fault' in read) return read;
  const integrationKey = webhookIntegrationKey?.reveal();
  if (read.text === undefined) {
    if (integrationKey === undefined) return cloudEvents;
    return { fault: 'WEBHOOK_INTEGRATION_KEY is given, but no template that uses it.' };
  }
  const name = file === undefined ? 'WEBHOOK_TEMPLATE' : `The template in ${JSON.stringify(file)}`;
  if (read.text.length > LONGEST_TEMPLATE) {
    return { fault: `${name} is longer than ${LONGEST_TEMPLATE} characters.` };
  }
  const format = templateFormat(read.text, contentType, stages, integrationKey);
  return 'fault' in format ? { fault: `${name} ${format.fault}.` } : format;
}

function textIn(file: string): Readonly<{ text: string }> | Readonly<{ fault: string }> {
  try {
    return { text: readFileSync(file, 'utf8') };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { fault: `WEBHOOK_TEMPLATE_FILE cannot be read: ${reason}.` };
  }
}
