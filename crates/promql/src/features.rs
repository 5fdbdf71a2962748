//! Which optional parts of the language are on.

/// The parts of the language that Prometheus hides behind `--enable-feature`. The field names say
/// the flags' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`: experimental functions and the aggregations `limitk` and
    /// `limit_ratio`.
    pub experimental_functions: bool,
    /// `promql-duration-expr`: arithmetic in durations. On by default, as in Prometheus 3.14,
    /// where the flag has no effect any more.
    pub duration_expr: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub binop_fill_modifiers: bool,
    /// Thanos' `--query.enable-x-functions`: `xrate`, `xincrease` and `xdelta`.
    pub x_functions: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expr: true,
            extended_range_selectors: false,
            binop_fill_modifiers: false,
            x_functions: false,
        }
    }
}

impl Features {
    /// The whole language, Thanos' functions included.
    pub const ALL: Features = Features {
        experimental_functions: true,
        duration_expr: true,
        extended_range_selectors: true,
        binop_fill_modifiers: true,
        x_functions: true,
    };

    /// Turns on what `flag` (one value of `--enable-feature`) names; `false` if it names nothing of
    /// the language.
    pub fn enable(&mut self, flag: &str) -> bool {
        match flag {
            "promql-experimental-functions" => self.experimental_functions = true,
            "promql-duration-expr" => self.duration_expr = true,
            "promql-extended-range-selectors" => self.extended_range_selectors = true,
            "promql-binop-fill-modifiers" => self.binop_fill_modifiers = true,
            _ => return false,
        }
        true
    }
}
