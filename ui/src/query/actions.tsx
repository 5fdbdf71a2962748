// What else can be done with a panel.
import { useContext, useState } from 'preact/hooks';
import { ask } from '../api/ask';
import { SharedContext } from '../context';
import { base } from '../location';
import { Icon } from '../parts/icons';
import { MenuItem, Popover } from '../parts/popover';
import { saveCsv, saveJson } from './export';
import { encode, type Panel } from './panels';
import { curl, questionOf } from './question';
import type { Shown } from './usequery';

export function Actions(props: {
  panel: Panel;
  draft: string;
  step: number;
  shown: Shown;
  onFormat: (expr: string) => void;
  onCopy: () => void;
  onRemove?: () => void;
}) {
  const { panel, shown, draft } = props;
  const { gathering } = useContext(SharedContext);
  const [said, setSaid] = useState('');
  const say = (text: string) => {
    setSaid(text);
    setTimeout(() => setSaid(''), 2500);
  };
  const copy = async (text: string, what: string) => {
    try {
      await navigator.clipboard.writeText(text);
      say(`${what} copied`);
    } catch {
      say('The browser allows copying on secure pages only');
    }
  };
  const format = async () => {
    try {
      const { data } = await ask<string>('format_query', { query: draft });
      props.onFormat(data);
    } catch (error) {
      say(error instanceof Error ? error.message : 'It cannot be read');
    }
  };
  const root = location.origin + base;
  const answer = shown.answer;
  return (
    <span class="actions">
      <span class="said" role="status">
        {said}
      </span>
      <Popover class="icon-button" align="right" title="More actions" name="More actions" label={<Icon name="more" />}>
        {(close) => {
          const item = (icon: Parameters<typeof Icon>[0]['name'], text: string, act: () => void) => (
            <MenuItem
              onClick={() => {
                close();
                act();
              }}
            >
              <Icon name={icon} /> {text}
            </MenuItem>
          );
          return (
            <div class="menu">
              {item('format', 'Format the expression', () => void format())}
              {item('plus', 'Duplicate the panel', props.onCopy)}
              {item('link', 'Copy a link to this panel', () =>
                void copy(`${root}/query?${encode([{ ...panel, expr: draft }])}`, 'Link'))}
              {item('config', 'Copy as curl', () =>
                void copy(curl(root, shown.question ?? questionOf(panel, props.step, Date.now() / 1000, gathering)), 'Command'))}
              {answer && <hr />}
              {answer && item('down', 'Save as CSV', () => void saveCsv(answer))}
              {answer && item('down', 'Save as JSON', () => saveJson(answer))}
              {props.onRemove && <hr />}
              {props.onRemove && item('close', 'Remove the panel', props.onRemove)}
            </div>
          );
        }}
      </Popover>
    </span>
  );
}
