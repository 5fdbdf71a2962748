// Expressions that are shown, not written: coloured, and a way to the query page.
import { newPanel, encode, type Panel } from '../query/panels';
import { Link } from './basics';

const TOKEN = /("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(#.*)|([a-zA-Z_:][\w:]*)(?=(\s*\()?)|(\[[^\]]*\])|(\d[\w.]*)|([=!<>]=?~?|[-+*/%^@])|(\s+|.)/g;
const WORDS = new Set('and or unless by without on ignoring group_left group_right offset bool start end sum min max avg count group stddev stdvar topk bottomk quantile count_values limitk'.split(' '));

/** PromQL in colours; good enough to read, the editor knows better. */
export function Expr({ text }: { text: string }) {
  const parts = [...text.matchAll(TOKEN)].map((match, i) => {
    const [whole, string, comment, word, call, range, number, operator] = match;
    const kind = string
      ? 'string'
      : comment
        ? 'comment'
        : word
          ? WORDS.has(word)
            ? 'keyword'
            : call !== undefined
              ? 'function'
              : 'name'
          : range || number
            ? 'number'
            : operator
              ? 'operator'
              : '';
    return kind ? (
      <span key={i} class={`code-${kind}`}>
        {whole}
      </span>
    ) : (
      whole
    );
  });
  return <code class="expr">{parts}</code>;
}

/** Leads to the query page with this expression. */
export function ExprLink(props: { text: string; tab?: Panel['tab'] }) {
  return (
    <Link to={`/query?${encode([newPanel({ expr: props.text, tab: props.tab ?? 'table' })])}`} class="expr-link" title="Ask this">
      <Expr text={props.text} />
    </Link>
  );
}
