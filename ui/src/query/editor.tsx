// Where expressions are written. A plain field at once; highlighting, completion and hints as soon
// as their chunk is there.
import { useContext, useEffect, useRef, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import type { Mounted } from './codemirror';

interface Props {
  /** What was asked last; a change of it (an example, a step back in history) replaces the text. */
  asked: string;
  /** What is written now, for the plain field. */
  value: string;
  onChange: (value: string) => void;
  onRun: (value: string) => void;
  focus: boolean;
}

export function Editor(props: Props) {
  const { dark } = useContext(SharedContext);
  const host = useRef<HTMLDivElement>(null);
  const plain = useRef<HTMLTextAreaElement>(null);
  const mounted = useRef<Mounted | null>(null);
  const [ready, setReady] = useState(false);
  // The editor lives longer than one rendering: it always calls the newest handlers.
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    let gone = false;
    void import('./codemirror').then(({ mount }) => {
      const parent = host.current;
      if (gone || !parent) return;
      const had = document.activeElement === plain.current;
      mounted.current = mount(parent, latest.current.value, {
        change: (text) => latest.current.onChange(text),
        run: (text) => latest.current.onRun(text),
      });
      mounted.current.setDark(dark);
      setReady(true);
      if (had || latest.current.focus) mounted.current.focus();
    }).catch(() => {
      // Without the chunk the plain field stays, which can do all that is needed.
    });
    return () => {
      gone = true;
      mounted.current?.destroy();
      mounted.current = null;
    };
  }, []);
  // Never the draft: it comes from the editor and is always a little late.
  useEffect(() => {
    if (props.asked !== latest.current.value) mounted.current?.setText(props.asked);
  }, [props.asked]);
  useEffect(() => mounted.current?.setDark(dark), [dark]);

  return (
    <div class="editor">
      <div ref={host} class="editor-host" />
      {!ready && (
        <textarea
          ref={plain}
          aria-label="PromQL expression"
          rows={1}
          spellcheck={false}
          placeholder="Expression"
          value={props.value}
          onInput={(e) => props.onChange(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === 'Enter' && !e.altKey) {
              e.preventDefault();
              props.onRun(props.value);
            }
          }}
        />
      )}
    </div>
  );
}
