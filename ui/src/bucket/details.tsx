// Everything about a block, and marking it.
import { useContext, useState } from 'preact/hooks';
import { ApiError, post } from '../api/ask';
import { SharedContext } from '../context';
import { bytes, count, dateTime, span } from '../format';
import { asApiError } from '../hooks';
import { ErrorNotice, Facts } from '../parts/basics';
import { Icon } from '../parts/icons';
import { LabelChips } from '../parts/labels';
import { type Block, resolutionText } from './blocks';

export function Details(props: { block: Block; mayMark: boolean; onClose: () => void; onMarked: () => void; onChoose: (ulid: string) => void }) {
  const { block } = props;
  const { utc } = useContext(SharedContext);
  const ulids = (list: string[]) => (
    <span class="ulids">
      {list.map((ulid) => (
        <button key={ulid} type="button" class="example" onClick={() => props.onChoose(ulid)}>
          {ulid}
        </button>
      ))}
    </span>
  );
  return (
    <aside class="card block-details" aria-label={`Block ${block.ulid}`}>
      <div class="card-head">
        <h2 class="mono">{block.ulid}</h2>
        <button type="button" class="icon-button" aria-label="Close" onClick={props.onClose}>
          <Icon name="close" />
        </button>
      </div>
      {block.marks.map((mark, i) => (
        <p key={i}>
          <span class={mark.kind === 'deletion' ? 'badge bad' : 'badge warn'}>{mark.kind}</span>{' '}
          {[mark.reason, mark.details].filter(Boolean).join(': ')}
          {mark.time !== undefined && <span class="muted small"> {dateTime(mark.time * 1000, utc)}</span>}
        </p>
      ))}
      <Facts
        facts={[
          ['From', dateTime(block.min, utc)],
          ['To', `${dateTime(block.max, utc)} (${span(block.max - block.min)})`],
          ['Resolution', resolutionText(block.resolution)],
          ['Level', String(block.level)],
          ['Made by', block.source || '–'],
          ['Series', count(block.series)],
          ['Samples', count(block.samples)],
          ['Chunks', count(block.chunks)],
          ['Size', block.bytes === undefined ? '–' : bytes(block.bytes)],
          ['Labels', <LabelChips labels={block.labels} />],
          ...(block.parents.length > 0 ? ([['Made of', ulids(block.parents)]] as [string, preact.ComponentChildren][]) : []),
          ...(block.sources.length > 1 ? ([['Sources', `${count(block.sources.length)} first blocks`]] as [string, preact.ComponentChildren][]) : []),
          ...block.files
            .filter((f) => f.bytes !== undefined)
            .map((f): [string, preact.ComponentChildren] => [f.name, bytes(f.bytes ?? 0)]),
        ]}
      />
      {props.mayMark && <Marking ulid={block.ulid} onMarked={props.onMarked} />}
    </aside>
  );
}

const ACTIONS = { DELETION: 'deletion', NO_COMPACTION: 'no compaction' } as const;

function Marking({ ulid, onMarked }: { ulid: string; onMarked: () => void }) {
  const [action, setAction] = useState<keyof typeof ACTIONS>();
  const [detail, setDetail] = useState('');
  const [error, setError] = useState<ApiError>();
  if (!action) {
    return (
      <p class="marking">
        Mark for{' '}
        {Object.entries(ACTIONS).map(([name, text]) => (
          <button key={name} type="button" class="control" onClick={() => setAction(name as keyof typeof ACTIONS)}>
            {text}
          </button>
        ))}
      </p>
    );
  }
  const mark = async () => {
    try {
      await post('blocks/mark', { id: ulid, action, detail });
      setAction(undefined);
      onMarked();
    } catch (why) {
      setError(asApiError(why));
    }
  };
  return (
    <form
      class="marking"
      onSubmit={(e) => {
        e.preventDefault();
        void mark();
      }}
    >
      <p>
        {action === 'DELETION'
          ? 'The compactor deletes a block that is marked so, after its delay. This cannot be undone here.'
          : 'The compactor leaves a block that is marked so as it is.'}
      </p>
      <input type="text" class="field" aria-label="Why" placeholder="Why" value={detail} onInput={(e) => setDetail(e.currentTarget.value)} />
      <button type="submit" class={action === 'DELETION' ? 'primary danger' : 'primary'}>
        Mark for {ACTIONS[action]}
      </button>
      <button type="button" class="quiet" onClick={() => setAction(undefined)}>
        Cancel
      </button>
      {error && <ErrorNotice error={error} />}
    </form>
  );
}
