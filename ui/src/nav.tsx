// The pages there are, and which of them this process has.
import type { ComponentType } from 'preact';
import type { IconName } from './parts/icons';
import { AlertmanagersPage } from './pages/alertmanagers';
import { AlertsPage } from './pages/alerts';
import { BlocksPage, BucketPage } from './pages/bucket';
import { ConfigPage } from './pages/config';
import { DiscoveryPage } from './pages/discovery';
import { FlagsPage } from './pages/flags';
import { RulesPage } from './pages/rules';
import { RuntimePage } from './pages/runtime';
import { StoresPage } from './pages/stores';
import { TargetsPage } from './pages/targets';
import { TsdbPage } from './pages/tsdb';
import { QueryPage } from './query/page';

export interface PageEntry {
  /** As the server names it, and its path. */
  name: string;
  title: string;
  icon: IconName;
  view: ComponentType;
  /** The second key of its shortcut, after `g`. */
  key: string;
}

/** All pages, in the groups of the navigation. */
export const GROUPS: PageEntry[][] = [
  [
    { name: 'query', title: 'Query', icon: 'query', view: QueryPage, key: 'q' },
    { name: 'alerts', title: 'Alerts', icon: 'alerts', view: AlertsPage, key: 'a' },
  ],
  [
    { name: 'rules', title: 'Rules', icon: 'rules', view: RulesPage, key: 'r' },
    { name: 'targets', title: 'Targets', icon: 'targets', view: TargetsPage, key: 't' },
    { name: 'service-discovery', title: 'Service discovery', icon: 'discovery', view: DiscoveryPage, key: 'd' },
    { name: 'alertmanager-discovery', title: 'Alertmanagers', icon: 'alertmanagers', view: AlertmanagersPage, key: 'm' },
  ],
  [
    { name: 'stores', title: 'Stores', icon: 'stores', view: StoresPage, key: 's' },
    { name: 'tsdb-status', title: 'Database', icon: 'tsdb', view: TsdbPage, key: 'h' },
    { name: 'bucket', title: 'Bucket', icon: 'blocks', view: BucketPage, key: 'b' },
    { name: 'blocks', title: 'Blocks', icon: 'blocks', view: () => <BlocksPage view="global" />, key: 'k' },
    { name: 'loaded', title: 'Loaded blocks', icon: 'loaded', view: () => <BlocksPage view="loaded" />, key: 'l' },
  ],
  [
    { name: 'status', title: 'Runtime & build', icon: 'status', view: RuntimePage, key: 'i' },
    { name: 'flags', title: 'Flags', icon: 'flags', view: FlagsPage, key: 'f' },
    { name: 'config', title: 'Configuration', icon: 'config', view: ConfigPage, key: 'c' },
  ],
];
export const PAGES = GROUPS.flat();

/** Where pages stood before, in Prometheus' UIs and in ours. */
const MOVED: Record<string, string> = {
  '/': '/query',
  '/graph': '/query',
  '/status/tsdb': '/tsdb-status',
  '/status/flags': '/flags',
  '/status/config': '/config',
  '/about': '/status',
};

export function movedTo(path: string): string | undefined {
  return MOVED[path];
}

/** What the server wrote into the page. */
export function pagesAtFirst(): string[] {
  const names = document.querySelector<HTMLMetaElement>('meta[name="pages"]')?.content.trim() ?? '';
  // Without a server that fills it in (`npm run dev`) all are shown.
  return names === '' || names === 'PAGES' ? PAGES.map((p) => p.name) : names.split(' ');
}
