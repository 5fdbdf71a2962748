//! The orders an instant query can ask for.

use std::sync::Arc;

use futures_util::stream::TryStreamExt as _;

use super::block::{Block, Pair, RowRef};
use super::context::{Context, Weigh as _};
use super::gather::reordered;
use super::operator::{Blocks, Description, Operator, blocking};
use super::pace::sort;
use super::pipe::Pipe;

/// `sort`, `sort_desc`, `sort_by_label*` of an instant query.
pub(crate) struct Sort {
    pub(crate) by: SortBy,
    pub(crate) input: Pipe,
}

/// What decides the order.
#[derive(Clone, Debug)]
pub(crate) enum SortBy {
    Value {
        descending: bool,
    },
    Labels {
        names: Vec<model::Str>,
        descending: bool,
    },
}

impl Operator for Sort {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let blocks: Vec<Block> = self.input.blocks(&cx).try_collect().await?;
            let block = cx
                .run(blocks.weight(), move |cx| {
                    reordered(cx, &blocks, |mut rows| match &self.by {
                        SortBy::Value { descending } => {
                            rows.retain(|r| r.histograms.is_empty());
                            let value = |r: &RowRef<'_>| r.values[0];
                            sort(cx, rows, |a, b| nan_last(value(a), value(b), *descending))
                        }
                        SortBy::Labels { names, descending } => {
                            let symbols = &cx.scope.symbols;
                            let names: Vec<_> = names.iter().map(|n| symbols.intern(n)).collect();
                            sort(cx, rows, |a, b| {
                                let order = by_labels(&names, a.labels, b.labels, symbols);
                                if *descending { order.reverse() } else { order }
                            })
                        }
                    })
                })
                .await?;
            Ok(block.into_iter().collect())
        })
    }

    fn describe(&self) -> Description {
        Description::new(format!("Sort[{:?}]", self.by), false, "series x 2")
            .over([self.input.describe()])
    }
}

fn nan_last(a: f64, b: f64, descending: bool) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

fn by_labels(
    names: &[model::Symbol],
    a: &[Pair],
    b: &[Pair],
    symbols: &model::Symbols,
) -> std::cmp::Ordering {
    for &name in names {
        let (x, y) = (
            super::block::value_of(a, name),
            super::block::value_of(b, name),
        );
        if x != y {
            return natural(symbols.get(x), symbols.get(y));
        }
    }
    symbols.compare(a, b)
}

/// Natural order: runs of digits compare as numbers, everything else bytewise.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (pa, pb) = (pieces(a), pieces(b));
    for (x, y) in pa.iter().zip(&pb) {
        if x == y {
            continue;
        }
        let digits = |s: &str| s.starts_with(|c: char| c.is_ascii_digit());
        if digits(x) && digits(y) {
            let (nx, ny) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            let order = nx.len().cmp(&ny.len()).then_with(|| nx.cmp(ny));
            return order.then_with(|| x.len().cmp(&y.len()));
        }
        return x.cmp(y);
    }
    pa.len().cmp(&pb.len())
}

fn pieces(s: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = s;
    while let Some(first) = rest.bytes().next() {
        let digits = first.is_ascii_digit();
        let end = rest
            .bytes()
            .position(|b| b.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        out.push(piece);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_reads_numbers() {
        use std::cmp::Ordering::*;
        assert_eq!(natural("cpu2", "cpu10"), Less);
        assert_eq!(natural("a", "b"), Less);
        assert_eq!(natural("1.10", "1.9"), Greater);
        assert_eq!(natural("a", "a1"), Less);
        assert_eq!(natural("x", "x"), Equal);
        assert_eq!(nan_last(f64::NAN, 1.0, true), Greater);
        assert_eq!(nan_last(2.0, 1.0, true), Less);
    }
}
