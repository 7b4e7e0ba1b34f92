import { stormsTest } from './storms.ts';

stormsTest(0, 2);
