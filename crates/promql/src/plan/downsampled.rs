//! Which columns of downsampled data a selector is read from.
//!
//! As Thanos' queriers choose them (`aggrsFromFunc`): minima for `min` and `min_over_time`, and so on;
//! counters for `rate` and its kin; averages for everything else. `count_over_time` adds counts up, so
//! that it counts the samples that were there before.

use model::Millis;
use model::source::Aggregate;

use crate::exec::scan::Kernel;
use crate::kernels::RangeFn;
use crate::kernels::histograms::Newest;

/// The column that `kernel` is computed of; [`Aggregate::Raw`] stands for averages. `eater` is the
/// aggregation right around the selector.
pub(crate) fn column(kernel: Kernel, eater: Option<&str>) -> Aggregate {
    use RangeFn::{Count, Increase, Irate, Max, Min, Rate, Resets, Sum, Xincrease, Xrate};
    match kernel {
        Kernel::Range(func) | Kernel::Extended(func, _) => match func {
            Min => Aggregate::Min,
            Max => Aggregate::Max,
            Sum => Aggregate::Sum,
            Count => Aggregate::Count,
            Rate | Increase | Irate | Resets | Xrate | Xincrease => Aggregate::Counter,
            _ => Aggregate::Raw,
        },
        Kernel::Newest(Newest::Value) => match eater {
            Some("min") => Aggregate::Min,
            Some("max") => Aggregate::Max,
            Some("count") => Aggregate::Count,
            _ => Aggregate::Raw,
        },
        _ => Aggregate::Raw,
    }
}

/// The columns to ask for, as bits.
pub(crate) fn bits(column: Aggregate) -> u8 {
    match column {
        Aggregate::Raw => Aggregate::Count as u8 | Aggregate::Sum as u8,
        column => column as u8,
    }
}

/// The kernel over a column: counts are added up.
pub(crate) fn kernel(kernel: Kernel, column: Aggregate) -> Kernel {
    match (kernel, column) {
        (Kernel::Range(RangeFn::Count), Aggregate::Count) => Kernel::Range(RangeFn::Sum),
        _ => kernel,
    }
}

/// The coarsest resolution that leaves `kernel` two samples in its range, ms.
pub(crate) fn resolution(kernel: Kernel, range: Millis, most: Millis) -> Millis {
    use RangeFn::{
        Delta, Deriv, DoubleExponentialSmoothing, Idelta, Increase, Irate, PredictLinear, Rate,
    };
    match kernel {
        Kernel::Range(
            Rate
            | Irate
            | Increase
            | Delta
            | Idelta
            | Deriv
            | PredictLinear
            | DoubleExponentialSmoothing,
        )
        | Kernel::Extended(Rate | Increase | Delta, _)
            if range > 0 =>
        {
            most.min(range / 2)
        }
        _ => most,
    }
}
