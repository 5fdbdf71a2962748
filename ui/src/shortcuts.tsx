// Keys that work everywhere but where one writes.
import { useEffect, useRef, useState } from 'preact/hooks';
import { go } from './location';
import type { PageEntry } from './nav';
import { Dialog } from './parts/popover';

const isWriting = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

const press = (name: string) => {
  const element = document.querySelector<HTMLElement>(`[data-shortcut="${name}"]`);
  if (element instanceof HTMLInputElement) element.focus();
  else element?.click();
  return element !== null;
};

/** Puts the writer into the first expression or search of the page. */
function focusWriting(): boolean {
  const editor = document.querySelector<HTMLElement>('.cm-content, .editor textarea');
  editor?.focus();
  return editor !== null || press('search');
}

/** Listens for keys; the answer is the help, if it is open. */
export function Shortcuts({ pages, onTheme }: { pages: PageEntry[]; onTheme: () => void }) {
  const [help, setHelp] = useState(false);
  const going = useRef(0);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === 'Escape' && isWriting(event.target) && !event.defaultPrevented) {
        (event.target as HTMLElement).blur();
        return;
      }
      if (isWriting(event.target) || document.querySelector('dialog[open]')) return;
      // `g` and then a page, within a second and a half.
      if (Date.now() - going.current < 1500) {
        going.current = 0;
        const page = pages.find((p) => p.key === event.key);
        if (page) {
          event.preventDefault();
          go(`/${page.name}`);
        }
        return;
      }
      const acts: Record<string, () => unknown> = {
        g: () => (going.current = Date.now()),
        '?': () => setHelp(true),
        '/': focusWriting,
        e: focusWriting,
        m: () => press('explorer'),
        h: () => press('history'),
        n: () => press('add-panel'),
        r: () => press('refresh'),
        d: onTheme,
      };
      const act = acts[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    const ask = () => setHelp(true);
    addEventListener('keydown', key);
    addEventListener('show-shortcuts', ask);
    return () => {
      removeEventListener('keydown', key);
      removeEventListener('show-shortcuts', ask);
    };
  }, [pages, onTheme]);
  if (!help) return null;
  return (
    <Dialog title="Keys" onClose={() => setHelp(false)}>
      <div class="keys">
        <section>
          <h3>Everywhere</h3>
          <Keys
            keys={[
              ['?', 'this help'],
              ['/', 'write a query, or search'],
              ['Esc', 'leave a field, close'],
              ['d', 'next theme'],
            ]}
          />
          <h3>Queries</h3>
          <Keys
            keys={[
              ['Enter', 'ask'],
              ['Alt+Enter', 'a new line'],
              ['Ctrl+Space', 'complete'],
              ['m', 'metrics explorer'],
              ['h', 'history'],
              ['n', 'one more panel'],
              ['← →', 'walk along a graph that has the focus'],
            ]}
          />
        </section>
        <section>
          <h3>Go to</h3>
          <Keys keys={pages.map((page) => [`g ${page.key}`, page.title])} />
        </section>
      </div>
    </Dialog>
  );
}

function Keys({ keys }: { keys: [string, string][] }) {
  return (
    <dl>
      {keys.map(([key, what]) => (
        <div key={key}>
          <dt>
            {key.split(' ').map((one, i) => (
              <kbd key={i}>{one}</kbd>
            ))}
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
  );
}
