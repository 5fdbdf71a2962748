//! Functions of one value.

use crate::elementary;

/// The function of this name, if it maps each value alone.
pub(crate) fn value_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => elementary::exp,
        "sqrt" => f64::sqrt,
        "ln" => elementary::ln,
        "log2" => elementary::log2,
        "log10" => elementary::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => elementary::sinh,
        "cosh" => elementary::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        "minute" => |v| (seconds(v) % 3600 / 60) as f64,
        "hour" => |v| (seconds(v) % 86_400 / 3600) as f64,
        // Day 0 was a Wednesday.
        "day_of_week" => |v| ((days(v) + 3) % 7) as f64,
        "day_of_month" => |v| date(v).2 as f64,
        "month" => |v| date(v).1 as f64,
        "year" => |v| date(v).0 as f64,
        "day_of_year" => |v| {
            let (year, month, day) = date(v);
            (days_of(year, month, day) - days_of(year, 1, 1) + 1) as f64
        },
        "days_in_month" => |v| {
            let (year, month, _) = date(v);
            let (next_year, next) = if month == 12 {
                (year + 1, 1)
            } else {
                (year, month + 1)
            };
            (days_of(next_year, next, 1) - days_of(year, month, 1)) as f64
        },
        _ => return None,
    })
}

/// Years from the beginning of Go's calendar, the 1st of March 292277022400 years before year 0.
const BEFORE_ZERO: i64 = 292_277_022_400;
/// Days from there to the epoch.
const BEFORE_EPOCH: u64 = BEFORE_ZERO as u64 / 400 * 146_097 + 719_468;

/// Seconds since the beginning of Go's calendar, where they wrap as they do there: what does not
/// fit an int64 is converted as amd64 does it, into the least.
fn seconds(v: f64) -> u64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let seconds = if (-LIMIT..LIMIT).contains(&v) {
        v as i64
    } else {
        i64::MIN
    };
    (seconds as u64).wrapping_add(BEFORE_EPOCH * 86_400)
}

fn days(v: f64) -> u64 {
    seconds(v) / 86_400
}

/// Year, month and day of a time in seconds; the proleptic Gregorian calendar, counted in eras of
/// 400 years that start in March.
fn date(v: f64) -> (i64, i64, i64) {
    let days = days(v) as i64;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 - BEFORE_ZERO;
    (year + i64::from(month <= 2), month, day)
}

/// The day, counted from the epoch, of a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, v: f64) -> f64 {
        value_function(name).unwrap()(v)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // 2024-02-29T13:14:15Z, a Thursday.
        let t = 1_709_212_455.0;
        for (name, want) in [
            ("year", 2024.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("day_of_week", 4.0),
            ("day_of_year", 60.0),
            ("days_in_month", 29.0),
            ("hour", 13.0),
            ("minute", 14.0),
        ] {
            assert_eq!(call(name, t), want, "{name}");
        }
        assert_eq!(call("year", -1.0), 1969.0);
        assert_eq!(call("day_of_month", -1.0), 31.0);
        assert_eq!(call("hour", -1.0), 23.0);
        // Whatever the answer, no panic.
        for name in ["year", "month", "day_of_year", "days_in_month", "minute"] {
            call(name, f64::NAN);
            call(name, 1e300);
            call(name, -1e300);
        }
        assert!(call("sgn", f64::NAN).is_nan());
        assert_eq!(call("deg", std::f64::consts::PI), 180.0);
    }
}
