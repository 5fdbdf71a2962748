//! What is kept of native histograms under `sum` and `avg`: one cell a group and step.

use std::sync::Arc;

use model::histogram::CounterReset;
use model::{Symbol, Symbols};

use super::Op;
use crate::annotations::{Note, Operation};
use crate::histogram::Histogram;
use crate::histogram::sum::{Added, Incompatible, Sum};
use crate::kernels::histograms::Mean;

/// The histograms of one group at one step, in the order of series.
#[derive(Debug)]
pub(super) struct Cell {
    of: Of,
    /// Whether there is a float too.
    pub(super) floats: bool,
    reset: bool,
    not_reset: bool,
    reconciled: bool,
    /// The name of the first series with a histogram.
    name: Symbol,
}

#[derive(Debug)]
enum Of {
    /// A float came first: whatever follows, there is no result.
    Nothing,
    Sum(Sum),
    Mean(Mean),
    /// Exponential and custom buckets met, at a series of this name.
    Incompatible(Symbol),
}

impl Cell {
    /// The cell of a first histogram; a float may have come before it.
    pub(super) fn new(op: Op, h: &Histogram, name: Symbol, floats: bool) -> Self {
        let of = match op {
            _ if floats => Of::Nothing,
            Op::Avg => Of::Mean(Mean::new(h.as_ref())),
            _ => Of::Sum(Sum::compensated(h.as_ref())),
        };
        let mut cell = Self {
            of,
            floats,
            reset: false,
            not_reset: false,
            reconciled: false,
            name,
        };
        cell.hint(h);
        cell
    }

    fn hint(&mut self, h: &Histogram) {
        if !matches!(self.of, Of::Nothing) {
            self.reset |= h.scalars.counter_reset == CounterReset::Reset;
            self.not_reset |= h.scalars.counter_reset == CounterReset::NotReset;
        }
    }

    fn met(&mut self, result: Result<Added, Incompatible>, name: Symbol) {
        match result {
            Ok(added) => self.reconciled |= added.reconciled,
            Err(Incompatible) => self.of = Of::Incompatible(name),
        }
    }

    /// Adds a histogram of a series called `name`.
    pub(super) fn add(&mut self, h: &Histogram, name: Symbol) {
        if matches!(self.of, Of::Incompatible(_)) {
            return;
        }
        self.hint(h);
        let result = match &mut self.of {
            Of::Sum(sum) => sum.add(h.as_ref(), 1.0),
            Of::Mean(mean) => mean.add(h.as_ref()),
            Of::Nothing | Of::Incompatible(_) => return,
        };
        self.met(result, name);
    }

    /// Notes a float.
    pub(super) fn meet_float(&mut self) {
        self.floats |= !matches!(self.of, Of::Incompatible(_));
    }

    /// Notes a float of an earlier series.
    pub(super) fn come_after_float(&mut self) {
        self.floats = true;
        self.reconciled = false;
        self.of = Of::Nothing;
    }

    /// Adds the histograms of later series.
    pub(super) fn merge(&mut self, other: Cell) {
        if matches!(self.of, Of::Incompatible(_)) {
            return;
        }
        self.floats |= other.floats;
        if matches!(self.of, Of::Nothing) {
            return;
        }
        self.reset |= other.reset;
        self.not_reset |= other.not_reset;
        self.reconciled |= other.reconciled;
        let result = match (&mut self.of, other.of) {
            (Of::Sum(sum), Of::Sum(more)) => sum.merge(more),
            (Of::Mean(mean), Of::Mean(more)) => mean.merge(more),
            (of, Of::Incompatible(name)) => {
                *of = Of::Incompatible(name);
                return;
            }
            _ => return,
        };
        self.met(result, other.name);
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.of {
                Of::Sum(sum) => sum.bytes(),
                Of::Mean(mean) => mean.sum().bytes(),
                Of::Nothing | Of::Incompatible(_) => 0,
            }
    }

    /// The result, if there is one, and what has to be said.
    pub(super) fn finish(
        self,
        symbols: &Symbols,
        say: &mut dyn FnMut(Note),
    ) -> Option<Arc<Histogram>> {
        if self.reconciled {
            say(Note::Reconciled(Operation::Aggregation));
        }
        if let Of::Incompatible(name) = self.of {
            say(Note::MixedSchemas(symbols.get(name).into()));
        }
        if self.floats {
            say(Note::MixedGroup);
            return None;
        }
        let mut h = match self.of {
            Of::Sum(sum) => sum.finish(),
            Of::Mean(mean) => mean.finish(),
            Of::Nothing | Of::Incompatible(_) => return None,
        };
        if self.reset && self.not_reset {
            say(Note::Collision(Operation::Aggregation));
        }
        h.compacted = true;
        Some(Arc::new(h))
    }
}
