import type { NodeSpec } from '../stand-ins/kubelet.ts';
import type { Chance } from './chance.ts';
import type { SandboxCluster } from './cluster.ts';

export type Machine = { readonly name: string; readonly zone: string; readonly instanceId: string };

const region = 'eu-central-1';
const zones = ['a', 'b', 'c'] as const;

/** Makes machines, zone by zone, under names that are never used twice. */
export function createFoundry(cluster: SandboxCluster, chance: Chance): () => Machine {
  let made = 0;
  return () => {
    const letter = zones[made % zones.length] ?? 'a';
    const number = Math.floor(made / zones.length) + 1;
    made += 1;
    return {
      name: `${cluster.nodePrefix}-${letter}${number}`,
      zone: `${region}${letter}`,
      instanceId: madeUpInstanceId(chance),
    };
  };
}

export function madeUpInstanceId(chance: Chance): string {
  const digits = Array.from({ length: 16 }, () => Math.floor(chance.next() * 16).toString(16));
  return `i-0${digits.join('')}`;
}

export function nodeSpecOf({ label }: SandboxCluster, machine: Machine): NodeSpec {
  return {
    ...machine,
    labels: { [label.key]: label.value },
    // Pods of others, in a cluster that has any, are not to come here.
    taints: [{ ...label, effect: 'NoSchedule' }],
  };
}
