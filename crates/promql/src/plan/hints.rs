//! Pass: what a source may know about the use of its answer, so that it can do less.

use model::{METRIC_NAME, Projection, Str};

use super::{Map, Node};
use crate::ast::AggregateOp;
use crate::exec::aggregate::Grouping;

/// What stands around a selector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    /// The function or aggregation that eats the samples.
    pub(crate) func: Option<Str>,
    /// The aggregation's grouping.
    pub(crate) grouping: Option<(bool, Vec<Str>)>,
    /// The labels that matter.
    pub(crate) projection: Projection,
    /// Whether something changes values before `func` eats them.
    pub(crate) changed: bool,
    /// Whether the order of series decides: which of equal values stay.
    pub(crate) ordered: bool,
}

impl Around {
    /// What an aggregation says of its input.
    pub(crate) fn aggregate(op: AggregateOp, grouping: &Grouping) -> Self {
        use AggregateOp::*;
        let mut around = Around {
            func: Some(op.as_str().into()),
            grouping: Some((!grouping.without, grouping.labels.clone())),
            projection: Projection::All,
            changed: false,
            ordered: matches!(op, Topk | Bottomk),
        };
        let reduces = matches!(
            op,
            Sum | Avg | Count | Min | Max | Group | Stddev | Stdvar | Quantile
        );
        if reduces && !grouping.without {
            let mut labels = grouping.labels.clone();
            // Annotations speak of the metric's name.
            if !labels.iter().any(|l| &**l == METRIC_NAME) {
                labels.push(METRIC_NAME.into());
            }
            around.projection = Projection::Include(labels);
        } else if reduces {
            around.projection = Projection::Exclude(
                grouping
                    .labels
                    .iter()
                    .filter(|l| &***l != METRIC_NAME)
                    .cloned()
                    .collect(),
            );
        }
        around
    }

    /// What eats the samples of an input as they are.
    pub(crate) fn eater(&self) -> Option<&str> {
        self.func.as_deref().filter(|_| !self.changed)
    }

    /// What of it reaches the input of `node`.
    pub(crate) fn below(&self, node: &Node) -> Self {
        match node {
            Node::Map(_, Map::LabelReplace(_) | Map::LabelJoin(_)) => Around::default(),
            Node::Map(..) => Around {
                changed: true,
                ..self.clone()
            },
            Node::Invariant(_) => self.clone(),
            _ => Around::default(),
        }
    }
}
