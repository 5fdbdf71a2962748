// Asking what a panel shows, and again when that changes.
import { useEffect, useRef, useState } from 'preact/hooks';
import { type ApiError, ask } from '../api/ask';
import type { PlanNode } from '../api/shapes';
import { asApiError } from '../hooks';
import { askQuery, type QueryAnswer } from './asking';
import { remember } from './history';
import type { Panel, Tab } from './panels';
import { type Question, questionOf } from './question';
import { tenantHeaders } from './tenant';

export interface Shown {
  busy: boolean;
  answer?: QueryAnswer;
  /** Of a query that was not run. */
  plan?: PlanNode;
  error?: ApiError;
  /** What was asked for this. */
  tab?: Tab;
  question?: Question;
}

/** The answer to the panel's question. `round` asks it once more; nothing is asked while not `ready`. */
export function useQuery(panel: Panel, given: { step: number; gathering: boolean; round: number; ready: boolean }): Shown & { stop: () => void } {
  const [shown, setShown] = useState<Shown>({ busy: false });
  const abort = useRef<AbortController>(undefined);
  const remembered = useRef('');
  const { step, gathering, round, ready } = given;
  // Everything that the question depends on, and nothing else.
  const key = JSON.stringify([
    panel.expr, panel.tab, panel.range, panel.end, panel.explainRange, panel.analyze,
    panel.dedup, panel.partial, panel.resolution, panel.stores, panel.tenant, panel.tab === 'table' ? 0 : step, gathering,
  ]);

  useEffect(() => {
    if (panel.expr.trim() === '' || !ready) return setShown({ busy: false });
    const control = new AbortController();
    abort.current = control;
    const question = questionOf(panel, step, Date.now() / 1000, gathering);
    const about = { busy: false, tab: panel.tab, question };
    setShown((old) => (old.tab === panel.tab ? { ...old, busy: true } : { busy: true }));
    const tenant = gathering ? panel.tenant : '';
    const failed = (error: unknown) => {
      if (!control.signal.aborted) setShown({ ...about, error: asApiError(error) });
    };
    const run = async () => {
      const headers = await tenantHeaders(tenant);
      if (control.signal.aborted) return;
      if (question.path.endsWith('_explain')) {
        const { data } = await ask<PlanNode>(question.path, question.params, control.signal, headers);
        return setShown({ ...about, plan: data });
      }
      const grid = panel.tab === 'graph' ? question.grid : undefined;
      const answer = await askQuery(question.path, question.params, grid, control.signal, headers);
      // Asking again by itself is not asking again.
      if (remembered.current !== panel.expr) remember(panel.expr);
      remembered.current = panel.expr;
      setShown({ ...about, answer });
    };
    run().catch(failed);
    return () => control.abort();
  }, [key, round, ready]);

  const stop = () => {
    abort.current?.abort();
    setShown((old) => ({ ...old, busy: false }));
  };
  return { ...shown, stop };
}
