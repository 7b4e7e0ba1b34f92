import type { ContractCase } from './case.ts';
import { budgetCases, evictionCases } from './eviction-cases.ts';
import { leaseCases } from './lease-cases.ts';
import { listCases } from './list-cases.ts';
import { nodeCases } from './node-cases.ts';
import { accessCases, eventCases, workloadCases } from './other-cases.ts';
import { podCases } from './pod-cases.ts';
import { watchCases } from './watch-cases.ts';

/**
 * What a drain controller relies on of a Kubernetes API. Written against the real server; where the
 * stand-in differs, the stand-in is wrong.
 */
export const contractCases: readonly ContractCase[] = [
  ...nodeCases,
  ...podCases,
  ...evictionCases,
  ...budgetCases,
  ...listCases,
  ...watchCases,
  ...leaseCases,
  ...eventCases,
  ...accessCases,
  ...workloadCases,
];
