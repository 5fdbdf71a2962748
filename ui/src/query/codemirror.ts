// The editor proper; a chunk of its own.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, insertNewlineAndIndent } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { lintKeymap } from '@codemirror/lint';
import { Compartment, EditorState, Prec } from '@codemirror/state';
import { drawSelection, EditorView, highlightSpecialChars, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { PromQLExtension } from '@prometheus-io/codemirror-promql';
import { base } from '../location';

export interface Mounted {
  setText(text: string): void;
  setDark(dark: boolean): void;
  focus(): void;
  destroy(): void;
}

// The colours are the page's own variables, so that one style serves both themes.
const colours = HighlightStyle.define([
  { tag: tags.number, color: 'var(--code-number)' },
  { tag: tags.string, color: 'var(--code-string)' },
  { tag: tags.keyword, color: 'var(--code-keyword)' },
  { tag: tags.function(tags.variableName), color: 'var(--code-function)' },
  { tag: tags.labelName, color: 'var(--code-label)' },
  { tag: tags.operator, color: 'var(--code-operator)' },
  { tag: tags.modifier, color: 'var(--code-keyword)' },
  { tag: tags.paren, color: 'var(--muted)' },
  { tag: tags.squareBracket, color: 'var(--muted)' },
  { tag: tags.brace, color: 'var(--muted)' },
  { tag: tags.invalid, color: 'var(--bad)' },
  { tag: tags.comment, color: 'var(--muted)', fontStyle: 'italic' },
]);

const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? '';

// One for the page: metric names are asked for once.
const promql = new PromQLExtension().activateLinter(true).setComplete({
  remote: { url: base, httpMethod: 'GET', cache: { maxAge: 60_000 } },
});

export function mount(
  parent: HTMLElement,
  text: string,
  on: { change: (text: string) => void; run: (text: string) => void },
): Mounted {
  const theme = new Compartment();
  const run = (view: EditorView) => {
    on.run(view.state.doc.toString());
    return true;
  };
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        nonce ? EditorView.cspNonce.of(nonce) : [],
        history(),
        highlightSpecialChars(),
        drawSelection(),
        indentOnInput(),
        bracketMatching(),
        closeBrackets(),
        autocompletion({ icons: false }),
        syntaxHighlighting(colours),
        EditorView.lineWrapping,
        placeholder('Expression'),
        promql.asExtension(),
        theme.of(EditorView.theme({}, { dark: false })),
        // Before everything but an open completion list, which takes Enter for itself.
        keymap.of([...completionKeymap, ...closeBracketsKeymap]),
        Prec.high(
          keymap.of([
            { key: 'Mod-Enter', run },
            { key: 'Ctrl-Enter', run },
            { key: 'Shift-Enter', run },
            { key: 'Alt-Enter', run: insertNewlineAndIndent },
          ]),
        ),
        keymap.of([{ key: 'Enter', run }, ...defaultKeymap, ...historyKeymap, ...lintKeymap]),
        EditorView.contentAttributes.of({ 'aria-label': 'PromQL expression' }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) on.change(update.state.doc.toString());
        }),
      ],
    }),
  });
  return {
    setText(next) {
      const now = view.state.doc.toString();
      if (now !== next) view.dispatch({ changes: { from: 0, to: now.length, insert: next } });
    },
    setDark(dark) {
      view.dispatch({ effects: theme.reconfigure(EditorView.theme({}, { dark })) });
    },
    focus() {
      view.focus();
      view.dispatch({ selection: { anchor: view.state.doc.length } });
    },
    destroy: () => view.destroy(),
  };
}
