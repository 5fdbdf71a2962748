//! What a test file says.

use std::collections::BTreeMap;

use model::Millis;
use model::settings::{Blank, Duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

model::settings! {
    /// A test file.
    #[derive(Clone, Debug, PartialEq)]
    pub struct TestFile ("main.unitTestFile") {
        /// Patterns of rule files, relative to the test file.
        pub rule_files ("rule_files"): Vec<String>;
        /// How often rules are evaluated.
        pub evaluation_interval ("evaluation_interval"): Duration = Duration(60_000);
        /// Groups whose order matters.
        pub group_eval_order ("group_eval_order"): Vec<String>;
        /// The tests.
        pub tests ("tests"): Vec<Case>;
        /// Whether the last bit of a float may differ.
        pub fuzzy_compare ("fuzzy_compare"): bool;
    }
}

model::settings! {
    /// One test.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Case ("main.testGroup") {
        /// The distance of the input's samples.
        pub interval ("interval"): Duration;
        /// The input.
        pub input_series ("input_series"): Vec<InputSeries>;
        /// What alerts are expected.
        pub alert_rule_test ("alert_rule_test"): Vec<AlertTest>;
        /// What expressions are expected to give.
        pub promql_expr_test ("promql_expr_test"): Vec<ExprTest>;
        /// Labels for templates.
        pub external_labels ("external_labels"): BTreeMap<String, String>;
        /// The URL for templates.
        pub external_url ("external_url"): String;
        /// Its name.
        pub name ("name"): String;
        /// When it begins.
        pub start_timestamp ("start_timestamp"): Start;
    }
}

model::settings! {
    /// A series of the input.
    #[derive(Clone, Debug, PartialEq)]
    pub struct InputSeries ("main.series") {
        /// Name and labels.
        pub series ("series"): String;
        /// Values in the notation of tests.
        pub values ("values"): String;
    }
}

model::settings! {
    /// Alerts that are expected to fire.
    #[derive(Clone, Debug, PartialEq)]
    pub struct AlertTest ("main.alertTestCase") {
        /// When.
        pub eval_time ("eval_time"): Duration;
        /// Of which rule.
        pub alertname ("alertname"): String;
        /// Which.
        pub exp_alerts ("exp_alerts"): Vec<ExpectedAlert>;
    }
}

model::settings! {
    /// An alert.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExpectedAlert ("main.alert") {
        /// Its labels, without the alert's name.
        pub exp_labels ("exp_labels"): BTreeMap<String, String>;
        /// Its annotations.
        pub exp_annotations ("exp_annotations"): BTreeMap<String, String>;
    }
}

model::settings! {
    /// An expression and what it gives.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExprTest ("main.promqlTestCase") {
        /// The expression.
        pub expr ("expr"): String;
        /// When.
        pub eval_time ("eval_time"): Duration;
        /// What.
        pub exp_samples ("exp_samples"): Vec<ExpectedSample>;
    }
}

model::settings! {
    /// A sample.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExpectedSample ("main.sample") {
        /// Its labels, as a selector.
        pub labels ("labels"): String;
        /// Its value.
        pub value ("value"): f64;
        /// Its native histogram, if it is one.
        pub histogram ("histogram"): String;
    }
}

/// When a test begins, ms: a number of seconds or RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start(pub Millis);

impl Blank for Start {
    fn is_blank(&self) -> bool {
        self.0 == 0
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(seconds) = text.parse::<f64>() {
            return Ok(Self((seconds * 1000.0).round() as Millis));
        }
        match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Self(at.as_millisecond())),
            Err(_) => Err(de::Error::custom(format_args!(
                "cannot parse {text:?} to a valid timestamp"
            ))),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}
