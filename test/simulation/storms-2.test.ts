import { stormsTest } from './storms.ts';

stormsTest(1, 2);
