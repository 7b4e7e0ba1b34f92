import type { LooseObject } from './answer.ts';
import type { ContractCase } from './case.ts';

let writes = 0;

/** No two are the same: a renewal that changes nothing would be none. */
function microTime(): string {
  writes = (writes + 1) % 1000;
  return new Date().toISOString().replace('Z', `${String(writes).padStart(3, '0')}Z`);
}

const held = (holderIdentity: string) => ({
  holderIdentity,
  leaseDurationSeconds: 15,
  acquireTime: microTime(),
  renewTime: microTime(),
  leaseTransitions: 0,
});

export const leaseCases: readonly ContractCase[] = [
  {
    name: 'A Lease is created once',
    async run({ expect, paths, send }) {
      const lease = { metadata: { name: 'lease' }, spec: held('one') };
      const first = await send('POST', paths.leases, lease);
      expect(first.status).toBe(201);
      expect(first.object).toMatchObject({
        kind: 'Lease',
        apiVersion: 'coordination.k8s.io/v1',
        spec: lease.spec,
      });
      const second = await send('POST', paths.leases, lease);
      expect(second.status).toBe(409);
      expect(second.failure).toMatchObject({
        reason: 'AlreadyExists',
        message: 'leases.coordination.k8s.io "lease" already exists',
      });
    },
  },
  {
    name: 'A Lease is renewed by a PUT with its version; a stale one is 409, none is 422',
    async run({ expect, paths, send }) {
      const path = `${paths.leases}/lease`;
      const made = await send('POST', paths.leases, {
        metadata: { name: 'lease' },
        spec: held('one'),
      });
      const { resourceVersion } = made.object.metadata;
      const renew = (version?: string) =>
        send('PUT', path, {
          metadata: { name: 'lease', ...(version !== undefined && { resourceVersion: version }) },
          spec: held('one'),
        });
      const renewed = await renew(resourceVersion);
      expect(renewed.status).toBe(200);
      expect(renewed.object.metadata.resourceVersion).not.toBe(resourceVersion);
      const stale = await renew(resourceVersion);
      expect(stale.status).toBe(409);
      expect(stale.failure).toMatchObject({
        reason: 'Conflict',
        details: { name: 'lease', kind: 'leases' },
      });
      const without = await renew();
      expect(without.status).toBe(422);
      expect(without.failure).toMatchObject({
        reason: 'Invalid',
        message:
          'leases.coordination.k8s.io "lease" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update',
        details: { causes: [{ field: 'metadata.resourceVersion' }] },
      });
    },
  },
  {
    name: 'Of two contenders with the same version one wins',
    async run({ api, expect, paths, send }) {
      const path = `${paths.leases}/lease`;
      const made = await send('POST', paths.leases, {
        metadata: { name: 'lease' },
        spec: held(''),
      });
      const { resourceVersion } = made.object.metadata;
      const contend = (holder: string) =>
        send('PUT', path, { metadata: { name: 'lease', resourceVersion }, spec: held(holder) });
      const answers = await Promise.all([contend('one'), contend('two'), contend('three')]);
      expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
        200, 409, 409,
      ]);
      const winner = answers.find(({ status }) => status === 200);
      const lease = await api.get<LooseObject>(path);
      expect(lease.spec?.holderIdentity).toBe(winner?.object.spec?.holderIdentity);
    },
  },
  {
    name: 'A PUT of an absent Lease creates it',
    async run({ expect, paths, send }) {
      const put = (name: string, metadata: object) =>
        send('PUT', `${paths.leases}/${name}`, {
          metadata: { name, ...metadata },
          spec: held('one'),
        });
      expect((await put('first', {})).status).toBe(201);
      expect((await put('second', { resourceVersion: '1' })).status).toBe(201);
    },
  },
  {
    name: 'Times of a Lease have exactly six fractional digits',
    async run({ expect, paths, send }) {
      const post = async (name: string, renewTime: string) =>
        send('POST', paths.leases, { metadata: { name }, spec: { ...held('one'), renewTime } });
      expect((await post('six', '2026-01-01T00:00:00.123456Z')).status).toBe(201);
      for (const time of [
        '2026-01-01T00:00:00Z',
        '2026-01-01T00:00:00.123Z',
        '2026-01-01T00:00:00.123456789Z',
        'now',
      ]) {
        const answer = await post('other', time);
        expect(answer.status).toBe(400);
        expect(answer.failure.reason).toBe('BadRequest');
      }
    },
  },
  {
    name: 'A Lease may have an empty holder or none, but no duration of zero',
    async run({ expect, patch, paths, send }) {
      const path = `${paths.leases}/lease`;
      const made = await send('POST', paths.leases, {
        metadata: { name: 'lease' },
        spec: held('one'),
      });
      expect(made.status).toBe(201);
      const { resourceVersion } = made.object.metadata;
      const empty = await send('PUT', path, {
        metadata: { name: 'lease', resourceVersion },
        spec: held(''),
      });
      expect(empty.status).toBe(200);
      expect(empty.object.spec).toHaveProperty('holderIdentity', '');
      const none = await patch(path, { spec: { holderIdentity: null } });
      expect(none.status).toBe(200);
      expect(none.object.spec).not.toHaveProperty('holderIdentity');
      const zero = await patch(path, { spec: { leaseDurationSeconds: 0 } });
      expect(zero.status).toBe(422);
      expect(zero.failure.details?.causes?.[0]?.field).toBe('spec.leaseDurationSeconds');
    },
  },
  {
    name: 'An absent Lease is 404',
    async run({ expect, paths, send }) {
      const answer = await send('GET', `${paths.leases}/absent`);
      expect(answer.status).toBe(404);
      expect(answer.failure).toMatchObject({
        message: 'leases.coordination.k8s.io "absent" not found',
        details: { name: 'absent', group: 'coordination.k8s.io', kind: 'leases' },
      });
    },
  },
  {
    name: 'A standby sees by a watch that the holder has gone, and that the Lease was deleted',
    async run({ api, expect, patch, paths, send, watch }) {
      const path = `${paths.leases}/lease`;
      const made = await send('POST', paths.leases, {
        metadata: { name: 'lease' },
        spec: held('one'),
      });
      const { resourceVersion } = made.object.metadata;
      const selected = new URLSearchParams({
        watch: '1',
        resourceVersion,
        fieldSelector: 'metadata.name=lease',
      });
      const changes = await watch(`${paths.leases}?${selected.toString()}`);
      await patch(path, { spec: { holderIdentity: '' } });
      expect(await changes.next()).toMatchObject({
        type: 'MODIFIED',
        object: { spec: { holderIdentity: '' } },
      });
      await api.delete(path);
      expect(await changes.nextChange()).toBe('DELETED lease');
    },
  },
];
