import { describe } from 'vitest';
import { declareContract } from './run-cases.ts';
import { startStandInBackend } from './stand-in-backend.ts';

describe('The Kubernetes contract holds for the stand-in', () => {
  declareContract(() => startStandInBackend());
});
