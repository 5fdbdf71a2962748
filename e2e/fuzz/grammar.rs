//! Random queries: valid ones, by types.

use crate::random::Random;

/// What may occur in a query.
#[derive(Clone, Copy)]
pub struct Language {
    /// Functions, modifiers and parameters that came with Prometheus 3, and all that it computes
    /// otherwise than 2.x.
    pub three: bool,
}

/// Makes queries.
pub struct Grammar<'a> {
    pub random: &'a mut Random,
    pub language: Language,
}

const METRICS: &[&str] = &[
    "requests_total",
    "requests_total",
    "errors_total",
    "temperature",
    "temperature",
    "queue_length",
    "build_info",
    "job_info",
    "latency_seconds_bucket",
    "latency_seconds_count",
];
const MATCHERS: &[&str] = &[
    "job=\"api\"",
    "job!=\"db\"",
    "job=~\"api|web\"",
    "job!~\"w.*\"",
    "instance=~\".*-[01]:.*\"",
    "instance=~\"db-.+\"",
    "instance!~\".*-3:9100\"",
    "instance=\"web-2:9100\"",
    "code=\"500\"",
    "code=~\"2..\"",
    "code!=\"\"",
    "code=\"\"",
    "le=\"0.5\"",
    "le!=\"+Inf\"",
    "version=~\"1\\\\.[23]\"",
    "queue=~\"(?i)MAIN\"",
    "job=~\"\"",
    "job=~\".*\"",
    "job!~\"\"",
];
const LABELS: &[&str] = &["job", "instance", "code", "le", "version", "owner", "nope"];
const RANGES: &[&str] = &["15s", "30s", "1m", "2m30s", "5m", "10m", "17m", "1h", "3h"];
const OFFSETS: &[&str] = &["30s", "1m", "7m", "1h", "-1m", "-10m"];
const SIMPLE: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "exp",
    "sqrt",
    "ln",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "rad",
    "deg",
    "sgn",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
    "timestamp",
    "absent",
    "sort",
    "sort_desc",
    "-",
    "+",
    "round",
];
const OVER_TIME: &[&str] = &[
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "changes",
    "resets",
    "irate",
    "idelta",
    "deriv",
];
const RATES: &[&str] = &["rate", "increase", "delta", "rate"];
const OVER_TIME_3: &[&str] = &[
    "first_over_time",
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
];
const AGGREGATIONS: &[&str] = &[
    "sum", "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^"];
const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
const NUMBERS: &[&str] = &[
    "0", "1", "2", "0.5", "-1", "10", "42.5", "1e3", "0x10", "1e-9", "Inf", "-Inf", "NaN", "5m",
];

