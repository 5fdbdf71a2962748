// An expression as the tree of its parts, each of which can be asked by itself.
import { parser } from '@prometheus-io/lezer-promql';
import type { SyntaxNode } from '@lezer/common';

export interface Piece {
  /** The part, as it is written. */
  expr: string;
  /** What it does with the parts below it; the whole of what has none. */
  head: string;
  children: Piece[];
}

/** Nodes that give a result of their own. */
const RESULTS = new Set([
  'BinaryExpr', 'AggregateExpr', 'FunctionCall', 'UnaryExpr', 'OffsetExpr', 'StepInvariantExpr', 'SubqueryExpr', 'MatrixSelector', 'VectorSelector',
]);
/** Selectors with their modifiers are one part. */
const LEAVES = new Set(['VectorSelector', 'MatrixSelector']);

/** The parts of an expression; nothing if it cannot be read. */
export function piecesOf(expr: string): Piece | undefined {
  const tree = parser.parse(expr);
  let broken = false;
  tree.iterate({ enter: (node) => void (broken ||= node.type.isError) });
  if (broken) return undefined;
  return below(tree.topNode, expr)[0];
}

function below(node: SyntaxNode, text: string): Piece[] {
  const pieces: Piece[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) {
    if (RESULTS.has(child.name)) pieces.push(pieceOf(child, text));
    else pieces.push(...below(child, text));
  }
  return pieces;
}

function pieceOf(node: SyntaxNode, text: string): Piece {
  const expr = text.slice(node.from, node.to);
  const inner = node.firstChild;
  const modified = (node.name === 'OffsetExpr' || node.name === 'StepInvariantExpr') && inner !== null && LEAVES.has(inner.name);
  const children = LEAVES.has(node.name) || modified ? [] : below(node, text);
  return { expr, head: children.length === 0 ? expr : headOf(node, text), children };
}

function headOf(node: SyntaxNode, text: string): string {
  const of = (child: SyntaxNode | null) => (child ? text.slice(child.from, child.to) : '');
  switch (node.name) {
    case 'AggregateExpr':
      return `${of(node.getChild('AggregateOp'))} ${of(node.getChild('AggregateModifier'))}`.trim();
    case 'FunctionCall':
      return `${of(node.getChild('FunctionIdentifier'))}()`;
    case 'BinaryExpr': {
      // What stands between both sides: the operator and how they are matched.
      const sides = [node.firstChild, node.lastChild];
      return text.slice(sides[0]?.to, sides[1]?.from).replace(/\s+/g, ' ').trim();
    }
    case 'UnaryExpr':
      return of(node.firstChild);
    default:
      // A subquery, an offset, an `@`: what follows the part.
      return text.slice(node.firstChild?.to ?? node.from, node.to).trim();
  }
}
