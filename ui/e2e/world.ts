// Keeps the processes of the tests running, to look at pages by hand: `npm run world`.
import { startWorld } from './processes';

const [world, stop] = await startWorld();
console.log(JSON.stringify(world, null, 2));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stop().then(() => process.exit(0)));
