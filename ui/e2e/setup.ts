// Starts the processes once for all tests.
import type { TestProject } from 'vitest/node';
import { missing, startWorld, type World } from './processes';

declare module 'vitest' {
  export interface ProvidedContext {
    world: World | null;
  }
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const why = missing();
  if (why) {
    console.log(`SKIPPED: the tests in a browser: ${why}`);
    project.provide('world', null);
    return undefined;
  }
  const [world, stop] = await startWorld();
  project.provide('world', world);
  return stop;
}