impl Grammar<'_> {
    /// A query whose answer has series or is a number.
    pub fn query(&mut self) -> String {
        match self.random.below(20) {
            0 => self.scalar(2),
            _ => {
                let depth = 1 + self.random.below(4);
                loop {
                    let query = self.vector(depth);
                    // What is left over of a huge number is noise.
                    if !(query.contains(" ^ ") && query.contains(" % ")) {
                        return query;
                    }
                }
            }
        }
    }

    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        self.random.pick(of)
    }

    fn number(&mut self) -> String {
        match self.random.below(3) {
            0 => format!("{}", self.random.below(1000) as f64 / 10.0),
            _ => {
                let n = self.pick(NUMBERS);
                if n == "5m" && !self.language.three {
                    return "300".to_owned();
                }
                n.to_owned()
            }
        }
    }

    fn selector(&mut self) -> String {
        let mut out = String::new();
        let mut matchers = Vec::new();
        match self.random.below(25) {
            0 => matchers.push("__name__=~\"temp.*|queue_length\"".to_owned()),
            1 if self.language.three => matchers.push("\"utf8.metric\"".to_owned()),
            2 => matchers.push("__name__=~\".*_total\"".to_owned()),
            3 => out.push_str("nothing"),
            _ => out.push_str(self.pick(METRICS)),
        }
        while self.random.chance(35) {
            matchers.push(self.pick(MATCHERS).to_owned());
        }
        if !matchers.is_empty() {
            out.push_str(&format!("{{{}}}", matchers.join(",")));
        }
        out
    }

    /// `offset` and `@`, mostly none.
    fn shift(&mut self) -> String {
        let mut out = String::new();
        if self.random.chance(12) {
            out.push_str(&format!(" offset {}", self.pick(OFFSETS)));
        }
        if self.random.chance(10) {
            let at = match self.random.below(3) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => {
                    let span = (super::data::END - super::data::START) / 1000;
                    let at = super::data::START / 1000 + self.random.below(span as usize) as i64;
                    format!("{at}.777")
                }
            };
            out.push_str(&format!(" @ {at}"));
        }
        out
    }

    fn range(&mut self, depth: usize) -> String {
        let range = self.pick(RANGES);
        let range = if self.language.three && self.random.chance(5) {
            format!("{range} * 2")
        } else {
            range.to_owned()
        };
        let inner = if depth > 0 && self.random.chance(30) {
            let step = match self.random.below(3) {
                0 => "",
                1 => "30s",
                _ => "1m",
            };
            // A subquery of hours at every step costs both servers too much.
            let range = if range.contains('h') { "10m" } else { &range };
            let inner = self.vector(depth - 1);
            format!("({inner})[{range}:{step}]")
        } else {
            let extension = match self.random.below(20) {
                0 if self.language.three => " anchored",
                1 if self.language.three => " smoothed",
                _ => "",
            };
            format!("{}[{range}]{extension}", self.selector())
        };
        format!("{inner}{}", self.shift())
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.random.below(7) {
            0 | 1 => self.number(),
            2 => "time()".to_owned(),
            3 => format!("scalar({})", self.vector(depth - 1)),
            4 => {
                let op = self.pick(ARITHMETIC);
                format!(
                    "({} {op} {})",
                    self.scalar(depth - 1),
                    self.scalar(depth - 1)
                )
            }
            5 => {
                let op = self.pick(COMPARISONS);
                format!(
                    "({} {op} bool {})",
                    self.scalar(depth - 1),
                    self.scalar(depth - 1)
                )
            }
            _ => format!("-({})", self.scalar(depth - 1)),
        }
    }

    fn labels(&mut self) -> String {
        let n = self.random.below(3);
        let all: Vec<_> = (0..n).map(|_| self.pick(LABELS)).collect();
        all.join(", ")
    }

    fn grouping(&mut self) -> String {
        match self.random.below(4) {
            0 => String::new(),
            1 | 2 => format!(" by ({})", self.labels()),
            _ => format!(" without ({})", self.labels()),
        }
    }

    fn aggregation(&mut self, depth: usize) -> String {
        let inner = self.vector(depth - 1);
        let grouping = self.grouping();
        match self.random.below(12) {
            0 => {
                let op = self.pick(&["topk", "bottomk"]);
                let k = self.random.below(6);
                format!("{op}{grouping} ({k}, {inner})")
            }
            1 => {
                let q = self.pick(&["0.5", "0.9", "0", "1", "-1", "1.5", "NaN", "0.33"]);
                format!("quantile{grouping} ({q}, {inner})")
            }
            2 => {
                // Only of what nobody rounds: the last bit of a value would show in the label.
                let exact = match self.random.below(3) {
                    0 => self.selector(),
                    1 => format!("floor({})", self.selector()),
                    _ => {
                        let f = self.pick(&["changes", "count_over_time", "max_over_time"]);
                        format!("{f}({}[5m])", self.selector())
                    }
                };
                format!("count_values{grouping} (\"v\", {exact})")
            }
            3 if self.language.three => {
                // Of a computed vector, which series come first is up to chance.
                let (k, inner) = (self.random.below(5), self.selector());
                format!("limitk{grouping} ({k}, {inner})")
            }
            4 if self.language.three => {
                let r = self.pick(&["0.5", "-0.5", "0.1", "1", "2"]);
                format!("limit_ratio{grouping} ({r}, {inner})")
            }
            _ => {
                let op = self.pick(AGGREGATIONS);
                format!("{op}{grouping} ({inner})")
            }
        }
    }

    fn matching(&mut self) -> String {
        match self.random.below(4) {
            0 => String::new(),
            1 => format!(" ignoring ({})", self.labels()),
            _ => {
                let labels = self.pick(&["job", "job, instance", "instance", "job, le", ""]);
                format!(" on ({labels})")
            }
        }
    }

    fn join(&mut self, depth: usize) -> String {
        let (op, modifier) = if self.random.chance(65) {
            (self.pick(ARITHMETIC), "")
        } else {
            (
                self.pick(COMPARISONS),
                if self.random.chance(40) { " bool" } else { "" },
            )
        };
        match self.random.below(5) {
            // Many to one: the one side is grouped by what is matched.
            0 => {
                let one = format!("max by (job) ({})", self.vector(depth - 1));
                let many = self.vector(depth - 1);
                format!("{many} {op}{modifier} on (job) group_left {one}")
            }
            1 => {
                let many = self.vector(depth - 1);
                format!("job_info {op}{modifier} on (job) group_right (owner) {many}")
            }
            2 => {
                let grouping = self.grouping();
                let a = self.vector(depth - 1);
                let b = self.vector(depth - 1);
                format!("sum{grouping} ({a}) {op}{modifier} max{grouping} ({b})")
            }
            3 => {
                let selector = self.selector();
                let range = self.pick(RANGES);
                format!("{selector} {op}{modifier} avg_over_time({selector}[{range}])")
            }
            _ => {
                let a = self.vector(depth - 1);
                let matching = self.matching();
                let fill = if self.language.three && self.random.chance(10) {
                    self.pick(&[" fill (0)", " fill_left (1)", " fill_right (2)"])
                } else {
                    ""
                };
                format!(
                    "({a}) {op}{modifier}{matching}{fill} ({})",
                    self.vector(depth - 1)
                )
            }
        }
    }

    fn set(&mut self, depth: usize) -> String {
        let op = self.pick(&["and", "or", "unless"]);
        let (a, matching) = (self.vector(depth - 1), self.matching());
        format!("({a}) {op}{matching} ({})", self.vector(depth - 1))
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.below(12) {
                0 => format!("vector({})", self.number()),
                1 if self.language.three => format!("{} smoothed{}", self.selector(), self.shift()),
                _ => format!("{}{}", self.selector(), self.shift()),
            };
        }
        match self.random.below(20) {
            0 | 1 => self.function(depth),
            2..=5 => self.over_time(depth),
            6..=9 => self.aggregation(depth),
            10 | 11 => self.join(depth),
            12 => self.set(depth),
            13 | 14 => {
                let (op, modifier) = match self.random.below(3) {
                    0 => (self.pick(COMPARISONS), ""),
                    1 => (self.pick(COMPARISONS), " bool"),
                    _ => (self.pick(ARITHMETIC), ""),
                };
                let (v, s) = (self.vector(depth - 1), self.scalar(1));
                if self.random.chance(70) {
                    format!("({v}) {op}{modifier} {s}")
                } else {
                    format!("{s} {op}{modifier} ({v})")
                }
            }
            15 => self.of_labels(depth),
            16 => self.histogram(depth),
            17 => {
                let v = self.vector(depth - 1);
                let (a, b) = (self.scalar(1), self.scalar(1));
                match self.random.below(4) {
                    0 => format!("clamp({v}, {a}, {b})"),
                    1 => format!("clamp_min({v}, {a})"),
                    2 => format!("clamp_max({v}, {a})"),
                    _ => format!("round({v}, {a})"),
                }
            }
            18 if self.language.three && self.random.chance(50) => {
                let v = self.vector(depth - 1);
                match self.random.below(3) {
                    0 => format!("info({v})"),
                    1 => format!("info({v}, {{env=~\".+\"}})"),
                    _ => format!("sort_by_label({v}, \"instance\", \"code\")"),
                }
            }
            _ => self.vector(0),
        }
    }

    fn function(&mut self, depth: usize) -> String {
        let mut f = self.pick(SIMPLE);
        while !self.language.three
            && (f.contains("year")
                || f.contains("month")
                || f.contains("day")
                || f == "hour"
                || f == "minute")
        {
            // What these give for NaN depends on the version of Go.
            f = self.pick(SIMPLE);
        }
        // Of huge numbers these are noise.
        let inner = match f {
            "sin" | "cos" | "tan" => self.selector(),
            _ => self.vector(depth - 1),
        };
        format!("{f}({inner})")
    }

    fn over_time(&mut self, depth: usize) -> String {
        let range = self.range(depth);
        match self.random.below(20) {
            0 => {
                let q = self.pick(&["0.5", "0.9", "0", "1", "-1", "2", "0.123"]);
                format!("quantile_over_time({q}, {range})")
            }
            1 => format!("predict_linear({range}, {})", self.number()),
            2 if self.language.three => {
                format!("double_exponential_smoothing({range}, 0.3, 0.6)")
            }
            3..=5 if self.language.three => format!("{}({range})", self.pick(OVER_TIME_3)),
            6..=12 if self.language.three => format!("{}({range})", self.pick(RATES)),
            _ => format!("{}({range})", self.pick(OVER_TIME)),
        }
    }

    fn of_labels(&mut self, depth: usize) -> String {
        let v = self.vector(depth - 1);
        let (a, b) = (self.pick(LABELS), self.pick(LABELS));
        match self.random.below(5) {
            0 => format!("label_join({v}, \"{a}\", \"-\", \"{b}\", \"job\")"),
            1 => format!("label_replace({v}, \"{a}\", \"$1\", \"{b}\", \"(.*)-.*\")"),
            2 => format!("label_replace({v}, \"{a}\", \"\", \"{b}\", \"\")"),
            3 => format!("label_replace({v}, \"__name__\", \"x_$1\", \"{b}\", \"(.*)\")"),
            _ => {
                format!("label_replace({v}, \"{a}\", \"${{1}}${{x}}z\", \"{b}\", \"(?P<x>a)(.*)\")")
            }
        }
    }

    fn histogram(&mut self, depth: usize) -> String {
        let q = self.pick(&["0.5", "0.9", "0.99", "0", "1", "-0.5", "1.2", "NaN"]);
        let inner = match self.random.below(5) {
            0 => "latency_seconds_bucket".to_owned(),
            1 if self.language.three => "rate(latency_seconds_bucket[5m])".to_owned(),
            2 if self.language.three => {
                "sum by (le) (rate(latency_seconds_bucket{job!=\"db\"}[10m]))".to_owned()
            }
            3 => "sum by (le, job) (latency_seconds_bucket)".to_owned(),
            _ => self.vector(depth - 1),
        };
        if self.language.three && self.random.chance(20) {
            return format!("histogram_fraction(0.1, 2, {inner})");
        }
        format!("histogram_quantile({q}, {inner})")
    }
}
