// The query page: panels, each with an expression, a table and a graph.
import { useEffect, useRef, useState } from 'preact/hooks';
import { go, path, useLocation } from '../location';
import { Icon } from '../parts/icons';
import { PanelView } from './panel';
import { decode, encode, newPanel, type Panel } from './panels';

const title = document.title;

export function QueryPage() {
  const at = useLocation();
  const [panels, setPanels] = useState(() => decode(location.search));
  // What we wrote ourselves needs no reading.
  const written = useRef(location.search.slice(1));

  useEffect(() => {
    if (path() !== '/query') return;
    const search = location.search.slice(1);
    if (search !== written.current) {
      written.current = search;
      setPanels(decode(search));
    }
  }, [at]);

  const first = panels[0]?.expr;
  useEffect(() => {
    document.title = first ? `${first.slice(0, 80)} · ${title}` : title;
    return () => {
      document.title = title;
    };
  }, [first]);

  const change = (next: Panel[], replace = false) => {
    setPanels(next);
    const bare = next.length === 1 && next[0]?.expr === '';
    written.current = bare ? '' : encode(next);
    go('/query' + (written.current ? '?' + written.current : ''), replace);
  };

  return (
    <div class="query-page">
      <h1 class="visually-hidden">Query</h1>
      {panels.map((panel, i) => (
        <PanelView
          key={panel.id}
          panel={panel}
          number={i + 1}
          // A page of several must not jump to one of them.
          focus={panels.length === 1 || (panel.expr === '' && i === panels.length - 1)}
          onChange={(next, replace) => change(panels.map((p) => (p.id === next.id ? next : p)), replace)}
          onRemove={panels.length > 1 ? () => change(panels.filter((p) => p.id !== panel.id)) : undefined}
          onCopy={() => change(panels.flatMap((p) => (p.id === panel.id ? [p, newPanel(p)] : [p])))}
        />
      ))}
      <button
        type="button"
        class="quiet add"
        data-shortcut="add-panel"
        onClick={() => {
          const last = panels[panels.length - 1];
          setPanels([...panels, newPanel({ ...last, expr: '' })]);
        }}
      >
        <Icon name="plus" size={14} /> Add a query
      </button>
    </div>
  );
}
