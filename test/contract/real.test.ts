import { describe } from 'vitest';
import { skipReason } from '../control-plane/binaries.ts';
import { componentsFor } from '../control-plane/control-plane.ts';
import { realOptions, startRealBackend } from './real-backend.ts';
import { declareContract } from './run-cases.ts';

const reason = skipReason(componentsFor(realOptions));

describe.skipIf(reason !== undefined)(
  `The Kubernetes contract holds for the real control plane ${reason ?? ''}`,
  () => {
    declareContract(startRealBackend);
  },
);
