import type { Controller } from './controller.ts';

/** What the controller's own HTTP port answers: `/readyz`, `/metrics`. */
export async function askOverHttp(controller: Controller, path: string): Promise<Response> {
  const { fields } = await controller.waitForLog('http listening');
  return fetch(`http://127.0.0.1:${String(fields?.['port'])}${path}`);
}

/** As Prometheus reads them. */
export async function metricsOf(controller: Controller): Promise<string> {
  return (await askOverHttp(controller, '/metrics')).text();
}
