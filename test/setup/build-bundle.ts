import { bundle } from '../../scripts/build.ts';

/** Tests that start the controller run what users run: the bundle, made once from the sources as they are. */
export async function setup(): Promise<void> {
  await bundle('src/main.ts', 'dist/main.js');
}
